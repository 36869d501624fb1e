"""Output for a terminal: tables, and JSON for other programs."""

from __future__ import annotations

import json
import math
from typing import Any, Sequence


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


def json_line(document: Any) -> str:
  """Formats a document as one line of JSON; NaN and infinity become null."""
  return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
