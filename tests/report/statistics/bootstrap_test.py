"""Metrics and intervals equal those of rliable, called directly."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rliable import library
from rliable import metrics
from slow_statistics import RESAMPLES
from slow_statistics import rliable_directly
from slow_statistics import SEED
from slow_statistics import slow_iqm

from reincarnating_rl.report.statistics import bootstrap
from reincarnating_rl.report.statistics import metrics as ours
from reincarnating_rl.report.statistics.bootstrap import Question


def _random(*shape, seed=0):
  return np.random.default_rng(seed).normal(0.7, 0.5, shape)


# -- metrics -------------------------------------------------------------------


@pytest.mark.parametrize('shape', [(1, 1), (3, 2), (2, 3), (5, 7), (10, 26)])
def test_metrics_are_those_of_rliable_and_slow_ones(shape):
  scores = _random(*shape)
  iqm, median, mean, gap = ours.aggregates(scores)
  assert iqm == pytest.approx(slow_iqm(scores), rel=1e-12)
  assert iqm == pytest.approx(metrics.aggregate_iqm(scores), rel=1e-12)
  assert median == pytest.approx(metrics.aggregate_median(scores), rel=1e-12)
  assert mean == pytest.approx(metrics.aggregate_mean(scores), rel=1e-12)
  expected = metrics.aggregate_optimality_gap(scores)
  assert gap == pytest.approx(expected, rel=1e-12)


def test_iqm_of_a_curve_is_that_of_each_of_its_points():
  scores = _random(3, 2, 6)
  expected = [metrics.aggregate_iqm(scores[..., t]) for t in range(6)]
  np.testing.assert_allclose(ours.iqm(scores), expected, rtol=1e-12)


def test_profile_is_that_of_rliable():
  scores = np.round(_random(4, 3), 1)  # some equal a tau
  taus = np.linspace(-1.0, 2.0, 31)
  np.testing.assert_allclose(
      ours.profile(scores, taus),
      library.score_distributions(scores, taus),
  )


@pytest.mark.parametrize('runs', [(3, 3), (2, 5), (1, 1)])
def test_probability_of_improvement_is_that_of_rliable(runs):
  x = np.round(_random(runs[0], 4), 1)
  y = np.round(_random(runs[1], 4, seed=1), 1)
  x[0, 0] = y[0, 0]  # a tie
  (found,) = ours.improvement(x, y)
  assert found == pytest.approx(metrics.probability_of_improvement(x, y))
  assert 1.0 - found == pytest.approx(ours.improvement(y, x)[0])


# -- bootstrap -----------------------------------------------------------------


def test_intervals_are_those_of_rliable_whatever_else_is_asked():
  x, y, curve = _random(3, 2), _random(4, 2, seed=1), _random(3, 2, 5)
  questions = [
      Question((y,), ours.aggregates),
      Question((x,), ours.aggregates),
      Question((x, y), ours.improvement),
      Question((curve,), ours.iqm),
  ]
  answers = bootstrap.answer(questions, RESAMPLES, SEED, io.StringIO())

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
  ask = lambda seed: bootstrap.answer(
      [Question((_random(3, 2),), ours.aggregates)],
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
  question = Question((_random(1, 3),), ours.aggregates)
  pair = Question((_random(1, 3), _random(3, 3)), ours.improvement)
  for answer in bootstrap.answer([question, pair], 100, 0, io.StringIO()):
    assert answer.interval is None
    assert np.isfinite(answer.value).all()


def test_the_progress_bar_counts_resamples():
  file = io.StringIO()
  question = Question((_random(2, 1),), ours.aggregates)
  bootstrap.answer([question] * 2, 130, 0, file)
  assert '260/260' in file.getvalue()
