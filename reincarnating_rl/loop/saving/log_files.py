"""Log files that continue after a resume, without gaps or duplicates.

A checkpoint holds the length of each log. A resumed run first cuts off the
later part, since it will write that part again.
"""

from __future__ import annotations

import fnmatch
import os
from typing import Iterator

_PATTERNS = ('events.out.tfevents.*', '*.jsonl', 'logs/*', 'metrics/*')


def sizes(directory: str) -> dict[str, int]:
  """Returns the bytes of each log below a run's directory, by relative path."""
  return {
      name: os.path.getsize(os.path.join(directory, name))
      for name in _names(directory)
  }


def set_back(directory: str, earlier: dict[str, int]) -> None:
  """Cuts logs to their earlier size, and removes logs that are newer.

  Args:
    directory: directory of the run.
    earlier: result of `sizes` at the checkpoint.
  """
  for name in list(_names(directory)):
    path = os.path.join(directory, name)
    if name not in earlier:
      os.remove(path)
    elif os.path.getsize(path) > earlier[name]:
      os.truncate(path, earlier[name])


def _names(directory: str) -> Iterator[str]:
  for root, _, files in os.walk(directory):
    for file in files:
      name = os.path.relpath(os.path.join(root, file), directory)
      if any(fnmatch.fnmatch(name, pattern) for pattern in _PATTERNS):
        yield name
