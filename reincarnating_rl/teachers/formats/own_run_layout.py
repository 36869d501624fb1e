"""Places of a run's parts in its checkpoints, by the schema of their document.

Checkpoints of earlier releases are teachers, too; to resume a run from one
needs the release that wrote it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from reincarnating_rl.storage.checkpoints.checkpoint_store import Saved
from reincarnating_rl.teachers.errors import TeacherError

SCHEMA = 3  # of `loop.saving.state`


class RunLayout(NamedTuple):
  """Parts of one checkpoint.

  Attributes:
    learner: prefix of the names of the learner's arrays.
    counters: progress of training, in agent steps and updates.
    records: outcomes of the phases so far.
    rows: name of the student's replay rows; None if there are none yet.
    capacity: agent steps that the replay can hold; None likewise.
    add_count: name of the array that counts the slots ever written.
  """

  learner: str
  counters: dict[str, Any]
  records: list[dict[str, Any]]
  rows: Optional[str]
  capacity: Optional[int]
  add_count: str


def run_layout(saved: Saved, source: str) -> RunLayout:
  """Finds the parts of a checkpoint.

  Args:
    saved: the checkpoint.
    source: its name in errors.

  Raises:
    TeacherError: if its schema is not known.
  """
  document = saved.document
  schema = document.get('schema')
  if schema == SCHEMA:
    trainer = document['state']['trainer']
    writer = trainer['writer'] or {}
    return RunLayout(
        'trainer/learner_state',
        trainer['duties']['counters'],
        document['state']['records'],
        writer.get('rows'),
        writer.get('capacity'),
        'trainer/writer/add_count',
    )
  if schema == 2:
    return RunLayout(
        'learner_state',
        document['counters'],
        document['records'],
        document.get('student_rows') or 'student',
        document.get('student_capacity'),
        'student/add_count',
    )
  raise TeacherError(
      f'{source} was written by another version of this package (its schema '
      f'is {schema}, not {SCHEMA}): install that version.'
  )
