"""Tests of the probes: that values, frames, episodes, seeds are as said."""

from __future__ import annotations

import functools
import json

import numpy as np
from probes import each_probe
from probes import small_vector
import pytest

from reincarnating_rl.envs import probe as probe_lib
from reincarnating_rl.envs.base import episode_seed
from reincarnating_rl.envs.probe import ContextualBandit
from reincarnating_rl.envs.probe import DelayedReward
from reincarnating_rl.envs.probe import Gridworld
from reincarnating_rl.envs.probe import ProbeVector


def play(env, num_steps, seed=0):
  """Random steps, the same for the same seed: [T] lists of each field."""
  rng = np.random.default_rng(seed)
  size = (num_steps, env.num_envs)
  return [env.step(a) for a in rng.integers(env.num_actions, size=size)]


def assert_same_steps(ours, others):
  for one, other in zip(ours, others, strict=True):
    for name, x, y in zip(one._fields, one, other, strict=True):
      np.testing.assert_array_equal(x, y, err_msg=name)


# -- values --------------------------------------------------------------------


@each_probe
@pytest.mark.parametrize('gamma', [0.0, 0.5, 0.99])
def test_optimal_values_solve_the_bellman_equation(probe, gamma):
  q_values = probe.optimal_q_values(gamma)
  assert q_values.dtype == np.float32
  assert q_values.shape == (probe.num_states, probe.num_actions)
  for state in range(probe.num_states):
    for action in range(probe.num_actions):
      outcome = probe.step(state, action)
      value = outcome.reward
      if not outcome.terminal:
        value += gamma * q_values[outcome.state].max()
      assert q_values[state, action] == pytest.approx(value, rel=1e-6)


def test_values_by_hand():
  delayed = DelayedReward(3).optimal_q_values(0.5)
  np.testing.assert_array_equal(delayed[:, 0], [0.25, 0.5, 1.0])
  endless = DelayedReward(1, terminal=False).optimal_q_values(0.5)
  np.testing.assert_array_equal(endless, [[2.0, 2.0]])
  # Cells 0 1 / 2 goal; actions up, right, down, left.
  np.testing.assert_array_equal(
      Gridworld(2, 2).optimal_q_values(0.5),
      [
          [0.25, 0.5, 0.5, 0.25],
          [0.5, 0.5, 1.0, 0.25],
          [0.25, 1.0, 0.5, 0.5],
      ],
  )


def test_a_time_limit_and_a_terminal_mean_different_values():
  ends, returns = (
      DelayedReward(4, terminal).optimal_q_values(0.7)
      for terminal in (True, False)
  )
  assert (returns > 1.3 * ends).all()


# -- frames and episodes -------------------------------------------------------


@pytest.mark.parametrize('frame_shape', [(8, 8), (84, 84), (3, 7)])
def test_every_state_has_a_frame_of_its_own(frame_shape):
  frames = probe_lib.draw_states(8, frame_shape)
  assert frames.shape == (8,) + frame_shape and frames.dtype == np.uint8
  assert set(np.unique(frames)) == {0, probe_lib.WHITE}
  # Disjoint blocks of one size.
  assert ((frames > 0).sum(axis=0) <= 1).all()
  assert len(np.unique((frames > 0).sum(axis=(1, 2)))) == 1


def test_frames_too_small_for_the_states_are_refused():
  with pytest.raises(ValueError, match=r'\(2, 8\) have no room for 9 states'):
    ProbeVector(DelayedReward(9), 1, 0, frame_shape=(2, 8))


@pytest.mark.parametrize('stack_size', [1, 4])
def test_stacks_begin_with_zeros_and_end_with_the_state(stack_size):
  probe = DelayedReward(5)
  frames = probe_lib.draw_states(5, (84, 84))
  env = ProbeVector(probe, 2, 0, stack_size=stack_size)
  observation = env.reset()
  for state in range(5):
    np.testing.assert_array_equal(env.states, [state, state])
    seen = [np.zeros_like(frames[0])] * stack_size + list(frames[: state + 1])
    expected = np.stack(seen[-stack_size:])
    np.testing.assert_array_equal(observation, [expected, expected])
    step = env.step(np.zeros(2, np.int32))
    observation = step.observation
  assert step.terminal.all() and not step.truncated.any()
  np.testing.assert_array_equal(step.reward, np.ones(2, np.float32))
  np.testing.assert_array_equal(observation, env.restore(env.snapshot()))
  np.testing.assert_array_equal(observation[:, -1], frames[[0, 0]])
  assert not observation[:, :-1].any()


def test_a_time_limit_truncates_unless_the_episode_ended_by_itself():
  neither, terminal, truncated = (False, False), (True, False), (False, True)
  ends_of = {
      2: [neither, truncated, neither, truncated],
      3: [neither, neither, terminal, neither],
      4: [neither, neither, terminal, neither],
  }
  for limit, ends in ends_of.items():
    env = reset(small_vector(DelayedReward(3), max_agent_steps=limit))
    steps = play(env, 4)
    assert ends == [(s.terminal[0], s.truncated[0]) for s in steps]


def reset(env):
  env.reset()
  return env


def test_without_a_limit_an_episode_goes_on():
  env = reset(small_vector(Gridworld(), max_agent_steps=None))
  for _ in range(100):
    step = env.step(np.zeros(3, np.int32))  # Up, to the wall.
    assert not step.terminal.any() and not step.truncated.any()


@each_probe
def test_returned_arrays_are_not_written_to_later(probe):
  env = small_vector(probe)
  first = env.reset()
  steps = play(env, 1)
  kept = first.copy(), steps[0].observation.copy()
  play(env, 25)
  np.testing.assert_array_equal(first, kept[0])
  np.testing.assert_array_equal(steps[0].observation, kept[1])


# -- seeds and snapshots -------------------------------------------------------


def starts(env, num_episodes):
  """[episodes, E] the states in which each episode begins."""
  env.reset()
  states = [env.states]
  for _ in range(num_episodes - 1):
    env.step(np.zeros(env.num_envs, np.int32))
    states.append(env.states)
  return np.stack(states)


def test_episodes_are_seeded_by_rule():
  bandit = ContextualBandit(1000)
  vector = functools.partial(ProbeVector, bandit, frame_shape=(32, 32))
  drawn = starts(vector(3, 7, (2, 1)), 5)
  expected = [
      [
          bandit.start(np.random.default_rng(episode_seed(7, (2, 1, e), k)))
          for e in range(3)
      ]
      for k in range(5)
  ]
  np.testing.assert_array_equal(drawn, expected)
  assert len(np.unique(drawn)) == drawn.size
  assert not (drawn == starts(vector(3, 8, (2, 1)), 5)).any()
  assert not (drawn == starts(vector(3, 7, (2, 2)), 5)).any()
  np.testing.assert_array_equal(drawn[:, :1], starts(vector(1, 7, (2, 1)), 5))


def test_episode_seeds_are_positive_and_do_not_collide():
  seeds = [
      episode_seed(run, (purpose, env), episode)
      for run in range(4)
      for purpose in range(4)
      for env in range(4)
      for episode in range(16)
  ]
  assert len(set(seeds)) == len(seeds)
  assert min(seeds) >= 0 and max(seeds) < 2**31
  # Never to change: saved runs are played again by these.
  assert episode_seed(0, (), 0) == 821328062
  assert episode_seed(1, (3, 0), 2) == 1693359967


@each_probe
def test_a_used_environment_starts_a_stream_like_a_fresh_one(probe):
  used, fresh = small_vector(probe), small_vector(probe, stream=(4,))
  used.reset()
  play(used, 17, seed=1)
  np.testing.assert_array_equal(used.start_stream((4,)), fresh.reset())
  assert_same_steps(play(used, 30), play(fresh, 30))


@each_probe
@pytest.mark.parametrize('num_steps', [0, 1, 13])
def test_restored_goes_on_as_if_never_stopped(probe, num_steps):
  env = small_vector(probe, stream=(1, 2))
  env.reset()
  play(env, num_steps, seed=1)
  snapshot = json.loads(json.dumps(env.snapshot()))
  now = env.states
  other = small_vector(probe)
  observation = other.restore(snapshot)
  np.testing.assert_array_equal(other.states, now)
  assert other.snapshot() == snapshot
  np.testing.assert_array_equal(observation, env.restore(snapshot))
  assert_same_steps(play(env, 40), play(other, 40))


def test_a_snapshot_of_another_size_is_refused():
  snapshot = reset(small_vector(Gridworld(), num_envs=2)).snapshot()
  with pytest.raises(ValueError, match='holds 2 environments, this run has 3'):
    small_vector(Gridworld()).restore(snapshot)
