"""Evaluates a checkpoint over whole episodes, and films one of them.

python -m reincarnating_rl.evaluate RUN [--checkpoint N] [--video DIR] [--json]

RUN is what `train --teacher_checkpoint_dir` takes: the directory of a run, of a
teacher, a gs:// address, 'bundled:Pong'. Equal flags give equal numbers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from typing import Any, Mapping, Optional, Sequence

from absl import flags

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.inspect_teacher.__main__ import to_json

_KEY_WIDTH = 18


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines what the entry point reads; called once per set of values."""
  define = lambda kind: functools.partial(kind, flag_values=values)
  integer, number = define(flags.DEFINE_integer), define(flags.DEFINE_float)
  text, truth = define(flags.DEFINE_string), define(flags.DEFINE_bool)
  integer('checkpoint', None, 'Which one; default the newest whole one.')
  text('checkpoint_file_prefix', 'ckpt', "Of Dopamine's checkpoint files.")
  integer('episodes', 30, 'Whole episodes to play.', lower_bound=1)
  number(
      'epsilon',
      0.001,
      'Probability of a random action.',
      lower_bound=0.0,
      upper_bound=1.0,
  )
  integer('seed', 0, 'Of episodes and random actions.', lower_bound=0)
  number(
      'sticky_actions',
      None,
      'Probability that the game repeats an action; default as in the run, '
      f'else {atari.STICKY_ACTION_PROBABILITY}.',
      lower_bound=0.0,
      upper_bound=1.0,
  )
  integer(
      'max_agent_steps',
      atari.MAX_AGENT_STEPS_PER_EPISODE,
      'Time limit of an episode.',
      lower_bound=1,
  )
  text('game', None, 'Default: that which it was trained on.')
  text('atari_roms_path', None, 'Folder with ROMs to play.')
  define(flags.DEFINE_list)(
      'trusted_modules',
      [],
      'Modules of yours that may be imported to build a network.',
  )
  truth('json', False, 'Print one JSON object, not a text.')
  text('video', None, 'Film an episode into this folder, as MP4 and GIF.')
  integer('video_steps', 2_700, 'Agent steps to film at most.', lower_bound=1)
  text(
      'teacher',
      None,
      'Teacher to show beside the student in the video; default that of the '
      'run.',
  )


def values(options: Mapping[str, Any]) -> flags.FlagValues:
  """What `evaluate` reads, from Python: the defaults, but for some.

  Args:
    options: by the names of the flags; None is the default, too.

  Raises:
    ValueError: for a flag that there is not, or a value that it cannot have.
  """
  found = flags.FlagValues()
  define_flags(found)
  words = ['evaluate']
  for name, value in options.items():
    if isinstance(value, (list, tuple)):
      value = ','.join(map(str, value))
    if value is not None:
      words.append(f'--{name}={value}')
  try:
    found(words)
  except flags.Error as e:
    raise ValueError(f'{str(e).rstrip(".")}.') from e
  return found


# -- what is found out ---------------------------------------------------------


def evaluate(path: str, values: flags.FlagValues) -> dict[str, Any]:
  """All that is told of a checkpoint, ready for JSON.

  Args:
    path: of what is to be evaluated.
    values: of the flags.

  Raises:
    UserError, ValueError: one sentence, for what does not fit.
  """
  from reincarnating_rl.evaluate import scoring
  from reincarnating_rl.evaluate import subject as subject_lib

  if values.teacher is not None and values.video is None:
    raise errors.UserError('--teacher is shown in a video: add --video DIR.')
  subject = subject_lib.find(
      path,
      values.checkpoint,
      values.checkpoint_file_prefix,
      game=values.game,
      trusted=tuple(values.trusted_modules),
  )
  if values.atari_roms_path is not None:
    atari.use_roms(values.atari_roms_path, subject.game)
  subject_lib.check_fits(subject)
  teacher = None
  if values.video is not None:
    _check_folder(values.video)
    teacher = subject_lib.find_teacher(subject, values.teacher)
  play = _play(subject, values)
  episodes = scoring.play_episodes(
      subject.policy,
      play.game,
      values.episodes,
      epsilon=play.epsilon,
      seed=play.seed,
      sticky_actions=play.sticky_actions,
      max_agent_steps=play.max_agent_steps,
  )
  document = describe(subject, play, episodes)
  document['video'] = None
  if values.video is not None:
    document['video'] = _film(subject, teacher, play, values)
  return document


def _play(subject: Any, values: flags.FlagValues) -> Any:
  """How episodes are played."""
  from reincarnating_rl.evaluate.video import Play

  sticky = values.sticky_actions
  if sticky is None:
    sticky = subject.loaded.sticky_actions
  if sticky is None:
    sticky = atari.STICKY_ACTION_PROBABILITY
  return Play(
      subject.game, values.epsilon, values.seed, sticky, values.max_agent_steps
  )


def describe(subject: Any, play: Any, episodes: Any) -> dict[str, Any]:
  """What some episodes tell of a checkpoint.

  Args:
    subject: the checkpoint.
    play: how they were played.
    episodes: K of them.
  """
  from reincarnating_rl.evaluate import scoring

  loaded, game = subject.loaded, subject.game
  score = episodes.mean_return
  interval = scoring.mean_interval(episodes.returns)
  reference = scores.REFERENCE_SCORES.get(game)
  random = subject.random_score
  return {
      'path': loaded.path,
      'directory': subject.directory,
      'format': loaded.format,
      'checkpoint_number': loaded.checkpoint_number,
      'agent': subject.label,
      'agent_steps_trained': loaded.known_agent_steps,
      **play._asdict(),
      'rom_md5': atari.rom_in_use(game).md5,
      'episodes': len(episodes.returns),
      'agent_steps': int(episodes.lengths.sum()),
      'score': score,
      'interval': interval and list(interval),
      'confidence': scoring.CONFIDENCE,
      'min': float(episodes.returns.min()),
      'max': float(episodes.returns.max()),
      'std': float(episodes.returns.std()),
      'random_score': random,
      'human_score': reference.human if reference else None,
      'human_normalized': scores.human_normalized_score(game, score),
      'teacher_score': subject.teacher_score,
      'teacher_normalized': _normalized(score, random, subject.teacher_score),
      'recorded_score': loaded.score if subject.plays_its_game else None,
      **episodes.to_json(),
  }


def _normalized(
    score: float, random: Optional[float], reference: Optional[float]
) -> Optional[float]:
  """Random play as 0 and the reference as 1; None without either."""
  if None in (random, reference) or random == reference:
    return None
  return scores.normalized_score(score, random, reference)


# -- the video -----------------------------------------------------------------


def _check_folder(folder: str) -> None:
  """Refuses a folder that cannot be written, before anything is played.

  Raises:
    UserError: if it cannot.
  """
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as e:
    raise errors.UserError(
        f'--video {folder} cannot be made ({e.strerror}): name another folder.'
    ) from e
  if not os.access(folder, os.W_OK):
    raise errors.UserError(
        f'--video {folder} cannot be written to: name another folder.'
    )


def _film(
    subject: Any, teacher: Any, play: Any, values: flags.FlagValues
) -> dict[str, Any]:
  """Films an episode; what of it is told.

  Raises:
    UserError: if the disk does not take it.
  """
  from reincarnating_rl.evaluate import video
  from reincarnating_rl.learner.policy import value_policy
  from reincarnating_rl.networks import spec

  loaded = subject.loaded
  name = '_'.join(
      [
          play.game,
          re.sub(r'\W+', '-', subject.label),
          *(
              [f'run{subject.run_number}']
              if subject.run_number is not None
              else []
          ),
          f'checkpoint{loaded.checkpoint_number}',
          f'seed{play.seed}',
      ]
  )
  text = lambda who, t: (
      f'{who} ({spec.label(t.network)}), checkpoint ' f'{t.checkpoint_number}'
  )
  try:
    film = video.film(
        play,
        subject.policy,
        teacher and value_policy(teacher.network, teacher.acting_params),
        texts=(
            text(subject.label, loaded),
            teacher and text(teacher.path, teacher),
        ),
        path=os.path.join(values.video, name),
        max_steps=values.video_steps,
    )
  except OSError as e:
    raise errors.UserError(
        f'--video {values.video} cannot be written ({e.strerror or e}): make '
        'room, or name another folder.'
    ) from e
  return film._asdict() | {'teacher': teacher and teacher.path}


# -- entry point ---------------------------------------------------------------


def to_text(document: dict[str, Any]) -> str:
  """What was found out, to be read."""
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
  """Evaluates, prints, and films if that is asked for."""
  if len(argv) != 2:
    raise errors.UserError(
        'Name what is to be evaluated: reincarnating_rl.evaluate RUN, where '
        'RUN is the directory of a run or teacher, a gs:// address or '
        "'bundled:Pong'."
    )
  with errors.user_errors(), contextlib.redirect_stdout(sys.stderr):
    document = evaluate(argv[1], values)
  print(to_json(document) if values.json else to_text(document))


if __name__ == '__main__':
  define_flags()
  # The report says what the log does; --verbosity=0 brings it back.
  flags.FLAGS.verbosity = -1
  command_line.run(main)
