"""Who copies whom, and what changes: against slow and obvious forms."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.population import pbt
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining
from reincarnating_rl.loop.training import member_settings

RATE = Mutation('learning_rate', 'log_uniform', (1e-5, 1e-1))
OF_ALL = member_settings.values_of_all(
    RunConfig(learning_rate=1e-3, final_learning_rate=1e-4), Coefficients()
)


def _training(*mutations, **options):
  return PopulationBasedTraining(
      **{'interval': 1, 'mutations': mutations or (RATE,)} | options
  )


def _members(size):
  return [{'learning_rate': 10.0**-i} for i in range(size)]


# -- selection -----------------------------------------------------------------


def _may_copy(scores, quantile):
  """(target, source) pairs that there may be, by counting who is better."""
  size = len(scores)
  count = max(1, int(quantile * size))

  def num_below(i):
    earlier = lambda j: scores[j] == scores[i] and j < i
    return sum(scores[j] < scores[i] or earlier(j) for j in range(size))

  low = [i for i in range(size) if num_below(i) < count]
  high = [i for i in range(size) if num_below(i) >= size - count]
  return {(t, s) for t in low for s in high if scores[s] > scores[t]}


@pytest.mark.parametrize('quantile', [0.01, 0.25, 0.4, 0.5])
@pytest.mark.parametrize('size', [2, 3, 4, 7])
def test_the_lowest_copy_the_highest(size, quantile):
  training = _training(quantile=quantile)
  rng = np.random.default_rng(size)
  for _ in range(30):
    scores = rng.integers(-2, 3, size).astype(float)  # with many ties
    seen = set()
    for _ in range(40):
      copies = pbt.decide(training, scores, _members(size), OF_ALL, rng)
      found = [(c.target, c.source) for c in copies]
      assert len({t for t, _ in found}) == len(found)
      assert not {t for t, _ in found} & {s for _, s in found}
      seen.update(found)
    expected = _may_copy(scores, quantile)
    assert seen <= expected
    assert {t for t, _ in seen} == {t for t, _ in expected}
    if len(expected) <= 4:
      assert seen == expected


def test_who_is_as_good_as_the_best_stays():
  copies = pbt.decide(
      _training(quantile=0.5),
      [1.0, 1.0, 1.0, 1.0],
      _members(4),
      OF_ALL,
      np.random.default_rng(0),
  )
  assert copies == []


def test_the_same_generator_decides_the_same():
  decide = lambda seed: pbt.decide(
      _training(quantile=0.5),
      [3.0, 1.0, 2.0, 0.0],
      _members(4),
      OF_ALL,
      np.random.default_rng(seed),
  )
  assert decide(1) == decide(1)
  assert len({str(decide(seed)) for seed in range(8)}) > 1


# -- exploration ---------------------------------------------------------------


def _explored(training, member, times=300):
  rng = np.random.default_rng(0)
  return [pbt.explored(training, member, OF_ALL, rng) for _ in range(times)]


def test_perturbed_settings_are_times_a_factor_within_bounds():
  training = _training(
      Mutation('learning_rate', 'bounds', (0.009, 0.1)),
      Mutation('lambda_scale', 'bounds', (0.0, 9.0)),
  )
  found = _explored(training, {'learning_rate': 0.01, 'lambda_scale': 2.0})
  rates = collections.Counter(round(m['learning_rate'], 9) for m in found)
  assert set(rates) == {0.009, 0.0125}  # 0.008 is out of bounds
  assert min(rates.values()) > 100
  assert {m['lambda_scale'] for m in found} == {1.6, 2.5}


def test_the_distance_of_gamma_to_one_is_perturbed():
  training = _training(Mutation('gamma', 'bounds', (0.9, 0.999)))
  found = {m['gamma'] for m in _explored(training, {'gamma': 0.99})}
  np.testing.assert_allclose(sorted(found), [0.9875, 0.992])


def test_a_choice_is_perturbed_to_a_value_beside_it():
  choice = Mutation('margin', 'choice', (4.0, 1.0, 2.0, 8.0))
  training = _training(choice, resample_probability=0.0)
  beside = lambda value: {
      m['margin'] for m in _explored(training, {'margin': value})
  }
  assert beside(2.0) == {1.0, 4.0}
  assert beside(1.0) == {2.0} and beside(8.0) == {4.0}
  assert beside(100.0) == {4.0}  # of a file: as if it were the nearest
  alone = Mutation('margin', 'choice', (3.0,))
  assert alone.perturb(3.0, (2.0,), np.random.default_rng(0)) == 3.0


@pytest.mark.parametrize(
    'kind, quarter', [('uniform', 0.25075), ('log_uniform', 0.0056234)]
)
def test_settings_are_drawn_anew_in_their_range(kind, quarter):
  mutation = Mutation('learning_rate', kind, (1e-3, 1.0))
  training = _training(mutation, resample_probability=1.0)
  found = [
      m['learning_rate']
      for m in _explored(training, {'learning_rate': 5.0}, 2000)
  ]
  assert 1e-3 <= min(found) and max(found) <= 1.0
  assert 0.22 < np.mean(np.array(found) < quarter) < 0.28


def test_so_often_are_they_drawn_anew():
  training = _training(resample_probability=0.25)
  found = _explored(training, {'learning_rate': 1e-3}, 2000)
  perturbed = np.isin([m['learning_rate'] for m in found], [8e-4, 1.25e-3])
  assert 0.72 < perturbed.mean() < 0.78


def test_other_settings_stay():
  training = _training(Mutation('margin', 'bounds', (0.0, 9.0)))
  for found in _explored(training, {'margin': 1.0, 'cql_coefficient': 3.0}, 5):
    assert found['cql_coefficient'] == 3.0
    assert set(found) == {'margin', 'cql_coefficient'}


# -- a pair of learning rates --------------------------------------------------


@pytest.mark.parametrize(
    'mutated, other',
    [
        ('learning_rate', 'final_learning_rate'),
        ('final_learning_rate', 'learning_rate'),
    ],
)
def test_the_other_rate_changes_by_the_same_factor(mutated, other):
  training = _training(Mutation(mutated, 'bounds', (1e-9, 1.0)))
  for before in (OF_ALL, {'learning_rate': 0.2, 'final_learning_rate': 0.05}):
    member = {name: before[name] for name in member_settings.RATES}
    for found in _explored(training, member, 5):
      factor = found[mutated] / member[mutated]
      assert factor == pytest.approx(0.8) or factor == pytest.approx(1.25)
      assert found[other] == pytest.approx(member[other] * factor)
  # Where a member does not set it, it is what all have.
  (found,) = _explored(training, {mutated: OF_ALL[mutated]}, 1)
  ratio = found[mutated] / OF_ALL[mutated]
  assert found[other] == pytest.approx(OF_ALL[other] * ratio)


def test_two_mutated_rates_change_on_their_own():
  training = _training(
      RATE, Mutation('final_learning_rate', 'bounds', (1e-9, 1.0))
  )
  member = {'learning_rate': 1e-3, 'final_learning_rate': 1e-4}
  ratios = {
      round(m['learning_rate'] / m['final_learning_rate'], 3)
      for m in _explored(training, member)
  }
  assert len(ratios) > 3


def test_a_schedule_without_a_final_rate_stays_without():
  of_all = OF_ALL | {'final_learning_rate': None}
  rng = np.random.default_rng(0)
  member = {'learning_rate': 1e-3}
  found = pbt.explored(_training(), member, of_all, rng)
  assert set(found) == {'learning_rate'}


# -- what runs begin with ------------------------------------------------------


def _first(training, given, of_all=OF_ALL):
  rng = np.random.default_rng(0)
  return pbt.first_member(training, given, of_all, rng)


def test_first_settings_are_drawn_from_the_ranges():
  training = _training(RATE, Mutation('gamma', 'choice', (0.9, 0.99)))
  found = _first(training, None)
  assert 1e-5 <= found['learning_rate'] <= 1e-1
  assert found['gamma'] in (0.9, 0.99)
  factor = found['learning_rate'] / OF_ALL['learning_rate']
  assert found['final_learning_rate'] == pytest.approx(1e-4 * factor)


def test_first_settings_of_a_file_stay_and_are_completed():
  training = _training(RATE, Mutation('gamma', 'choice', (0.9, 0.99)))
  found = _first(training, {'learning_rate': 0.5, 'margin': 2.0})
  assert found == {'learning_rate': 0.5, 'margin': 2.0, 'gamma': 0.99}


def test_without_a_beginning_there_is_a_sentence():
  bounds = Mutation('margin', 'bounds', (0.0, 1.0))
  with pytest.raises(ValueError, match='bounds margin, but does not say'):
    _first(_training(bounds), None)
  final = Mutation('final_learning_rate', 'uniform', (0.0, 1.0))
  none = OF_ALL | {'final_learning_rate': None}
  with pytest.raises(ValueError, match='has final_learning_rate, but there is'):
    _first(_training(final), {}, none)
  given = {'final_learning_rate': 0.5}
  assert _first(_training(final), given, none) == given


# -- bad input -----------------------------------------------------------------


@pytest.mark.parametrize(
    'name, kind, values, words',
    [
        ('batch_size', 'uniform', (1.0, 2.0), 'members can differ in'),
        ('margin', 'normal', (1.0, 2.0), 'none of bounds, uniform'),
        ('margin', 'uniform', (2.0, 1.0), 'no range from a lower'),
        ('margin', 'bounds', (1.0, 1.0), 'no range from a lower'),
        ('margin', 'uniform', (1.0,), 'no range from a lower'),
        ('margin', 'log_uniform', (0.0, 1.0), 'needs a range above 0'),
        ('margin', 'choice', (), 'nothing to choose from'),
        ('margin', 'uniform', (-1.0, 1.0), '-1.0 is no number in its range'),
        ('gamma', 'uniform', (0.9, 1.1), '1.1 is no number in its range'),
        ('margin', 'choice', ('a',), "'a' is no number in its range"),
    ],
)
def test_a_mutation_that_makes_no_sense(name, kind, values, words):
  with pytest.raises(ValueError) as error:
    Mutation(name, kind, values)
  sentence = str(error.value)
  assert words in sentence and f'mutations has {name!r}' in sentence
  assert '\n' not in sentence and sentence.endswith('.')


@pytest.mark.parametrize(
    'options, words',
    [
        ({'interval': 0}, 'interval must be one or more online iterations'),
        ({'interval': 1.5}, 'interval must be one or more'),
        ({'quantile': 0.0}, 'quantile must be above 0 and at most 0.5'),
        ({'quantile': 0.51}, 'quantile must be above 0 and at most 0.5'),
        ({'perturbation_factors': ()}, 'must be some positive numbers'),
        ({'perturbation_factors': (0.0,)}, 'must be some positive numbers'),
        ({'resample_probability': 1.1}, 'must be between 0 and 1, got 1.1'),
        ({'mutations': ()}, 'names no setting that may change'),
    ],
)
def test_a_training_that_makes_no_sense(options, words):
  with pytest.raises(ValueError) as error:
    _training(**options)
  sentence = str(error.value)
  assert words in sentence
  assert '\n' not in sentence and sentence.endswith('.')


def test_one_run_has_nobody_to_copy():
  with pytest.raises(ValueError, match='needs two runs at least, but there is'):
    _training().check_size(1)
  _training().check_size(2)


# -- in words ------------------------------------------------------------------


def test_what_will_happen_is_told():
  training = _training(RATE, interval=2, copy_replay=True)
  words = training.describe(4, 7)
  assert (
      'after iterations 2, 4, 6: the lowest of 4 runs copies the highest'
      in words
  )
  assert 'learning_rate (log-uniform, 1e-05, 0.1); final_learning_rate' in words
  assert 'weights, optimizer and replay' in words
  assert ', or drawn anew with probability 0.25: learning_rate' in words
  assert ': the 2 lowest of 8 runs copy one of as many' in training.describe(
      8, 9
  )
  assert 'after iterations 5, 7: ' in training.describe(4, 6, offset=3)
  assert 'never, since there are only 2' in training.describe(4, 2)


def test_what_is_only_bounded_is_not_said_to_be_drawn_anew():
  bounded = Mutation('learning_rate', pbt.BOUNDS, (1e-5, 0.1))
  words = _training(bounded).describe(4, 7)
  assert 'times 0.8 or 1.25: learning_rate (bounds' in words
