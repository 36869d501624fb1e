"""Loads the checkpoint to evaluate, and the summary of its run."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from absl import logging

from reincarnating_rl import teachers
from reincarnating_rl.base import errors
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import registry
from reincarnating_rl.inspect_teacher.inspection import game_of
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.saving.compatibility import fingerprint
from reincarnating_rl.rundir import summary
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import loading
from reincarnating_rl.teachers import TeacherError


class Subject(NamedTuple):
  """A checkpoint to evaluate.

  Attributes:
    loaded: the loaded checkpoint.
    directory: run directory.
    game: game to play.
    summary: content of the run's summary.json; empty without one.
  """

  loaded: LoadedTeacher
  directory: str
  game: str
  summary: dict[str, Any]

  @property
  def policy(self) -> Policy:
    """Policy of the checkpoint."""
    return value_policy(self.loaded.network, self.loaded.acting_params)

  @property
  def label(self) -> str:
    """Name for display: the run's agent, or the kind of network."""
    return str(self.summary.get('agent') or self.loaded.agent)

  @property
  def random_score(self) -> Optional[float]:
    """Mean return of random play; None if unknown."""
    measured = self._of_its_game('random_score')
    return scores.random_score(self.game) if measured is None else measured

  @property
  def teacher_score(self) -> Optional[float]:
    """Mean return of the run's teacher in this game; None without one."""
    return self._of_its_game('teacher_score')

  @property
  def run_number(self) -> Optional[int]:
    """Run number; None if the run is not of this package."""
    return self.summary.get('run_number')

  def _of_its_game(self, name: str) -> Optional[float]:
    """Score of the summary, if the game to play is the game of the run."""
    return self.summary.get(name) if self.plays_its_game else None

  @property
  def plays_its_game(self) -> bool:
    """True unless the summary names another game."""
    return self.summary.get('game') in (None, self.game)


def find(
    path: str,
    number: Optional[int],
    prefix: str,
    *,
    game: Optional[str] = None,
    trusted: tuple[str, ...] = (),
) -> Subject:
  """Loads a checkpoint.

  Args:
    path: path, as `teachers.load` takes it.
    number: number of the checkpoint; None = the newest.
    prefix: prefix of Dopamine's checkpoint files.
    game: game to play; None = the game of the training.
    trusted: modules whose networks may be built.

  Raises:
    TeacherError: if the checkpoint cannot be loaded.
    UserError: if the game of the training is unknown.
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
  return Subject(loaded, directory, game, summary.read_if_possible(directory))


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
  """Loads the teacher to show beside a student.

  A warning gives the reason if the run's own teacher cannot be shown.

  Args:
    subject: the student.
    path: path of another teacher; None = the teacher in the run's summary.

  Returns:
    The teacher; None if there is none to show.

  Raises:
    TeacherError: if the teacher at `path` cannot be loaded.
    UserError: if the teacher at `path` has other actions.
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
  """Reason why a teacher does not fit a student, in words; None if it fits."""
  if teacher.num_actions != subject.loaded.num_actions:
    return (
        f'has {teacher.num_actions} actions, the student has '
        f'{subject.loaded.num_actions}'
    )
  return None


def _config(subject: Subject) -> dict[str, Any]:
  return subject.summary.get('config') or {}
