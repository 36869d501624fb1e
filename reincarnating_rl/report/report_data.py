"""All that a report consists of, and its form as data: JSON and CSV."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.report import method_identity
from reincarnating_rl.report import samples
from reincarnating_rl.report import statistics
from reincarnating_rl.report import tables as tables_lib
from reincarnating_rl.report.grouping import Method
from reincarnating_rl.report.references import NORMALIZATIONS
from reincarnating_rl.report.style import Drawn
from reincarnating_rl.report.tables import Aggregate
from reincarnating_rl.report.tables import Numbers
from reincarnating_rl.rundir import summary

# File -> (field of Numbers, kind of its rows).
TABLES = {
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
_PACKAGES = ('rliable', 'arch', 'scipy', 'matplotlib')


class Making(NamedTuple):
  """How a report was made.

  Attributes:
    command: as it can be given again.
    directory: in which it was given.
    resamples: of the bootstrap.
    seed: of the bootstrap.
    versions: of the packages.
  """

  command: str
  directory: str
  resamples: int
  seed: int
  versions: Mapping[str, str]


class Report(NamedTuple):
  """What is told.

  Attributes:
    methods: with their runs.
    numbers: of them.
    warnings: what was done although it is doubtful.
    notes: what else is to be known.
    figures: that were drawn.
    making: how it was made.
  """

  methods: Sequence[Method]
  numbers: Numbers
  warnings: Sequence[str]
  notes: Sequence[str]
  figures: Sequence[Drawn]
  making: Making

  @property
  def in_order(self) -> list[Method]:
    """The methods, the best first."""
    names = self.numbers.methods
    return sorted(self.methods, key=lambda m: names.index(m.name))

  @property
  def headline(self) -> Optional[str]:
    """The normalization that counts most; None if there is none."""
    games = self.numbers.games
    return next((n for n in NORMALIZATIONS if games[n]), None)

  def iqm(self, method: str, quantity: str) -> Optional[Aggregate]:
    """Its row in the headline's normalization."""
    wanted = (self.headline, quantity, statistics.METRICS[0], method)
    for row in self.numbers.aggregates:
      if row[:4] == wanted:
        return row
    return None


def versions() -> dict[str, str]:
  """Versions of what makes a report."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return summary.versions() | found


def settings_that_differ(methods: Sequence[Method]) -> dict[str, list[str]]:
  """Values of each setting that is not the same in all methods."""
  names = dict.fromkeys(name for m in methods for name in m.settings)
  values = {name: [m.settings.get(name, '') for m in methods] for name in names}
  return {name: v for name, v in values.items() if len(set(v)) > 1}


def to_json(report: Report) -> dict[str, Any]:
  """Everything, JSON-ready."""
  tables = {
      field: [row._asdict() for row in getattr(report.numbers, field)]
      for field, _ in TABLES.values()
  }
  return {
      'making': report.making._asdict(),
      'confidence': statistics.CONFIDENCE,
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
