"""How the ring of frames is laid out: its columns, flags and row numbers.

Row `slot * num_streams + stream` holds one agent step of one stream, so the
rows of one stream are `num_streams` apart. Not here: which rows can be drawn
(`frame_replay`), and what is made of them (`transitions`).

Shape letters: T steps, E streams, S slots, R = S * E rows, B batch, C stacked
frames, n steps of a return.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.replay import sum_tree

# Bits of the `flags` column.
FIRST = 1  # the episode's first frame
TERMINAL = 2  # the environment ended after this step
TRUNCATED = 4  # the episode was cut after this step, by a time limit say
# Only in data that others wrote.
EXCLUDED = 8  # never drawn: padding, or a step of which a part is unknown
BARRIER = 16  # in no n-step window, not even behind a terminal


@dataclasses.dataclass(frozen=True)
class ReplaySpec:
  """Static description of a replay.

  Attributes:
    capacity: R, rows kept (agent steps), a multiple of num_streams.
    num_streams: E, environments that write side by side.
    update_horizon: n of the n-step returns.
    gamma: discount of one agent step.
    stack_size: C, frames of a state.
    frame_shape: (H, W).
  """

  capacity: int
  num_streams: int = 1
  update_horizon: int = 1
  gamma: float = 0.99
  stack_size: int = 4
  frame_shape: tuple[int, int] = (84, 84)

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

  @property
  def slots(self) -> int:
    """S, steps kept per stream."""
    return self.capacity // self.num_streams

  @property
  def nbytes(self) -> int:
    """Bytes that `init` allocates, within a few kilobytes."""
    columns = 1 + 4 + 1  # action, reward, flags
    tree = 4 * (1 + 1 / (sum_tree.ARITY - 1))
    return int(self.capacity * (np.prod(self.frame_shape) + columns + tree))


class Storage(NamedTuple):
  """The columns; read by sampling, written only by `add`."""

  frames: jax.Array  # [R, H, W] uint8
  action: jax.Array  # [R] uint8
  reward: jax.Array  # [R] float32, clipped
  flags: jax.Array  # [R] uint8, bits as above
  q_teacher: Optional[jax.Array] = None  # [R, A] float32, at each row's state


class Priorities(NamedTuple):
  """What sampling weighs; small, so updates can carry it around."""

  tree: sum_tree.SumTree
  max_priority: jax.Array  # [] float32, the largest ever recorded


class ReplayState(NamedTuple):
  """A replay on the device."""

  storage: Storage
  priorities: Priorities
  add_count: jax.Array  # [] int32, slots ever written; ring position = mod S


class Rows(NamedTuple):
  """Steps to add, oldest first."""

  frames: jax.Array  # [T, E, H, W] uint8
  action: jax.Array  # [T, E] int
  reward: jax.Array  # [T, E] float32
  flags: jax.Array  # [T, E] uint8
  q_teacher: Optional[jax.Array] = None  # [T, E, A] float32


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
  """[B, C] flags, newest first, to whether that frame is of the episode."""
  first = (lag_flags & FIRST) > 0
  started_later = jnp.cumsum(first, axis=1) - first
  return started_later == 0
