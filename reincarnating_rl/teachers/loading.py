"""Finds a teacher by its path, detects its format, and reads it."""

from __future__ import annotations

import os
from typing import Optional

from absl import logging

from reincarnating_rl.teachers.errors import enumerate_items
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats import dopamine41_replay
from reincarnating_rl.teachers.formats import dopamine_checkpoint
from reincarnating_rl.teachers.formats import native
from reincarnating_rl.teachers.formats import own_run
from reincarnating_rl.teachers.formats import replay_logs
from reincarnating_rl.teachers.teacher import LoadedTeacher
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

BUNDLED_PREFIX = 'bundled:'
BUCKET_PREFIX = 'gs://'
_BUNDLED_FOLDER = os.path.join(os.path.dirname(__file__), 'bundled')


def load(
    path: str,
    checkpoint_number: Optional[int] = None,
    checkpoint_file_prefix: str = 'ckpt',
    *,
    agent: Optional[str] = None,
    read_replay: bool = True,
    trusted: tuple[str, ...] = (),
) -> LoadedTeacher:
  """Loads a teacher of any format.

  Args:
    path: run directory of a teacher, its checkpoints/ folder, a gs:// address
      (downloaded into a cache first), or 'bundled:<Game>'. The student of a run
      of this package is a teacher, too.
    checkpoint_number: number of the checkpoint; None = the newest.
    checkpoint_file_prefix: prefix of Dopamine's checkpoint files.
    agent: 'dqn', 'rainbow' or 'iqn'; None = found from the parameters.
    read_replay: True to read the frames of the replay data now; False to read
      them at first use.
    trusted: modules that may be imported to build a run's network, beside
      this package's.

  Raises:
    TeacherError: one sentence that says what is missing, damaged or refused.
  """
  directory = find_directory(path, checkpoint_number, checkpoint_file_prefix)
  if is_ours(directory):
    if native.is_native(directory):
      teacher = native.read(directory, path, checkpoint_number)
    else:
      teacher = own_run.read(directory, path, checkpoint_number, trusted)
    if agent not in (None, teacher.agent):
      raise TeacherError(
          f'{path} is a teacher of the kind {teacher.agent}, not {agent}: '
          'leave out --teacher_agent.'
      )
  else:
    teacher = _load_dopamine(
        directory, path, checkpoint_number, checkpoint_file_prefix, agent
    )
  if read_replay and teacher.replay is not None:
    teacher.replay.read()
  logging.info('Teacher %s: %s.', path, teacher.describe())
  return teacher


def is_ours(directory: str) -> bool:
  """Returns True if a directory holds a teacher or run of this package."""
  return native.is_native(directory) or own_run.is_run(directory)


def _load_dopamine(
    directory: str,
    path: str,
    number: Optional[int],
    prefix: str,
    agent: Optional[str],
) -> LoadedTeacher:
  checkpoints = dopamine_checkpoint.find_checkpoints(directory, prefix)
  if checkpoints is None:
    own_run.refuse_what_is_no_run(directory, path)
    raise TeacherError(
        f'{path} holds no teacher: there is neither {native.MANIFEST} with '
        'checkpoints/params.<N>.msgpack, as train_teacher writes them, nor '
        'checkpoints/<N>/manifest.json of a run, nor '
        f'checkpoints/{prefix}.<N> or tf_ckpt-<N>.index of Dopamine.'
    )
  number = dopamine_checkpoint.choose_number(checkpoints, path, number)
  replay = _find_replay(directory, number)
  return dopamine_checkpoint.read(
      checkpoints, path, number, agent=agent, replay=replay
  )


def _find_replay(directory: str, number: int) -> Optional[TeacherReplay]:
  """Finds the replay of a Dopamine checkpoint, in any of its formats."""
  elements = dopamine41_replay.find(directory, number)
  if elements is not None:
    return dopamine41_replay.open_replay(elements)
  logs = replay_logs.find(directory, number)
  return None if logs is None else replay_logs.open_replay(logs)


def bundled_games() -> list[str]:
  """Lists the games of the teachers in this package."""
  if not os.path.isdir(_BUNDLED_FOLDER):
    return []
  return sorted(
      name
      for name in os.listdir(_BUNDLED_FOLDER)
      if native.is_native(os.path.join(_BUNDLED_FOLDER, name))
  )


def find_directory(
    path: str,
    checkpoint_number: Optional[int] = None,
    checkpoint_file_prefix: str = 'ckpt',
) -> str:
  """Returns the run directory of a teacher's path.

  Args:
    path: as `load` takes it; a gs:// address is downloaded into the cache.
    checkpoint_number: number of the checkpoint to download.
    checkpoint_file_prefix: prefix of its files.

  Raises:
    TeacherError: if the directory does not exist or is empty.
  """
  if path.startswith(BUNDLED_PREFIX):
    game = path[len(BUNDLED_PREFIX) :]
    if game not in bundled_games():
      raise TeacherError(
          f'No teacher is bundled for {game!r}; there is one for '
          f'{enumerate_items(bundled_games())}.'
      )
    return os.path.join(_BUNDLED_FOLDER, game)
  if path.startswith(BUCKET_PREFIX):
    from reincarnating_rl.teachers import gcs_cache

    path = gcs_cache.fetch(
        path, checkpoint_number, checkpoint_file_prefix=checkpoint_file_prefix
    )
  directory = os.path.abspath(os.path.expanduser(path))
  if not os.path.isdir(directory):
    raise TeacherError(f'The teacher directory {path} does not exist.')
  if not os.listdir(directory):
    raise TeacherError(f'The teacher directory {path} is empty.')
  if os.path.basename(directory) == native.CHECKPOINTS:
    return os.path.dirname(directory)
  return directory
