"""One replay continued by the environments of another.

The source's rows keep their places; the environments continue from their own
observations. Shape letters as in `ring`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from reincarnating_rl.replay import ring
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.ring import Priorities
from reincarnating_rl.replay.ring import ReplaySpec
from reincarnating_rl.replay.ring import ReplayState
from reincarnating_rl.replay.ring import Storage


def newest(spec: ReplaySpec, state: ReplayState) -> Storage:
  """Copies the newest rows: those that the next state shows, at least one."""
  return _take(spec, state.storage, state.add_count)


def splice(spec: ReplaySpec, source: ReplayState, own: Storage) -> ReplayState:
  """Copies a replay with other rows at its end, to continue from these.

  States of steps to come are whole. No state and no return leads from the
  source's rows to the others: such rows are never drawn.

  Args:
    spec: static description of both.
    source: the replay to copy; it is only read.
    own: result of `newest` for a replay with the same `add_count`.

  Returns:
    The new replay.
  """
  storage, tree = _splice(spec, source, own)
  # Copies: the new state will be donated, the source belongs to others.
  max_priority = jnp.array(source.priorities.max_priority)
  return ReplayState(
      storage, Priorities(tree, max_priority), jnp.array(source.add_count)
  )


def _num_own(spec: ReplaySpec) -> int:
  """Slots that are taken over: at least one, which cuts off the returns."""
  return max(spec.stack_size - 1, 1)


def _before_head(
    spec: ReplaySpec, add_count: jax.Array, num_slots: int
) -> jax.Array:
  """[num_slots * E] rows of the newest slots, oldest first."""
  slots = add_count - num_slots + jnp.arange(num_slots)
  return ring.row_index(spec, slots).reshape(-1)


@functools.partial(jax.jit, static_argnums=0)
def _take(spec: ReplaySpec, storage: Storage, add_count: jax.Array) -> Storage:
  rows = _before_head(spec, add_count, _num_own(spec))
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), storage)


@functools.partial(jax.jit, static_argnums=0)
def _splice(
    spec: ReplaySpec, source: ReplayState, own: Storage
) -> tuple[Storage, sum_tree.SumTree]:
  num_own = _num_own(spec)
  at = _before_head(spec, source.add_count, num_own)
  # All of them are cut off, so that no return ends behind the first of them.
  flags = own.flags & ~jnp.uint8(ring.TERMINAL) | jnp.uint8(ring.TRUNCATED)
  own = own._replace(flags=flags)
  put = lambda x, y: x.at[at].set(y)
  storage = jax.tree.map(put, source.storage, own)
  # Returns of the source's last rows, and states of the others, lead across.
  across = _before_head(spec, source.add_count, num_own + spec.update_horizon)
  tree = sum_tree.set_leaves(
      source.priorities.tree, across, jnp.zeros(across.shape, jnp.float32)
  )
  return storage, tree
