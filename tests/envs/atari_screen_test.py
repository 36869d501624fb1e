"""The screen that people see is that of the game that networks play."""

from __future__ import annotations

import numpy as np
import pytest

from reincarnating_rl.envs.atari import AtariVector
from reincarnating_rl.envs.atari_screen import AtariScreen

SEED, STREAM, MEMBER = 5, (1, 2), 1


def smaller(grey):
  """As the emulator makes frames smaller."""
  cv2 = pytest.importorskip('cv2')
  return cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    'game, sticky, num_steps, min_ends',
    [
        ('Breakout', 0.25, 500, 2),
        ('MsPacman', 0.0, 200, 0),
        ('NameThisGame', 0.25, 100, 0),  # takes long to start up
    ],
)
def test_it_is_in_step_with_a_member_of_the_vector(
    game, sticky, num_steps, min_ends
):
  env = AtariVector(game, 2, SEED, STREAM, sticky_actions=sticky)
  screen = AtariScreen(game, SEED, STREAM, member=MEMBER, sticky_actions=sticky)
  rng = np.random.default_rng(0)
  observation, episodes, rewards = env.reset(), 0, 0.0
  assert len(screen.action_names) == env.num_actions
  for t in range(num_steps):
    np.testing.assert_array_equal(
        smaller(screen.grey), observation[MEMBER, -1], err_msg=f'step {t}'
    )
    actions = rng.integers(env.num_actions, size=2)
    step = env.step(actions)
    observation = step.observation
    shown = screen.step(int(actions[MEMBER]))
    assert shown.reward == step.reward[MEMBER]
    assert shown.game_over == step.terminal[MEMBER]
    rewards += abs(shown.reward)
    if shown.game_over:
      episodes += 1
      screen.reset(episodes)
  assert episodes >= min_ends
  assert rewards > 0 or game == 'NameThisGame'


def test_the_screen_has_colours():
  screen = AtariScreen('Pong', SEED)
  assert screen.rgb.shape == screen.grey.shape + (3,) == (210, 160, 3)
  assert screen.rgb.dtype == np.uint8
  screen.step(0)
  assert (screen.rgb.max(axis=-1) > screen.rgb.min(axis=-1)).any()
  assert screen.action_names[:3] == ['NOOP', 'FIRE', 'RIGHT']


def test_other_seeds_and_episodes_are_other_games():
  screen, differs = AtariScreen('Pong', SEED), {}
  actions = np.random.default_rng(0).integers(6, size=40)

  def play(screen):
    return np.stack([screen.step(int(a)) and screen.rgb for a in actions])

  first = play(screen)
  screen.reset(0)
  np.testing.assert_array_equal(play(screen), first)
  screen.reset(1)
  differs['episode'] = (play(screen) != first).any()
  for name, options in {
      'seed': {'seed': SEED + 1},
      'stream': {'stream': (1,)},
      'member': {'member': 1},
      'stickiness': {'sticky_actions': 0.0},
  }.items():
    other = AtariScreen('Pong', **({'seed': SEED} | options))
    differs[name] = (play(other) != first).any()
  assert all(differs.values()), differs
