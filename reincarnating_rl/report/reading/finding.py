"""Finds run directories below the paths that a user names."""

from __future__ import annotations

import os
from typing import Any, Iterator, NamedTuple, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.rundir import metrics_file
from reincarnating_rl.rundir import summary

# Entries of a run directory before its first summary. A teacher's directory
# has checkpoints, too.
_SIGNS_OF_A_RUN = {'checkpoints', metrics_file.FILE_NAME}
_TEACHER_MANIFEST = 'teacher.json'


class Found(NamedTuple):
  """Runs below the named paths.

  Attributes:
    summaries: content of summary.json by run directory, in the order found.
    begun: directories of runs that have not written a summary yet.
  """

  summaries: dict[str, dict[str, Any]]
  begun: list[str]


def find(paths: Sequence[str]) -> Found:
  """Finds all runs at or below some paths, each once.

  Args:
    paths: run directories, or directories above them.

  Raises:
    UserError: if a path does not exist or holds no run, if a summary is
      damaged, or if no run has a summary.
  """
  found, seen = Found({}, []), set()
  for path in paths:
    path = os.path.expanduser(path)
    if not os.path.isdir(path):
      raise errors.UserError(
          f'There is no directory {path}: name directories of runs, or those '
          'above them.'
      )
    here = list(_walk(path))
    if not here:
      raise errors.UserError(
          f'{path} holds no run, nor does any directory below it: a run has a '
          f'{summary.FILE_NAME} with its iterations.'
      )
    for directory, document in here:
      real = os.path.realpath(directory)
      if real in seen:
        continue
      seen.add(real)
      if document:
        found.summaries[directory] = document
      else:
        found.begun.append(directory)
  if not found.summaries:
    raise errors.UserError(
        f'{found.begun[0]} holds no {summary.FILE_NAME} yet, since its first '
        'phase has not ended, and there is no other run.'
    )
  return found


def _walk(top: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (run directory, its summary; empty before the first one)."""
  visited = set()
  for directory, folders, files in os.walk(top, followlinks=True):
    real = os.path.realpath(directory)
    if real in visited:
      folders.clear()
      continue
    visited.add(real)
    has_summary = summary.FILE_NAME in files
    document = summary.read(directory) if has_summary else {}
    # A group's summary has no iterations; its runs are in the folders below.
    if 'iterations' in document:
      yield directory, document
      folders.clear()
    elif not has_summary and _TEACHER_MANIFEST not in files:
      if _SIGNS_OF_A_RUN & {*folders, *files}:
        yield directory, {}
        folders.clear()
    # Hidden folders hold backups.
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
