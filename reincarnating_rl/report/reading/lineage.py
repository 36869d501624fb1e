"""Reads who copied whom in a population, and which line led to the best run."""

from __future__ import annotations

import json
import os
from typing import NamedTuple, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.loop.population import lineage
from reincarnating_rl.report.reading import runs as runs_lib
from reincarnating_rl.report.reading.runs import Run
from reincarnating_rl.rundir import summary


class NoLineageYet(errors.UserError):
  """Not every run of a group has been evaluated online."""


class Stretch(NamedTuple):
  """One run between two exploits.

  Attributes:
    run: index of the run.
    start: online agent steps at the start.
    stop: online agent steps at the end.
    member: hyperparameters in force.
    parent: index of the run that it continues; at first its own.
    leads: True if the best run descends from this stretch.
  """

  run: int
  start: int
  stop: int
  member: dict[str, float]
  parent: int
  leads: bool


class History(NamedTuple):
  """Development of a population.

  Attributes:
    title: agent, game and runs, in words.
    runs: [S] runs, as read from their directories.
    mutated: names of the hyperparameters that mutate.
    stretches: stretches of all runs, in the order of time.
    best: index of the run with the highest final score.
  """

  title: str
  runs: list[Run]
  mutated: list[str]
  stretches: list[Stretch]
  best: int

  @property
  def line_of_best(self) -> list[tuple[int, float]]:
    """(agent steps, score) of the stretches that lead to the best run."""
    return [
        (point.agent_steps, point.score)
        for stretch in self.stretches
        if stretch.leads
        for point in self.runs[stretch.run].online
        if stretch.start < point.agent_steps <= stretch.stop
    ]


def has_lineage(base_dir: str) -> bool:
  """True if a directory belongs to a population whose runs copy each other."""
  return os.path.isfile(os.path.join(base_dir, lineage.FILE_NAME))


def is_member(run: Run) -> bool:
  """True if a run belongs to a population whose runs copy each other.

  A user's own file of the same name does not count; a damaged file does, since
  it may be the record of a population.
  """
  if not has_lineage(run.group):
    return False
  try:
    path = os.path.join(run.group, lineage.FILE_NAME)
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
  except (OSError, ValueError):
    return True
  numbers = document.get('run_numbers') if isinstance(document, dict) else None
  return isinstance(numbers, list) and run.seed in numbers


def read(base_dir: str) -> History:
  """Reads the history of a population.

  Args:
    base_dir: directory above the run directories.

  Raises:
    UserError: if the record, or a run, cannot be read.
    NoLineageYet: if not every run has been evaluated online.
  """
  with errors.user_errors():
    document, exploits = lineage.read(base_dir)
  runs = []
  for number in document['run_numbers']:
    directory = os.path.join(base_dir, f'run_{number}')
    runs.append(runs_lib.read(directory, summary.read(directory)))
  if not all(run.online for run in runs):
    raise NoLineageYet(
        f'{base_dir} has no lineage yet: not every run has ended an online '
        'iteration.'
    )
  best = max(range(len(runs)), key=lambda i: runs[i].online[-1].score)
  end = max(run.online[-1].agent_steps for run in runs)
  return History(
      f'{runs[0].agent} on {runs[0].game}, runs '
      f'{runs[0].seed} to {runs[-1].seed}',
      runs,
      document['mutated'],
      _stretches(document['members'], exploits, best, end),
      best,
  )


def _stretches(
    members: Sequence[dict[str, float]],
    exploits: Sequence[lineage.Exploit],
    best: int,
    end: int,
) -> list[Stretch]:
  """Stretches of all runs; the leading line is traced back from the end."""
  starts = [0, *(exploit.agent_steps for exploit in exploits)]
  stops = [*starts[1:], end]
  settings, parents = [list(members)], [list(range(len(members)))]
  for exploit in exploits:
    after, copied = list(exploit.members), list(range(len(members)))
    for copy in exploit.copies:
      after[copy.target], copied[copy.target] = copy.member, copy.source
    settings.append(after)
    parents.append(copied)
  leading = [best]
  for copied in reversed(parents[1:]):
    leading.insert(0, copied[leading[0]])
  return [
      Stretch(i, start, stop, settings[k][i], parents[k][i], leading[k] == i)
      for k, (start, stop) in enumerate(zip(starts, stops))
      for i in range(len(members))
  ]


def short_name(name: str) -> str:
  """Name of a gin parameter without its module prefix."""
  return name.rpartition('.')[2]


def table(history: History) -> str:
  """Tabulates for each run: hyperparameters, score, and whom it copied."""
  rows = [['run', *map(short_name, history.mutated), 'score', 'copied']]
  for i, run in enumerate(history.runs):
    own = [stretch for stretch in history.stretches if stretch.run == i]
    changes = [
        f'{own[0].member[name]:.3g} -> {own[-1].member[name]:.3g}'
        for name in history.mutated
    ]
    copied = [
        str(history.runs[stretch.parent].seed)
        for stretch in own
        if stretch.parent != i
    ]
    score = f'{run.online[-1].score:.2f}'
    mark = '*' if i == history.best else ''
    rows.append([f'{run.seed}{mark}', *changes, score, ', '.join(copied)])
  return tables.table(rows)
