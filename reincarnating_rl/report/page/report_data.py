"""Content of a report, and its form as JSON and CSV."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.report import tables as tables_lib
from reincarnating_rl.report.figures.style import Drawn
from reincarnating_rl.report.reading import method_identity
from reincarnating_rl.report.reading.grouping import Method
from reincarnating_rl.report.statistics import bootstrap
from reincarnating_rl.report.statistics import metrics
from reincarnating_rl.report.statistics import samples
from reincarnating_rl.report.statistics.references import NORMALIZATIONS
from reincarnating_rl.report.tables import Aggregate
from reincarnating_rl.report.tables import Numbers
from reincarnating_rl.rundir import summary

# File -> (field of Numbers, type of its rows).
TABLES: dict[str, tuple[str, Any]] = {
    'aggregates.csv': ('aggregates', tables_lib.Aggregate),
    'curves.csv': ('curves', tables_lib.CurvePoint),
    'curves_by_game.csv': ('game_curves', tables_lib.GameCurvePoint),
    'profiles.csv': ('profiles', tables_lib.ProfilePoint),
    'improvement.csv': ('improvements', tables_lib.Improvement),
    'scores_by_game.csv': ('game_scores', tables_lib.GameScore),
    'scores_by_run.csv': ('run_scores', tables_lib.RunScore),
    'references.csv': ('references', tables_lib.ReferenceScore),
}
QUANTITY_WORDS = {
    samples.FINAL: 'final',
    samples.AREA: 'mean online',
    samples.START: 'after pretraining',
}


class Making(NamedTuple):
  """Provenance of a report.

  Attributes:
    command: command line that makes the report again.
    directory: working directory of the command.
    resamples: resamples per interval.
    seed: seed of the bootstrap.
    versions: versions of the packages.
  """

  command: str
  directory: str
  resamples: int
  seed: int
  versions: Mapping[str, str]


class Report(NamedTuple):
  """Content of a report.

  Attributes:
    methods: methods with their runs.
    numbers: all numbers.
    warnings: sentences about doubtful choices that the user asked for.
    notes: further caveats.
    figures: figures that were drawn.
    making: provenance of the report.
  """

  methods: Sequence[Method]
  numbers: Numbers
  warnings: Sequence[str]
  notes: Sequence[str]
  figures: Sequence[Drawn]
  making: Making

  @property
  def in_order(self) -> list[Method]:
    """Methods, the best first."""
    names = self.numbers.methods
    return sorted(self.methods, key=lambda m: names.index(m.name))

  @property
  def headline(self) -> Optional[str]:
    """Normalization of the headline; None if no scores can be normalized."""
    games = self.numbers.games
    return next((n for n in NORMALIZATIONS if games[n]), None)

  def iqm(self, method: str, quantity: str) -> Optional[Aggregate]:
    """IQM of a method in the headline's normalization."""
    wanted = (self.headline, quantity, metrics.METRICS[0], method)
    for row in self.numbers.aggregates:
      if row[:4] == wanted:
        return row
    return None


def versions() -> dict[str, str]:
  """Versions of the packages that make a report."""
  found = importlib.metadata.version('matplotlib')
  return summary.versions() | {'matplotlib': found}


def settings_that_differ(methods: Sequence[Method]) -> dict[str, list[str]]:
  """Values, one per method, of each setting that differs between methods."""
  names = dict.fromkeys(name for m in methods for name in m.settings)
  values = {name: [m.settings.get(name, '') for m in methods] for name in names}
  return {name: v for name, v in values.items() if len(set(v)) > 1}


def to_json(report: Report) -> dict[str, Any]:
  """Converts a report to a JSON object."""
  tables = {
      field: [row._asdict() for row in getattr(report.numbers, field)]
      for field, _ in TABLES.values()
  }
  return {
      'making': report.making._asdict(),
      'confidence': bootstrap.CONFIDENCE,
      'warnings': list(report.warnings),
      'notes': list(report.notes),
      'methods': [_method(method) for method in report.in_order],
      'games': report.numbers.games,
      'lines': report.numbers.lines,
      **tables,
      'figures': [figure._asdict() for figure in report.figures],
  }


def _method(method: Method) -> dict[str, Any]:
  first = method.all_runs[0]
  return {
      'name': method.name,
      'agent': first.agent,
      'gin_files': list(first.gin_files),
      'network': first.network,
      'budget': method_identity.budget(first)._asdict(),
      'seeds': {g: [r.seed for r in runs] for g, runs in method.runs.items()},
      'settings': dict(method.settings),
      'runs': [_run(run) for run in method.all_runs],
  }


def _run(run: Any) -> dict[str, Any]:
  return {
      'path': run.path,
      'game': run.game,
      'seed': run.seed,
      'finished': run.finished,
      'teacher': run.teacher and _teacher(run.teacher),
      'frames': dict(run.frames),
      'teacher_score': run.teacher_score,
      'random_score': run.random_score,
      'rom': dict(run.rom),
      'versions': dict(run.versions),
  }


def _teacher(teacher: Any) -> dict[str, Any]:
  chain = [link._asdict() for link in teacher.chain.links]
  return teacher._asdict() | {'chain': chain}
