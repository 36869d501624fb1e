"""Layout of the ring: its columns, flags and row numbers.

Row `slot * num_streams + stream` holds one agent step of one stream, so the
rows of one stream are `num_streams` apart. Not here: which rows can be drawn
(`frame_replay`), and how transitions are formed (`transitions`).

Shape letters: T steps, E streams, S slots, R = S * E rows, B batch, C stacked
observations, n steps of a return. `...` is the shape of one observation or one
action.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Mapping, NamedTuple, Union

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay import sum_tree

# Bits of the `flags` column.
FIRST = 1  # the episode's first step
TERMINAL = 2  # the environment ended after this step
TRUNCATED = 4  # the episode was cut after this step, by a time limit say
# Only in data that others wrote.
EXCLUDED = 8  # never drawn: padding, or a step of which a part is unknown
BARRIER = 16  # in no n-step window, not even behind a terminal

# Name of the extra column that holds the teacher's Q-values.
Q_TEACHER = 'q_teacher'

# Columns are on the device, or on the host on their way there.
Array = Union[jax.Array, np.ndarray]

_REWARD = ArraySpec((), 'float32')
_FLAGS = ArraySpec((), 'uint8')


@dataclasses.dataclass(frozen=True)
class ReplaySpec:
  """Static description of a replay.

  Attributes:
    capacity: R, rows kept (agent steps), a multiple of num_streams.
    num_streams: E, environments that write side by side.
    update_horizon: n of the n-step returns.
    gamma: discount of one agent step.
    stack_size: C, observations of a state.
    observation: one observation of one environment; each is stored once.
    action: one action: integers, or floats for continuous control.
    extras: (name, array) of further columns, sorted by name: the teacher's
      Q-values, a recurrent state, log-probabilities.
  """

  capacity: int
  num_streams: int = 1
  update_horizon: int = 1
  gamma: float = 0.99
  stack_size: int = 4
  observation: ArraySpec = ArraySpec((84, 84), 'uint8')
  action: ArraySpec = ArraySpec((), 'uint8')
  extras: tuple[tuple[str, ArraySpec], ...] = ()

  def __post_init__(self):
    for name in ('num_streams', 'update_horizon', 'stack_size'):
      if getattr(self, name) < 1:
        raise ValueError(
            f'Replay {name} must be positive, got {getattr(self, name)}.'
        )
    if self.capacity % self.num_streams:
      raise ValueError(
          f'Replay capacity {self.capacity} is not a multiple of the '
          f'{self.num_streams} environments that write to it.'
      )
    needed = self.update_horizon + self.stack_size + 1
    if self.slots < needed:
      raise ValueError(
          f'Replay capacity {self.capacity} leaves {self.slots} steps per '
          f'environment; update_horizon {self.update_horizon} and stacks of '
          f'{self.stack_size} need at least {needed}.'
      )
    names = [name for name, _ in self.extras]
    if names != sorted(set(names) - set(Storage._fields)):
      raise ValueError(
          'Replay extras must be sorted by name, each name once and none of '
          f'{", ".join(Storage._fields)}; got {names}.'
      )
    if np.dtype(self.action.dtype).kind not in 'iuf':
      raise ValueError(
          f'Replay actions must be integers or floats, got {self.action.dtype}.'
      )

  @property
  def slots(self) -> int:
    """S, steps kept per stream."""
    return self.capacity // self.num_streams

  @property
  def columns(self) -> dict[str, ArraySpec]:
    """One row of every column, by name."""
    return {
        'observation': self.observation,
        'action': self.action,
        'reward': _REWARD,
        'flags': _FLAGS,
    } | dict(self.extras)

  @property
  def has_stack_axis(self) -> bool:
    """True if states have a last axis of C stacked observations.

    A frame [H, W] has it even if C is 1, since convolutions want channels. Any
    other observation has it only if C is larger: with C = 1 the state is the
    observation itself.
    """
    return self.stack_size > 1 or len(self.observation.shape) == 2

  @property
  def state(self) -> ArraySpec:
    """One state, as the learner sees it: [...] or [..., C]."""
    stack = (self.stack_size,) if self.has_stack_axis else ()
    return ArraySpec(self.observation.shape + stack, self.observation.dtype)

  @property
  def nbytes(self) -> int:
    """Bytes that `init` allocates, within a few kilobytes."""
    columns = sum(map(row_bytes, self.columns.values()))
    tree = 4 * (1 + 1 / (sum_tree.ARITY - 1))
    return int(self.capacity * (columns + tree))

  def with_extra(self, name: str, array: ArraySpec) -> ReplaySpec:
    """A copy with one more extra column, or with another one of that name."""
    extras = dict(self.extras) | {name: array}
    return dataclasses.replace(self, extras=tuple(sorted(extras.items())))

  def with_q_teacher(self, num_actions: int) -> ReplaySpec:
    """A copy that keeps the Q-values of a teacher of A actions."""
    return self.with_extra(Q_TEACHER, ArraySpec((num_actions,), 'float32'))


def row_bytes(array: ArraySpec) -> int:
  """Bytes of one row of a column."""
  return math.prod(array.shape) * np.dtype(array.dtype).itemsize


class Storage(NamedTuple):
  """The columns; read by sampling, written only by `add`."""

  observation: Array  # [R, ...]
  action: Array  # [R, ...]
  reward: Array  # [R] float32
  flags: Array  # [R] uint8, bits as above
  extras: Mapping[str, Array] = {}  # [R, ...] by name; read-only


class Priorities(NamedTuple):
  """Weights of the rows in sampling; small, so updates can carry it around."""

  tree: sum_tree.SumTree
  max_priority: jax.Array  # [] float32, the largest ever recorded


class ReplayState(NamedTuple):
  """A replay on the device."""

  storage: Storage
  priorities: Priorities
  add_count: jax.Array  # [] int32, slots ever written; ring position = mod S


class Rows(NamedTuple):
  """Steps to add, oldest first."""

  observation: Array  # [T, E, ...]
  action: Array  # [T, E, ...]
  reward: Array  # [T, E] float32
  flags: Array  # [T, E] uint8
  extras: Mapping[str, Array] = {}  # [T, E, ...] by name; read-only


def by_name(columns: Storage | Rows) -> dict[str, Any]:
  """All columns in one dict, extras among them."""
  named = columns._asdict()
  return named | named.pop('extras')


def from_names(columns: Mapping[str, Any]) -> Storage:
  """The reverse of `by_name`, for a storage."""
  fixed = Storage._fields[:-1]
  extras = {k: v for k, v in columns.items() if k not in fixed}
  return Storage(**{name: columns[name] for name in fixed}, extras=extras)


def row_index(spec: ReplaySpec, slots: jax.Array) -> jax.Array:
  """[T] slot counts (any integers) to [T, E] rows."""
  streams = jnp.arange(spec.num_streams)[None, :]
  return (slots % spec.slots)[:, None] * spec.num_streams + streams


def step_rows(
    spec: ReplaySpec, rows: jax.Array, steps: jax.Array | int
) -> jax.Array:
  """Rows of the same streams, some steps later (or earlier, if negative)."""
  return (rows + steps * spec.num_streams) % spec.capacity


def lags(spec: ReplaySpec, rows: jax.Array, num: int) -> jax.Array:
  """[B] rows to [B, num]: the row itself, the one before, ..."""
  return step_rows(spec, rows[:, None], -jnp.arange(num)[None, :])


def window(spec: ReplaySpec, rows: jax.Array) -> jax.Array:
  """[B] rows to [B, n]: the rows whose rewards make the n-step return."""
  steps = jnp.arange(spec.update_horizon)[None, :]
  return step_rows(spec, rows[:, None], steps)


def stack_mask(lag_flags: jax.Array) -> jax.Array:
  """[B, C] flags, newest first, to [B, C] bool: True inside the episode."""
  first = (lag_flags & FIRST) > 0
  started_later = jnp.cumsum(first, axis=1) - first
  return started_later == 0
