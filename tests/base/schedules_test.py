"""Tests of the schedules: reference numbers and hand-computed ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl.base import schedules


def test_epsilon_equals_the_reference(golden):
  data = golden('losses')
  ours = [
      schedules.linearly_decaying_epsilon(50_000, int(step), 0.01)
      for step in data['epsilon_steps']
  ]
  np.testing.assert_allclose(
      ours, data['epsilon_decay50000_eps0.01'], rtol=1e-5
  )


def test_epsilon_with_a_warm_up_equals_the_reference(golden):
  data = golden('losses')
  ours = [
      schedules.linearly_decaying_epsilon(50_000, int(step), 0.01, 20_000)
      for step in data['epsilon_steps']
  ]
  name = 'epsilon_dopamine_default_decay50000_warmup20000_eps0.01'
  np.testing.assert_allclose(ours, data[name], rtol=1e-5)


@pytest.mark.parametrize(
    'step, expected', [(0, 1.0), (5, 0.75), (10, 0.5), (11, 0.5), (10**9, 0.5)]
)
def test_epsilon_by_hand(step, expected):
  assert schedules.linearly_decaying_epsilon(10, step, 0.5) == expected


@pytest.mark.parametrize('step', [0, 1, 1000])
def test_epsilon_without_a_decay(step):
  assert schedules.linearly_decaying_epsilon(0, step, 0.1) == 0.1


def test_epsilon_never_leaves_its_range():
  values = [
      schedules.linearly_decaying_epsilon(7, step, 0.01, 3)
      for step in range(20)
  ]
  assert values[0] == values[3] == 1.0
  assert values == sorted(values, reverse=True)
  assert values[10] == values[-1] == 0.01


def test_learning_rate_equals_the_reference(golden):
  data = golden('losses')
  ours = [
      schedules.interpolated_learning_rate(1e-4, 1e-5, float(multiplier))
      for multiplier in data['lr_schedule_multiplier']
  ]
  np.testing.assert_allclose(
      ours, data['lr_schedule_value_1e-4_to_1e-5'], rtol=1e-6
  )


def test_learning_rate_of_a_student_below_random():
  """lambda above 1 raises the rate above its initial value."""
  rate = schedules.interpolated_learning_rate(1e-4, 1e-5, 1.5)
  np.testing.assert_allclose(rate, 1.45e-4)


NEVER = -1


@pytest.mark.parametrize(
    'score, expected',
    [
        (0.0, 1.0),
        (0.25, 0.75),
        (1.0, 0.0),
        (1.7, 0.0),
        (-0.5, 1.5),  # Below the random policy: pulled harder.
    ],
)
def test_lambda_follows_the_score(score, expected):
  lambda_ = schedules.next_distillation_weight(1.0, score, 10**9, NEVER)
  assert lambda_ == expected


def test_lambda_may_rise_again_while_it_is_positive():
  assert schedules.next_distillation_weight(0.1, 0.25, 0, NEVER) == 0.75


def test_lambda_stays_zero():
  lambda_ = 1.0
  history = []
  for score in (0.5, 1.1, 0.0, -3.0):
    lambda_ = schedules.next_distillation_weight(lambda_, score, 0, NEVER)
    history.append(lambda_)
  assert history == [0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    'agent_steps, decay_period, expected',
    [
        (99, 100, 0.75),
        (100, 100, 0.75),
        (101, 100, 0.0),
        (0, 0, 0.75),
        (1, 0, 0.0),
        (10**12, NEVER, 0.75),
    ],
)
def test_lambda_expires_after_the_decay_period(
    agent_steps, decay_period, expected
):
  lambda_ = schedules.next_distillation_weight(
      1.0, 0.25, agent_steps, decay_period
  )
  assert lambda_ == expected


# -- annealing -----------------------------------------------------------------


@pytest.mark.parametrize(
    'updates, n, gamma',
    [
        (0, 10, 0.97),
        (5_000, 5, 1 - 0.003 * 10**0.5),  # 10 * sqrt(0.3) = 5.477
        (10_000, 3, 0.997),
        (20_000, 3, 0.997),
    ],
)
def test_annealing_by_hand(updates, n, gamma):
  for t in (updates, jnp.int32(updates)):
    found = schedules.Annealing().at(t)
    assert found[0] == n
    np.testing.assert_allclose(found[1], gamma, rtol=1e-7)


def test_annealing_of_every_update():
  """As in Schwarzer et al. (2023), in double precision."""
  annealing = schedules.Annealing()
  t = np.arange(12_000)
  share = np.minimum(t / 10_000, 1.0)
  n, gamma = jax.jit(jax.vmap(annealing.at))(t)
  np.testing.assert_array_equal(n, np.round(10 * 0.3**share))
  np.testing.assert_allclose(gamma, 1 - 0.003 * 10 ** (1 - share), rtol=1e-6)


def test_annealing_gives_types_that_do_not_recompile():
  for t in (0, jnp.int32(3)):
    n, gamma = schedules.Annealing().at(t)
    assert n.dtype == jnp.int32 and gamma.dtype == jnp.float32
    assert n.shape == gamma.shape == ()
    assert not n.weak_type and not gamma.weak_type


def test_annealing_upwards_and_constant():
  rising = schedules.Annealing(4, (1, 16), (0.9, 0.9))
  assert [int(rising.at(t)[0]) for t in range(6)] == [1, 2, 4, 8, 16, 16]
  assert {float(rising.at(t)[1]) for t in range(6)} == {float(np.float32(0.9))}
  assert rising.max_update_horizon == 16
  assert schedules.Annealing().max_update_horizon == 10


def test_annealing_over_one_update():
  at_once = schedules.Annealing(updates=1)
  assert [int(at_once.at(t)[0]) for t in range(3)] == [10, 3, 3]


def test_equal_annealings_are_equal():
  equal = {schedules.Annealing(), schedules.Annealing(10_000)}
  assert len(equal) == 1
  assert schedules.Annealing(9) not in equal


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'updates': 0}, 'updates must be positive, got 0'),
        ({'update_horizon': (10, 0)}, r'update_horizon .* got \(10, 0\)'),
        ({'update_horizon': (3,)}, r'update_horizon .* got \(3,\)'),
        ({'gamma': (0.9, 1.0)}, r'gamma .* got \(0.9, 1.0\)'),
        ({'gamma': (0.0, 0.9)}, r'gamma .* got \(0.0, 0.9\)'),
        ({'gamma': (float('nan'), 0.9)}, r'gamma .* got \(nan, 0.9\)'),
        ({'gamma': (0.9,)}, r'gamma .* got \(0.9,\)'),
    ],
)
def test_a_bad_annealing_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    schedules.Annealing(**changes)
