"""metrics.jsonl: what a run told, a JSON object a line.

docs/run_directory.md says what is in them. Lines of kind 'phase' hold what a
phase came to, lines of kind 'updates' the means of some hundred updates.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from absl import logging

from reincarnating_rl.base.scores import human_normalized_score
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached

FILE_NAME = 'metrics.jsonl'
FRAMES_PER_AGENT_STEP = 4


class MetricsFile(Listener):
  """Appends to a run's metrics.jsonl, every line as soon as it is known.

  A disk that is full costs lines, whole ones, never the run.
  """

  def __init__(self, directory: str, game: str):
    """Writes nothing yet: logs are set back before they go on."""
    self._path = os.path.join(directory, FILE_NAME)
    self._game = game

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    document = reached._asdict()
    document['frames'] = FRAMES_PER_AGENT_STEP * reached.agent_steps
    self._append('updates', document | {'metrics': metrics})

  def on_record(self, record: PhaseRecord) -> None:
    document = record.to_json()
    document['frames'] = FRAMES_PER_AGENT_STEP * record.agent_steps
    score = record.student_score
    document['human_normalized'] = (
        None if score is None else human_normalized_score(self._game, score)
    )
    self._append('phase', document)

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
