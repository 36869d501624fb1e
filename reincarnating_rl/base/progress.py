"""Progress bars on stderr: amount done, rate, time left.

A bar moves in a terminal and in a notebook. Elsewhere (a log file, a pipe) it
is a plain line every half minute.
"""

from __future__ import annotations

import sys
from typing import Mapping, Optional, TextIO, Union

from tqdm.auto import tqdm

# Unit of bars that count bytes.
BYTES = 'B'
# Delay of bars for work that may be done at once.
SHORT_DELAY = 1.0  # seconds
_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_MOVES = 0.2


class Lines:
  """A file for bars that turns each redrawing into a line."""

  def __init__(self, file: TextIO):
    self._file = file

  def write(self, text: str) -> None:
    text = text.replace('\r', '').strip()
    if text:
      self._file.write(text + '\n')

  def flush(self) -> None:
    self._file.flush()


def drawable(
    file: Optional[TextIO] = None,
) -> tuple[Union[TextIO, Lines], bool]:
  """Returns a file to draw bars into, and True if bars move there.

  Args:
    file: None for stderr.
  """
  file = file or sys.stderr
  # Notebooks show bars of their own, or redraw the text.
  in_notebook = type(file).__module__.startswith('ipykernel')
  if file.isatty() or in_notebook:
    return file, True
  return Lines(file), False


def bar(
    title: Optional[str],
    total: Optional[int],
    unit: str,
    *,
    initial: int = 0,
    scale: bool = False,
    delay: float = 0.0,
    postfix: Optional[Mapping[str, str]] = None,
    file: Optional[TextIO] = None,
) -> tqdm:
  """Creates a bar; `update(amount)` moves it, `close()` or `with` ends it.

  Args:
    title: text in front of the bar.
    total: amount of work; None if it is not known yet.
    unit: noun in the plural, or BYTES.
    initial: amount that is done already; it does not count for the rate.
    scale: True for 1.5M instead of 1500000.
    delay: seconds before the bar appears; shorter work has none.
    postfix: values to show after the rate.
    file: None for stderr.
  """
  file = file or sys.stderr
  drawn_into, moves = drawable(file)
  return tqdm(
      total=total,
      initial=initial,
      desc=title,
      unit=unit if unit == BYTES else f' {unit}',
      unit_scale=scale,
      file=drawn_into,
      dynamic_ncols=file.isatty(),
      mininterval=_SECONDS_BETWEEN_MOVES if moves else _SECONDS_BETWEEN_LINES,
      delay=delay,
      postfix=postfix or None,
  )


def write(text: str, file: Optional[TextIO] = None) -> None:
  """Writes a line beside the bars.

  Args:
    text: the line.
    file: None for stderr.
  """
  tqdm.write(text, file=file or sys.stderr)
