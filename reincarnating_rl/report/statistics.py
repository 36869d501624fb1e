"""rliable's estimates, seeded, with a progress bar.

Scores are [S, G, ...]: S runs of each of G games, and what else is known of a
run in further dimensions. The functions here are those of rliable.metrics
for all further dimensions at once: the bootstrap calls them thousands of times.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.base import progress

CONFIDENCE = 0.95
METRICS = ('IQM', 'median', 'mean', 'optimality gap')
# Share of the scores that the interquartile mean leaves out at each end.
_TRIMMED = 0.25
# A score of 1 is that of the teacher, or of a human.
_OPTIMAL = 1.0
_RESAMPLES_A_STEP = 50


class Question(NamedTuple):
  """What to estimate.

  Attributes:
    scores: one [S, G, ...] array a method, all of the same G.
    function: of these arrays, returns [M] numbers.
  """

  scores: tuple[np.ndarray, ...]
  function: Callable[..., np.ndarray]


class Estimate(NamedTuple):
  """The answer.

  Attributes:
    value: [M] of the scores themselves.
    interval: [2, M] bounds of the intervals around it; None where a method has
      a single run, which has nothing to resample.
  """

  value: np.ndarray
  interval: Optional[np.ndarray]


# -- metrics -------------------------------------------------------------------


def iqm(scores: np.ndarray) -> np.ndarray:
  """Interquartile mean over runs and games.

  Args:
    scores: [S, G, ...].

  Returns:
    [...] as rliable.metrics.aggregate_iqm of each [S, G].
  """
  flat = np.sort(scores.reshape(-1, *scores.shape[2:]), axis=0)
  cut = int(_TRIMMED * len(flat))
  return flat[cut : len(flat) - cut].mean(axis=0)


def aggregates(scores: np.ndarray) -> np.ndarray:
  """The METRICS of [S, G] scores, as rliable.metrics has them; [4]."""
  of_games = np.sort(scores.mean(axis=0))
  # np.median takes as long as all the rest.
  median = (
      of_games[(len(of_games) - 1) // 2] + of_games[len(of_games) // 2]
  ) / 2
  gap = _OPTIMAL - np.minimum(scores, _OPTIMAL).mean()
  return np.array([iqm(scores), median, of_games.mean(), gap])


def profile(scores: np.ndarray, taus: np.ndarray) -> np.ndarray:
  """Share of runs whose score is above each tau.

  Args:
    scores: [S, G].
    taus: [T].

  Returns:
    [T] as rliable.library.score_distributions.
  """
  ordered = np.sort(scores, axis=None)
  below = np.searchsorted(ordered, taus, side='right')
  return (len(ordered) - below) / len(ordered)


def improvement(scores_x: np.ndarray, scores_y: np.ndarray) -> np.ndarray:
  """Probability that a run of X is better than one of Y, mean over games.

  Args:
    scores_x: [S, G].
    scores_y: [R, G].

  Returns:
    [1] as rliable.metrics.probability_of_improvement: a tie counts half.
  """
  difference = scores_x[:, np.newaxis] - scores_y
  return np.array([0.5 + 0.5 * np.sign(difference).mean()])


# -- bootstrap -----------------------------------------------------------------


def answer(
    questions: Sequence[Question],
    resamples: int,
    seed: int,
    file: Any = None,
) -> list[Estimate]:
  """Estimates with stratified bootstrap intervals, percentile method.

  Every question is answered with the same seed: its numbers do not depend on
  what else is asked.

  Args:
    questions: any number.
    resamples: of each.
    seed: of the resampling.
    file: where the progress bar is drawn, default stderr.
  """
  total = len(questions) * resamples
  with progress.bar(
      'bootstrap', total, 'resamples', scale=True, file=file
  ) as bar:
    found = []
    for i, question in enumerate(questions, 1):
      found.append(_estimate(question, resamples, seed, bar.update))
      bar.update(i * resamples - bar.n)
  return found


def _estimate(
    question: Question,
    resamples: int,
    seed: int,
    on_resamples: Callable[[int], Any],
) -> Estimate:
  """One estimate; `on_resamples` is told of some resamples at a time."""
  if min(len(scores) for scores in question.scores) < 2:
    return Estimate(question.function(*question.scores), None)
  # Takes seconds: it imports half of a statistics package.
  from rliable import library

  calls = 0

  def counted(*scores: np.ndarray) -> np.ndarray:
    nonlocal calls
    calls += 1
    if calls % _RESAMPLES_A_STEP == 0:
      on_resamples(_RESAMPLES_A_STEP)
    return question.function(*scores)

  # rliable resamples one array by another way than several independent ones.
  scores = question.scores
  with _global_seed(seed):
    values, intervals = library.get_interval_estimates(
        {'': scores[0] if len(scores) == 1 else scores},
        counted,
        reps=resamples,
        confidence_interval_size=CONFIDENCE,
    )
  return Estimate(values[''], intervals[''])


@contextlib.contextmanager
def _global_seed(seed: int) -> Iterator[None]:
  """Seeds numpy's global generator: rliable 1.2 draws from no other.

  Its argument random_state reaches a generator that is never asked.
  """
  state = np.random.get_state()
  np.random.seed(seed)
  try:
    yield
  finally:
    np.random.set_state(state)
