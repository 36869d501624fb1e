"""A ring of uint8 frames on the device, each stored once.

A row is one agent step of one stream (environment): the newest frame o_t, the
action taken there, and the clipped reward and end that followed. Row
`slot * num_streams + stream` belongs to that stream, so the rows of one stream
are `num_streams` apart. Stacks and n-step transitions are gathered inside jit;
frames before an episode's start are zero (`transitions`).

A row is *eligible* (has a positive leaf in the tree) when its n successors
have been written, no time limit falls inside its n steps, and the write head
has not reached its stack. In data that others wrote, no end of an episode may
lie inside its stack either: such rings store what they like between episodes,
and their rows lack FIRST. This n is the spec's, the largest, also while a
`Horizon` asks for fewer steps: which rows can be drawn does not change with it.
Not here: which sampling scheme a method wants; with priorities that are never
updated, sampling is uniform.

Shape letters: T steps, E streams, S slots, R = S * E rows, B batch, L lags.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Optional

import chex
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.replay import ring
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.ring import BARRIER
from reincarnating_rl.replay.ring import EXCLUDED
from reincarnating_rl.replay.ring import FIRST
from reincarnating_rl.replay.ring import Priorities
from reincarnating_rl.replay.ring import ReplaySpec
from reincarnating_rl.replay.ring import ReplayState
from reincarnating_rl.replay.ring import Rows
from reincarnating_rl.replay.ring import Storage
from reincarnating_rl.replay.ring import TERMINAL
from reincarnating_rl.replay.ring import TRUNCATED
from reincarnating_rl.replay.transitions import Horizon
from reincarnating_rl.replay.transitions import stacks
from reincarnating_rl.replay.transitions import successors
from reincarnating_rl.replay.transitions import transitions

# The whole of the replay has one name, whichever module holds a part.
__all__ = (
    'add',
    'BARRIER',
    'crosses_time_limit',
    'eligible_rows',
    'EXCLUDED',
    'FIRST',
    'from_rows',
    'from_storage',
    'grow',
    'Horizon',
    'init',
    'num_eligible',
    'oldest_first',
    'Priorities',
    'PRIORITY_EPSILON',
    'ReplaySpec',
    'ReplayState',
    'Rows',
    'sample',
    'stacks',
    'Storage',
    'successors',
    'TERMINAL',
    'transitions',
    'TRUNCATED',
    'update_priorities',
)

PRIORITY_EPSILON = 1e-10


def init(
    spec: ReplaySpec, num_teacher_actions: Optional[int] = None
) -> ReplayState:
  """Allocates an empty replay.

  Args:
    spec: static description.
    num_teacher_actions: A, to keep the teacher's Q-values beside each row.
  """
  rows = spec.capacity
  storage = Storage(
      frames=jnp.zeros((rows,) + spec.frame_shape, jnp.uint8),
      action=jnp.zeros((rows,), jnp.uint8),
      reward=jnp.zeros((rows,), jnp.float32),
      flags=jnp.zeros((rows,), jnp.uint8),
      q_teacher=None
      if num_teacher_actions is None
      else jnp.zeros((rows, num_teacher_actions), jnp.float32),
  )
  priorities = Priorities(sum_tree.zeros(rows), jnp.float32(1.0))
  return ReplayState(storage, priorities, jnp.int32(0))


def add(spec: ReplaySpec, state: ReplayState, rows: Rows) -> ReplayState:
  """Writes T steps of every stream at the ring's head.

  Rows that become eligible enter with the largest priority ever recorded.
  Jit with `state` donated: nothing but the new rows is then written.

  Args:
    spec: static description.
    state: the replay.
    rows: T steps of E streams, T at most S - n - C.

  Returns:
    The replay with the rows added.
  """
  num_steps, num_streams = rows.action.shape
  if num_streams != spec.num_streams:
    raise ValueError(
        f'Rows of {num_streams} streams added to a replay of '
        f'{spec.num_streams}.'
    )
  if num_steps > spec.slots - spec.update_horizon - spec.stack_size:
    raise ValueError(
        f'{num_steps} steps at once do not fit a ring of {spec.slots} slots.'
    )
  chex.assert_shape(rows.frames, (num_steps, num_streams) + spec.frame_shape)
  ages = state.add_count + jnp.arange(num_steps)  # [T]
  index = lambda slots: ring.row_index(spec, slots).reshape(-1)
  at = index(ages)
  old = state.storage
  storage = Storage(
      frames=_write_frames(spec, old.frames, rows.frames, state.add_count),
      action=old.action.at[at].set(rows.action.reshape(-1).astype(jnp.uint8)),
      reward=old.reward.at[at].set(rows.reward.reshape(-1)),
      flags=old.flags.at[at].set(rows.flags.reshape(-1)),
      q_teacher=None
      if old.q_teacher is None
      else old.q_teacher.at[at].set(
          rows.q_teacher.reshape(-1, old.q_teacher.shape[1])
      ),
  )
  # The row that was just overwritten, the row whose stack's oldest frame it
  # held, and the row whose n successors are now there.
  damaged = jnp.concatenate([at, index(ages + spec.stack_size - 1)])
  ready_ages = ages - spec.update_horizon
  ready = index(ready_ages)
  window = storage.flags[ring.window(spec, ready)]  # [T * E, n]
  written = jnp.repeat(ready_ages >= 0, num_streams)
  eligible = written & ~crosses_time_limit(window)
  priorities = state.priorities
  # A long chunk names a row twice, overwritten and ready again: the larger
  # weight counts.
  tree = sum_tree.set_leaves(
      priorities.tree,
      jnp.concatenate([damaged, ready]),
      jnp.concatenate(
          [
              jnp.zeros(damaged.shape, jnp.float32),
              jnp.where(eligible, priorities.max_priority, 0.0),
          ]
      ),
  )
  return ReplayState(
      storage,
      priorities._replace(tree=tree),
      state.add_count + jnp.int32(num_steps),
  )


def _write_frames(
    spec: ReplaySpec, ring: jax.Array, frames: jax.Array, add_count: jax.Array
) -> jax.Array:
  """In-place update slices, one a step: a scatter would not stay in place."""
  for t in range(frames.shape[0]):
    row = ((add_count + t) % spec.slots) * spec.num_streams
    ring = jax.lax.dynamic_update_slice(ring, frames[t], (row, 0, 0))
  return ring


def crosses_time_limit(window_flags: jax.Array) -> jax.Array:
  """Whether a time limit cuts the n steps before a terminal does.

  Args:
    window_flags: [..., n] uint8, flags of the n rows from a row on.

  Returns:
    [...] bool.
  """
  ended = (window_flags & (TERMINAL | TRUNCATED)) > 0
  first_end = jnp.argmax(ended, axis=-1)
  end_flags = jnp.take_along_axis(window_flags, first_end[..., None], -1)[
      ..., 0
  ]
  return ended.any(axis=-1) & ((end_flags & TERMINAL) == 0)


def from_rows(spec: ReplaySpec, rows: Rows) -> ReplayState:
  """Builds a replay of fixed data that fills it, oldest row first.

  Args:
    spec: its capacity must be T * E.
    rows: the whole data.

  Returns:
    The replay, every eligible row at priority 1.
  """
  flat = lambda x: jnp.asarray(x).reshape((-1,) + x.shape[2:])
  q_teacher = None if rows.q_teacher is None else flat(rows.q_teacher)
  storage = Storage(
      flat(rows.frames),
      flat(rows.action).astype(jnp.uint8),
      flat(rows.reward),
      flat(rows.flags),
      q_teacher,
  )
  return from_storage(spec, storage)


def from_storage(
    spec: ReplaySpec, storage: Storage, head: int = 0
) -> ReplayState:
  """Builds a replay around columns that fill it.

  Args:
    spec: static description.
    storage: the columns.
    head: the oldest slot, the one that would be overwritten next.

  Returns:
    The replay, every eligible row at priority 1.
  """
  chex.assert_shape(storage.frames, (spec.capacity,) + spec.frame_shape)
  eligible = eligible_rows(spec, storage.flags, head)
  tree = sum_tree.from_leaves(eligible.astype(jnp.float32))
  return ReplayState(
      storage, Priorities(tree, jnp.float32(1.0)), jnp.int32(spec.slots + head)
  )


def grow(
    spec: ReplaySpec, state: ReplayState, capacity: int
) -> tuple[ReplaySpec, ReplayState]:
  """Makes room for more rows in a ring that has not wrapped around yet.

  Args:
    spec: static description.
    state: the replay.
    capacity: new number of rows, at least the old one.

  Returns:
    The new description and replay; rows keep their places.

  Raises:
    ValueError: if rows were overwritten already.
  """
  if int(state.add_count) > spec.slots:
    raise ValueError(
        f'A replay of {spec.capacity} rows has wrapped around: it cannot grow '
        f'to {capacity}.'
    )
  extra = capacity - spec.capacity
  longer = lambda x: jnp.pad(x, ((0, extra),) + ((0, 0),) * (x.ndim - 1))
  leaves = longer(state.priorities.tree.leaves[: spec.capacity])
  priorities = state.priorities._replace(tree=sum_tree.from_leaves(leaves))
  storage = jax.tree.map(longer, state.storage)
  state = state._replace(storage=storage, priorities=priorities)
  return dataclasses.replace(spec, capacity=capacity), state


def oldest_first(spec: ReplaySpec, state: ReplayState) -> Storage:
  """The written part of a ring on the host, rolled so that it starts at 0.

  Args:
    spec: static description.
    state: the replay.

  Returns:
    numpy columns of [min(add_count, S) * E] rows.
  """
  slots_written = min(int(state.add_count), spec.slots)
  head = int(state.add_count) % spec.slots if slots_written == spec.slots else 0
  rolled = lambda x: np.roll(
      np.asarray(x)[: slots_written * spec.num_streams],
      -head * spec.num_streams,
      axis=0,
  )
  return jax.tree.map(rolled, state.storage)


@functools.partial(jax.jit, static_argnums=0)
def eligible_rows(
    spec: ReplaySpec, flags: jax.Array, head: jax.Array | int = 0
) -> jax.Array:
  """Which rows of a full ring can be drawn.

  Args:
    spec: static description.
    flags: [R] uint8.
    head: the oldest slot.

  Returns:
    [R] bool. The stack of such a row is whole, neither overwritten nor across
    the end of an episode, and its n steps are there, with no time limit inside.
  """
  slots = jnp.arange(spec.slots)
  ages = jnp.repeat((slots - head) % spec.slots, spec.num_streams)  # [R]
  rows = ring.row_index(spec, slots).reshape(-1)
  lag_flags = flags[ring.lags(spec, rows, spec.stack_size)]  # [R, C]
  lags = jnp.arange(spec.stack_size)[None, :]
  ended = ((lag_flags & (TERMINAL | TRUNCATED)) > 0) & (lags > 0)
  overwritten = lags > ages[:, None]
  broken = ((overwritten | ended) & ring.stack_mask(lag_flags)).any(axis=1)
  window_flags = flags[ring.window(spec, rows)]  # [R, n]
  barred = ((window_flags & BARRIER) > 0).any(axis=1)
  cut = crosses_time_limit(window_flags)
  excluded = (flags & EXCLUDED) > 0
  inside = ages < spec.slots - spec.update_horizon
  return inside & ~(broken | barred | cut | excluded)


def sample(
    spec: ReplaySpec,
    storage: Storage,
    priorities: Priorities,
    rng_key: jax.Array,
    batch_size: int,
    horizon: Optional[Horizon] = None,
) -> tuple[TransitionBatch, jax.Array]:
  """Draws transitions in proportion to their priorities.

  Args:
    spec: static description.
    storage: the columns.
    priorities: weights of the rows.
    rng_key: consumed.
    batch_size: B.
    horizon: n and gamma of the returns; None = the spec's.

  Returns:
    The batch, its `weight` being 1 / sqrt(priority) over the batch's largest
    (Schaul et al., 2016, with beta = 0.5 as in Dopamine), and [B] row indices.
  """
  indices = sum_tree.sample(priorities.tree, rng_key, batch_size)
  weight = jax.lax.rsqrt(priorities.tree.leaves[indices] + PRIORITY_EPSILON)
  batch = transitions(spec, storage, indices, horizon)
  return batch._replace(weight=weight / weight.max()), indices


def update_priorities(
    priorities: Priorities, indices: jax.Array, values: jax.Array
) -> Priorities:
  """Records new priorities of rows that were just sampled.

  Args:
    priorities: the weights.
    indices: [B] rows.
    values: [B] float32, positive.

  Returns:
    The new weights, the maximum included.
  """
  tree = sum_tree.set_leaves(priorities.tree, indices, values)
  return Priorities(tree, jnp.maximum(priorities.max_priority, values.max()))


def equalized(spec: ReplaySpec, priorities: Priorities) -> Priorities:
  """Weights of 1 for every row that can be drawn, as if nothing was learned."""
  leaves = priorities.tree.leaves[: spec.capacity]
  tree = sum_tree.from_leaves((leaves > 0).astype(jnp.float32))
  return Priorities(tree, jnp.float32(1.0))


def num_eligible(priorities: Priorities) -> jax.Array:
  """[] int32, rows that sampling can draw."""
  return jnp.sum(priorities.tree.leaves > 0)
