"""Draws who copied whom in a population, and which line led to the best run.

A panel for each setting that changed (a run is a line, coloured by its value;
an arrow leads to who copied), and one with the scores. The ancestors of the
run that ended highest are drawn thick.
"""

from __future__ import annotations

import json
import os
from typing import Any, Iterable, NamedTuple, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.loop.population import lineage
from reincarnating_rl.report import finding
from reincarnating_rl.report import runs as runs_lib
from reincarnating_rl.report import style
from reincarnating_rl.report.runs import Run

FIGURE = 'lineage'  # without what it ends in
_COLOR_MAP = 'viridis'
_THICK, _THIN = 4.5, 1.4
# Curved: where two start at once, neither hides the other.
_ARROW = {
    'arrowstyle': '-|>',
    'connectionstyle': 'arc3,rad=-0.25',
    'linewidth': 0.9,
    'mutation_scale': 8,
}
_PALE, _DARK = '0.65', '0.1'


class NoLineageYet(errors.UserError):
  """Not every run of a group has been evaluated online."""


class Stretch(NamedTuple):
  """One run between two exploits.

  Attributes:
    run: index of it.
    start: online agent steps when it began.
    stop: when it ended.
    member: settings in force.
    parent: index of the run that it continues, at first itself.
    leads: whether the best run descends from it.
  """

  run: int
  start: int
  stop: int
  member: dict[str, float]
  parent: int
  leads: bool


class History(NamedTuple):
  """What became of a population.

  Attributes:
    title: of the figure.
    runs: [S], as they are on the disk.
    mutated: names of the settings that changed by themselves.
    stretches: of all runs, in the order of time.
    best: index of the run that ended highest.
  """

  title: str
  runs: list[Run]
  mutated: list[str]
  stretches: list[Stretch]
  best: int


def has_lineage(base_dir: str) -> bool:
  """Whether a directory is that of runs that copy each other."""
  return os.path.isfile(os.path.join(base_dir, lineage.FILE_NAME))


def is_member(run: Run) -> bool:
  """Whether a run is one of those that copy each other where it stands.

  A file of that name that is no such record, as a user's own, says nothing; a
  damaged one may be one.
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
  """The history of a group.

  Args:
    base_dir: above the directories of its runs.

  Raises:
    UserError: if something of it cannot be read.
    NoLineageYet: if not every run has been evaluated online.
  """
  with errors.user_errors():
    document, exploits = lineage.read(base_dir)
  runs = []
  for number in document['run_numbers']:
    directory = os.path.join(base_dir, f'run_{number}')
    runs.append(runs_lib.read(directory, finding.read(directory)))
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
  """Of all runs; which of them lead to the best is found from the end."""
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


# -- drawing -------------------------------------------------------------------


def draw_groups(
    runs: Iterable[Run], directory: str
) -> tuple[list[style.Drawn], list[str]]:
  """Draws each group that has a lineage and to which some of the runs belong.

  Args:
    runs: of a report.
    directory: where the figures go.

  Returns:
    The figures, and a sentence on each group that cannot be read.
  """
  drawn, notes = [], []
  for group in dict.fromkeys(run.group for run in runs if is_member(run)):
    try:
      history = read(group)
    except NoLineageYet:
      continue
    except errors.UserError as e:
      notes.append(f'The lineage of {group} is not drawn: {e}')
      continue
    name = f'{FIGURE}_{len(drawn) + 1}'
    draw(history, directory, name)
    caption = (
        f'{group}: {history.title}. A line a run, coloured by its setting; an '
        'arrow leads to who copied, and thick is the line that led to the best '
        'run.'
    )
    drawn.append(style.Drawn(name, style.LINEAGE, style.WIDTH, caption))
  return drawn, notes


def draw(history: History, directory: str, name: str = FIGURE) -> None:
  """Writes the figure as PNG and PDF.

  Args:
    history: what it shows.
    directory: where it goes.
    name: of its files, without what they end in.
  """
  size, panels = len(history.runs), len(history.mutated)
  each = 0.55 + 0.26 * size
  with style.new_figure(style.WIDTH, panels * each + 2.3) as figure:
    rows = figure.subplots(
        panels + 1,
        sharex=True,
        gridspec_kw={'height_ratios': [each] * panels + [2.0]},
        squeeze=False,
    )[:, 0]
    for axes, setting in zip(rows, history.mutated):
      _add_lines(figure, axes, history, setting)
    _add_scores(rows[-1], history)
    rows[0].set_title(style.plain(history.title))
    rows[-1].set_xlabel('online agent steps')
    style.save(figure, directory, name)


def _add_lines(figure: Any, axes: Any, history: History, name: str) -> None:
  """Every run at a height of its own, coloured by a setting."""
  import matplotlib
  from matplotlib.cm import ScalarMappable

  colors = ScalarMappable(
      _norm(history, name), matplotlib.colormaps[_COLOR_MAP]
  )
  for stretch in history.stretches:
    axes.plot(
        [stretch.start, stretch.stop],
        [stretch.run] * 2,
        color=colors.to_rgba(stretch.member[name]),
        linewidth=_THICK if stretch.leads else _THIN,
        solid_capstyle='butt',
        antialiased=False,  # else there are gaps between stretches
        zorder=2,
    )
    if stretch.parent != stretch.run:
      axes.annotate(
          '',
          (stretch.start, stretch.run),
          (stretch.start, stretch.parent),
          arrowprops=_ARROW | {'color': _color(stretch)},
          zorder=4 if stretch.leads else 3,
      )
  axes.set_yticks(
      range(len(history.runs)), [f'run {run.seed}' for run in history.runs]
  )
  axes.get_yticklabels()[history.best].set_fontweight('bold')
  axes.set_ylim(len(history.runs) - 0.5, -0.5)
  axes.grid(axis='y', visible=False)
  bar = figure.colorbar(colors, ax=axes, aspect=12, pad=0.02)
  bar.set_label(_short(name).replace('_', ' '))
  bar.outline.set_visible(False)


def _norm(history: History, name: str) -> Any:
  """Logarithmic where values differ by more than ten times."""
  from matplotlib.colors import LogNorm
  from matplotlib.colors import Normalize

  values = [stretch.member[name] for stretch in history.stretches]
  low, high = min(values), max(values)
  if 0 < 10 * low < high:
    return LogNorm(low, high)
  return Normalize(low, high)


def _add_scores(axes: Any, history: History) -> None:
  """Every run's score; thick where the best one descends from it."""
  for run in history.runs:
    axes.plot(
        [point.agent_steps for point in run.online],
        [point.score for point in run.online],
        color=_PALE,
        linewidth=1.0,
        marker='o',
        markersize=2.5,
        zorder=2,
    )
  line = _line_of_best(history)
  axes.plot(
      [x for x, _ in line],
      [y for _, y in line],
      color=_DARK,
      linewidth=2.2,
      zorder=3,
      label=f'the line that led to run {history.runs[history.best].seed}',
  )
  axes.plot([], [], color=_PALE, label='other runs')
  axes.set_ylabel('mean return')
  axes.legend()


def _line_of_best(history: History) -> list[tuple[int, float]]:
  """(agent steps, score) of the runs from which the best one descends."""
  found = []
  for stretch in history.stretches:
    if stretch.leads:
      found += [
          (point.agent_steps, point.score)
          for point in history.runs[stretch.run].online
          if stretch.start < point.agent_steps <= stretch.stop
      ]
  return found


def _short(name: str) -> str:
  """Of a setting that gin binds, without what it is bound of."""
  return name.rpartition('.')[2]


def _color(stretch: Stretch) -> str:
  return _DARK if stretch.leads else _PALE


# -- in words ------------------------------------------------------------------


def table(history: History) -> str:
  """Of each run: settings at first and at last, scores, whom it copied."""
  header = ['run', *map(_short, history.mutated), 'score', 'copied']
  rows = [header]
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


def show(base_dir: str) -> None:
  """Prints the table of a group and draws its lineage.

  Raises:
    UserError: as `read` does.
  """
  history = read(base_dir)
  print(table(history))
  path = os.path.join(base_dir, f'{FIGURE}.png')
  try:
    draw(history, base_dir)
  except OSError as e:
    raise errors.UserError(
        f'The lineage {path} cannot be written ({e.strerror}).'
    ) from e
  print(f'\n* the best. Lineage: {path}')
