"""Arrays of scores out of runs: which runs, which games, which x.

Scores are [S, G, ...]: S runs of each of G games. A game counts in what is
taken over all games only if every method has it and each of its runs can be
normalized; where games have unequal numbers of runs, those with the lowest
seeds count.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.report import formatting
from reincarnating_rl.report import statistics
from reincarnating_rl.report.grouping import Method
from reincarnating_rl.report.references import NORMALIZATIONS
from reincarnating_rl.report.references import References
from reincarnating_rl.report.runs import Run

FINAL, AREA, START = QUANTITIES = ('final', 'area', 'start')
AGENT_STEPS, SECONDS = AXES = ('agent_steps', 'seconds')
# Points of a curve over wall-clock time, at which no two runs are evaluated.
_TIME_POINTS = 40

# The score of a run as it counts, given the raw one.
Scale = Callable[[Run, float], float]


class Selection(NamedTuple):
  """What is taken over all games.

  Attributes:
    games: that count; none if there is nothing that all methods have.
    notes: why others do not, and which runs do not.
  """

  games: tuple[str, ...]
  notes: list[str]


def select(
    methods: Sequence[Method],
    references: References,
    normalization: Optional[str] = None,
) -> Selection:
  """The games that count over all methods.

  Args:
    methods: of the report.
    references: to normalize by.
    normalization: None for raw scores.
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


def scale_of(references: References, normalization: Optional[str]) -> Scale:
  """How scores are normalized; as they are without a normalization."""
  if normalization is None:
    return lambda run, score: score
  return lambda run, score: references.normalized(run, normalization, score)


def counted(method: Method, games: Sequence[str]) -> list[tuple[Run, ...]]:
  """[G] of [S] runs of a method, as many of each game."""
  fewest = min(len(method.runs[game]) for game in games)
  return [method.runs[game][:fewest] for game in games]


# -- one number a run ----------------------------------------------------------


def quantity(run: Run, name: str) -> Optional[float]:
  """A raw score of a run; None if it has no such evaluation.

  Args:
    run: the run.
    name: FINAL, its last evaluation; AREA, the mean of its online evaluations;
      START, the last evaluation before its first online agent step.
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
  """A quantity of runs; None if one of them does not have it.

  Args:
    runs: [G][S].
    name: of the quantity.
    scale: normalizes.

  Returns:
    [S, G].
  """
  if any(quantity(run, name) is None for of_game in runs for run in of_game):
    return None
  return np.array(
      [[scale(run, quantity(run, name)) for run in of_game] for of_game in runs]
  ).T


# -- curves --------------------------------------------------------------------


class Curves(NamedTuple):
  """Scores of runs over a common axis.

  Attributes:
    x: [T] increasing.
    scores: [S, G, T].
    interpolated: whether they were not all evaluated at these x.
  """

  x: np.ndarray
  scores: np.ndarray
  interpolated: bool


def curves(
    runs: Sequence[Sequence[Run]], axis: str, scale: Scale
) -> Optional[Curves]:
  """Learning curves on a common axis, over which all runs extend.

  Agent steps are those of the evaluations, with the end of the pretraining at
  0; over time, pretraining has a length. Where runs were evaluated at different
  x, their scores are interpolated between evaluations.

  Args:
    runs: [G][S].
    axis: AGENT_STEPS or SECONDS.
    scale: normalizes.

  Returns:
    None if some time is not known, or the runs have no x in common.
  """
  every = [[_curve(run, axis, scale) for run in of_game] for of_game in runs]
  flat = [curve for of_game in every for curve in of_game]
  if any(curve is None or not len(curve[0]) for curve in flat):
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


def _curve(
    run: Run, axis: str, scale: Scale
) -> Optional[tuple[np.ndarray, np.ndarray]]:
  """([T] x, [T] scores) of one run."""
  if axis == SECONDS:
    points = list(run.points)
    x = [p.seconds for p in points]
    if not run.timed:
      return None
  else:
    points = [p for p in (run.start, *run.online) if p is not None]
    x = [p.agent_steps for p in points]
  return np.array(x, float), np.array([scale(run, p.score) for p in points])


def reference_lines(
    methods: Sequence[Method],
    games: Sequence[str],
    references: References,
    normalization: str,
) -> dict[str, float]:
  """Where teacher and human stand: IQM over games of their own scores.

  Args:
    methods: of the report.
    games: that count.
    references: their scores.
    normalization: of the scores they are compared with.
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
      found[name] = float(statistics.iqm(np.array([row])))
  return found
