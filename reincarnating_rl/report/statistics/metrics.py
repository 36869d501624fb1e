"""Aggregate metrics of Agarwal et al. (2021), as rliable defines them.

Shape letters: S runs, G games. Metrics take [S, G] scores; `iqm` also takes
further dimensions, since the bootstrap calls it thousands of times.
"""

from __future__ import annotations

import numpy as np

METRICS = ('IQM', 'median', 'mean', 'optimality gap')
# Share of the scores that the interquartile mean drops at each end.
_TRIMMED = 0.25
# Score of the teacher, or of a human, after normalization.
_OPTIMAL = 1.0


def iqm(scores: np.ndarray) -> np.ndarray:
  """Interquartile mean over runs and games.

  Args:
    scores: [S, G, ...].

  Returns:
    [...]; rliable.metrics.aggregate_iqm of each [S, G].
  """
  flat = np.sort(scores.reshape(-1, *scores.shape[2:]), axis=0)
  cut = int(_TRIMMED * len(flat))
  return flat[cut : len(flat) - cut].mean(axis=0)


def aggregates(scores: np.ndarray) -> np.ndarray:
  """All METRICS of [S, G] scores, as rliable.metrics defines them; [4]."""
  of_games = np.sort(scores.mean(axis=0))
  # np.median takes as long as everything else here.
  median = (
      of_games[(len(of_games) - 1) // 2] + of_games[len(of_games) // 2]
  ) / 2
  gap = _OPTIMAL - np.minimum(scores, _OPTIMAL).mean()
  return np.array([iqm(scores), median, of_games.mean(), gap])


def profile(scores: np.ndarray, taus: np.ndarray) -> np.ndarray:
  """Performance profile: share of runs with a score above each tau.

  Args:
    scores: [S, G].
    taus: [T].

  Returns:
    [T]; rliable.library.score_distributions.
  """
  ordered = np.sort(scores, axis=None)
  below = np.searchsorted(ordered, taus, side='right')
  return (len(ordered) - below) / len(ordered)


def improvement(scores_x: np.ndarray, scores_y: np.ndarray) -> np.ndarray:
  """Probability that a run of X is better than a run of Y, mean over games.

  Args:
    scores_x: [S, G].
    scores_y: [R, G].

  Returns:
    [1]; rliable.metrics.probability_of_improvement. A tie counts half.
  """
  difference = scores_x[:, np.newaxis] - scores_y
  return np.array([0.5 + 0.5 * np.sign(difference).mean()])
