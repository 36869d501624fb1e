"""Tests of the environment for Dopamine's own Runner."""

from __future__ import annotations

import functools

import gin
import numpy as np
import pytest

from reincarnating_rl.dopamine_bridge.environment import (
    create_atari_environment,
)
from reincarnating_rl.envs.atari import AtariVector

# Dopamine's modules import only after ours has mended what they miss.
from dopamine.discrete_domains import atari_lib  # isort: skip
from dopamine.discrete_domains import run_experiment  # isort: skip
from dopamine.jax.agents.dqn import dqn_agent  # isort: skip

RUN_SEED = 5
STREAM = (2,)
TIME_LIMIT = 30  # agent steps


def small_pong():
  return create_atari_environment(
      'Pong', True, seed=RUN_SEED, max_agent_steps=TIME_LIMIT
  )


def breakout(seed=RUN_SEED):
  return create_atari_environment('Breakout', True, seed=seed)


def frames_of(env, num_steps):
  """[T + 1, H, W], those of a reset and of some steps."""
  rng = np.random.default_rng(0)
  actions = np.repeat(rng.integers(env.action_space.n, size=num_steps), 3)
  frames = [env.reset()]
  frames += [env.step(int(a))[0] for a in actions[:num_steps]]
  return np.stack(frames)[..., 0]


@pytest.mark.parametrize(
    'game, max_agent_steps',
    # NameThisGame takes 130 frames to start up; the limit does not count them.
    [('Breakout', 27_000), ('Breakout', 60), ('NameThisGame', 60)],
)
def test_same_episodes_as_one_member_of_the_vector_environment(
    game, max_agent_steps
):
  """Two whole episodes and the beginning of a third."""
  vector = AtariVector(
      game, 1, RUN_SEED, STREAM, max_agent_steps=max_agent_steps
  )
  env = create_atari_environment(
      game,
      True,
      seed=RUN_SEED,
      stream=STREAM,
      max_agent_steps=max_agent_steps,
  )
  rng = np.random.default_rng(0)
  frame, observation = env.reset(), vector.reset()
  ends, after = 0, 0
  while after < 20:
    np.testing.assert_array_equal(frame[..., 0], observation[0, -1])
    action = int(rng.integers(vector.num_actions))
    frame, reward, is_terminal, _ = env.step(action)
    step = vector.step(np.array([action]))
    observation = step.observation
    assert reward == step.reward[0]
    assert is_terminal == step.terminal[0]
    assert env.game_over == (step.terminal[0] or step.truncated[0])
    assert step.truncated[0] == (env.game_over and max_agent_steps == 60)
    if env.game_over:
      frame = env.reset()
      ends += 1
    after += ends >= 2
  assert env.episodes == 3


def test_same_seed_same_episodes_other_seed_other_episodes():
  env, twin, other = breakout(), breakout(), breakout(seed=RUN_SEED + 1)
  first = frames_of(env, 40)
  np.testing.assert_array_equal(first, frames_of(twin, 40))
  assert (first != frames_of(other, 40)).any()
  assert (first != frames_of(env, 40)).any()  # The next episode.


def test_an_abandoned_episode_leaves_no_trace():
  env, twin = breakout(), breakout()
  frames_of(env, 3)
  frames_of(twin, 17)
  np.testing.assert_array_equal(frames_of(env, 40), frames_of(twin, 40))


# -- under Dopamine's Runner ---------------------------------------------------


class RecordingAgent(dqn_agent.JaxDQNAgent):
  """Writes down what a Runner tells it; presses one button."""

  def __init__(self, action):
    self.action = action
    self.steps = 0
    self.ends = []

  def begin_episode(self, observation):
    self.steps = 0
    return self.action

  def step(self, reward, observation):
    self.steps += 1
    return self.action

  def end_episode(self, reward, terminal=True):
    self.ends.append((self.steps + 1, bool(terminal)))


class OneEpisodeRunner(run_experiment.Runner):
  """Dopamine's Runner without directories and checkpoints."""

  def __init__(self, env, agent, max_steps_per_episode):
    self._environment = env
    self._agent = agent
    self._max_steps_per_episode = max_steps_per_episode
    self._clip_rewards = True


@pytest.mark.parametrize('runner_limit', [27_000, TIME_LIMIT, None])
def test_a_time_limit_reaches_the_agent_as_no_terminal(runner_limit):
  agent = RecordingAgent(action=0)
  runner = OneEpisodeRunner(small_pong(), agent, runner_limit)
  play = runner._run_one_episode
  if runner_limit is None:
    play = functools.partial(runner._run_continued_episode, 0, 1000)
  assert [play()[0], play()[0]] == [TIME_LIMIT, TIME_LIMIT]
  assert agent.ends == [(TIME_LIMIT, False)] * 2


def test_the_end_of_a_game_reaches_the_agent_as_a_terminal():
  env = create_atari_environment('Breakout', False)
  agent = RecordingAgent(action=1)  # Fire, and let five balls pass.
  length, _ = OneEpisodeRunner(env, agent, 27_000)._run_one_episode()
  assert agent.ends == [(length, True)]
  assert length < 27_000


def test_the_limit_is_27000_agent_steps_unless_given(monkeypatch):
  monkeypatch.setattr(
      atari_lib.AtariPreprocessing, 'step', lambda self, action: (0, 0.0, False)
  )
  env = create_atari_environment('Pong', True)
  env.reset()
  for t in range(1, 27_001):
    env.step(0)
    assert env.game_over == (t == 27_000)


# -- configuration -------------------------------------------------------------


@pytest.mark.parametrize('sticky, probability', [(True, 0.25), (False, 0.0)])
def test_dopamines_bindings_are_honoured(sticky, probability):
  gin.parse_config(
      [
          "create_atari_environment.game_name = 'Breakout'",
          f'atari_lib.create_atari_environment.sticky_actions = {sticky}',
          f'create_seeded_atari_environment.seed = {RUN_SEED}',
      ]
  )
  env = create_atari_environment()
  assert env.action_space.n == 4
  ale = env.environment.unwrapped.ale
  assert ale.getFloat('repeat_action_probability') == probability
  given = create_atari_environment('Breakout', sticky, seed=RUN_SEED)
  np.testing.assert_array_equal(frames_of(env, 40), frames_of(given, 40))


def test_arguments_win_over_bindings():
  gin.parse_config(
      [
          "create_atari_environment.game_name = 'Breakout'",
          'create_atari_environment.sticky_actions = False',
      ]
  )
  env = create_atari_environment('Pong', True)
  assert env.action_space.n == 6
  ale = env.environment.unwrapped.ale
  assert ale.getFloat('repeat_action_probability') == 0.25


def test_life_loss_ends_an_episode_where_it_is_bound_to():
  gin.parse_config('AtariPreprocessing.terminal_on_life_loss = True')
  agent = RecordingAgent(action=1)
  env = create_atari_environment('Breakout', False)
  OneEpisodeRunner(env, agent, 27_000)._run_one_episode()
  assert [terminal for _, terminal in agent.ends] == [True] * 5


def test_misspelled_games_are_refused_with_a_suggestion():
  with pytest.raises(ValueError, match='Did you mean Breakout'):
    create_atari_environment('Breakuot')


def test_another_preprocessing_is_refused(monkeypatch):
  monkeypatch.setattr(
      atari_lib, 'create_atari_environment', lambda **options: object()
  )
  with pytest.raises(ValueError, match='another preprocessing'):
    create_atari_environment('Pong')
