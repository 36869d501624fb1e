"""Evaluates a checkpoint over whole episodes, and films one of them."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any, Optional

from reincarnating_rl.base import errors
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.evaluate import scoring
from reincarnating_rl.evaluate import subject as subject_lib
from reincarnating_rl.evaluate import video
from reincarnating_rl.evaluate.subject import Subject
from reincarnating_rl.evaluate.video import DEFAULT_STEPS
from reincarnating_rl.evaluate.video import Play
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.networks import spec
from reincarnating_rl.teachers import LoadedTeacher

# Lower and upper bound of an option; None = none.
_BOUNDS = {
    'episodes': (1, None),
    'epsilon': (0.0, 1.0),
    'seed': (0, None),
    'sticky_actions': (0.0, 1.0),
    'max_agent_steps': (1, None),
    'video_steps': (1, None),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """Options of an evaluation; equal options give equal numbers.

  Attributes:
    checkpoint: number of the checkpoint; None = the newest complete one.
    checkpoint_file_prefix: prefix of Dopamine's checkpoint files.
    episodes: number of whole episodes to play.
    epsilon: probability of a random action.
    seed: seed of the episodes and of the random actions.
    sticky_actions: probability that the game repeats an action; None = as in
      the run, else 0.25.
    max_agent_steps: time limit of an episode.
    game: game to play; None = the game of the training.
    atari_roms_path: folder with ROMs; None = those of ale-py.
    trusted_modules: modules that may be imported to build a network.
    video: folder for a film of one episode; None = no film.
    video_steps: largest number of agent steps to film.
    teacher: teacher to show in the film; None = the teacher of the run.
  """

  checkpoint: Optional[int] = None
  checkpoint_file_prefix: str = 'ckpt'
  episodes: int = 30
  epsilon: float = 0.001
  seed: int = 0
  sticky_actions: Optional[float] = None
  max_agent_steps: int = atari.MAX_AGENT_STEPS_PER_EPISODE
  game: Optional[str] = None
  atari_roms_path: Optional[str] = None
  trusted_modules: tuple[str, ...] = ()
  video: Optional[str] = None
  video_steps: int = DEFAULT_STEPS
  teacher: Optional[str] = None

  def __post_init__(self):
    """Checks the options.

    Raises:
      ValueError: if one is out of bounds, or does not fit the others.
    """
    for name, (low, high) in _BOUNDS.items():
      value = getattr(self, name)
      if value is None:
        continue
      if not isinstance(value, (int, float)):
        raise ValueError(f'--{name} is no number: {value!r}.')
      if (low is not None and value < low) or (
          high is not None and value > high
      ):
        wanted = f'at least {low:g}' if high is None else f'{low:g} to {high:g}'
        raise ValueError(f'--{name} is {value:g}, but must be {wanted}.')
    if self.teacher is not None and self.video is None:
      raise ValueError('--teacher is shown in a video: add --video DIR.')


def options(**given: Any) -> Options:
  """Makes options; None, too, means the default of an option.

  Raises:
    ValueError: for an unknown option, or a bad value.
  """
  names = [field.name for field in dataclasses.fields(Options)]
  for name in given:
    if name not in names:
      raise ValueError(
          f'There is no option {name!r}; there are {", ".join(names)}.'
      )
  return Options(**{k: v for k, v in given.items() if v is not None})


def evaluate(path: str, wanted: Options) -> dict[str, Any]:
  """Evaluates a checkpoint and, on request, films an episode.

  Args:
    path: run directory, gs:// address or 'bundled:<Game>'.
    wanted: options of the evaluation.

  Returns:
    The results, ready for JSON.

  Raises:
    UserError, ValueError: one sentence, if the checkpoint cannot be evaluated.
  """
  subject = subject_lib.find(
      path,
      wanted.checkpoint,
      wanted.checkpoint_file_prefix,
      game=wanted.game,
      trusted=tuple(wanted.trusted_modules),
  )
  if wanted.atari_roms_path is not None:
    atari.use_roms(wanted.atari_roms_path, subject.game)
  subject_lib.check_fits(subject)
  teacher = None
  if wanted.video is not None:
    _check_folder(wanted.video)
    teacher = subject_lib.find_teacher(subject, wanted.teacher)
  play = _play(subject, wanted)
  episodes = scoring.play_episodes(
      subject.policy,
      play.game,
      wanted.episodes,
      epsilon=play.epsilon,
      seed=play.seed,
      sticky_actions=play.sticky_actions,
      max_agent_steps=play.max_agent_steps,
  )
  film = None
  if wanted.video is not None:
    film = _film(subject, teacher, play, wanted.video, wanted.video_steps)
  return describe(subject, play, episodes) | {'video': film}


def _play(subject: Subject, wanted: Options) -> Play:
  sticky = wanted.sticky_actions
  if sticky is None:
    sticky = subject.loaded.sticky_actions
  if sticky is None:
    sticky = atari.STICKY_ACTION_PROBABILITY
  return Play(
      subject.game, wanted.epsilon, wanted.seed, sticky, wanted.max_agent_steps
  )


def describe(
    subject: Subject, play: Play, episodes: Episodes
) -> dict[str, Any]:
  """Describes the result of some episodes, ready for JSON.

  Args:
    subject: the checkpoint that played.
    play: how the episodes were played.
    episodes: K episodes.
  """
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
  """Score with random play at 0 and a reference at 1; None without either."""
  if random is None or reference is None or random == reference:
    return None
  return scores.normalized_score(score, random, reference)


# -- the film ------------------------------------------------------------------


def _check_folder(folder: str) -> None:
  """Refuses a folder that cannot be written, before anything is played.

  Raises:
    UserError: if the folder cannot be made or written.
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
    subject: Subject,
    teacher: Optional[LoadedTeacher],
    play: Play,
    folder: str,
    max_steps: int,
) -> dict[str, Any]:
  """Films an episode; describes the film, ready for JSON.

  Raises:
    UserError: if the files cannot be written.
  """
  policy, text = None, ''
  if teacher is not None:
    policy = value_policy(teacher.network, teacher.acting_params)
    text = _caption(teacher.path, teacher)
  try:
    film = video.film(
        play,
        subject.policy,
        policy,
        texts=(_caption(subject.label, subject.loaded), text),
        path=os.path.join(folder, _name(subject, play)),
        max_steps=max_steps,
    )
  except OSError as e:
    raise errors.UserError(
        f'--video {folder} cannot be written ({e.strerror or e}): make room, '
        'or name another folder.'
    ) from e
  return film._asdict() | {'teacher': teacher and teacher.path}


def _caption(name: str, loaded: LoadedTeacher) -> str:
  network, number = spec.label(loaded.network), loaded.checkpoint_number
  return f'{name} ({network}), checkpoint {number}'


def _name(subject: Subject, play: Play) -> str:
  """Name of the film's files, without their endings."""
  parts = [play.game, re.sub(r'\W+', '-', subject.label)]
  if subject.run_number is not None:
    parts.append(f'run{subject.run_number}')
  parts.append(f'checkpoint{subject.loaded.checkpoint_number}')
  return '_'.join([*parts, f'seed{play.seed}'])
