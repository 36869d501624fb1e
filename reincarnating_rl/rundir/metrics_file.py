"""metrics.jsonl: all measurements of a run, one JSON object per line.

docs/run_directory.md documents the fields. A line of kind 'phase' holds the
result of a phase, a line of kind 'updates' means over some hundred updates.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from absl import logging

from reincarnating_rl.base import errors
from reincarnating_rl.base.scores import human_normalized_score
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached

FILE_NAME = 'metrics.jsonl'
FRAMES_PER_AGENT_STEP = 4
PHASE, UPDATES = KINDS = ('phase', 'updates')


def read(directory: str, kind: str = PHASE) -> list[dict[str, Any]]:
  """Reads the lines of one kind.

  A half-written last line is left out: a running process may be writing it.

  Args:
    directory: run directory.
    kind: PHASE or UPDATES.

  Returns:
    The lines in order, each with at least 'kind', 'phase' and 'iteration';
    none if there is no file.

  Raises:
    UserError: if the file cannot be read, or another line is damaged.
  """
  path = os.path.join(directory, FILE_NAME)
  try:
    with open(path, 'rb') as f:
      lines = f.read().splitlines()
  except FileNotFoundError:
    return []
  except OSError as e:
    raise errors.UserError(f'{path} cannot be read ({e.strerror}).') from e
  # Most lines are of updates, and slow to parse.
  others = tuple(_start_of_line(other) for other in KINDS if other != kind)
  found = []
  for number, line in enumerate(lines, 1):
    if line.startswith(others):
      continue
    try:
      document = json.loads(line)
      if document['kind'] == kind:
        document['phase'], document['iteration']
        found.append(document)
    except (ValueError, KeyError, TypeError) as e:
      if number == len(lines):
        break
      raise errors.UserError(
          f'Line {number} of {path} is damaged: repair it, or remove the file '
          '(without it there is no wall-clock time).'
      ) from e
  return found


def _start_of_line(kind: str) -> bytes:
  return json.dumps({'kind': kind}).removesuffix('}').encode()


class MetricsFile(Listener):
  """Appends to metrics.jsonl, each line as soon as it is known.

  On a full disk whole lines are lost; the run continues.
  """

  def __init__(self, directory: str, game: str):
    """Does not open the file: a resumed run first cuts its logs back.

    Args:
      directory: run directory.
      game: name in Dopamine's spelling, for human-normalized scores.
    """
    self._path = os.path.join(directory, FILE_NAME)
    self._game = game

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    document = reached._asdict()
    document['frames'] = FRAMES_PER_AGENT_STEP * reached.agent_steps
    self._append(UPDATES, document | {'metrics': metrics})

  def on_record(self, record: PhaseRecord) -> None:
    document = record.to_json()
    document['frames'] = FRAMES_PER_AGENT_STEP * record.agent_steps
    score = record.student_score
    document['human_normalized'] = (
        None if score is None else human_normalized_score(self._game, score)
    )
    self._append(PHASE, document)

  def _append(self, kind: str, document: dict[str, Any]) -> None:
    document['seconds'] = round(document['seconds'], 3)
    line = json.dumps({'kind': kind} | document, allow_nan=False) + '\n'
    try:
      with open(self._path, 'ab', buffering=0) as f:
        size = f.tell()
        try:
          if f.write(line.encode()) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
          f.truncate(size)
          raise
    except OSError as e:
      logging.warning('%s lacks a line (%s).', self._path, e.strerror)
