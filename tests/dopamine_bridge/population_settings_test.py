"""What gin binds of population-based training."""

from __future__ import annotations

import gin
import pytest

from reincarnating_rl.dopamine_bridge import population_settings
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining

OF_ALL = {'learning_rate': 1e-3, 'final_learning_rate': None, 'gamma': 0.99}


def bind(**values):
  for name, value in values.items():
    gin.parse_config(f'PopulationBasedTraining.{name} = {value!r}')
  return population_settings.population_based_training()


def test_it_is_off_unless_it_is_bound():
  assert bind() is None
  assert population_settings.identity({'margin': 1.0}) == {}
  given = {'margin': 1.0}
  assert population_settings.first_member(given, 3, OF_ALL) == given
  assert population_settings.first_member(None, 3, OF_ALL) == {}


def test_bindings_become_data():
  found = bind(
      interval=2,
      mutations={
          'learning_rate': ('log_uniform', 1e-5, 1e-3),
          'gamma': ['choice', 0.9, 0.99],
      },
      quantile=0.5,
      copy_replay=True,
      perturbation_factors=[0.5, 2.0],
      resample_probability=0.0,
  )
  assert found == PopulationBasedTraining(
      interval=2,
      mutations=(
          Mutation('learning_rate', 'log_uniform', (1e-5, 1e-3)),
          Mutation('gamma', 'choice', (0.9, 0.99)),
      ),
      quantile=0.5,
      copy_replay=True,
      perturbation_factors=(0.5, 2.0),
      resample_probability=0.0,
  )
  hash(found)


MUTATIONS = {'learning_rate': ('log_uniform', 1e-5, 1e-3)}


def test_defaults_are_those_of_the_data():
  found = bind(interval=1, mutations=MUTATIONS)
  assert found.quantile == PopulationBasedTraining.quantile == 0.25
  assert found.perturbation_factors == (0.8, 1.25)


def test_first_settings_are_drawn_by_the_run_number():
  bind(interval=1, mutations=MUTATIONS)
  draw = lambda number: population_settings.first_member(None, number, OF_ALL)
  assert draw(3) == draw(3) != draw(4)
  assert 1e-5 <= draw(3)['learning_rate'] <= 1e-3
  draw(-1)
  # Not what is drawn after an iteration.
  first, later = (population_settings.generator(3, i).random() for i in (0, 1))
  assert first != later


def test_what_runs_copy_by_is_a_setting():
  bind(interval=1, mutations=MUTATIONS)
  one = population_settings.identity({'margin': 1.0, 'gamma': 0.5})
  assert one['member'] == "{'gamma': 0.5, 'margin': 1.0}"
  bind(interval=2)
  two = population_settings.identity({'gamma': 0.5, 'margin': 1.0})
  assert {k for k in one if one[k] != two[k]} == {'population-based training'}


@pytest.mark.parametrize(
    'values, words',
    [
        ({'mutations': MUTATIONS}, 'mutations is bound, but its interval is'),
        ({'quantile': 0.1}, 'quantile is bound, but its interval is not'),
        ({'interval': 1}, 'names no setting that may change'),
        ({'interval': 1, 'mutations': {}}, 'names no setting that may change'),
        ({'interval': 0, 'mutations': MUTATIONS}, 'interval must be one or'),
        (
            {'interval': 1, 'mutations': {'margin': 0.5}},
            "mutations has 'margin': 0.5, but a kind and values are wanted",
        ),
        (
            {'interval': 1, 'mutations': {'margin': ()}},
            "mutations has 'margin': (), but a kind and values are wanted",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(values, words):
  with pytest.raises(ValueError) as error:
    bind(**values)
  sentence = str(error.value).split('\n')[0].strip()
  assert words in sentence and sentence.endswith('.')
