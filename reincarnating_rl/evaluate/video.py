"""Films one episode: the game, and the Q-values of student and teacher.

The network sees the environment that students are trained in, with its frames,
stack and sticky actions. The screen that people see comes from a second
emulator in step with it (`envs.atari_screen`).
"""

from __future__ import annotations

import os
from typing import Any, Iterable, Iterator, NamedTuple, Optional

from absl import logging
import jax
import numpy as np

from reincarnating_rl.base import progress
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import registry
from reincarnating_rl.envs.atari_screen import AtariScreen
from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.evaluate import writers
from reincarnating_rl.evaluate.panel import Moment
from reincarnating_rl.evaluate.panel import Panel
from reincarnating_rl.evaluate.panel import STEPS_PER_SECOND
from reincarnating_rl.evaluate.panel import Texts
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Policy

# Three minutes of play.
DEFAULT_STEPS = 2_700
_FPS = int(STEPS_PER_SECOND)
# The film ends with a still of one second.
_LAST_PICTURES = _FPS
# A GIF has every third picture, of the first 40 seconds of play.
_GIF_EVERY = 3
_GIF_PICTURES = 200


class Play(NamedTuple):
  """Settings of an episode.

  Attributes:
    game: name in Dopamine's spelling.
    epsilon: probability of a random action.
    seed: seed of the episode and of the random actions.
    sticky_actions: probability that the game repeats an action.
    max_agent_steps: time limit of the episode.
  """

  game: str
  epsilon: float
  seed: int
  sticky_actions: float = atari.STICKY_ACTION_PROBABILITY
  max_agent_steps: int = atari.MAX_AGENT_STEPS_PER_EPISODE


class Film(NamedTuple):
  """Files of a film, and facts about its episode.

  Attributes:
    mp4: path of the MP4; None if no encoder is installed.
    gif: path of the GIF.
    pictures: number of pictures of an MP4.
    agent_steps: agent steps played.
    score: sum of rewards.
    over: True if the episode ended.
    agreement: share of steps with the same greedy action of student and
      teacher; None without a teacher.
  """

  mp4: Optional[str]
  gif: str
  pictures: int
  agent_steps: int
  score: float
  over: bool
  agreement: Optional[float]


class Filmed:
  """One episode of a policy, step by step.

  Attributes:
    observation: [1, C, H, W] uint8, newest input of the networks.
    screen: emulator that renders the colour screen.
  """

  def __init__(self, play: Play, student: Policy, teacher: Optional[Policy]):
    """Starts the episode.

    Args:
      play: settings of the episode.
      student: policy that plays.
      teacher: policy whose Q-values are shown, too; None without one.
    """
    on_device = lambda policy: policy and policy._replace(
        params=jax.device_put(policy.params)
    )
    self._play = play
    self._student, self._teacher = on_device(student), on_device(teacher)
    make_env = registry.make_factory(
        play.game,
        sticky_actions=play.sticky_actions,
        max_agent_steps=play.max_agent_steps,
    )
    self._env = make_env(1, play.seed)
    self.screen = AtariScreen(
        play.game, play.seed, sticky_actions=play.sticky_actions
    )
    self.observation = self._env.reset()
    self._carry = student.actor.initial_carry(1)
    self._rng_key = jax.random.PRNGKey(play.seed)

  def moments(self, max_steps: int) -> Iterator[Moment]:
    """Plays the episode to its end, or for `max_steps` agent steps.

    Raises:
      EnvironmentFailedError: if the two emulators disagree.
    """
    score = reward = 0.0
    for step in range(max_steps):
      moment = self._look(reward, score, step)
      yield moment
      outcome = self._env.step(np.array([moment.action]))
      shown = self.screen.step(moment.action)
      played = float(outcome.reward[0]), bool(outcome.terminal[0])
      if played != shown:
        raise EnvironmentFailedError(
            f'The emulator that shows {self._play.game} has left the game that '
            f'is played at step {step} ({shown} instead of {played}).'
        )
      reward = shown.reward
      score += reward
      if outcome.terminal[0] or outcome.truncated[0]:
        yield moment._replace(
            screen=self.screen.rgb,
            reward=reward,
            score=score,
            step=step + 1,
            over=True,
        )
        return
      self.observation = outcome.observation
    # Result of the last action, where filming stops within the episode.
    yield self._look(reward, score, max_steps)._replace(played=False)

  def _look(self, reward: float, score: float, step: int) -> Moment:
    """Screen, Q-values and next action at the current step."""
    states = np.moveaxis(self.observation, 1, -1)
    values = lambda policy: np.asarray(policy.q_values(states))[0]
    actions, self._carry, self._rng_key = act(
        *self._student,
        self.observation,
        np.array([step == 0]),
        self._carry,
        np.float32(self._play.epsilon),
        self._rng_key,
    )
    return Moment(
        self.screen.rgb,
        values(self._student),
        values(self._teacher) if self._teacher else None,
        int(actions[0]),
        reward,
        score,
        step,
    )


def film(
    play: Play,
    student: Policy,
    teacher: Optional[Policy],
    *,
    texts: tuple[str, str],
    path: str,
    max_steps: int = DEFAULT_STEPS,
) -> Film:
  """Plays an episode and writes PATH.mp4 and PATH.gif.

  Args:
    play: settings of the episode.
    student: policy that plays.
    teacher: policy whose Q-values are shown, too; None without one.
    texts: captions of student and teacher.
    path: path of the files, without their endings.
    max_steps: largest number of agent steps to film.

  Raises:
    OSError: if a file cannot be written.
    ValueError: if there is nothing to film, or the game is unknown.
  """
  if max_steps < 1:
    raise ValueError(f'At least one step must be filmed, got {max_steps}.')
  filmed = Filmed(play, student, teacher)
  panel = Panel(
      filmed.screen.rgb.shape,
      filmed.screen.action_names,
      Texts(play.game, texts[0], texts[1] if teacher else '', _footer(play)),
  )
  files = _open_files(path, panel)
  with progress.bar(
      'Video', max_steps, 'agent steps', delay=progress.SHORT_DELAY
  ) as bar:
    moments = _counted(filmed.moments(max_steps), bar)
    pictures, last = _write(panel, moments, list(files.values()))
  return Film(
      mp4=f'{path}.mp4' if 'mp4' in files else None,
      gif=f'{path}.gif',
      pictures=pictures,
      agent_steps=last.step,
      score=last.score,
      over=last.over,
      agreement=panel.agreement,
  )


def _counted(moments: Iterator[Moment], bar: Any) -> Iterator[Moment]:
  """The moments, a bar with them."""
  for moment in moments:
    yield moment
    bar.update(moment.step - bar.n)


def _footer(play: Play) -> str:
  return (
      f'seed {play.seed}, \N{GREEK SMALL LETTER EPSILON} = {play.epsilon:g}, '
      f'sticky actions {play.sticky_actions:g}'
  )


def _open_files(path: str, panel: Panel) -> dict[str, writers.Writer]:
  """Opens the writers by kind of file; warns if there is no MP4 encoder."""
  files: dict[str, writers.Writer] = {}
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  try:
    files['mp4'] = writers.Mp4Writer(f'{path}.mp4', panel.size, _FPS)
  except writers.MissingEncoderError as e:
    logging.warning('%s There will be a GIF only.', e)
  files['gif'] = writers.GifWriter(
      f'{path}.gif', _FPS, _GIF_EVERY, _GIF_PICTURES
  )
  return files


def _write(
    panel: Panel, moments: Iterable[Moment], files: list[writers.Writer]
) -> tuple[int, Moment]:
  """Draws all moments; returns the number of pictures, and the last moment."""
  pictures = 0
  try:
    for moment in moments:
      picture = panel.draw(moment)
      for file in files:
        file.add(picture)
      pictures += 1
    for file in files:
      for _ in range(_LAST_PICTURES):
        file.add(picture)
      file.close()
  except BaseException:
    for file in files:
      file.discard()
    raise
  return pictures + _LAST_PICTURES, moment
