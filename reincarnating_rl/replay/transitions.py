"""States and n-step transitions of given rows of the ring.

Both are gathered inside jit; no second buffer is kept for another n or gamma.
Not here: which rows can be drawn (`frame_replay`).

Shape letters: B batch, C stacked observations, n steps. `...` is the shape of
one observation or one action.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import chex
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.replay import ring
from reincarnating_rl.replay.ring import ReplaySpec
from reincarnating_rl.replay.ring import Storage
from reincarnating_rl.replay.ring import TERMINAL


class Horizon(NamedTuple):
  """n and gamma as arrays, where they change: nothing recompiles."""

  update_horizon: jax.Array  # [] int32, n, at least 1; the spec's is the most
  gamma: jax.Array  # [] float32, discount of one agent step


def transitions(
    spec: ReplaySpec,
    storage: Storage,
    indices: jax.Array,
    horizon: Optional[Horizon] = None,
) -> TransitionBatch:
  """Forms the n-step transitions that start at given rows.

  Args:
    spec: static description.
    storage: the columns.
    indices: [B] rows.
    horizon: n and gamma; None = the spec's. An n larger than the spec's counts
      as the spec's.

  Returns:
    The batch, with weights 1. Integer actions are int32, others float32.
  """
  chex.assert_rank(indices, 1)
  window = ring.window(spec, indices)  # [B, n]
  terminal = (storage.flags[window] & TERMINAL) > 0
  steps = np.arange(spec.update_horizon, dtype=np.float32)  # [n]
  num_steps: jax.Array | int = spec.update_horizon
  discounts: jax.Array | np.ndarray = spec.gamma**steps
  bootstrap: jax.Array | np.floating = np.float32(spec.gamma**num_steps)
  if horizon is not None:
    chex.assert_rank(horizon, 0)
    num_steps = jnp.minimum(horizon.update_horizon, spec.update_horizon)
    inside = steps < num_steps
    terminal &= inside[None, :]
    discounts = jnp.where(inside, horizon.gamma**steps, 0.0)
    bootstrap = horizon.gamma**num_steps
  ongoing = jnp.cumprod(1.0 - terminal, axis=1)  # after each step
  reached = jnp.concatenate(
      [jnp.ones((indices.shape[0], 1)), ongoing[:, :-1]], axis=1
  )
  r_t = jnp.sum(storage.reward[window] * reached * discounts[None, :], axis=1)
  discount_t = ongoing[:, -1] * bootstrap
  bootstrap_rows = ring.step_rows(spec, indices, num_steps)
  extras = {name: column[indices] for name, column in storage.extras.items()}
  return TransitionBatch(
      s_tm1=states(spec, storage, indices),
      a_tm1=_actions(storage.action, indices),
      r_t=r_t,
      discount_t=discount_t,
      s_t=states(spec, storage, bootstrap_rows),
      weight=jnp.ones(indices.shape, jnp.float32),
      q_teacher=extras.pop(ring.Q_TEACHER, None),
      extras=extras or None,
  )


def _actions(column: ring.Array, indices: jax.Array) -> jax.Array:
  """[B, ...] actions of given rows, in the learner's types."""
  is_discrete = jnp.issubdtype(column.dtype, jnp.integer)
  return column[indices].astype(jnp.int32 if is_discrete else jnp.float32)


def states(spec: ReplaySpec, storage: Storage, indices: jax.Array) -> jax.Array:
  """States at given rows.

  Args:
    spec: static description.
    storage: the columns.
    indices: [B] rows.

  Returns:
    [B, ..., C], oldest observation first, zero before the episode's start; or
    [B, ...] if the spec has no stack axis.
  """
  if not spec.has_stack_axis:
    return storage.observation[indices]
  lags = ring.lags(spec, indices, spec.stack_size)  # [B, C], newest first
  mask = ring.stack_mask(storage.flags[lags])[:, ::-1]
  stacks = storage.observation[lags[:, ::-1]]  # [B, C, ...]
  mask = mask.reshape(mask.shape + (1,) * len(spec.observation.shape))
  return jnp.moveaxis(jnp.where(mask, stacks, 0), 1, -1)


def successors(
    spec: ReplaySpec, flags: ring.Array, indices: jax.Array
) -> jax.Array:
  """[B] rows to [B]: the rows after their n steps, or after a terminal."""
  terminal = (flags[ring.window(spec, indices)] & TERMINAL) > 0  # [B, n]
  first_terminal = jnp.argmax(terminal, axis=1)
  steps = jnp.where(
      terminal.any(axis=1), first_terminal + 1, spec.update_horizon
  )
  return ring.step_rows(spec, indices, steps)
