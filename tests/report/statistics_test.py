"""Metrics and intervals equal rliable's, called directly, and slow ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rliable import library
from rliable import metrics

from reincarnating_rl.report import statistics
from reincarnating_rl.report.statistics import Question

RESAMPLES, SEED = 200, 3


def _random(*shape, seed=0):
  return np.random.default_rng(seed).normal(0.7, 0.5, shape)


def slow_iqm(scores):
  """Sorts all of them and drops the lowest and the highest quarter."""
  ordered = sorted(scores.flatten().tolist())
  cut = len(ordered) // 4
  middle = ordered[cut : len(ordered) - cut]
  return sum(middle) / len(middle)


def rliable_directly(scores, function, reps=RESAMPLES, seed=SEED):
  """(value, [2] interval) as a researcher would compute them."""
  np.random.seed(seed)
  values, intervals = library.get_interval_estimates(
      {'method': scores}, function, reps=reps
  )
  return values['method'], intervals['method']


# -- metrics -------------------------------------------------------------------


@pytest.mark.parametrize('shape', [(1, 1), (3, 2), (2, 3), (5, 7), (10, 26)])
def test_metrics_are_those_of_rliable_and_slow_ones(shape):
  scores = _random(*shape)
  iqm, median, mean, gap = statistics.aggregates(scores)
  assert iqm == pytest.approx(slow_iqm(scores), rel=1e-12)
  assert iqm == pytest.approx(metrics.aggregate_iqm(scores), rel=1e-12)
  assert median == pytest.approx(metrics.aggregate_median(scores), rel=1e-12)
  assert mean == pytest.approx(metrics.aggregate_mean(scores), rel=1e-12)
  expected = metrics.aggregate_optimality_gap(scores)
  assert gap == pytest.approx(expected, rel=1e-12)


def test_iqm_of_a_curve_is_that_of_each_of_its_points():
  scores = _random(3, 2, 6)
  expected = [metrics.aggregate_iqm(scores[..., t]) for t in range(6)]
  np.testing.assert_allclose(statistics.iqm(scores), expected, rtol=1e-12)


def test_profile_is_that_of_rliable():
  scores = np.round(_random(4, 3), 1)  # some equal a tau
  taus = np.linspace(-1.0, 2.0, 31)
  np.testing.assert_allclose(
      statistics.profile(scores, taus),
      library.score_distributions(scores, taus),
  )


@pytest.mark.parametrize('runs', [(3, 3), (2, 5), (1, 1)])
def test_probability_of_improvement_is_that_of_rliable(runs):
  x = np.round(_random(runs[0], 4), 1)
  y = np.round(_random(runs[1], 4, seed=1), 1)
  x[0, 0] = y[0, 0]  # a tie
  (ours,) = statistics.improvement(x, y)
  assert ours == pytest.approx(metrics.probability_of_improvement(x, y))
  assert 1.0 - ours == pytest.approx(statistics.improvement(y, x)[0])


# -- bootstrap -----------------------------------------------------------------


def test_intervals_are_those_of_rliable_whatever_else_is_asked():
  x, y, curve = _random(3, 2), _random(4, 2, seed=1), _random(3, 2, 5)
  questions = [
      Question((y,), statistics.aggregates),
      Question((x,), statistics.aggregates),
      Question((x, y), statistics.improvement),
      Question((curve,), statistics.iqm),
  ]
  answers = statistics.answer(questions, RESAMPLES, SEED, io.StringIO())

  direct = rliable_directly(
      x,
      lambda s: np.array(
          [
              metrics.aggregate_iqm(s),
              metrics.aggregate_median(s),
              metrics.aggregate_mean(s),
              metrics.aggregate_optimality_gap(s),
          ]
      ),
  )
  np.testing.assert_allclose(answers[1].value, direct[0], rtol=1e-12)
  np.testing.assert_allclose(answers[1].interval, direct[1], rtol=1e-9)

  value, interval = rliable_directly(
      (x, y), lambda a, b: np.array([metrics.probability_of_improvement(a, b)])
  )
  np.testing.assert_allclose(answers[2].value, value)
  np.testing.assert_allclose(answers[2].interval, interval)

  value, interval = rliable_directly(
      curve,
      lambda s: np.array(
          [metrics.aggregate_iqm(s[..., t]) for t in range(s.shape[-1])]
      ),
  )
  np.testing.assert_allclose(answers[3].value, value, rtol=1e-12)
  np.testing.assert_allclose(answers[3].interval, interval, rtol=1e-9)


def test_the_seed_decides_and_the_global_generator_is_left_alone():
  ask = lambda seed: statistics.answer(
      [Question((_random(3, 2),), statistics.aggregates)],
      RESAMPLES,
      seed,
      io.StringIO(),
  )[0].interval
  np.random.seed(5)
  expected = np.random.random()
  np.random.seed(5)
  first = ask(0)
  assert np.random.random() == expected
  np.testing.assert_array_equal(first, ask(0))
  assert not np.array_equal(first, ask(1))


def test_a_single_run_has_no_interval():
  question = Question((_random(1, 3),), statistics.aggregates)
  pair = Question((_random(1, 3), _random(3, 3)), statistics.improvement)
  for answer in statistics.answer([question, pair], 100, 0, io.StringIO()):
    assert answer.interval is None
    assert np.isfinite(answer.value).all()


def test_the_progress_bar_counts_resamples():
  file = io.StringIO()
  question = Question((_random(2, 1),), statistics.aggregates)
  statistics.answer([question] * 2, 130, 0, file)
  assert '260/260' in file.getvalue()
