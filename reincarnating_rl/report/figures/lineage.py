"""Draws the lineage of a population: who copied whom.

One panel per mutated hyperparameter, and one with the scores. A run is a line,
coloured by its value; an arrow points to the run that copied. The line that led
to the best run is thick.
"""

from __future__ import annotations

from typing import Any, Iterable

import numpy as np

from reincarnating_rl.base import errors
from reincarnating_rl.report.figures import style
from reincarnating_rl.report.reading import lineage
from reincarnating_rl.report.reading.lineage import History
from reincarnating_rl.report.reading.lineage import Stretch
from reincarnating_rl.report.reading.runs import Run

FILE_STEM = 'lineage'
_COLOR_MAP = 'viridis'
_THICK, _THIN = 4.5, 1.4
# Curved, so that two arrows between the same times do not hide each other.
_ARROW = {
    'arrowstyle': '-|>',
    'connectionstyle': 'arc3,rad=-0.25',
    'linewidth': 0.9,
    'mutation_scale': 8,
}
_PALE, _DARK = '0.65', '0.1'


def draw_groups(
    runs: Iterable[Run], directory: str
) -> tuple[list[style.Drawn], list[str]]:
  """Draws the lineage of each population that some of the runs belong to.

  Args:
    runs: runs of a report.
    directory: directory for the files.

  Returns:
    The figures, and a sentence on each population that cannot be read.
  """
  drawn: list[style.Drawn] = []
  notes: list[str] = []
  groups = [run.group for run in runs if lineage.is_member(run)]
  for group in dict.fromkeys(groups):
    try:
      history = lineage.read(group)
    except lineage.NoLineageYet:
      continue
    except errors.UserError as e:
      notes.append(f'The lineage of {group} is not drawn: {e}')
      continue
    name = f'{FILE_STEM}_{len(drawn) + 1}'
    draw(history, directory, name)
    caption = (
        f'{group}: {history.title}. Each line is a run, coloured by the '
        'hyperparameter. An arrow points to the run that copied. The thick '
        'line led to the best run.'
    )
    drawn.append(style.Drawn(name, style.LINEAGE, style.WIDTH, caption))
  return drawn, notes


def draw(history: History, directory: str, name: str = FILE_STEM) -> None:
  """Writes the figure as PNG and PDF.

  Args:
    history: history of the population.
    directory: directory for the files.
    name: name of the files, without their endings.
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
  """Draws each run at its own height, coloured by a hyperparameter."""
  import matplotlib
  from matplotlib.cm import ScalarMappable

  colors = ScalarMappable(
      _norm(history, name), matplotlib.colormaps[_COLOR_MAP]
  )
  values = np.array([stretch.member[name] for stretch in history.stretches])
  for stretch, color in zip(history.stretches, colors.to_rgba(values)):
    axes.plot(
        [stretch.start, stretch.stop],
        [stretch.run] * 2,
        color=color,
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
  bar.set_label(lineage.short_name(name).replace('_', ' '))
  bar.outline.set_visible(False)


def _norm(history: History, name: str) -> Any:
  """Norm of the colours; logarithmic for values over more than a decade."""
  from matplotlib.colors import LogNorm
  from matplotlib.colors import Normalize

  values = [stretch.member[name] for stretch in history.stretches]
  low, high = min(values), max(values)
  if 0 < 10 * low < high:
    return LogNorm(low, high)
  return Normalize(low, high)


def _add_scores(axes: Any, history: History) -> None:
  """Draws the score of each run, and the line that led to the best."""
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
  line = history.line_of_best
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


def _color(stretch: Stretch) -> str:
  return _DARK if stretch.leads else _PALE
