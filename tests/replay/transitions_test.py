"""Tests of returns of any n and gamma against steps kept in lists."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_columns import both_kinds
from replay_columns import GAMMA
from replay_columns import make_spec
from replay_columns import random_rows
from replay_columns import slice_rows
from replay_columns import SlowReplay

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay.frame_replay import FIRST
from reincarnating_rl.replay.frame_replay import Horizon
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Rows
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

STACK = 3
LONGEST = 6  # N, the spec's n
SLOTS = 23
# Once around and a half: the head stands in the middle.
STEPS = SLOTS + SLOTS // 2

add = jax.jit(frame_replay.add, static_argnums=0, donate_argnums=1)
transitions = jax.jit(frame_replay.transitions, static_argnums=0)
sample = jax.jit(frame_replay.sample, static_argnums=(0, 4))


def make_horizon(n: int, gamma: float) -> Horizon:
  return Horizon(jnp.int32(n), jnp.float32(gamma))


class Case(NamedTuple):
  """A wrapped ring, and what was ever written to it."""

  spec: ReplaySpec
  rows: Rows
  state: frame_replay.ReplayState

  def drawn(self) -> list[tuple[int, int, int]]:
    """(row, step, stream) of all that can be drawn."""
    leaves = np.asarray(self.state.priorities.tree.leaves)
    return [
        (row, step, stream)
        for step in range(STEPS - SLOTS, STEPS)
        for stream in range(self.spec.num_streams)
        if leaves[row := step % SLOTS * self.spec.num_streams + stream] > 0
    ]

  def state_at(self, step: int, stream: int) -> np.ndarray:
    return SlowReplay(self.spec, self.rows).state(step, stream)

  def returns(
      self, step: int, stream: int, n: int, gamma: float
  ) -> tuple[float, float]:
    """The n-step return, and what a value n steps later counts."""
    total, discount = 0.0, 1.0
    for k in range(step, step + n):
      total += discount * float(self.rows.reward[k, stream])
      discount *= gamma
      if self.rows.flags[k, stream] & TERMINAL:
        return total, 0.0
    return total, discount


@functools.cache
def make_case(num_streams: int, kind: str = 'frames') -> Case:
  stack_size = {'frames': STACK, 'vectors': 1}[kind]
  spec = make_spec(kind, SLOTS, num_streams, LONGEST, stack_size=stack_size)
  rows = random_rows(spec, num_streams + 11, STEPS, mean_length=5.0)
  rng = np.random.default_rng(num_streams)
  reward = rng.normal(size=rows.reward.shape).astype(np.float32)
  rows = rows._replace(reward=reward)
  state = frame_replay.init(spec)
  for t in range(STEPS):
    state = add(spec, state, slice_rows(rows, t, t + 1))
  return Case(spec, rows, state)


each_ring = pytest.mark.parametrize('num_streams', [1, 3])


def all_transitions(case: Case, horizon=None):
  batch = transitions(
      case.spec, case.state.storage, jnp.arange(case.spec.capacity), horizon
  )
  return jax.tree.map(np.asarray, batch)


@each_ring
@both_kinds
@pytest.mark.parametrize('gamma', [0.5, 0.997])
def test_every_n_equals_the_slow_form(num_streams, kind, gamma):
  case = make_case(num_streams, kind)
  drawn = case.drawn()
  bootstrapped = cut = 0
  for n in range(1, LONGEST + 1):
    batch = all_transitions(case, make_horizon(n, gamma))
    for row, step, stream in drawn:
      r_t, discount_t = case.returns(step, stream, n, gamma)
      np.testing.assert_allclose(batch.r_t[row], r_t, rtol=1e-5, atol=1e-6)
      np.testing.assert_allclose(batch.discount_t[row], discount_t, rtol=1e-6)
      np.testing.assert_array_equal(
          batch.s_tm1[row], case.state_at(step, stream)
      )
      np.testing.assert_array_equal(
          batch.a_tm1[row], case.rows.action[step, stream]
      )
      extras = batch.extras or {'q_teacher': batch.q_teacher}
      for name, column in case.rows.extras.items():
        np.testing.assert_array_equal(extras[name][row], column[step, stream])
      if discount_t:
        successor = case.state_at(step + n, stream)
        np.testing.assert_array_equal(batch.s_t[row], successor)
      bootstrapped += discount_t > 0
      cut += discount_t == 0
  assert min(bootstrapped, cut) > 3 * LONGEST


@each_ring
@both_kinds
def test_rows_are_those_of_the_longest_n(num_streams, kind):
  """Whatever horizon is asked for: all N steps are there, in one episode."""
  case = make_case(num_streams, kind)
  expected = []
  oldest = STEPS - SLOTS + case.spec.stack_size - 1
  for step in range(oldest, STEPS - LONGEST):
    for stream in range(num_streams):
      ends = [
          flags
          for flags in case.rows.flags[step : step + LONGEST, stream]
          if flags & (TERMINAL | TRUNCATED)
      ]
      if not ends or ends[0] & TERMINAL:
        expected.append((step, stream))
  assert [drawn[1:] for drawn in case.drawn()] == expected


@each_ring
def test_a_shorter_horizon_is_a_spec_of_that_n(num_streams):
  """The same storage, described with another n and gamma."""
  case = make_case(num_streams)
  rows = np.array([row for row, *_ in case.drawn()])
  for n in range(1, LONGEST + 1):
    spec = dataclasses.replace(case.spec, update_horizon=n, gamma=0.7)
    expected = all_transitions(case._replace(spec=spec))
    found = all_transitions(case, make_horizon(n, 0.7))
    for name, value in expected._asdict().items():
      if value is None:
        assert getattr(found, name) is None
        continue
      assert getattr(found, name).dtype == value.dtype
      np.testing.assert_allclose(
          getattr(found, name)[rows], value[rows], rtol=1e-6, atol=1e-6
      )


@each_ring
@pytest.mark.parametrize('n', [LONGEST, LONGEST + 1, 100])
def test_the_specs_own_horizon_or_a_longer_one_is_none_at_all(num_streams, n):
  case = make_case(num_streams)
  found = all_transitions(case, make_horizon(n, GAMMA))
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
      found,
      all_transitions(case),
  )


def test_a_terminal_behind_the_n_steps_cuts_nothing():
  """By hand: rewards 1, 2, 3, 4, the last of them terminal."""
  frame = ArraySpec((2, 3), 'uint8')
  spec = ReplaySpec(12, 1, 4, GAMMA, 1, frame)
  flags = np.zeros((12, 1), np.uint8)
  flags[[0, 4], 0] = FIRST
  flags[3] = TERMINAL
  column = np.arange(12, dtype=np.float32)[:, None]
  frames = np.broadcast_to(column[:, :, None, None], (12, 1) + frame.shape)
  rows = Rows(
      frames.astype(np.uint8), column.astype(np.int32), column + 1.0, flags
  )
  storage = frame_replay.from_rows(spec, rows).storage
  first = jnp.array([0])
  for n, r_t, discount_t in (
      (1, 1.0, 0.5),
      (2, 2.0, 0.25),
      (3, 2.75, 0.125),
      (4, 3.25, 0.0),
  ):
    batch = transitions(spec, storage, first, make_horizon(n, 0.5))
    assert (batch.r_t[0], batch.discount_t[0]) == (r_t, discount_t)
    assert batch.s_t[0, 0, 0, 0] == n


def test_a_sample_has_the_horizon_that_is_asked_for():
  case = make_case(3)
  storage, priorities, _ = case.state
  key, horizon = jax.random.PRNGKey(0), make_horizon(2, 0.6)
  batch, indices = sample(case.spec, storage, priorities, key, 64, horizon)
  plain, same_indices = sample(case.spec, storage, priorities, key, 64)
  np.testing.assert_array_equal(indices, same_indices)
  direct = transitions(case.spec, storage, indices, horizon)
  for name in ('r_t', 'discount_t', 's_tm1', 's_t', 'a_tm1'):
    np.testing.assert_array_equal(getattr(batch, name), getattr(direct, name))
  np.testing.assert_array_equal(batch.weight, plain.weight)
  assert (batch.r_t != plain.r_t).any()


def test_another_horizon_compiles_nothing(compilations):
  case = make_case(1)
  args = (case.spec, case.state.storage, jnp.arange(7))
  horizons = [make_horizon(n, 0.9 + n / 100) for n in range(1, LONGEST + 1)]
  transitions(*args, horizons[0])
  before = compilations.count
  returns = [np.asarray(transitions(*args, h).r_t) for h in horizons]
  assert compilations.count == before
  assert len({r_t.tobytes() for r_t in returns}) == LONGEST


def test_members_may_differ_in_their_horizon():
  case = make_case(1)
  horizons = [make_horizon(n, gamma) for n, gamma in ((1, 0.5), (4, 0.9))]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *horizons)
  indices = jnp.array([row for row, *_ in case.drawn()][:7])
  together = jax.vmap(
      lambda h: frame_replay.transitions(
          case.spec, case.state.storage, indices, h
      )
  )(stacked)
  for i, horizon in enumerate(horizons):
    alone = transitions(case.spec, case.state.storage, indices, horizon)
    jax.tree.map(
        lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6),
        together,
        alone,
    )


def test_a_horizon_of_another_shape_is_refused():
  case = make_case(1)
  per_row = Horizon(jnp.ones(5, jnp.int32), jnp.ones(5))
  with pytest.raises(AssertionError):
    frame_replay.transitions(
        case.spec, case.state.storage, jnp.arange(5), per_row
    )
