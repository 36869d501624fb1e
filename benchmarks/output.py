"""Standard output of a benchmark, and its progress bar."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import tqdm


def claim_stdout() -> TextIO:
  """Returns the real standard output; all other output goes to stderr."""
  sys.stdout.flush()
  stdout = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  return stdout


def write_json(out: TextIO, document: dict[str, Any]) -> None:
  """Writes the one object of --json."""
  json.dump(document, out, indent=2)
  out.write('\n')
  out.flush()


def progress(total: int, unit: str = 'it') -> tqdm.tqdm:
  """A progress bar on stderr."""
  return tqdm.tqdm(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True)
