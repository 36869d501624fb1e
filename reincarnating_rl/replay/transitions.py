"""What rows of the ring stand for: stacks of frames and n-step transitions.

All are gathered inside jit; no second buffer is kept for another n or gamma.
Not here: which rows can be drawn (`frame_replay`).

Shape letters: B batch, H W frame height and width, C stacked frames, n steps.
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
  """How far returns look, where that changes: nothing recompiles with it."""

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
    horizon: n and gamma; None = the spec's. Beyond the spec's n no row is
      looked at: a larger one counts as that.

  Returns:
    The batch, with weights 1.
  """
  chex.assert_rank(indices, 1)
  window = ring.window(spec, indices)  # [B, n]
  terminal = (storage.flags[window] & TERMINAL) > 0
  steps = np.arange(spec.update_horizon, dtype=np.float32)  # [n]
  if horizon is None:
    num_steps = spec.update_horizon
    discounts = spec.gamma**steps
    bootstrap = np.float32(spec.gamma**spec.update_horizon)
  else:
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
  return TransitionBatch(
      s_tm1=stacks(spec, storage, indices),
      a_tm1=storage.action[indices].astype(jnp.int32),
      r_t=r_t,
      discount_t=discount_t,
      s_t=stacks(spec, storage, bootstrap_rows),
      weight=jnp.ones(indices.shape, jnp.float32),
      q_teacher=None
      if storage.q_teacher is None
      else storage.q_teacher[indices],
  )


def stacks(spec: ReplaySpec, storage: Storage, indices: jax.Array) -> jax.Array:
  """[B, H, W, C] uint8 states at given rows, oldest frame first."""
  lags = ring.lags(spec, indices, spec.stack_size)  # [B, C], newest first
  mask = ring.stack_mask(storage.flags[lags])
  frames = storage.frames[lags[:, ::-1]]  # [B, C, H, W]
  frames = jnp.where(mask[:, ::-1, None, None], frames, 0)
  return jnp.moveaxis(frames, 1, -1)


def successors(
    spec: ReplaySpec, flags: jax.Array, indices: jax.Array
) -> jax.Array:
  """[B] rows to [B]: those after their n steps, or after a terminal therein."""
  terminal = (flags[ring.window(spec, indices)] & TERMINAL) > 0  # [B, n]
  first_terminal = jnp.argmax(terminal, axis=1)
  steps = jnp.where(
      terminal.any(axis=1), first_terminal + 1, spec.update_horizon
  )
  return ring.step_rows(spec, indices, steps)
