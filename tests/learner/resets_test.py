"""Reset schedules: what happens to each part, and when."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import networks
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.learner import adam_direction
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import resets
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.learner.resets import ResetSchedule

STATE = ArraySpec((8, 8, 4), 'uint8')
NETWORK = networks.make_network(3, features=(2, 2, 2), hidden_size=4)
LEARNER = ValueLearner(NETWORK, Objective(), adam_direction())
PARTS = ('encoder', 'head', 'hidden')


def learned_state():
  """As after some updates: target, moments and counts of their own."""
  state = LEARNER.init(jax.random.PRNGKey(0), STATE)
  other = LEARNER.init(jax.random.PRNGKey(1), STATE)
  moments = jax.tree.map(lambda x: jnp.ones_like(x) * 3, state.opt_state)
  return state._replace(
      target_params=other.online_params,
      opt_state=moments,
      updates=jnp.int32(70),
      since_reset=jnp.int32(40),
  )


def fresh_params(rng_key):
  """phi of the network and of the target, drawn as a reset draws them."""
  return [
      LEARNER.init(key, STATE).online_params
      for key in jax.random.split(rng_key)
  ]


def assert_trees(ours, theirs):
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs
  )


@pytest.mark.parametrize(
    'name, kept',
    [
        ('sr_spr', {'encoder': 0.8, 'hidden': 0.0, 'head': 0.0}),
        ('bbf', {'encoder': 0.5, 'hidden': 0.0, 'head': 0.0}),
        ('full', {'encoder': 0.0, 'hidden': 0.0, 'head': 0.0}),
    ],
)
def test_each_preset_moves_each_part_by_the_formula(name, kept):
  schedule = resets.preset(name)
  state, key = learned_state(), jax.random.PRNGKey(7)
  after = LEARNER.reset(state, schedule, key, STATE)
  pairs = (
      (after.online_params, state.online_params),
      (after.target_params, state.target_params),
  )
  for (new, old), fresh in zip(pairs, fresh_params(key)):
    for part in PARTS:
      expected = jax.tree.map(
          lambda theta, phi, a=kept[part]: a * theta + (1 - a) * phi,
          old[part],
          fresh[part],
      )
      assert_trees(new[part], expected)
  for leaf in jax.tree.leaves(after.opt_state):
    np.testing.assert_array_equal(leaf, 0)
  assert (int(after.updates), int(after.since_reset)) == (70, 0)
  np.testing.assert_array_equal(after.rng_key, state.rng_key)


def test_no_preset_is_no_reset():
  assert resets.preset('none') is None


def test_what_is_kept_is_kept_to_the_bit():
  schedule = ResetSchedule(
      10, kept=(('encoder', 1.0),), others_kept=1.0, keep_optimizer=True
  )
  state = learned_state()
  after = LEARNER.reset(state, schedule, jax.random.PRNGKey(7), STATE)
  jax.tree.map(
      np.testing.assert_array_equal,
      after._replace(since_reset=state.since_reset),
      state,
  )


def test_a_target_that_becomes_a_copy():
  schedule = ResetSchedule(10, kept=(('encoder', 0.5),), target='copy')
  after = LEARNER.reset(learned_state(), schedule, jax.random.PRNGKey(7), STATE)
  jax.tree.map(
      np.testing.assert_array_equal, after.target_params, after.online_params
  )


def test_weights_differ_at_each_reset_and_between_network_and_target():
  schedule, state = resets.preset('full'), learned_state()
  one, two = (
      LEARNER.reset(state, schedule, jax.random.PRNGKey(k), STATE)
      for k in (7, 8)
  )
  kernels = [
      np.ravel(p['hidden']['dense']['kernel'])
      for p in (
          one.online_params,
          one.target_params,
          two.online_params,
          two.target_params,
      )
  ]
  for i, first in enumerate(kernels):
    for second in kernels[i + 1 :]:
      assert not np.isclose(first, second).any()


@pytest.mark.parametrize(
    'count, total, no_resets_after, expected',
    [
        (10, 100, None, True),
        (90, 100, None, True),  # The rest is a whole period.
        (91, 100, None, False),
        (60, 100, 70, True),
        (70, 100, 70, False),
        (60, 65, 70, False),
    ],
)
def test_no_reset_so_late_that_less_than_a_period_is_left(
    count, total, no_resets_after, expected
):
  schedule = ResetSchedule(10, no_resets_after=no_resets_after)
  assert schedule.happens(count, total) is expected


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'period': 0}, 'period of resets must be at least 1, got 0'),
        (
            {'unit': 'frames'},
            "unit of resets is 'frames'.*agent_steps, updates",
        ),
        ({'target': 'none'}, "target of resets is 'none'; .*fresh, copy"),
        ({'kept': (('head', 1.5),)}, 'share of head.*between 0 and 1, got 1.5'),
        ({'others_kept': -0.1}, 'share of others.*got -0.1'),
        ({'updates_after': -1}, 'updates_after of a reset.*got -1'),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    ResetSchedule(**({'period': 10} | changes))


def test_an_unknown_part_is_refused_with_those_there_are():
  schedule = ResetSchedule(10, kept=(('body', 0.5), ('encoder', 0.5)))
  message = 'names body; the parts of this network are encoder, head, hidden'
  with pytest.raises(ValueError, match=message):
    schedule.shares(learned_state().online_params)


def test_an_unknown_preset_is_refused():
  with pytest.raises(
      ValueError, match="'spr'; choose one of none, sr_spr, bbf"
  ):
    resets.preset('spr')
