"""Finds the directories of runs below those that a user names."""

from __future__ import annotations

import json
import os
from typing import Any, Iterator, NamedTuple, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.rundir import metrics_file
from reincarnating_rl.rundir import summary

# What a run directory has besides its summary; a teacher's has checkpoints too.
_SIGNS_OF_A_RUN = {'checkpoints', metrics_file.FILE_NAME}
_TEACHER_MANIFEST = 'teacher.json'


class Found(NamedTuple):
  """What lies below the directories that were named.

  Attributes:
    summaries: document of summary.json by directory, in the order found.
    begun: directories of runs that have not written a summary yet.
  """

  summaries: dict[str, dict[str, Any]]
  begun: list[str]


def find(paths: Sequence[str]) -> Found:
  """All runs at or below some paths, each once however often it is named.

  Raises:
    UserError: for a path that is not there or holds no run, or a summary that
      is damaged; also if no run at all has a summary.
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
  """(directory, its summary; empty if the run has only begun)."""
  visited = set()
  for directory, folders, files in os.walk(top, followlinks=True):
    real = os.path.realpath(directory)
    if real in visited:
      folders.clear()
      continue
    visited.add(real)
    has_summary = summary.FILE_NAME in files
    document = read(directory) if has_summary else {}
    # The summary of a group has no iterations: it names its runs, which lie
    # below.
    if 'iterations' in document:
      yield directory, document
      folders.clear()
    elif not has_summary and _TEACHER_MANIFEST not in files:
      if _SIGNS_OF_A_RUN & {*folders, *files}:
        yield directory, {}
        folders.clear()
    # Hidden ones hold what was set aside.
    folders[:] = sorted(f for f in folders if not f.startswith('.'))


def read(directory: str) -> dict[str, Any]:
  """The summary in a directory; empty if it is no JSON object.

  Raises:
    UserError: if it cannot be read, or is no JSON.
  """
  path = os.path.join(directory, summary.FILE_NAME)
  try:
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
  except OSError as e:
    raise errors.UserError(f'{path} cannot be read: {e.strerror}.') from e
  except ValueError as e:  # no JSON, no text
    raise errors.UserError(
        f'{path} is damaged ({e}): repair it, or leave that directory out.'
    ) from e
  return document if isinstance(document, dict) else {}
