"""Draws learning curves, over all games and per game."""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence

from reincarnating_rl.report import formatting
from reincarnating_rl.report.figures import style
from reincarnating_rl.report.figures.style import Look
from reincarnating_rl.report.statistics import samples
from reincarnating_rl.report.tables import Numbers

_AXIS_NAMES = {
    samples.AGENT_STEPS: 'online agent steps',
    samples.SECONDS: 'wall-clock time',
}
# Up to this many evaluations, each has room for a marker.
_MARKED_POINTS = 25


def draw_curves(
    numbers: Numbers,
    looks: dict[str, Look],
    normalization: str,
    axis: str,
    directory: str,
) -> Optional[style.Drawn]:
  """Draws the IQM over all games, a curve per method."""
  points = [
      p
      for p in numbers.curves
      if (p.normalization, p.axis) == (normalization, axis)
  ]
  if not points:
    return None
  unit, x_label = _x_unit(axis, points)
  with style.new_figure(style.NARROW, 3.1) as figure:
    axes = figure.add_subplot()
    for name, look in looks.items():
      of_method = [p for p in points if p.method == name]
      _add_curve(axes, of_method, style.label(name, of_method), look, unit)
    for name, score in numbers.lines[normalization].items():
      style.add_reference(axes, name, score)
    _begin_at_zero(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(f'{normalization}-normalized score (IQM)')
    style.add_legend(figure, [axes])
    name = f'curve_{normalization}_{axis}'
    style.save(figure, directory, name)
  caption = (
      f'{normalization.capitalize()}-normalized score over '
      f'{_AXIS_NAMES[axis]}: IQM over '
      f'{style.runs_of(points, numbers.games[normalization])}'
      f'{style.intervals(points, "bands", "x")}.{_start_note(axis, points)}'
  )
  return style.Drawn(name, normalization, style.NARROW, caption)


def draw_game_curves(
    numbers: Numbers, looks: dict[str, Look], axis: str, directory: str
) -> Optional[style.Drawn]:
  """Draws the mean return, a panel per game."""
  points = [p for p in numbers.game_curves if p.axis == axis]
  if not points:
    return None
  games = sorted({p.game for p in points})
  columns = min(len(games), 2 if len(games) <= 4 else 3)
  rows = math.ceil(len(games) / columns)
  unit, x_label = _x_unit(axis, points)
  height = (2.5 if columns <= 2 else 1.9) * rows
  with style.new_figure(style.WIDTH, height) as figure:
    panels = [
        figure.add_subplot(rows, columns, i + 1) for i in range(len(games))
    ]
    for i, (panel, game) in enumerate(zip(panels, games)):
      here = [p for p in points if p.game == game]
      for name, look in looks.items():
        of_method = [p for p in here if p.method == name]
        label = style.label(name, [p for p in points if p.method == name])
        _add_curve(panel, of_method, label, look, unit)
      for reference in numbers.references:
        if reference.game == game:
          style.add_reference(panel, reference.name, reference.score)
      _begin_at_zero(panel)
      panel.set_title(style.plain(game))
      if i + columns >= len(games):
        panel.set_xlabel(x_label)
      if i % columns == 0:
        panel.set_ylabel('mean return')
    style.add_legend(figure, panels)
    name = f'games_{axis}'
    style.save(figure, directory, name)
  caption = (
      f'Mean return on each game over {_AXIS_NAMES[axis]}: mean over '
      f'{formatting.counts([p.runs for p in points], "run")}'
      f'{style.intervals(points, "bands", "x")}.{_start_note(axis, points)}'
  )
  return style.Drawn(name, style.GAMES, style.WIDTH, caption)


def _add_curve(
    axes: Any, points: Sequence[Any], label: str, look: Look, unit: float
) -> None:
  """Adds a curve with its band; an open marker is the end of pretraining."""
  if not points:
    return
  x = [p.x / unit for p in points]
  marked = len(points) <= _MARKED_POINTS
  marker = look.marker if marked else None
  style.add_line(axes, x, points, label, look, marker=marker)
  if points[0].axis == samples.AGENT_STEPS and x[0] == 0:
    axes.plot(
        x[:1],
        [points[0].value],
        look.marker,
        color=look.color,
        markerfacecolor='white',
        markersize=5.5,
        zorder=4,
        clip_on=False,
    )


def _begin_at_zero(axes: Any) -> None:
  """Starts the x axis at 0, with room for a marker there."""
  axes.set_xlim(left=-0.02 * axes.dataLim.x1)


def _x_unit(axis: str, points: Sequence[Any]) -> tuple[float, str]:
  """Divisor of x, and label of the axis."""
  last = max(p.x for p in points)
  if axis == samples.SECONDS:
    unit, name = formatting.time_unit(last)
    return unit, f'wall-clock time ({name})'
  for unit, name in ((1e6, 'million '), (1e3, 'thousand ')):
    if last >= 2 * unit:
      return unit, f'{name}{_AXIS_NAMES[axis]}'
  return 1.0, _AXIS_NAMES[axis]


def _start_note(axis: str, points: Sequence[Any]) -> str:
  if axis == samples.AGENT_STEPS and any(p.x == 0 for p in points):
    return ' Open markers at 0: the end of pretraining.'
  return ''
