"""Arrays of scores: selects games and runs, and puts curves on a common axis.

Scores are [S, G, ...]: S runs of each of G games. A game counts over all games
only if every method has it and each of its runs can be normalized. Where games
have unequal numbers of runs, the runs with the lowest seeds count.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.report import formatting
from reincarnating_rl.report.reading.grouping import Method
from reincarnating_rl.report.reading.runs import Run
from reincarnating_rl.report.statistics import metrics
from reincarnating_rl.report.statistics.references import NORMALIZATIONS
from reincarnating_rl.report.statistics.references import References

FINAL, AREA, START = QUANTITIES = ('final', 'area', 'start')
AGENT_STEPS, SECONDS = AXES = ('agent_steps', 'seconds')
# Points of a curve over wall-clock time: no two runs share evaluation times.
_TIME_POINTS = 40

# Maps (run, raw score) to the score that counts.
Scale = Callable[[Run, float], float]


class Selection(NamedTuple):
  """Games and runs that count over all games.

  Attributes:
    games: games that count; empty if the methods share none.
    notes: sentences about games and runs that do not count.
  """

  games: tuple[str, ...]
  notes: list[str]


def select(
    methods: Sequence[Method],
    references: References,
    normalization: Optional[str] = None,
) -> Selection:
  """Selects the games that count for all methods.

  Args:
    methods: methods of the report.
    references: reference scores.
    normalization: TEACHER or HUMAN; None for raw scores.
  """
  notes, games = [], []
  for game in sorted({game for method in methods for game in method.runs}):
    without = [m.name for m in methods if game not in m.runs]
    if without:
      notes.append(
          f'{game} does not count over all games: {formatting.listed(without)} '
          f'{"has" if len(without) == 1 else "have"} no run on it.'
      )
      continue
    runs = [run for m in methods for run in m.runs[game]]
    reason = normalization and _reason(runs, references, normalization)
    if reason:
      notes.append(
          f'{game} does not count in {normalization}-normalized scores: '
          f'{reason}.'
      )
      continue
    games.append(game)
  for method in methods if games else ():
    counts = {game: len(method.runs[game]) for game in games}
    fewest = min(counts.values())
    if max(counts.values()) > fewest:
      listed = ', '.join(f'{n} on {game}' for game, n in counts.items())
      notes.append(
          f'{method.name} has unequal numbers of runs ({listed}): over all '
          f'games {formatting.counts([fewest], "run")} of each '
          f'{"counts" if fewest == 1 else "count"}, those of the lowest seeds.'
      )
  return Selection(tuple(games), notes)


def _reason(
    runs: Sequence[Run], references: References, normalization: str
) -> Optional[str]:
  for run in runs:
    if references.scale(run, normalization) is None:
      return references.lacking(run, normalization)
  return None


def raw_score(run: Run, score: float) -> float:
  """Scale that leaves scores unchanged."""
  del run
  return score


def scale_of(references: References, normalization: Optional[str]) -> Scale:
  """Scale of a normalization that all runs have; raw scores for None."""
  if normalization is None:
    return raw_score

  def normalize(run: Run, score: float) -> float:
    value = references.normalized(run, normalization, score)
    assert value is not None
    return value

  return normalize


def counted(method: Method, games: Sequence[str]) -> list[tuple[Run, ...]]:
  """[G] tuples of [S] runs of a method, equally many per game."""
  fewest = min(len(method.runs[game]) for game in games)
  return [method.runs[game][:fewest] for game in games]


# -- one number a run ----------------------------------------------------------


def quantity(run: Run, name: str) -> Optional[float]:
  """Raw score of a run; None if it has no such evaluation.

  Args:
    run: the run.
    name: FINAL, the last evaluation; AREA, the mean of the online evaluations;
      START, the last evaluation before the first online agent step.
  """
  if name == FINAL:
    return run.points[-1].score
  if name == START:
    return run.start and run.start.score
  online = [point.score for point in run.online]
  return float(np.mean(online)) if online else None


def scores(
    runs: Sequence[Sequence[Run]], name: str, scale: Scale
) -> Optional[np.ndarray]:
  """Scores of several runs; None if one run does not have the quantity.

  Args:
    runs: [G][S] runs.
    name: one of QUANTITIES.
    scale: scale of the scores.

  Returns:
    [S, G].
  """
  columns = []
  for of_game in runs:
    column = []
    for run in of_game:
      score = quantity(run, name)
      if score is None:
        return None
      column.append(scale(run, score))
    columns.append(column)
  return np.array(columns).T


# -- curves --------------------------------------------------------------------


class Curves(NamedTuple):
  """Scores of runs over a common axis.

  Attributes:
    x: [T] increasing.
    scores: [S, G, T].
    interpolated: True if some runs were evaluated at other x.
  """

  x: np.ndarray
  scores: np.ndarray
  interpolated: bool


def curves(
    runs: Sequence[Sequence[Run]], axis: str, scale: Scale
) -> Optional[Curves]:
  """Puts learning curves on a common axis that all runs cover.

  Over agent steps, x are those of the evaluations, and the end of pretraining
  is at 0; over time, pretraining takes time. Where runs were evaluated at
  different x, scores are interpolated between evaluations.

  Args:
    runs: [G][S] runs.
    axis: AGENT_STEPS or SECONDS.
    scale: scale of the scores.

  Returns:
    None if a time is unknown, or the runs have no x in common.
  """
  every = [[_curve(run, axis, scale) for run in of_game] for of_game in runs]
  flat = [curve for of_game in every for curve in of_game]
  if any(not len(x) for x, _ in flat):
    return None
  first = max(x[0] for x, _ in flat)
  last = min(x[-1] for x, _ in flat)
  if first > last:
    return None
  union = np.unique(np.concatenate([x for x, _ in flat]))
  alike = all(np.array_equal(x, union) for x, _ in flat)
  grid = union[(union >= first) & (union <= last)]
  if axis == SECONDS:
    grid = np.unique(np.linspace(first, last, _TIME_POINTS))
  stacked = [[np.interp(grid, x, y) for x, y in of_game] for of_game in every]
  return Curves(grid, np.array(stacked).swapaxes(0, 1), not alike)


def _curve(run: Run, axis: str, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
  """Curve of one run as ([T] x, [T] scores); empty if a time is unknown."""
  if axis == SECONDS:
    points = list(run.points) if run.timed else []
  else:
    points = [p for p in (run.start, *run.online) if p is not None]
  x = [getattr(p, axis) for p in points]
  return np.array(x, float), np.array([scale(run, p.score) for p in points])


def reference_lines(
    methods: Sequence[Method],
    games: Sequence[str],
    references: References,
    normalization: str,
) -> dict[str, float]:
  """Levels of teacher and human: IQM of their own scores over games.

  Args:
    methods: methods of the report.
    games: games that count.
    references: reference scores.
    normalization: normalization of the scores to compare with.
  """
  found = {}
  for name in NORMALIZATIONS:
    row = []
    for game in games:
      run = next(run for m in methods for run in m.runs[game])
      own = references.reference(game, name)
      if own is not None:
        row.append(references.normalized(run, normalization, own))
    if name == normalization:
      found[name] = 1.0
    elif len(row) == len(games):
      found[name] = float(metrics.iqm(np.array([row])))
  return found
