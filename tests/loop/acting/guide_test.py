"""Tests of who acts when a guide takes part of the episodes.

Student and guide each know one action only, so that an action tells its actor.
"""

from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.acting import guide as guide_lib
from reincarnating_rl.loop.acting.guide import Guide
from reincarnating_rl.loop.config.guide_config import GuideConfig

STUDENT, GUIDE = 0, 1
MANY = 3000  # environments, enough to tell shares; one shape compiles once
NUM_ACTIONS = 3


class OneAction(nn.Module):
  """Values one action above the others, whatever it sees."""

  action: int
  num_actions: int = NUM_ACTIONS

  def __call__(self, x, rng_key=None):
    q_values = jnp.eye(self.num_actions)[self.action]
    q_values = jnp.broadcast_to(q_values, (x.shape[0], self.num_actions))
    return NetworkOutput(q_values, q_values)


def _policy(action) -> Policy:
  return value_policy(OneAction(action), {})


def _guide(num_envs, seed=0, **options) -> Guide:
  config = GuideConfig(**options)
  return Guide(config, _policy(GUIDE), num_envs, jax.random.PRNGKey(seed))


def _act(guide, first, agent_steps=0, epsilon=0.0, act_key=None):
  """[E] who acts, where `first` says which episodes begin."""
  first = np.asarray(first)
  actions, _, _ = guide.act(
      _policy(STUDENT),
      np.zeros((len(first), 4, 2, 2), np.uint8),
      first,
      (),
      epsilon,
      agent_steps,
      jax.random.PRNGKey(1) if act_key is None else act_key,
  )
  return np.asarray(actions)


# -- settings ------------------------------------------------------------------


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'max_roll_in_steps': -1}, 'max_roll_in_steps .* got -1'),
        ({'roll_out_guide_prob': 1.1}, 'roll_out_guide_prob .* got 1.1'),
        ({'decay_roll_in_steps': -0.5}, 'decay_roll_in_steps .* got -0.5'),
    ],
)
def test_impossible_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    GuideConfig(**changes)


def test_the_guides_part_decays_linearly():
  config = GuideConfig(roll_out_guide_prob=0.8, roll_out_decay_period=200)
  steps = (0, 50, 100, 199, 200, 10**9)
  found = [config.guide_prob(step) for step in steps]
  np.testing.assert_allclose(found, [0.8, 0.6, 0.4, 0.004, 0.0, 0.0])
  never = GuideConfig(roll_out_guide_prob=0.8, roll_out_decay_period=-1)
  assert never.guide_prob(10**9) == 0.8
  at_once = GuideConfig(roll_out_guide_prob=0.8, roll_out_decay_period=0)
  assert at_once.guide_prob(0) == 0.0


@pytest.mark.parametrize(
    'decay, start, expected',
    [
        (True, 10, [10, 8, 6, 4, 3, 2, 1, 0, 0]),
        (0.5, 9, [9, 4, 2, 1, 0]),
        (0.29, 100, [100, 29, 8]),
        (False, 7, [7, 7, 7]),
        (1.0, 7, [7, 7]),
        (True, 0, [0, 0]),
    ],
)
def test_the_roll_in_shrinks_after_each_iteration(decay, start, expected):
  guide = _guide(1, max_roll_in_steps=start, decay_roll_in_steps=decay)
  found = [guide.end_iteration(1)['max_roll_in_steps'] for _ in expected]
  assert found == expected


# -- the length of a roll-in ---------------------------------------------------


def test_roll_ins_are_drawn_evenly_from_one_to_the_longest():
  guide = _guide(MANY, max_roll_in_steps=7)
  _act(guide, np.ones(MANY, np.bool_))
  lengths = np.asarray(guide.state.roll_in_steps)
  values, counts = np.unique(lengths, return_counts=True)
  np.testing.assert_array_equal(values, np.arange(1, 8))
  assert stats.chisquare(counts).pvalue > 1e-3
  # Each episode draws anew.
  _act(guide, np.ones(MANY, np.bool_))
  again = np.asarray(guide.state.roll_in_steps)
  assert np.corrcoef(lengths, again)[0, 1] < 0.1
  # Episodes that go on keep theirs.
  _act(guide, np.arange(MANY) < 10)
  kept = np.asarray(guide.state.roll_in_steps)
  np.testing.assert_array_equal(kept[10:], again[10:])


@pytest.mark.parametrize('longest', [0, 1])
def test_the_shortest_roll_ins(longest):
  guide = _guide(MANY, max_roll_in_steps=longest)
  actors = _act(guide, np.ones(MANY, np.bool_))
  np.testing.assert_array_equal(guide.state.roll_in_steps, longest)
  np.testing.assert_array_equal(actors, GUIDE if longest else STUDENT)
  actors = _act(guide, np.zeros(MANY, np.bool_))
  np.testing.assert_array_equal(actors, STUDENT)


# -- whose turn it is ----------------------------------------------------------


@pytest.mark.parametrize('roll_in_guide', [True, False])
def test_who_acts_in_each_step_of_each_episode(roll_in_guide):
  """One rolls in, the other rolls out, in environments that end apart."""
  num_envs, num_steps = 5, 60
  guide = _guide(
      num_envs,
      max_roll_in_steps=6,
      roll_in_guide=roll_in_guide,
      roll_out_guide_prob=0.0 if roll_in_guide else 1.0,
      roll_out_decay_period=-1,
  )
  rng = np.random.default_rng(0)
  first = np.ones(num_envs, np.bool_)
  steps = np.zeros(num_envs, np.int32)
  total = 0
  for _ in range(num_steps):
    actors = _act(guide, first)
    for env in range(num_envs):
      steps[env] = 0 if first[env] else steps[env] + 1
      rolls_in = steps[env] < guide.state.roll_in_steps[env]
      assert actors[env] == (GUIDE if rolls_in == roll_in_guide else STUDENT)
    total += (actors == GUIDE).sum()
    first = rng.random(num_envs) < 0.1
  share = guide.end_iteration(num_envs * num_steps)['guide_share']
  assert share == total / (num_envs * num_steps)
  assert 0.1 < share < 0.9
  assert guide.end_iteration(1)['guide_share'] == 0.0  # Counted anew.


def test_a_mixture_has_the_guides_share():
  guide = _guide(
      MANY,
      max_roll_in_steps=0,
      roll_out_guide_prob=0.6,
      roll_out_decay_period=1000,
  )
  first = np.ones(MANY, np.bool_)
  for agent_steps, expected in ((0, 0.6), (500, 0.3), (1000, 0.0)):
    count = (_act(guide, first, agent_steps) == GUIDE).sum()
    assert stats.binomtest(int(count), MANY, expected).pvalue > 1e-3
  one, other = (_act(guide, first, 0) for _ in range(2))
  assert (one != other).any()  # A new draw each step.


def test_the_guide_does_not_explore():
  guide = _guide(MANY, max_roll_in_steps=1)
  first = np.ones(MANY, np.bool_)
  np.testing.assert_array_equal(_act(guide, first, epsilon=1.0), GUIDE)
  actors = _act(guide, ~first, epsilon=1.0)
  counts = np.bincount(actors, minlength=NUM_ACTIONS)
  assert stats.chisquare(counts).pvalue > 1e-3


def test_a_student_left_alone_acts_as_without_a_guide():
  guide = _guide(MANY, max_roll_in_steps=0)
  key = jax.random.PRNGKey(7)
  observation = np.zeros((MANY, 4, 2, 2), np.uint8)
  first = np.ones(MANY, np.bool_)
  expected, _, _ = act(
      *_policy(STUDENT), observation, first, (), np.float32(0.5), key, True
  )
  found = _act(guide, first, epsilon=0.5, act_key=key)
  np.testing.assert_array_equal(found, expected)


def test_same_key_same_turns():
  options = {
      'max_roll_in_steps': 3,
      'roll_out_guide_prob': 0.5,
      'roll_out_decay_period': -1,
  }
  first = np.arange(MANY) % 2 == 0
  runs = []
  for seed in (0, 0, 1):
    guide = _guide(MANY, seed, **options)
    runs.append([_act(guide, first).tolist() for _ in range(5)])
  assert runs[0] == runs[1] != runs[2]


def test_no_number_compiles_anything(compilations):
  guide = _guide(MANY, roll_out_guide_prob=1.0, roll_out_decay_period=100)
  first = np.arange(MANY) < 10
  _act(guide, first)
  guide.end_iteration(2)
  before = compilations.count
  for agent_steps in (10, 20, 1000):
    _act(guide, ~first, agent_steps, epsilon=agent_steps / 1000)
    guide.end_iteration(2)
  assert compilations.count == before


def test_turns_are_the_same_with_and_without_jit():
  state = _guide(9, max_roll_in_steps=4).state
  first = jnp.arange(9) < 5
  draw = lambda state: guide_lib.draw_turns(True, first, 0.5, state)
  plain, jitted = draw(state), jax.jit(draw)(state)
  jax.tree.map(np.testing.assert_array_equal, plain, jitted)
