"""Tables for a terminal."""

from __future__ import annotations

from typing import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
  """Aligned columns, the first to the left; a line below the header."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [
      '  '.join(
          cell.ljust(width) if i == 0 else cell.rjust(width)
          for i, (cell, width) in enumerate(zip(row, widths))
      ).rstrip()
      for row in rows
  ]
  lines.insert(1, '-' * max(map(len, lines)))
  return '\n'.join(lines)
