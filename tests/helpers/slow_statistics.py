"""Statistics as rliable computes them, called directly, and slow ones."""

from __future__ import annotations

import numpy as np
from rliable import library

RESAMPLES, SEED = 200, 3


def slow_iqm(scores):
  """Sorts all scores and drops the lowest and the highest quarter."""
  ordered = sorted(scores.flatten().tolist())
  cut = len(ordered) // 4
  middle = ordered[cut : len(ordered) - cut]
  return sum(middle) / len(middle)


def rliable_directly(scores, function, reps=RESAMPLES, seed=SEED):
  """(value, [2] interval) as a researcher computes them with rliable."""
  np.random.seed(seed)
  values, intervals = library.get_interval_estimates(
      {'method': scores}, function, reps=reps
  )
  return values['method'], intervals['method']
