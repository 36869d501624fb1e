"""Draws comparisons of methods: aggregates, profiles, pairs."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from reincarnating_rl.report import formatting
from reincarnating_rl.report.figures import style
from reincarnating_rl.report.figures.style import Look
from reincarnating_rl.report.statistics import metrics
from reincarnating_rl.report.statistics import samples
from reincarnating_rl.report.tables import Numbers

_QUANTITY_NAMES = {
    samples.FINAL: 'final score',
    samples.AREA: 'mean online score',
}
# Up to this many methods, a cell has room for an interval.
_ROOMY_MATRIX = 8


def draw_aggregates(
    numbers: Numbers,
    looks: dict[str, Look],
    normalization: str,
    quantity: str,
    directory: str,
) -> Optional[style.Drawn]:
  """Draws a panel per metric; a bar is the interval of a method."""
  rows = [
      a
      for a in numbers.aggregates
      if (a.normalization, a.quantity) == (normalization, quantity)
  ]
  if not rows:
    return None
  names = [
      name for name in numbers.methods if any(r.method == name for r in rows)
  ]
  labels = [
      style.label(n, [r for r in rows if r.method == n], style.LABEL_LENGTH)
      for n in names
  ]
  lines = 1 + max(label.count('\n') for label in labels)
  height = (0.13 * lines + 0.11) * len(names) + 0.8
  with style.new_figure(style.WIDTH, height) as figure:
    panels = figure.subplots(1, len(metrics.METRICS), sharey=True)
    for panel, metric in zip(panels, metrics.METRICS):
      for row in rows:
        if row.metric == metric:
          _add_bar(panel, names.index(row.method), row, looks[row.method])
      # An arrow, since words would run into the next panel.
      better = '↓' if metric == metrics.METRICS[-1] else '↑'
      panel.set_title(f'{metric} {better}')
      panel.grid(axis='y', visible=False)
      panel.spines['left'].set_visible(False)
      panel.tick_params(axis='y', length=0)
      panel.use_sticky_edges = False
      panel.margins(x=0.08)
      panel.locator_params(axis='x', nbins=3, min_n_ticks=2)
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(
        f'{normalization}-normalized {_QUANTITY_NAMES[quantity]}', fontsize=8.5
    )
    name = f'aggregates_{normalization}_{quantity}'
    style.save(figure, directory, name)
  caption = (
      f'Aggregates of {normalization}-normalized {_QUANTITY_NAMES[quantity]}s '
      f'over {style.runs_of(rows, numbers.games[normalization])}'
      f'{style.intervals(rows, "bars")}. Arrows: what is better.'
  )
  return style.Drawn(name, normalization, style.WIDTH, caption)


def _add_bar(axes: Any, y: int, row: Any, look: Look) -> None:
  if row.low is None:
    axes.plot(row.value, y, look.marker, color=look.color, markersize=5)
    return
  axes.barh(
      y, row.high - row.low, 0.62, left=row.low, color=look.color, alpha=0.45
  )
  axes.vlines(row.value, y - 0.31, y + 0.31, color=look.color, linewidth=2)


def draw_profiles(
    numbers: Numbers, looks: dict[str, Look], normalization: str, directory: str
) -> Optional[style.Drawn]:
  """Draws the share of runs above each score."""
  points = [p for p in numbers.profiles if p.normalization == normalization]
  if not points:
    return None
  with style.new_figure(style.NARROW, 3.0) as figure:
    axes = figure.add_subplot()
    for name, look in looks.items():
      of_method = [p for p in points if p.method == name]
      tau = [p.tau for p in of_method]
      label = style.label(name, of_method)
      style.add_line(axes, tau, of_method, label, look, step='post')
    axes.set_xlabel(f'{normalization}-normalized score $\\tau$')
    axes.set_ylabel('share of runs with a final score > $\\tau$')
    axes.set_ylim(-0.02, 1.02)
    style.add_legend(figure, [axes])
    name = f'profile_{normalization}'
    style.save(figure, directory, name)
  caption = (
      'Performance profiles: share of runs whose '
      f'{normalization}-normalized final score is above tau'
      f'{style.intervals(points, "bands", "tau")}.'
  )
  return style.Drawn(name, normalization, style.NARROW, caption)


def draw_improvements(
    numbers: Numbers, directory: str
) -> Optional[style.Drawn]:
  """Draws a matrix: method of the row against method of the column."""
  if not numbers.improvements:
    return None
  names = numbers.methods
  size = len(names)
  roomy = size <= _ROOMY_MATRIX
  values = np.full((size, size), np.nan)
  width, height = (0.95, 0.5) if roomy else (0.42, 0.3)
  width, height = width * size + 2.2, height * size + 1.6
  with style.new_figure(width, height) as figure:
    axes = figure.add_subplot()
    for row in numbers.improvements:
      y, x = names.index(row.method_x), names.index(row.method_y)
      values[y, x] = row.value
      text = f'{row.value:.2f}'
      if roomy and row.low is not None:
        text += f'\n[{row.low:.2f}, {row.high:.2f}]'
      axes.text(x, y, text, ha='center', va='center', fontsize=7)
    # Pale at both ends, so that the numbers can be read.
    axes.imshow(values, cmap='PuOr_r', vmin=-0.4, vmax=1.4, aspect='auto')
    labels = [style.plain(name) for name in names]
    axes.set_xticks(
        range(size), labels, rotation=35, ha='right', rotation_mode='anchor'
    )
    for i in range(size):
      axes.text(i, i, formatting.MISSING, ha='center', va='center', color='0.6')
    axes.set_yticks(range(size), labels)
    title = 'P(a run of the row ends above one of the column)'
    if any(row.low is None for row in numbers.improvements):
      title += '\nNo interval where one of them has one run.'
    axes.set_title(title)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    style.save(figure, directory, 'improvement')
  games = numbers.improvements[0].games
  caption = (
      'Probability of improvement: how probable it is that a run of the row '
      'ends with a higher score than one of the column, mean over '
      f'{formatting.counts([games], "game")}'
      + (style.intervals(numbers.improvements, 'brackets') if roomy else '')
      + '.'
  )
  return style.Drawn('improvement', style.IMPROVEMENT, width, caption)
