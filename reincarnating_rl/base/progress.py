"""A progress bar by bytes: what is there, rate, time left."""

from __future__ import annotations

import contextlib
import sys
from typing import Callable, Iterator

# Seconds between lines where the output is no terminal.
_SECONDS_BETWEEN_LINES = 30.0


@contextlib.contextmanager
def bar(title: str, total: int, there: int) -> Iterator[Callable[[int], None]]:
  """Draws a bar on stderr.

  Args:
    title: of the bar.
    total: bytes of everything.
    there: bytes that are there already.

  Yields:
    A function that is told of bytes that came.
  """
  from tqdm.auto import tqdm

  terminal = sys.stderr.isatty()
  with tqdm(
      total=total,
      initial=there,
      desc=title,
      unit='B',
      unit_scale=True,
      file=sys.stderr,
      dynamic_ncols=terminal,
      mininterval=0.2 if terminal else _SECONDS_BETWEEN_LINES,
  ) as drawn:
    yield lambda amount: drawn.update(amount) and None
