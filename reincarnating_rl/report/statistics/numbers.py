"""Computes every number of a report, as rows of its tables."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Iterator,
    NamedTuple,
    Optional,
    Sequence,
    TextIO,
)

import numpy as np

from reincarnating_rl.report.reading.grouping import Method
from reincarnating_rl.report.reading.runs import Run
from reincarnating_rl.report.statistics import bootstrap
from reincarnating_rl.report.statistics import metrics
from reincarnating_rl.report.statistics import samples
from reincarnating_rl.report.statistics.bootstrap import Estimate
from reincarnating_rl.report.statistics.bootstrap import Question
from reincarnating_rl.report.statistics.references import HUMAN
from reincarnating_rl.report.statistics.references import NORMALIZATIONS
from reincarnating_rl.report.statistics.references import References
from reincarnating_rl.report.statistics.references import TEACHER
from reincarnating_rl.report.tables import Aggregate
from reincarnating_rl.report.tables import CurvePoint
from reincarnating_rl.report.tables import GameCurvePoint
from reincarnating_rl.report.tables import GameScore
from reincarnating_rl.report.tables import Improvement
from reincarnating_rl.report.tables import Numbers
from reincarnating_rl.report.tables import ProfilePoint
from reincarnating_rl.report.tables import RAW
from reincarnating_rl.report.tables import RunScore

_PROFILE_POINTS = 101
# Makes rows of a table (NamedTuples) of an estimate.
_Rows = Callable[[Estimate], list[Any]]


class _Ask(NamedTuple):
  """A question, and the rows that its answer becomes."""

  question: Question
  rows: _Rows


def compute(
    methods: Sequence[Method],
    references: References,
    resamples: int,
    seed: int,
    file: Optional[TextIO] = None,
) -> Numbers:
  """Computes every number of a report.

  Args:
    methods: methods; each run has at least one evaluation.
    references: reference scores.
    resamples: resamples per interval.
    seed: seed of the bootstrap.
    file: stream for the progress bar; None = stderr.
  """
  selections = {
      name: samples.select(methods, references, name) for name in NORMALIZATIONS
  }
  raw = samples.select(methods, references)
  asks: list[_Ask] = []
  for name, selection in selections.items():
    if selection.games:
      asks += _over_games(methods, references, name, selection.games)
  for method in methods:
    asks += _of_games(method, references)
  if raw.games:
    asks += _improvements(methods, raw.games)
  answers = bootstrap.answer(
      [ask.question for ask in asks], resamples, seed, file
  )
  rows = [row for ask, a in zip(asks, answers) for row in ask.rows(a)]
  of_kind = lambda kind: [row for row in rows if isinstance(row, kind)]
  games = {name: s.games for name, s in selections.items()} | {RAW: raw.games}
  notes = [*raw.notes, *(n for s in selections.values() for n in s.notes)]
  return Numbers(
      methods=_best_first(methods, of_kind(Aggregate)),
      games=games,
      lines={
          name: samples.reference_lines(methods, games[name], references, name)
          for name in NORMALIZATIONS
          if games[name]
      },
      notes=list(dict.fromkeys(notes)),
      aggregates=of_kind(Aggregate),
      curves=of_kind(CurvePoint),
      game_curves=of_kind(GameCurvePoint),
      profiles=of_kind(ProfilePoint),
      improvements=of_kind(Improvement),
      game_scores=of_kind(GameScore),
      run_scores=[
          row for method in methods for row in _run_scores(method, references)
      ],
      references=references.rows(),
  )


def _best_first(
    methods: Sequence[Method], aggregates: Sequence[Aggregate]
) -> list[str]:
  """Names by falling IQM of the final scores, where there is one."""
  for normalization in NORMALIZATIONS:
    iqm = {
        a.method: a.value
        for a in aggregates
        if (a.normalization, a.quantity, a.metric)
        == (normalization, samples.FINAL, metrics.METRICS[0])
    }
    if iqm:
      return sorted(iqm, key=lambda name: (-iqm[name], name))
  return [method.name for method in methods]


def _bounded(
    estimate: Estimate, i: int
) -> tuple[float, Optional[float], Optional[float]]:
  """(value, low, high) of the i-th number; without intervals None twice."""
  value = float(estimate.value[i])
  if estimate.interval is None:
    return value, None, None
  low, high = estimate.interval[:, i]
  return value, float(low), float(high)


def _final_scores(
    runs: Sequence[Sequence[Run]], scale: samples.Scale
) -> np.ndarray:
  """[S, G] final scores, which every run has."""
  found = samples.scores(runs, samples.FINAL, scale)
  assert found is not None
  return found


# -- over all games ------------------------------------------------------------


def _over_games(
    methods: Sequence[Method],
    references: References,
    normalization: str,
    games: Sequence[str],
) -> Iterator[_Ask]:
  scale = samples.scale_of(references, normalization)
  runs = {m.name: samples.counted(m, games) for m in methods}
  final = {name: _final_scores(r, scale) for name, r in runs.items()}
  taus = _taus(list(final.values()))
  for name, of_method in runs.items():
    yield _final(name, normalization, final[name], taus)
    for quantity in (samples.AREA, samples.START):
      scores = samples.scores(of_method, quantity, scale)
      if scores is not None:
        yield _Ask(
            Question((scores,), metrics.aggregates),
            _aggregate_rows(name, normalization, quantity, scores.shape),
        )
    for axis in samples.AXES:
      found = samples.curves(of_method, axis, scale)
      if found is not None:
        yield _curve(name, normalization, axis, found)


def _aggregate_rows(
    method: str, normalization: str, quantity: str, shape: Sequence[int]
) -> _Rows:
  return lambda estimate: [
      Aggregate(
          normalization,
          quantity,
          metric,
          method,
          *_bounded(estimate, i),
          runs_a_game=shape[0],
          games=shape[1],
      )
      for i, metric in enumerate(metrics.METRICS)
  ]


def _taus(scores: Sequence[np.ndarray]) -> np.ndarray:
  """[T] taus from 0 or the worst score to 1 or the best score."""
  low = min(0.0, *(s.min() for s in scores))
  high = max(1.0, *(s.max() for s in scores))
  return np.linspace(low, high, _PROFILE_POINTS)


def _final(
    method: str, normalization: str, scores: np.ndarray, taus: np.ndarray
) -> _Ask:
  """Asks for aggregates and profile of final scores, from equal resamples."""
  aggregate_rows = _aggregate_rows(
      method, normalization, samples.FINAL, scores.shape
  )
  num = len(metrics.METRICS)
  rows = lambda estimate: aggregate_rows(estimate) + [
      ProfilePoint(
          normalization,
          method,
          float(tau),
          *_bounded(estimate, i),
      )
      for i, tau in enumerate(taus, num)
  ]
  function = lambda scores: np.concatenate(
      [metrics.aggregates(scores), metrics.profile(scores, taus)]
  )
  return _Ask(Question((scores,), function), rows)


def _curve(
    method: str, normalization: str, axis: str, curves: samples.Curves
) -> _Ask:
  rows = lambda estimate: [
      CurvePoint(
          normalization,
          axis,
          method,
          float(x),
          *_bounded(estimate, i),
          runs_a_game=curves.scores.shape[0],
          games=curves.scores.shape[1],
      )
      for i, x in enumerate(curves.x)
  ]
  return _Ask(Question((curves.scores,), metrics.iqm), rows)


def _improvements(
    methods: Sequence[Method], games: Sequence[str]
) -> Iterator[_Ask]:
  """Asks once per pair of methods; the reverse is the complement to 1."""
  scores = [
      _final_scores(samples.counted(m, games), samples.raw_score)
      for m in methods
  ]

  def rows(x: str, y: str) -> _Rows:
    def of_estimate(estimate: Estimate) -> list[Improvement]:
      value, low, high = _bounded(estimate, 0)
      reverse = lambda score: None if score is None else 1.0 - score
      return [
          Improvement(x, y, value, low, high, len(games)),
          Improvement(
              y, x, 1.0 - value, reverse(high), reverse(low), len(games)
          ),
      ]

    return of_estimate

  for i, x in enumerate(methods):
    for j, y in enumerate(methods[:i]):
      question = Question((scores[i], scores[j]), metrics.improvement)
      yield _Ask(question, rows(x.name, y.name))


# -- of each game --------------------------------------------------------------


def _of_games(method: Method, references: References) -> Iterator[_Ask]:
  for game, runs in method.runs.items():
    yield _game_scores(method.name, game, runs, references)
    for axis in samples.AXES:
      found = samples.curves([runs], axis, samples.raw_score)
      if found is not None:
        yield _game_curve(method.name, game, axis, found)


def _mean(scores: np.ndarray) -> np.ndarray:
  """[S, 1, M] -> [M]."""
  return scores.mean(axis=(0, 1))


def _game_scores(
    method: str, game: str, runs: Sequence[Run], references: References
) -> _Ask:
  columns = {}
  for quantity in samples.QUANTITIES:
    for normalization in (None, *NORMALIZATIONS):
      if normalization and any(
          references.scale(run, normalization) is None for run in runs
      ):
        continue
      scale = samples.scale_of(references, normalization)
      scores = samples.scores([runs], quantity, scale)
      if scores is not None:
        columns[quantity, normalization or RAW] = scores[:, 0]
  rows = lambda estimate: [
      GameScore(
          game,
          method,
          quantity,
          normalization,
          *_bounded(estimate, i),
          deviation=float(scores.std(ddof=1)) if len(scores) > 1 else None,
          runs=len(scores),
      )
      for i, ((quantity, normalization), scores) in enumerate(columns.items())
  ]
  stacked = np.stack(list(columns.values()), axis=-1)[:, np.newaxis]
  return _Ask(Question((stacked,), _mean), rows)


def _game_curve(
    method: str, game: str, axis: str, curves: samples.Curves
) -> _Ask:
  rows = lambda estimate: [
      GameCurvePoint(
          game,
          axis,
          method,
          float(x),
          *_bounded(estimate, i),
          runs=len(curves.scores),
      )
      for i, x in enumerate(curves.x)
  ]
  return _Ask(Question((curves.scores,), _mean), rows)


def _run_scores(method: Method, references: References) -> Iterator[RunScore]:
  for run in method.all_runs:
    last = run.points[-1]
    for name in samples.QUANTITIES:
      score = samples.quantity(run, name)
      if score is not None:
        yield RunScore(
            method.name,
            run.game,
            run.seed,
            name,
            score,
            references.normalized(run, TEACHER, score),
            references.normalized(run, HUMAN, score),
            last.agent_steps,
            last.updates,
            last.seconds,
            run.path,
        )
