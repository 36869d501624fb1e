"""Facts of a teacher as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

from reincarnating_rl import teachers
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.inspect_teacher import figure as figure_lib
from reincarnating_rl.inspect_teacher import text
from reincarnating_rl.teachers import inspection
from reincarnating_rl.teachers import loading

_ALL_ACTIONS = 18


def inspect(
    path: str,
    *,
    checkpoint: Optional[int] = None,
    checkpoint_file_prefix: str = 'ckpt',
    read_replay: bool = True,
    figure: Optional[str] = None,
) -> dict[str, Any]:
  """Describes a teacher and, on request, draws its Q-values.

  Args:
    path: run directory, gs:// address or 'bundled:<Game>'.
    checkpoint: number of the checkpoint; None = the newest complete one.
    checkpoint_file_prefix: prefix of Dopamine's checkpoint files.
    read_replay: True to read the teacher's data, frames included.
    figure: file to draw states and Q-values to; None = no figure.

  Returns:
    The facts, ready for JSON.

  Raises:
    TeacherError: if the teacher cannot be loaded, or its data are damaged.
    UserError: if the figure cannot be drawn.
  """
  if figure is not None:
    figure_lib.check_path(figure)
  directory = loading.find_directory(path, checkpoint)
  teacher = teachers.load(
      path, checkpoint, checkpoint_file_prefix, read_replay=False
  )
  document = describe(teacher, directory, checkpoint_file_prefix, read_replay)
  if figure is not None:
    shown = figure_lib.states_to_show(teacher, document['game'], read_replay)
    figure_lib.draw(
        shown,
        teacher.q_values(shown.states),
        text.names_of_actions(document['action_names'], teacher.num_actions),
        f'{teacher.path}, checkpoint {teacher.checkpoint_number}: Q-values',
        figure,
    )
  document['figure'] = figure
  return document


def describe(
    teacher: teachers.LoadedTeacher,
    directory: str,
    prefix: str,
    read_replay: bool,
) -> dict[str, Any]:
  """Describes a teacher, ready for JSON.

  Args:
    teacher: a loaded teacher.
    directory: its run directory.
    prefix: prefix of Dopamine's checkpoint files.
    read_replay: True to read its data; otherwise 'contents' is None.

  Raises:
    TeacherError: if its data are damaged.
  """
  game, game_source = game_of(teacher, directory)
  replay: Optional[dict[str, Any]] = None
  if teacher.replay is not None:
    replay = dataclasses.asdict(inspection.ring_facts(teacher.replay))
    replay['contents'] = None
    if read_replay:
      contents = inspection.step_facts(teacher.replay, teacher.num_actions)
      replay['contents'] = dataclasses.asdict(contents)
  moments = teacher.optimizer
  return {
      'path': teacher.path,
      'directory': directory,
      'format': teacher.format,
      'checkpoint_number': teacher.checkpoint_number,
      **dataclasses.asdict(inspection.file_facts(directory, prefix)),
      'game': game,
      'game_source': game_source,
      'agent': teacher.agent,
      'training_agent_steps': teacher.known_agent_steps,
      'recorded_score': teacher.score,
      'random_score': scores.random_score(game) if game else None,
      'action_names': action_names(game, teacher.num_actions),
      'network': dataclasses.asdict(
          inspection.network_facts(teacher.network, teacher.params)
      ),
      'target_network': teacher.target_params is not None,
      'optimizer': moments and {'kind': moments.kind, 'updates': moments.count},
      'replay': replay,
  }


def game_of(
    teacher: teachers.LoadedTeacher, directory: str
) -> tuple[Optional[str], Optional[str]]:
  """Finds the game of a teacher.

  Args:
    teacher: a loaded teacher.
    directory: its run directory.

  Returns:
    The game and its source, 'manifest' or 'path'; (None, None) if unknown.
  """
  if teacher.game:
    return teacher.game, 'manifest'
  for path in (teacher.path, directory):
    game = atari.game_of_path(path)
    if game:
      return game, 'path'
  return None, None


def action_names(game: Optional[str], num_actions: int) -> Optional[list[str]]:
  """Names of the actions: ALE's minimal set of the game, or its full set.

  Args:
    game: name in Dopamine's spelling; None if unknown.
    num_actions: A.

  Returns:
    [A] names; None if neither set has A actions.
  """
  import ale_py

  if num_actions == _ALL_ACTIONS:
    return [ale_py.Action(i).name for i in range(_ALL_ACTIONS)]
  if game in atari.available_games():
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    emulator.loadROM(atari.rom_in_use(game).path)
    names = [action.name for action in emulator.getMinimalActionSet()]
    if len(names) == num_actions:
      return names
  return None
