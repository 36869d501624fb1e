"""Tests of the schedules: reference numbers and hand-computed ones."""

from __future__ import annotations

import numpy as np
import pytest

from reincarnating_rl import schedules


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
