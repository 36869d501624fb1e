"""Curves and bars of Q-values as parts of a picture.

Shape letters: T steps shown, A actions.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from PIL import Image
from PIL import ImageDraw

from reincarnating_rl.evaluate import canvas
from reincarnating_rl.evaluate.canvas import Box
from reincarnating_rl.evaluate.canvas import Color

# Width of the numbers beside the axis.
AXIS_WIDTH = 46
# Smallest span of a range, for values that never change.
_LEAST_SPAN = 1e-3


class Curves:
  """Q-values of all actions over the last few seconds."""

  def __init__(self, box: Box, steps: int, steps_per_second: float):
    """Lays out a plot.

    Args:
      box: place of the plot, axis and numbers included.
      steps: largest T.
      steps_per_second: agent steps per second of play.
    """
    left, top, right, bottom = box
    self.field = (left + AXIS_WIDTH, top, right, bottom)
    self._steps = steps
    self._per_second = steps_per_second

  def x_of(self, age: Any) -> Any:
    """x within the field, in pixels, of steps that lie `age` steps back."""
    width = self.field[2] - self.field[0]
    return (width - 4) * (1 - age / (self._steps - 1))

  def draw_axis(self, draw: ImageDraw.ImageDraw, labels: bool) -> None:
    """Draws the static part: the frame, and times below it."""
    left, top, right, bottom = self.field
    draw.rectangle((left, top, right, bottom), canvas.BAND)
    seconds = int((self._steps - 1) / self._per_second)
    for second in range(0, seconds + 1):
      x = left + self.x_of(np.float64(second * self._per_second))
      draw.line((x, top, x, bottom), canvas.FAINT)
      if labels:
        text = f'\N{MINUS SIGN}{second} s' if second else 'now'
        place = (x, bottom + 10) if second else (right, bottom + 10)
        anchor = 'mm' if second else 'rm'
        draw.text(place, text, canvas.SOFT, canvas.font(11), anchor=anchor)

  def draw(
      self,
      image: Image.Image,
      q_values: np.ndarray,
      differs: np.ndarray,
      costs: np.ndarray,
  ) -> None:
    """Draws the curves.

    Args:
      image: picture to draw into.
      q_values: [T, A], oldest first.
      differs: [T] bool, True where the greedy actions differ.
      costs: [T] in [0, 1]; a higher cost is marked darker.
    """
    left, top, right, bottom = self.field
    size = (right - left + 1, bottom - top + 1)
    draw = ImageDraw.Draw(image)
    x = self.x_of(np.arange(len(q_values))[::-1])
    half = self.x_of(np.float64(0)) - self.x_of(np.float64(0.5))
    for at in np.flatnonzero(differs):
      edges = np.clip([x[at] - half, x[at] + half], 0, size[0] - 1) + left
      draw.rectangle(
          (round(edges[0]), top, round(edges[1]), bottom),
          canvas.paler(canvas.ALARM, 0.96 - 0.42 * float(costs[at])),
      )
    low, high = self._range(q_values)
    y_of = lambda q: (size[1] - 1) * (high - q) / (high - low)
    marks, decimals = canvas.ticks(low, high)
    for mark in marks:
      y = top + y_of(mark)
      draw.line((left, y, right, y), canvas.FAINT)
      text = canvas.number(mark, decimals)
      canvas.text_right(draw, left - 6, round(y), text, 11, canvas.SOFT)
    field = canvas.Lines(size, image.crop((left, top, right + 1, bottom + 1)))
    greedy = int(q_values[-1].argmax())
    # The greedy action last, on top of the others.
    order = sorted(range(q_values.shape[1]), key=lambda a: a == greedy)
    for action in order:
      y = y_of(q_values[:, action])
      color = canvas.ACTIONS[action % len(canvas.ACTIONS)]
      width = 2.2 if action == greedy else 1.1
      if len(x) > 1:
        field.line(x, y, color, width)
      if action == greedy:
        field.dot(x[-1], y[-1], 3.5, color)
    image.paste(field.image(), (left, top))

  def _range(self, q_values: np.ndarray) -> tuple[float, float]:
    """Range of the axis: all values, with a margin."""
    low, high = float(q_values.min()), float(q_values.max())
    room = max(0.08 * (high - low), _LEAST_SPAN)
    return low - room, high + room


class Bars:
  """Bars of each action's Q-value less the mean over actions."""

  def __init__(self, ends: tuple[int, int], rows: Sequence[int], color: Color):
    """Lays out a column of bars.

    Args:
      ends: left and right end, numbers beside the bars included.
      rows: [A] y of the middle of each action's row.
      color: color of the greedy action's bar.
    """
    self._ends = ends
    self._rows = list(rows)
    self._color = color
    gap = rows[1] - rows[0] if len(rows) > 1 else 24
    self._half = max(3, round(gap * 0.32))
    self._size = 13 if gap >= 20 else 11
    self._number_width = 58
    self._reach = _LEAST_SPAN

  def draw(
      self, draw: ImageDraw.ImageDraw, q_values: np.ndarray, reach: float
  ) -> None:
    """Draws the bars, with their values beside them.

    Args:
      draw: drawing context of the picture.
      q_values: [A].
      reach: largest recent distance of a value from the mean.
    """
    left, right = self._ends
    right -= self._number_width
    middle = (left + right) / 2
    # Grows at once and shrinks slowly, so that bars compare over time.
    self._reach = max(reach, 0.97 * self._reach, _LEAST_SPAN)
    scale = (right - left) / 2 / self._reach
    mean, greedy = float(q_values.mean()), int(q_values.argmax())
    decimals = 3 if self._reach < 0.5 else 2
    for action, (y, q) in enumerate(zip(self._rows, q_values)):
      end = middle + (float(q) - mean) * scale
      color = self._color if action == greedy else canvas.paler(self._color)
      box = (min(middle, end), y - self._half, max(middle, end), y + self._half)
      draw.rectangle(box, color)
      canvas.text_right(
          draw,
          self._ends[1],
          y,
          canvas.number(q, decimals),
          self._size,
          canvas.INK if action == greedy else canvas.SOFT,
          action == greedy,
      )
    draw.line(
        (
            middle,
            self._rows[0] - self._half - 3,
            middle,
            self._rows[-1] + self._half + 3,
        ),
        canvas.SOFT,
    )


def reach_of(q_values: np.ndarray) -> float:
  """Largest distance of [T, A] values from the mean of their step."""
  return float(np.abs(q_values - q_values.mean(axis=1, keepdims=True)).max())


def draw_rewards(
    draw: ImageDraw.ImageDraw,
    curves: Curves,
    middle: int,
    rewards: np.ndarray,
) -> None:
  """Draws triangles at the nonzero ones of [T] rewards, oldest first."""
  x = curves.field[0] + curves.x_of(np.arange(len(rewards))[::-1])
  for at in np.flatnonzero(rewards):
    won = rewards[at] > 0
    canvas.triangle(
        draw,
        (float(x[at]), middle),
        5,
        canvas.GAIN if won else canvas.ALARM,
        'up' if won else 'down',
    )


def draw_differences(
    draw: ImageDraw.ImageDraw,
    curves: Curves,
    middle: int,
    differs: np.ndarray,
) -> None:
  """Draws ticks where [T] `differs` is True."""
  x = curves.field[0] + curves.x_of(np.arange(len(differs))[::-1])
  for at in np.flatnonzero(differs):
    draw.line((x[at], middle - 4, x[at], middle + 4), canvas.ALARM, 2)
