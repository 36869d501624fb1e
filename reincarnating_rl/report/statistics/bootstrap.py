"""Stratified bootstrap intervals (Agarwal et al., 2021), from an explicit seed.

The draws are those of rliable 1.2 after `np.random.seed(seed)`, so the
intervals are equal: rliable ignores its argument `random_state` and draws from
numpy's global generator.
"""

from __future__ import annotations

import sys
from typing import Callable, NamedTuple, Optional, Sequence, TextIO

import numpy as np
import tqdm

CONFIDENCE = 0.95
_SECONDS_BETWEEN_LINES = 30.0  # where the output is no terminal


class Question(NamedTuple):
  """Something to estimate.

  Attributes:
    scores: one [S, G, ...] array per method: S runs of each of G games.
    function: maps these arrays to [M] numbers.
  """

  scores: tuple[np.ndarray, ...]
  function: Callable[..., np.ndarray]


class Estimate(NamedTuple):
  """Answer to a question.

  Attributes:
    value: [M] numbers of the scores themselves.
    interval: [2, M] lower and upper bounds; None if a method has only one run,
      which leaves nothing to resample.
  """

  value: np.ndarray
  interval: Optional[np.ndarray]


def answer(
    questions: Sequence[Question],
    resamples: int,
    seed: int,
    file: Optional[TextIO] = None,
) -> list[Estimate]:
  """Estimates values with percentile intervals.

  Each question starts from the same seed, so its answer does not depend on the
  other questions.

  Args:
    questions: questions, in any number.
    resamples: resamples per question.
    seed: seed of the resampling.
    file: stream for the progress bar; None = stderr.
  """
  file = file or sys.stderr
  terminal = file.isatty()
  with tqdm.tqdm(
      total=len(questions) * resamples,
      desc='bootstrap',
      unit=' resamples',
      unit_scale=True,
      file=file,
      dynamic_ncols=terminal,
      mininterval=0.2 if terminal else _SECONDS_BETWEEN_LINES,
  ) as bar:
    return [_estimate(q, resamples, seed, bar) for q in questions]


def _estimate(
    question: Question, resamples: int, seed: int, bar: tqdm.tqdm
) -> Estimate:
  value = question.function(*question.scores)
  if min(len(scores) for scores in question.scores) < 2:
    bar.update(resamples)
    return Estimate(value, None)
  rng = np.random.RandomState(seed)
  resampled = np.empty((resamples, len(value)))
  for i in range(resamples):
    drawn = [_resample(scores, rng) for scores in question.scores]
    resampled[i] = question.function(*drawn)
    bar.update()
  tail = 50.0 * (1.0 - CONFIDENCE)
  interval = np.percentile(resampled, [tail, 100.0 - tail], axis=0)
  return Estimate(value, interval)


def _resample(scores: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
  """Draws as many runs of each game again, with replacement.

  Args:
    scores: [S, G, ...]; each entry of the further dimensions, such as a point
      of a curve, gets runs of its own.
    rng: generator; it advances.
  """
  runs = rng.choice(len(scores), scores.shape)
  return np.take_along_axis(scores, runs, axis=0)
