"""Evaluates a checkpoint over whole episodes, and films one of them.

python -m reincarnating_rl.evaluate RUN [--checkpoint N] [--video DIR] [--json]

RUN is what `train --teacher_checkpoint_dir` takes: the directory of a run or of
a teacher, a gs:// address, 'bundled:Pong'. Equal flags give equal numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from typing import Any, Optional, Sequence

from absl import flags

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.evaluate import evaluation
from reincarnating_rl.evaluate.evaluation import Options

_KEY_WIDTH = 18


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of the entry point in a set of flag values."""
  default = {field.name: field.default for field in dataclasses.fields(Options)}

  def define(kind: Any, name: str, text: str) -> None:
    kind(name, default[name], text, flag_values=values)

  integer = functools.partial(define, flags.DEFINE_integer)
  number = functools.partial(define, flags.DEFINE_float)
  string = functools.partial(define, flags.DEFINE_string)
  integer('checkpoint', 'Number of the checkpoint; default: the newest.')
  string('checkpoint_file_prefix', "Prefix of Dopamine's checkpoint files.")
  integer('episodes', 'Number of whole episodes to play.')
  number('epsilon', 'Probability of a random action.')
  integer('seed', 'Seed of the episodes and of the random actions.')
  number(
      'sticky_actions',
      'Probability that the game repeats an action; default: as in the run, '
      'else 0.25.',
  )
  integer('max_agent_steps', 'Time limit of an episode, in agent steps.')
  string('game', 'Game to play; default: the game of the training.')
  string('atari_roms_path', 'Folder with ROMs; default: those of ale-py.')
  flags.DEFINE_list(
      'trusted_modules',
      [],
      'Your modules that may be imported to build a network.',
      flag_values=values,
  )
  string('video', 'Folder for a film of one episode, as MP4 and GIF.')
  integer('video_steps', 'Largest number of agent steps to film.')
  string(
      'teacher',
      'Teacher to show in the film; default: the teacher of the run.',
  )
  flags.DEFINE_bool(
      'json',
      False,
      'Print one JSON object instead of text.',
      flag_values=values,
  )


def to_text(document: dict[str, Any]) -> str:
  """Formats the results of `evaluation.evaluate` as text."""
  d = document
  shown = lambda value: 'unknown' if value is None else f'{value:.2f}'
  score = shown(d['score'])
  if d['interval']:
    low, high = d['interval']
    score += f' ({d["confidence"]:.0%} interval {low:.2f} to {high:.2f})'
  steps = d['agent_steps_trained']
  trained = 'unknown' if steps is None else f'{steps:,} agent steps'
  entries = [
      ('agent', f'{d["agent"]} ({d["format"]}), trained for {trained}'),
      ('game', f'{d["game"]}, sticky actions {d["sticky_actions"]:g}'),
      (
          'episodes',
          f'{d["episodes"]} of {d["agent_steps"]:,} agent steps in all, seed '
          f'{d["seed"]}, epsilon {d["epsilon"]:g}',
      ),
      *_limit_entries(d),
      ('score', score),
      ('lowest, highest', f'{d["min"]:.0f}, {d["max"]:.0f}'),
  ]
  if d['recorded_score'] is not None:
    entries.append(('recorded', shown(d['recorded_score'])))
  for who in ('human', 'teacher'):
    if d[f'{who}_normalized'] is not None:
      text = (
          f'{shown(d[f"{who}_normalized"])} (random {shown(d["random_score"])} '
          f'= 0, {who} {shown(d[f"{who}_score"])} = 1)'
      )
      entries.append((f'{who}-normalized', text))
  entries += _video_entries(d['video'])
  title = f'{d["path"]}, checkpoint {d["checkpoint_number"]}'
  lines = [f'  {key.ljust(_KEY_WIDTH)} {value}' for key, value in entries]
  return '\n'.join([title, *lines])


def _limit_entries(d: dict[str, Any]) -> list[tuple[str, str]]:
  limit = d['max_agent_steps']
  cut = sum(length >= limit for length in d['lengths'])
  if not cut:
    return []
  return [('', f'{cut} of them cut off by the limit of {limit:,} agent steps')]


def _video_entries(film: Optional[dict[str, Any]]) -> list[tuple[str, str]]:
  if film is None:
    return []
  end = 'to its end' if film['over'] else 'no further'
  entries = [
      ('video', ', '.join(filter(None, (film['mp4'], film['gif'])))),
      (
          '',
          f'{film["agent_steps"]:,} agent steps, {end}, score '
          f'{film["score"]:.0f}',
      ),
  ]
  if film['agreement'] is not None:
    text = f'{film["agreement"]:.1%} of these steps, with {film["teacher"]}'
    entries.append(('same greedy', text))
  return entries


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  """Evaluates a checkpoint and prints the results."""
  if len(argv) != 2:
    raise errors.UserError(
        'Name what is to be evaluated: reincarnating_rl.evaluate RUN, where '
        'RUN is the directory of a run or teacher, a gs:// address or '
        "'bundled:Pong'."
    )
  names = [field.name for field in dataclasses.fields(Options)]
  given: dict[str, Any] = {name: values[name].value for name in names}
  with errors.user_errors(), contextlib.redirect_stdout(sys.stderr):
    wanted = Options(**given)
    document = evaluation.evaluate(argv[1], wanted)
  print(tables.json_line(document) if values.json else to_text(document))


if __name__ == '__main__':
  define_flags()
  # The output repeats what the log says; --verbosity=0 shows the log.
  flags.FLAGS.set_default('verbosity', -1)
  command_line.run(main)
