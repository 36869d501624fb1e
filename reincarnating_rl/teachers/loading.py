"""Finds a teacher by its path and reads it."""

from __future__ import annotations

import os
from typing import Optional

from reincarnating_rl.teachers import native
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.teacher import LoadedTeacher

BUNDLED_PREFIX = 'bundled:'
_BUNDLED_FOLDER = os.path.join(os.path.dirname(__file__), 'bundled')


def load(
    path: str,
    checkpoint_number: Optional[int] = None,
    checkpoint_file_prefix: str = 'ckpt',
    *,
    with_replay: bool = True,
) -> LoadedTeacher:
  """Loads a teacher.

  Args:
    path: a teacher's run directory, its checkpoints/ folder, or
      'bundled:<Game>'.
    checkpoint_number: which checkpoint; None = the newest.
    checkpoint_file_prefix: of Dopamine's checkpoint files.
    with_replay: whether to read the teacher's data too, if there is any.

  Returns:
    The teacher.

  Raises:
    TeacherError: one sentence on what is missing or damaged.
  """
  del checkpoint_file_prefix  # only this package's own format is read so far
  directory = find_directory(path)
  numbers = native.checkpoint_numbers(directory)
  if not native.is_native(directory) or not numbers:
    raise TeacherError(
        f'{path} holds no teacher: it has no {native.MANIFEST} with '
        'checkpoints/params.<N>.msgpack beside it, as train_teacher writes '
        'them.'
    )
  if checkpoint_number is None:
    checkpoint_number = numbers[-1]
  if checkpoint_number not in numbers:
    raise TeacherError(
        f'{path} has no checkpoint {checkpoint_number}; there are '
        f'{_enumerate(numbers)}.'
    )
  return native.read(
      directory, path, checkpoint_number, with_replay=with_replay
  )


def bundled_games() -> list[str]:
  """Games whose teacher is shipped with the package."""
  if not os.path.isdir(_BUNDLED_FOLDER):
    return []
  return sorted(
      name
      for name in os.listdir(_BUNDLED_FOLDER)
      if native.is_native(os.path.join(_BUNDLED_FOLDER, name))
  )


def find_directory(path: str) -> str:
  """The run directory behind a teacher's path.

  Raises:
    TeacherError: if it does not exist or is empty.
  """
  if path.startswith(BUNDLED_PREFIX):
    game = path[len(BUNDLED_PREFIX) :]
    if game not in bundled_games():
      raise TeacherError(
          f'No teacher is bundled for {game!r}; there is one for '
          f'{_enumerate(bundled_games())}.'
      )
    return os.path.join(_BUNDLED_FOLDER, game)
  directory = os.path.abspath(os.path.expanduser(path))
  if not os.path.isdir(directory):
    raise TeacherError(f'The teacher directory {path} does not exist.')
  if not os.listdir(directory):
    raise TeacherError(f'The teacher directory {path} is empty.')
  if os.path.basename(directory) == native.CHECKPOINTS:
    return os.path.dirname(directory)
  return directory


def _enumerate(items: list) -> str:
  """'1, 2, 3', or 'none'; long lists are shortened in the middle."""
  words = [str(item) for item in items]
  if len(words) > 12:
    words = words[:6] + ['...'] + words[-6:]
  return ', '.join(words) or 'none'
