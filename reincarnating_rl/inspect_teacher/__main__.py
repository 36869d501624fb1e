"""Tells what a teacher is: its files, network, score, and data.

python -m reincarnating_rl.inspect_teacher DIR [--json] [--figure FILE.png]

DIR is what `train --teacher_checkpoint_dir` takes. The frames of the teacher's
data are read (a minute for a million) unless --noread_replay is given; then
only their number is told, and the figure shows states of a random play.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
from typing import Any, Optional, Sequence

from absl import flags

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.inspect_teacher import figure
from reincarnating_rl.inspect_teacher import text

_ALL_ACTIONS = 18


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines what the entry point reads; called once per set of values."""
  flags.DEFINE_integer(
      'checkpoint',
      None,
      'Which checkpoint; default the newest whole one.',
      flag_values=values,
  )
  flags.DEFINE_string(
      'checkpoint_file_prefix',
      'ckpt',
      "Of Dopamine's checkpoint files.",
      flag_values=values,
  )
  flags.DEFINE_bool(
      'json', False, 'Print one JSON object, not a text.', flag_values=values
  )
  flags.DEFINE_string(
      'figure',
      None,
      f'Draw states and Q-values into it: {", ".join(figure.FILE_TYPES)}.',
      flag_values=values,
  )
  flags.DEFINE_bool(
      'read_replay',
      True,
      "Read the teacher's data, frames included.",
      flag_values=values,
  )


# -- facts ---------------------------------------------------------------------


def describe(
    teacher: Any, directory: str, prefix: str, read_replay: bool
) -> dict[str, Any]:
  """All that is told of a teacher, ready for JSON.

  Args:
    teacher: a LoadedTeacher.
    directory: of its run.
    prefix: of Dopamine's checkpoint files.
    read_replay: whether to read its data; otherwise 'contents' is None.

  Raises:
    TeacherError: if its data are damaged.
  """
  from reincarnating_rl.teachers import inspection

  game, game_source = game_of(teacher, directory)
  replay = None
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
    teacher: Any, directory: str
) -> tuple[Optional[str], Optional[str]]:
  """(game, what tells it: 'manifest' or 'path'), or (None, None)."""
  from reincarnating_rl.envs import atari

  if teacher.game:
    return teacher.game, 'manifest'
  for path in (teacher.path, directory):
    game = atari.game_of_path(path)
    if game:
      return game, 'path'
  return None, None


def action_names(game: Optional[str], num_actions: int) -> Optional[list[str]]:
  """What the actions mean: the game's minimal set, or the full one.

  Args:
    game: in Dopamine's spelling, None if unknown.
    num_actions: A.

  Returns:
    A names; None where A is the size of neither set.
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


def to_json(document: Any) -> str:
  """One line of JSON; numbers that it does not know become null."""
  return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


# -- entry point ---------------------------------------------------------------


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  """Reads the teacher, prints what it is, draws it if that is asked for."""
  if len(argv) != 2:
    raise errors.UserError(
        'Name one teacher: reincarnating_rl.inspect_teacher DIR, where DIR is '
        "a run directory, a gs:// address or 'bundled:Pong'."
    )
  if values.figure is not None:
    figure.check_path(values.figure)
  with errors.user_errors(), contextlib.redirect_stdout(sys.stderr):
    document = inspect(argv[1], values)
  print(to_json(document) if values.json else text.to_text(document))


def inspect(path: str, values: flags.FlagValues) -> dict[str, Any]:
  """What `describe` tells of the teacher there, with its figure drawn."""
  from reincarnating_rl import teachers
  from reincarnating_rl.teachers import loading

  directory = loading.find_directory(path, values.checkpoint)
  prefix = values.checkpoint_file_prefix
  teacher = teachers.load(path, values.checkpoint, prefix, read_replay=False)
  document = describe(teacher, directory, prefix, values.read_replay)
  if values.figure is not None:
    shown = figure.states_to_show(teacher, document['game'], values.read_replay)
    title = f'{teacher.path}, checkpoint {teacher.checkpoint_number}: Q-values'
    figure.draw(
        shown,
        teacher.q_values(shown.states),
        text.names_of_actions(document['action_names'], teacher.num_actions),
        title,
        values.figure,
    )
  document['figure'] = values.figure
  return document


if __name__ == '__main__':
  define_flags()
  # The report says what the log does; --verbosity=0 brings it back.
  flags.FLAGS.verbosity = -1
  command_line.run(main)
