"""A replay on the device: a ring that stores each observation once.

A row is one agent step of one stream (environment): the observation o_t (a
frame or a vector), the action taken there, and the reward and end that
followed; further columns may stand beside them (`ReplaySpec.extras`). Row
`slot * num_streams + stream` belongs to that stream, so the rows of one stream
are `num_streams` apart. States and n-step transitions are gathered inside jit;
observations before an episode's start are zero (`transitions`).

A row is *eligible* (has a positive leaf in the tree) when its n successors
have been written, no time limit falls inside its n steps, and the write head
has not reached its stack. In data that others wrote, no end of an episode may
lie inside its stack either: such rings may hold anything between episodes, and
their rows lack FIRST. This n is the spec's, the largest: eligible rows stay the
same while a `Horizon` asks for fewer steps.
Not here: the sampling scheme of a method; with priorities that are never
updated, sampling is uniform.

Shape letters: T steps, E streams, S slots, R = S * E rows, B batch, C stacked
observations, L lags. `...` is the shape of one observation or one action.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Optional

import chex
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.replay import ring
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.ring import BARRIER
from reincarnating_rl.replay.ring import EXCLUDED
from reincarnating_rl.replay.ring import FIRST
from reincarnating_rl.replay.ring import Priorities
from reincarnating_rl.replay.ring import Q_TEACHER
from reincarnating_rl.replay.ring import ReplaySpec
from reincarnating_rl.replay.ring import ReplayState
from reincarnating_rl.replay.ring import Rows
from reincarnating_rl.replay.ring import Storage
from reincarnating_rl.replay.ring import TERMINAL
from reincarnating_rl.replay.ring import TRUNCATED
from reincarnating_rl.replay.transitions import Horizon
from reincarnating_rl.replay.transitions import states
from reincarnating_rl.replay.transitions import successors
from reincarnating_rl.replay.transitions import transitions

# Users of the replay import this module alone.
__all__ = (
    'add',
    'BARRIER',
    'crosses_time_limit',
    'eligible_rows',
    'equalized',
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
    'Q_TEACHER',
    'ReplaySpec',
    'ReplayState',
    'Rows',
    'sample',
    'states',
    'Storage',
    'successors',
    'TERMINAL',
    'transitions',
    'TRUNCATED',
    'update_priorities',
)

PRIORITY_EPSILON = 1e-10
# Bytes from which a row is written by a slice of its own.
_LARGE_ROW = 1024


def init(spec: ReplaySpec) -> ReplayState:
  """Allocates an empty replay."""
  rows = spec.capacity
  storage = ring.from_names(
      {
          name: jnp.zeros((rows,) + array.shape, array.dtype)
          for name, array in spec.columns.items()
      }
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
    rows: T steps of E streams, T at most S - n - C. Integers are cast to the
      column's type unchecked, so they must fit it (`ReplayWriter` checks).

  Returns:
    The replay with the rows added.

  Raises:
    ValueError: if there are too many steps, or other columns or streams.
  """
  num_steps, num_streams = rows.reward.shape
  if num_streams != spec.num_streams:
    raise ValueError(
        f'Rows of {num_streams} streams added to a replay of '
        f'{spec.num_streams}.'
    )
  if num_steps > spec.slots - spec.update_horizon - spec.stack_size:
    raise ValueError(
        f'{num_steps} steps at once do not fit a ring of {spec.slots} slots.'
    )
  new = ring.by_name(rows)
  _check_columns(spec, new, (num_steps, num_streams))
  old = ring.by_name(state.storage)
  storage = ring.from_names(
      {
          name: _write(spec, array, old[name], new[name], state.add_count)
          for name, array in spec.columns.items()
      }
  )
  index = lambda slots: ring.row_index(spec, slots).reshape(-1)
  # Rows that were just overwritten, and all whose stacks may reach these.
  num_damaged = num_steps + spec.stack_size - 1
  damaged = index(state.add_count + jnp.arange(num_damaged))
  # Rows whose n successors are there now.
  ready_ages = state.add_count + jnp.arange(num_steps) - spec.update_horizon
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


def _check_columns(
    spec: ReplaySpec, columns: dict[str, jax.Array], leading: tuple[int, ...]
) -> None:
  """Raises an error if the columns are not the spec's.

  Args:
    spec: static description.
    columns: all of them, by name.
    leading: lengths of the axes before those of a row.
  """
  if set(columns) != set(spec.columns):
    raise ValueError(
        f'A replay of the columns {", ".join(spec.columns)} was given '
        f'{", ".join(columns)}.'
    )
  for name, array in spec.columns.items():
    column = columns[name]
    chex.assert_shape(column, leading + array.shape)
    kind = jnp.integer if np.dtype(array.dtype).kind in 'iu' else jnp.floating
    if not jnp.issubdtype(column.dtype, kind):
      raise ValueError(
          f'The replay column {name} is {array.dtype}; got {column.dtype}.'
      )


def _write(
    spec: ReplaySpec,
    array: ArraySpec,
    column: jax.Array,
    new: jax.Array,
    add_count: jax.Array,
) -> jax.Array:
  """[R, ...] with [T, E, ...] new rows at the head, in place if donated."""
  new = jnp.asarray(new, array.dtype)
  ages = add_count + jnp.arange(new.shape[0])
  if ring.row_bytes(array) < _LARGE_ROW:
    at = ring.row_index(spec, ages).reshape(-1)
    return column.at[at].set(new.reshape((-1,) + array.shape))
  # A scatter would first copy all new rows into one array.
  for t in range(new.shape[0]):
    row = ages[t] % spec.slots * spec.num_streams
    column = jax.lax.dynamic_update_slice_in_dim(column, new[t], row, axis=0)
  return column


def crosses_time_limit(window_flags: jax.Array) -> jax.Array:
  """Tells if a time limit cuts the n steps before a terminal does.

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
  columns = ring.by_name(rows)
  _check_columns(spec, columns, rows.reward.shape)
  flat = lambda name, x: jnp.asarray(x, spec.columns[name].dtype).reshape(
      (-1,) + x.shape[2:]
  )
  columns = {name: flat(name, column) for name, column in columns.items()}
  return from_storage(spec, ring.from_names(columns))


def from_storage(
    spec: ReplaySpec, storage: Storage, head: int = 0
) -> ReplayState:
  """Builds a replay around columns that fill it.

  Args:
    spec: static description.
    storage: the columns.
    head: the oldest slot, the next to be overwritten.

  Returns:
    The replay, every eligible row at priority 1.
  """
  _check_columns(spec, ring.by_name(storage), (spec.capacity,))
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
  """Finds the rows of a full ring that can be drawn.

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
  """Records new priorities of sampled rows.

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
  """Resets the weight of every row that can be drawn to 1."""
  leaves = priorities.tree.leaves[: spec.capacity]
  tree = sum_tree.from_leaves((leaves > 0).astype(jnp.float32))
  return Priorities(tree, jnp.float32(1.0))


def num_eligible(priorities: Priorities) -> jax.Array:
  """[] int32, rows that sampling can draw."""
  return jnp.sum(priorities.tree.leaves > 0)
