"""Tests of the vector environment against Dopamine's single one.

Dopamine's preprocessing, on the same emulator seed and actions, is the slow
and obvious version; after that come seeds, time limits, and coming back to the
middle of an episode.
"""

from __future__ import annotations

import functools
import json

from ale_py import roms
import numpy as np
import pytest

from reincarnating_rl.base import scores
from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine
from reincarnating_rl.envs import atari
from reincarnating_rl.envs.atari import AtariVector
from reincarnating_rl.envs.base import episode_seed

RUN_SEED = 3
STREAM = (4, 1)
# An episode of this game under `random_actions` ends after some 200 steps.
SHORT_GAME = 'Breakout'


def random_actions(env, num_steps, seed=0):
  """[T, E] random actions, each held for three steps."""
  rng = np.random.default_rng(seed)
  held = rng.integers(env.num_actions, size=(num_steps, env.num_envs))
  return np.repeat(held, 3, axis=0)[:num_steps].astype(np.int32)


def play(env, num_steps, seed=0):
  return [env.step(a) for a in random_actions(env, num_steps, seed)]


def assert_same_steps(ours, others):
  for t, (one, other) in enumerate(zip(ours, others, strict=True)):
    for name, x, y in zip(one._fields, one, other, strict=True):
      np.testing.assert_array_equal(x, y, err_msg=f'{name} at step {t}')


def assert_other_frames(ours, others, env=0):
  ours, others = (
      np.stack([s.observation[env] for s in x]) for x in (ours, others)
  )
  assert (ours != others).any()


def member(step, env):
  """One environment's share of a step, as a vector of one."""
  return type(step)(*(field[env : env + 1] for field in step))


# -- the same as Dopamine's ----------------------------------------------------


class SingleGame:
  """Dopamine's environment, seeded from outside; stacks frames as it does."""

  def __init__(self, game, sticky_actions):
    prepare_dopamine()
    from dopamine.discrete_domains import atari_lib

    self.env = atari_lib.create_atari_environment(game, sticky_actions)
    self.ale = self.env.environment.unwrapped.ale

  def reset(self, seed):
    self.ale.setInt('random_seed', seed)
    self.env.environment.unwrapped.load_game()
    self.stack = np.zeros((4, 84, 84), np.uint8)
    return self._push(self.env.reset())

  def step(self, action):
    frame, reward, is_terminal, _ = self.env.step(int(action))
    return self._push(frame), reward, is_terminal

  def _push(self, frame):
    self.stack = np.concatenate([self.stack[1:], frame[None, ..., 0]])
    return self.stack


@pytest.mark.parametrize(
    'game, num_steps, sticky, min_ends',
    [
        ('Pong', 1100, True, 1),
        ('Breakout', 600, True, 4),
        ('Breakout', 300, False, 2),
        ('MsPacman', 700, True, 2),
        ('UpNDown', 300, True, 0),
    ],
)
def test_same_frames_rewards_and_ends_as_dopamine(
    game, num_steps, sticky, min_ends
):
  env = AtariVector(
      game, 2, RUN_SEED, STREAM, sticky_actions=0.25 if sticky else 0.0
  )
  singles = [SingleGame(game, sticky) for _ in range(2)]

  def begin(e, episode):
    return singles[e].reset(episode_seed(RUN_SEED, STREAM + (e,), episode))

  observation = env.reset()
  for e in range(2):
    np.testing.assert_array_equal(observation[e], begin(e, 0))
  episodes, rewards, lives_lost = [0, 0], 0, 0
  for t, actions in enumerate(random_actions(env, num_steps)):
    step = env.step(actions)
    assert not step.truncated.any()
    for e, single in enumerate(singles):
      lives = single.ale.lives()
      expected, reward, is_terminal = single.step(actions[e])
      assert step.reward[e] == reward, f'step {t}'
      assert step.terminal[e] == is_terminal, f'step {t}'
      rewards += abs(reward)
      if is_terminal:
        # The last frame of an episode is nobody's: the next one has begun.
        episodes[e] += 1
        expected = begin(e, episodes[e])
      else:
        lives_lost += single.ale.lives() < lives
      np.testing.assert_array_equal(step.observation[e], expected)
  assert rewards > 0
  assert sum(episodes) >= min_ends
  if game in ('Breakout', 'MsPacman'):
    assert lives_lost > 0  # And no episode ended there.


def test_sticky_actions_make_a_difference():
  plain = AtariVector('Pong', 1, RUN_SEED, sticky_actions=0.0)
  sticky = AtariVector('Pong', 1, RUN_SEED)
  np.testing.assert_array_equal(plain.reset(), sticky.reset())
  assert_other_frames(play(plain, 60), play(sticky, 60))


# -- seeds ---------------------------------------------------------------------


def test_same_seed_same_episodes_other_seed_other_episodes():
  make = lambda seed, stream: AtariVector('Pong', 2, seed, stream)
  env, twin = make(0, (1,)), make(0, (1,))
  np.testing.assert_array_equal(env.reset(), twin.reset())
  steps = play(env, 60)
  assert_same_steps(steps, play(twin, 60))
  for other in (make(1, (1,)), make(0, (2,))):
    other.reset()
    others = play(other, 60)
    for e in range(2):
      assert_other_frames(steps, others, e)


def test_members_do_not_depend_on_each_other():
  """Neither on how many there are nor on what the others do."""
  many, alone = (AtariVector(SHORT_GAME, n, RUN_SEED) for n in (3, 1))
  np.testing.assert_array_equal(many.reset()[:1], alone.reset())
  actions = random_actions(many, 500, seed=1)
  ours = [alone.step(a[:1]) for a in random_actions(many, 500, seed=2)]
  actions[:, 0] = random_actions(many, 500, seed=2)[:, 0]
  steps = [many.step(a) for a in actions]
  assert sum(s.terminal[0] for s in ours) >= 1
  # The others ended elsewhere.
  assert any(s.terminal[1:].any() and not s.terminal[0] for s in steps)
  assert_same_steps([member(s, 0) for s in steps], ours)
  ends = np.array([s.terminal for s in steps])
  assert (ends[:, 1] != ends[:, 2]).any()


@pytest.mark.parametrize('game', ['Breakout', 'MsPacman'])
def test_a_used_environment_starts_a_stream_like_a_fresh_one(game):
  used, fresh = (
      AtariVector(game, 2, RUN_SEED, stream) for stream in ((0,), STREAM)
  )
  used.reset()
  play(used, 250, seed=1)
  np.testing.assert_array_equal(used.start_stream(STREAM), fresh.reset())
  assert_same_steps(play(used, 300), play(fresh, 300))


def test_another_reset_starts_the_next_episode():
  env, other = (AtariVector('Pong', 1, RUN_SEED) for _ in range(2))
  env.reset()
  env.reset()
  other.reset()
  assert_other_frames(play(env, 60), play(other, 60))


# -- time limits ---------------------------------------------------------------


def test_a_time_limit_truncates_and_is_no_terminal():
  env = AtariVector('Pong', 2, RUN_SEED, max_agent_steps=25)
  env.reset()
  for t, step in enumerate(play(env, 80), start=1):
    assert not step.terminal.any()
    assert step.truncated.tolist() == [t % 25 == 0] * 2
    blank = ~step.observation[:, :3].any(axis=(1, 2, 3))
    assert blank.tolist() == [t % 25 == 0] * 2
    assert step.observation[:, 3].any()


@functools.cache
def first_end():
  """The step at which the first episode of SHORT_GAME ends by itself."""
  env = AtariVector(SHORT_GAME, 1, RUN_SEED)
  env.reset()
  return 1 + [s.terminal[0] for s in play(env, 600)].index(True)


@pytest.mark.parametrize('spare', [-1, 0, 1])
def test_a_game_that_ends_at_its_time_limit_is_terminal(spare):
  limit = first_end() + spare
  env = AtariVector(SHORT_GAME, 1, RUN_SEED, max_agent_steps=limit)
  env.reset()
  *before, last = play(env, min(limit, first_end()))
  assert not any(s.terminal[0] or s.truncated[0] for s in before)
  assert bool(last.terminal[0]) == (spare >= 0)
  assert bool(last.truncated[0]) == (spare < 0)
  # The next episode is not cut short by what the flags of this one were.
  steps = play(env, min(limit, 100), seed=1)
  assert not any(s.terminal[0] or s.truncated[0] for s in steps[:-1])


def test_a_terminal_counts_for_more_than_a_time_limit(monkeypatch):
  env = AtariVector('Pong', 1, RUN_SEED)
  env.reset()
  flag = np.ones(1, np.bool_)
  result = (np.zeros((1, 4, 84, 84), np.uint8), np.ones(1), flag, flag, {})
  monkeypatch.setattr(env._env, 'step', lambda actions: result)
  step = env.step(np.zeros(1, np.int32))
  assert step.terminal.tolist() == [True]
  assert step.truncated.tolist() == [False]


# -- snapshots -----------------------------------------------------------------


@pytest.mark.parametrize(
    'game, max_agent_steps',
    [
        ('Breakout', atari.MAX_AGENT_STEPS_PER_EPISODE),
        ('MsPacman', atari.MAX_AGENT_STEPS_PER_EPISODE),
        ('Pong', 150),
    ],
)
def test_restored_goes_on_as_if_never_stopped(game, max_agent_steps):
  make = functools.partial(AtariVector, max_agent_steps=max_agent_steps)
  env = make(game, 3, RUN_SEED, STREAM)
  env.reset()
  # Until two episodes have ended, the last one just now: logs of different
  # lengths, one of them empty.
  ended = np.zeros(3, np.int64)
  for actions in random_actions(env, 2000):
    step = env.step(actions)
    ended += step.terminal | step.truncated
    if ended.sum() >= 2:
      break
  snapshot = json.loads(json.dumps(env.snapshot()))
  lengths = {len(log) for log in snapshot['actions']}
  assert min(lengths) == 0
  assert len(lengths) > 1 or max_agent_steps == 150
  going_on = play(env, 120, seed=1)

  fresh, used = make(game, 3, RUN_SEED), make(game, 3, RUN_SEED)
  used.reset()
  play(used, 170, seed=2)
  for other in (fresh, used):
    np.testing.assert_array_equal(other.restore(snapshot), step.observation)
    assert other.snapshot() == snapshot
    assert_same_steps(play(other, 120, seed=1), going_on)


@pytest.mark.parametrize('num_steps', [0, 1, 7])
def test_restored_at_the_beginning(num_steps):
  env = AtariVector('Pong', 2, RUN_SEED)
  observation = env.reset()
  for step in play(env, num_steps):
    observation = step.observation
  snapshot = env.snapshot()
  other = AtariVector('Pong', 2, RUN_SEED)
  np.testing.assert_array_equal(other.restore(snapshot), observation)
  assert_same_steps(play(env, 30, seed=1), play(other, 30, seed=1))


def test_a_snapshot_does_not_change_with_the_game():
  env = AtariVector('Pong', 1, RUN_SEED)
  env.reset()
  play(env, 5)
  snapshot = env.snapshot()
  play(env, 5)
  assert [len(log) for log in snapshot['actions']] == [5]


def test_a_snapshot_of_another_size_is_refused():
  env = AtariVector('Pong', 1, RUN_SEED)
  env.reset()
  with pytest.raises(ValueError, match='holds 1 environments, this run has 2'):
    AtariVector('Pong', 2, RUN_SEED).restore(env.snapshot())


@pytest.mark.parametrize('actions', [[0, 6], [-1, 0]])
def test_an_action_that_the_game_does_not_have_is_refused(actions):
  env = AtariVector('Pong', 2, RUN_SEED)
  env.reset()
  with pytest.raises(ValueError, match='Pong has 6 actions, got'):
    env.step(np.array(actions))
  assert env.snapshot()['actions'] == [[], []]


# -- names and arrays ----------------------------------------------------------


@pytest.mark.parametrize(
    'wrong, right',
    [
        ('pong', 'Pong'),
        ('Breakuot', 'Breakout'),
        ('Ms_Pacman', 'MsPacman'),
        ('UpnDown', 'UpNDown'),
        ('SpaceInvader', 'SpaceInvaders'),
    ],
)
def test_misspelled_games_are_refused_with_a_suggestion(wrong, right):
  message = f'no Atari game called {wrong!r}. Did you mean .*{right}'
  for call in (atari.check_game, atari.rom_name):
    with pytest.raises(ValueError, match=message):
      call(wrong)
  with pytest.raises(ValueError, match=message):
    AtariVector(wrong, 1, 0)


def test_no_suggestion_where_nothing_is_near():
  with pytest.raises(ValueError) as error:
    atari.check_game('qwxz')
  assert 'Did you mean' not in str(error.value)
  # Two players: the emulator would end the process.
  with pytest.raises(ValueError, match="called 'Warlords'"):
    atari.check_game('Warlords')


def test_every_game_has_its_rom():
  games = atari.available_games()
  assert len(games) > 100
  assert {atari.rom_name(g) for g in games} <= set(roms.get_all_rom_ids())
  assert atari.rom_name('MsPacman') == 'ms_pacman'
  assert atari.rom_name('UpNDown') == 'up_n_down'
  assert set(scores.REFERENCE_SCORES) <= set(games)


def test_returned_arrays_are_not_written_to_later():
  env = AtariVector(SHORT_GAME, 2, RUN_SEED)
  first = env.reset()
  kept_first = first.copy()
  steps, kept = [], []
  for actions in random_actions(env, 300):
    steps.append(env.step(actions))
    kept.append(type(steps[-1])(*(field.copy() for field in steps[-1])))
  assert any(step.terminal.any() for step in steps)
  np.testing.assert_array_equal(first, kept_first)
  assert_same_steps(steps, kept)


def test_types_and_shapes():
  env = AtariVector('Pong', 2, RUN_SEED)
  assert (env.num_envs, env.num_actions) == (2, 6)
  observation = env.reset()
  assert observation.shape == (2, 4, 84, 84)
  assert observation.dtype == np.uint8
  step = env.step([0, 1])
  assert step.observation.shape == observation.shape
  types = [field.dtype for field in step]
  assert types == [np.uint8, np.float32, np.bool_, np.bool_]
