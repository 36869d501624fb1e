"""What is to be evaluated, by its path, and what its run says of it."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Optional

from absl import logging

from reincarnating_rl import teachers
from reincarnating_rl.base import errors
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import registry
from reincarnating_rl.inspect_teacher.__main__ import game_of
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.saving.compatibility import fingerprint
from reincarnating_rl.rundir import summary
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import loading
from reincarnating_rl.teachers import TeacherError


class Subject(NamedTuple):
  """A checkpoint that is to be evaluated.

  Attributes:
    loaded: it.
    directory: of its run.
    game: that it plays.
    summary: what its run wrote into summary.json; empty without one.
  """

  loaded: LoadedTeacher
  directory: str
  game: str
  summary: dict[str, Any]

  @property
  def policy(self) -> Policy:
    """Who plays."""
    return value_policy(self.loaded.network, self.loaded.acting_params)

  @property
  def label(self) -> str:
    """A name for people: the run's agent, or the kind of network."""
    return str(self.summary.get('agent') or self.loaded.agent)

  @property
  def random_score(self) -> Optional[float]:
    """Mean return of random play, None if nobody knows it."""
    measured = self._of_its_game('random_score')
    return scores.random_score(self.game) if measured is None else measured

  @property
  def teacher_score(self) -> Optional[float]:
    """Mean return of the run's teacher, None without one for this game."""
    return self._of_its_game('teacher_score')

  @property
  def run_number(self) -> Optional[int]:
    """Of its run; None if that is no run of this package."""
    return self.summary.get('run_number')

  def _of_its_game(self, name: str) -> Optional[float]:
    """A score of the summary, which belongs to the game of the run."""
    return self.summary.get(name) if self.plays_its_game else None

  @property
  def plays_its_game(self) -> bool:
    """Whether the game is that which it was trained on, as far as is known."""
    return self.summary.get('game') in (None, self.game)


def find(
    path: str,
    number: Optional[int],
    prefix: str,
    *,
    game: Optional[str] = None,
    trusted: tuple[str, ...] = (),
) -> Subject:
  """Loads what is to be evaluated.

  Args:
    path: as `teachers.load` takes it.
    number: of the checkpoint; None = the newest.
    prefix: of Dopamine's checkpoint files.
    game: to play; None = that which it was trained on.
    trusted: modules whose networks may be built.

  Raises:
    TeacherError: if it cannot be loaded.
    UserError: if nothing tells the game.
    ValueError: if there is no such game.
  """
  directory = loading.find_directory(path, number, prefix)
  loaded = teachers.load(
      path, number, prefix, read_replay=False, trusted=trusted
  )
  if game is None:
    game, _ = game_of(loaded, directory)
  if game is None:
    raise errors.UserError(
        f'Nothing tells the game that {path} was trained on: name it by --game.'
    )
  atari.check_game(game)
  return Subject(loaded, directory, game, _read_summary(directory))


def check_fits(subject: Subject) -> None:
  """Refuses a network for other actions; warns of another ROM.

  Raises:
    UserError: if it has not as many actions as the game.
  """
  with errors.user_errors():
    registry.check_num_actions(
        registry.make_factory(subject.game),
        subject.loaded.num_actions,
        subject.loaded.path,
    )
  played = None
  if subject.plays_its_game:
    played = (_config(subject).get('rom') or {}).get('md5')
  rom = atari.rom_in_use(subject.game)
  if played not in (None, rom.md5):
    logging.warning(
        'The run played another ROM (md5 %s) than is played now (md5 %s): name '
        'its folder by --atari_roms_path.',
        played,
        rom.md5,
    )


def find_teacher(
    subject: Subject, path: Optional[str]
) -> Optional[LoadedTeacher]:
  """The teacher to show beside a student.

  That of the run, as its summary names it, unless another is named. If it
  cannot be had a warning says why.

  Args:
    subject: the student.
    path: of another teacher; None = the run's own.

  Returns:
    The teacher, None if there is none to be shown.

  Raises:
    TeacherError: if the one that was named cannot be loaded.
    UserError: if the one that was named has other actions.
  """
  if path is not None:
    teacher = teachers.load(path, read_replay=False)
    problem = _problem(subject, teacher)
    if problem:
      raise errors.UserError(f'--teacher {path} {problem}.')
    return teacher
  known = _config(subject).get('teacher') or {}
  if not known.get('path'):
    return None
  try:
    if known.get('teachers'):
      raise TeacherError(
          f'it is {len(known["teachers"])} teachers together, of which one can '
          'be shown.'
      )
    teacher = teachers.load(
        known['path'], known.get('checkpoint_number'), read_replay=False
    )
    problem = _problem(subject, teacher)
    checksum = known.get('params_crc32c')
    if checksum not in (None, fingerprint(teacher.params)):
      problem = 'is not the network any more that it was in the run'
    reason = problem and f'{known["path"]} {problem}'
  except TeacherError as e:
    reason = str(e).rstrip('.')
  if reason:
    logging.warning(
        'The teacher of the run is not shown (%s): name it by --teacher.',
        reason,
    )
    return None
  return teacher


def _problem(subject: Subject, teacher: LoadedTeacher) -> Optional[str]:
  """Why a teacher cannot stand beside a student, in words."""
  if teacher.num_actions != subject.loaded.num_actions:
    return (
        f'has {teacher.num_actions} actions, the student has '
        f'{subject.loaded.num_actions}'
    )
  return None


def _config(subject: Subject) -> dict[str, Any]:
  return subject.summary.get('config') or {}


def _read_summary(directory: str) -> dict[str, Any]:
  """What a run wrote; nothing if there is nothing that can be read."""
  path = os.path.join(directory, summary.FILE_NAME)
  try:
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as e:
    logging.warning('%s cannot be read (%s): going on without.', path, e)
    return {}
  return document if isinstance(document, dict) else {}
