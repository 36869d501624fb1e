"""Drawing tools of a film: fonts, colours, smooth lines."""

from __future__ import annotations

import functools
import math
import os
from typing import Sequence

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom

PAPER: Color = (255, 255, 255)
INK: Color = (34, 37, 43)
SOFT: Color = (122, 128, 138)
FAINT: Color = (226, 229, 234)
BAND: Color = (243, 245, 248)
STUDENT: Color = (33, 102, 190)
TEACHER: Color = (214, 110, 20)
ALARM: Color = (200, 36, 62)
GAIN: Color = (30, 140, 70)
# One colour per action, distinct for the colour-blind as far as 18 can be.
ACTIONS: tuple[Color, ...] = (
    (120, 120, 120),
    (31, 119, 180),
    (230, 120, 10),
    (44, 150, 60),
    (205, 50, 60),
    (135, 95, 185),
    (140, 86, 75),
    (222, 110, 185),
    (165, 165, 30),
    (20, 170, 190),
    (70, 70, 150),
    (150, 190, 230),
    (250, 180, 110),
    (140, 205, 130),
    (250, 150, 150),
    (190, 170, 215),
    (190, 150, 140),
    (90, 60, 30),
)
# Antialiasing: lines are drawn this many times larger, then reduced.
_SMOOTH = 2


@functools.lru_cache(maxsize=None)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
  """DejaVu Sans, which matplotlib ships, in a size in pixels."""
  import matplotlib

  name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
  folder = os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf')
  return ImageFont.truetype(os.path.join(folder, name), size)


def number(value: float, decimals: int) -> str:
  """Formats a number with a minus as wide as a digit, and without -0."""
  rounded = round(float(value), decimals) + 0.0
  return f'{rounded:.{decimals}f}'.replace('-', '\N{MINUS SIGN}')


def paler(color: Color, share: float = 0.62) -> Color:
  """Mixes a colour with a share of white."""
  red, green, blue = (round(c + (255 - c) * share) for c in color)
  return red, green, blue


def fitting(text: str, width: int, size: int, bold: bool = False) -> str:
  """Drops the middle of a text that is wider than `width` pixels."""
  face = font(size, bold)
  keep = len(text)
  shortened = text
  while face.getlength(shortened) > width and keep > 4:
    keep -= 1
    half = keep // 2
    shortened = f'{text[: keep - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}'
  return shortened


def ticks(low: float, high: float, most: int = 4) -> tuple[np.ndarray, int]:
  """Chooses round numbers within a range, as ticks of an axis.

  Args:
    low: lower end.
    high: upper end, above `low`.
    most: approximate largest number of ticks, at least 2.

  Returns:
    [T] float64, ascending, and the number of decimals that they need.
  """
  rough = (high - low) / (most - 1)
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  decimals = max(0, -math.floor(math.log10(step) + 1e-9))
  return np.arange(first, last + 1) * step, decimals


class Lines:
  """A field for antialiased lines, pasted into a picture as a whole."""

  def __init__(self, size: tuple[int, int], background: Image.Image):
    """Starts from a background.

    Args:
      size: (width, height) in pixels.
      background: image of that size.
    """
    self._image = background.resize(
        (size[0] * _SMOOTH, size[1] * _SMOOTH), Image.Resampling.NEAREST
    )
    self._draw = ImageDraw.Draw(self._image)

  def line(
      self, x: np.ndarray, y: np.ndarray, color: Color, width: float
  ) -> None:
    """Draws a polyline through points, in pixels of the field."""
    points = np.stack([x, y], axis=1) * _SMOOTH
    self._draw.line(
        list(map(tuple, points)),
        color,
        max(1, round(width * _SMOOTH)),
        joint='curve',
    )

  def dot(self, x: float, y: float, radius: float, color: Color) -> None:
    """Draws a disc."""
    box = np.array([x - radius, y - radius, x + radius, y + radius]) * _SMOOTH
    self._draw.ellipse(list(box), color)

  def image(self) -> Image.Image:
    """Returns the field in its original size."""
    return self._image.reduce(_SMOOTH)


def text_right(
    draw: ImageDraw.ImageDraw,
    right: int,
    middle: int,
    text: str,
    size: int,
    color: Color = INK,
    bold: bool = False,
) -> None:
  """Writes a text that ends at x = right."""
  draw.text((right, middle), text, color, font(size, bold), anchor='rm')


def text_left(
    draw: ImageDraw.ImageDraw,
    left: int,
    middle: int,
    text: str,
    size: int,
    color: Color = INK,
    bold: bool = False,
) -> None:
  """Writes a text that starts at x = left."""
  draw.text((left, middle), text, color, font(size, bold), anchor='lm')


def triangle(
    draw: ImageDraw.ImageDraw,
    center: tuple[float, float],
    radius: float,
    color: Color,
    direction: str,
) -> None:
  """Draws a small triangle that points 'up', 'down' or 'right'."""
  shapes: dict[str, Sequence[tuple[float, float]]] = {
      'up': ((-1, 0.8), (1, 0.8), (0, -1)),
      'down': ((-1, -0.8), (1, -0.8), (0, 1)),
      'right': ((-0.8, -1), (-0.8, 1), (1, 0)),
  }
  x, y = center
  draw.polygon(
      [(x + radius * i, y + radius * j) for i, j in shapes[direction]], color
  )
