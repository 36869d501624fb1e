"""Populations of processes: descriptions, and how settings change."""

import numpy as np
import pytest

from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch.trials import configurations
from reincarnating_rl.loop.population import pbt

DESCRIPTION = {
    'mutations': {
        'a.rate': ['log_uniform', '1e-4', 1e-2],
        'JaxDQNAgent.update_horizon': ['choice', 1, 3, 5],
        'a.kind': ['choice', 'x', 'y'],
        'JaxDQNAgent.gamma': ['bounds', 0.9, 0.995],
    },
    'first': {'JaxDQNAgent.gamma': [0.9, 0.95, 0.99]},
}
SWEEP = {'games': 'Pong', 'agents': 'dqn', 'seeds': [4, 5, 6]}


def population(**changes):
  sweep = sweep_lib.parse(SWEEP | {'population': DESCRIPTION | changes})
  return sweep.population


def test_first_settings_differ_and_stay_the_same():
  members = [population().first_settings(k, 4 + k) for k in range(3)]
  assert members == [population().first_settings(k, 4 + k) for k in range(3)]
  assert len({settings['a.rate'] for settings in members}) == 3
  gammas = [settings['JaxDQNAgent.gamma'] for settings in members]
  assert gammas == [0.9, 0.95, 0.99]
  # Whole numbers stay whole: gin's n must be one.
  kinds = {type(s['JaxDQNAgent.update_horizon']) for s in members}
  assert kinds == {int}


def test_settings_change_a_little_and_stay_in_their_bounds():
  changed = [
      pbt.explored(
          population(resample_probability=0.0).training,
          {
              'a.rate': 9e-3,
              'JaxDQNAgent.update_horizon': 3,
              'a.kind': 'x',
              'JaxDQNAgent.gamma': 0.99,
          },
          {},
          np.random.default_rng(seed),
      )
      for seed in range(20)
  ]
  # As it is spelled everywhere: times a factor, at most the highest.
  assert {round(c['a.rate'], 9) for c in changed} == {7.2e-3, 1e-2}
  assert {c['JaxDQNAgent.update_horizon'] for c in changed} == {1, 5}
  assert {c['a.kind'] for c in changed} == {'y'}
  # Of gamma the distance to 1 changes.
  assert {round(c['JaxDQNAgent.gamma'], 9) for c in changed} == {0.9875, 0.992}


def test_a_configuration_has_settings_so_that_their_names_are_checked():
  sweep = sweep_lib.parse(SWEEP | {'population': DESCRIPTION})
  [configuration] = configurations(sweep)
  assert configuration.name == 'Pong/dqn'
  bound = [b.partition(' = ')[0] for b in configuration.experiment.bindings]
  assert bound == list(DESCRIPTION['mutations'])


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'mutations': {}}, 'population needs mutations'),
        ({'interval': 0}, 'population.interval must be one or more'),
        ({'quantile': 0.6}, 'population.quantile must be above 0'),
        ({'resample_probability': 2}, 'must be between 0 and 1'),
        ({'perturbation_factors': [0]}, 'must be some positive numbers'),
        ({'perturbation_factors': 2}, 'population is not of its form'),
        ({'copy': True}, 'population must have entries of interval'),
        ({'first': {'b.c': [1]}}, 'first of population must give a list'),
        ({'first': {}}, 'population bounds JaxDQNAgent.gamma'),
        ({'first': {'a.rate': [1]}}, 'has 1 values of a.rate for 3 seeds'),
        (
            {'first': {'JaxDQNAgent.gamma': [0.9, 'x', 0.9]}},
            "has JaxDQNAgent.gamma 'x', which is no number",
        ),
        (
            {'mutations': {'JaxDQNAgent.gamma': ['uniform', 0.9, 1.5]}},
            '1.5 is no number in its range',
        ),
        ({'mutations': {'a.b': 3}}, 'a setting changes by [kind'),
        ({'mutations': {'a.b': ['normal', 1, 2]}}, 'its kind is none of'),
        ({'mutations': {'a.b': ['uniform', 2, 1]}}, 'no range from a lower'),
        ({'mutations': {'a.b': ['log_uniform', 0, 1]}}, 'a range above 0'),
        ({'mutations': {'a.b': ['uniform', 'x', 1]}}, 'no number in its range'),
        ({'mutations': {'rate': ['uniform', 0, 1]}}, 'no name that gin binds'),
        (
            {'mutations': {'JaxDQNAgent.network': ['choice', '@a', '@b']}},
            'networks cannot change',
        ),
    ],
)
def test_descriptions_that_make_no_sense(change, sentence):
  with pytest.raises(sweep_lib.Faults) as e:
    population(**change)
  assert sentence in str(e.value)


def test_one_member_and_two_sources_of_a_setting():
  given = SWEEP | {
      'seeds': 1,
      'population': {'mutations': {'a.b': ['uniform', 0, 1]}},
      'grid': {'a.b': [1, 2]},
  }
  with pytest.raises(sweep_lib.Faults, match='for 2 faults') as e:
    sweep_lib.parse(given)
  assert 'population needs two members at least' in str(e.value)
  assert 'a.b stands in mutations of population, and in grid' in str(e.value)
