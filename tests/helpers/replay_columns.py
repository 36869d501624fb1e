"""Replays of several kinds of columns, and random rows for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay.frame_replay import FIRST
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Rows
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

ACTIONS = 4
GAMMA = 0.9
FRAMES = ReplaySpec(
    99, gamma=GAMMA, observation=ArraySpec((2, 3), 'uint8')
).with_q_teacher(ACTIONS)
KINDS: dict[str, ReplaySpec] = {
    'frames': FRAMES,
    # Rows that are written by slices.
    'large frames': dataclasses.replace(
        FRAMES, observation=ArraySpec((32, 32), 'uint8')
    ),
    # As in continuous control.
    'vectors': ReplaySpec(
        99,
        gamma=GAMMA,
        stack_size=1,
        observation=ArraySpec((5,), 'float32'),
        action=ArraySpec((2,), 'float32'),
        extras=(
            ('carry', ArraySpec((2, 3), 'float32')),
            ('log_prob', ArraySpec((), 'float32')),
        ),
    ),
    'stacked vectors': ReplaySpec(
        99,
        gamma=GAMMA,
        stack_size=3,
        observation=ArraySpec((2,), 'float32'),
        action=ArraySpec((), 'int32'),
    ),
}
each_kind = pytest.mark.parametrize('kind', KINDS)
# One stack of frames, and one without a stack.
both_kinds = pytest.mark.parametrize('kind', ['frames', 'vectors'])


def make_spec(kind='frames', slots=37, num_streams=1, n=1, **changes):
  """A spec of one kind, of that many slots a stream."""
  return dataclasses.replace(
      KINDS[kind],
      capacity=slots * num_streams,
      num_streams=num_streams,
      update_horizon=n,
      **changes,
  )


def random_column(
    rng: np.random.Generator, leading: tuple[int, ...], array: ArraySpec
) -> np.ndarray:
  """Random values, never 0: the replay itself makes zeros."""
  shape = leading + array.shape
  if np.dtype(array.dtype).kind == 'f':
    return rng.normal(size=shape).astype(array.dtype)
  return rng.integers(1, 256, shape).astype(array.dtype)


def random_flags(
    rng: np.random.Generator, shape: tuple[int, int], mean_length: float
) -> np.ndarray:
  """[T, E] flags of episodes that end by terminals and time limits."""
  ends = rng.random(shape) < 1.0 / mean_length
  kinds = rng.choice([TERMINAL, TRUNCATED, TERMINAL | TRUNCATED], shape)
  flags = np.where(ends, kinds, 0)
  flags[0] |= FIRST
  flags[1:][ends[:-1]] |= FIRST
  return flags.astype(np.uint8)


def random_rows(
    spec: ReplaySpec, seed: int, num_steps: int, mean_length: float = 8.0
) -> Rows:
  """Steps of episodes that end at random, for every column of a spec."""
  rng = np.random.default_rng(seed)
  shape = (num_steps, spec.num_streams)
  action = random_column(rng, shape, spec.action)
  if action.dtype.kind != 'f':
    action %= ACTIONS
  return Rows(
      random_column(rng, shape, spec.observation),
      action,
      rng.choice([-1.0, 0.0, 1.0], shape).astype(np.float32),
      random_flags(rng, shape, mean_length),
      {name: random_column(rng, shape, array) for name, array in spec.extras},
  )


def slice_rows(rows: Rows, start: int, stop: int) -> Rows:
  """Steps `start` to `stop`."""
  cut = lambda x: x[start:stop]
  extras = {name: cut(column) for name, column in rows.extras.items()}
  return Rows(*map(cut, rows[:-1]), extras)


class SlowReplay:
  """Every step ever added, by stream and age; nothing is overwritten.

  Attributes:
    spec: static description.
    rows: the steps.
    count: how many of them were added.
  """

  def __init__(self, spec: ReplaySpec, rows: Rows, count: int = 0):
    self.spec = spec
    self.rows = rows
    self.count = count

  def row(self, age: int, stream: int) -> int:
    """Row of the ring that a step is written to."""
    return age % self.spec.slots * self.spec.num_streams + stream

  def flag(self, age: int, stream: int, bits: int) -> bool:
    """True if any of the bits is set."""
    return bool(self.rows.flags[age, stream] & bits)

  def is_eligible(self, age: int, stream: int) -> bool:
    """True if a step can be drawn."""
    if age + self.spec.update_horizon >= self.count:
      return False
    if age - (self.spec.stack_size - 1) < self.count - self.spec.slots:
      return False
    for step in range(age, age + self.spec.update_horizon):
      if self.flag(step, stream, TERMINAL):
        return True
      if self.flag(step, stream, TRUNCATED):
        return False
    return True

  def eligible(self) -> dict[int, tuple[int, int]]:
    """(age, stream) of all that can be drawn, by row."""
    return {
        self.row(age, stream): (age, stream)
        for age in range(max(0, self.count - self.spec.slots), self.count)
        for stream in range(self.spec.num_streams)
        if self.is_eligible(age, stream)
    }

  def state(self, age: int, stream: int) -> np.ndarray:
    """The state at a step, from a list of observations."""
    observations = [self.rows.observation[age, stream]]
    if self.spec.stack_size == 1 and observations[0].ndim == 1:
      return observations[0]
    while len(observations) < self.spec.stack_size:
      if self.flag(age, stream, FIRST):
        observations.insert(0, np.zeros_like(observations[0]))
        continue
      age -= 1
      observations.insert(0, self.rows.observation[age, stream])
    return np.stack(observations, axis=-1)

  def n_step(self, age: int, stream: int) -> tuple[float, float]:
    """The n-step return, and the discount of the value after it."""
    total, discount = 0.0, 1.0
    for step in range(age, age + self.spec.update_horizon):
      total += discount * float(self.rows.reward[step, stream])
      discount *= self.spec.gamma
      if self.flag(step, stream, TERMINAL):
        return total, 0.0
    return total, discount

  def check(self, batch: Any) -> int:
    """Compares the transitions of all rows, and returns how many it compared.

    Args:
      batch: of every row of the ring in order, drawable or not.
    """
    expected = self.eligible()
    if not expected:
      return 0
    rows = list(expected)
    steps, streams = np.array(list(expected.values())).T
    equal = np.testing.assert_array_equal
    states = [self.state(*at) for at in expected.values()]
    equal(batch.s_tm1[rows], np.stack(states))
    equal(batch.a_tm1[rows], self.rows.action[steps, streams])
    returns = np.array([self.n_step(*at) for at in expected.values()])
    found = np.stack([batch.r_t[rows], batch.discount_t[rows]], axis=1)
    np.testing.assert_allclose(found, returns, rtol=1e-6, atol=1e-6)
    equal(found[:, 1] > 0, returns[:, 1] > 0)
    extras = dict(batch.extras or {})
    if batch.q_teacher is not None:
      extras['q_teacher'] = batch.q_teacher
    assert set(extras) == set(self.rows.extras)
    for name, column in extras.items():
      equal(column[rows], self.rows.extras[name][steps, streams])
    for row, (age, stream), (_, discount) in zip(
        rows, expected.values(), returns
    ):
      if discount > 0:
        successor = self.state(age + self.spec.update_horizon, stream)
        assert (batch.s_t[row] == successor).all()
    return len(expected)
