"""Dopamine 4.1's replay, written by Dopamine itself and taken apart again."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import types
from typing import NamedTuple, Optional

from absl import logging
import cramjam
import msgpack
import numpy as np
import pytest

from reincarnating_rl.dopamine_bridge import compat
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import resets
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.teachers import TeacherError
from reincarnating_rl.teachers.formats import dopamine41_elements
from reincarnating_rl.teachers.formats import dopamine41_episodes
from reincarnating_rl.teachers.formats import dopamine41_replay
from reincarnating_rl.teachers.formats import npy_gz
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

compat.prepare_dopamine()
# pylint: disable=g-import-not-at-top,wrong-import-position
from dopamine.jax.replay_memory import accumulator  # noqa: E402
from dopamine.jax.replay_memory import elements  # noqa: E402
from dopamine.jax.replay_memory import replay_buffer  # noqa: E402
from dopamine.jax.replay_memory import samplers  # noqa: E402

from reincarnating_rl.agents.methods import Method
from reincarnating_rl.runners import run_plan

FRAME_SHAPE = (7, 6)
NUMBER = 3
GAMMA = 0.99
TERMINAL, LIMIT, RUNNING = 'terminal', 'limit', 'running'


class Episode(NamedTuple):
  """What really happened."""

  frames: np.ndarray  # [T + 1, H, W] uint8, no two alike
  actions: np.ndarray  # [T + 1]
  rewards: np.ndarray  # [T + 1]
  end: str

  def stack(self, time: int) -> np.ndarray:
    rows = [
        self.frames[t] if t >= 0 else 0 * self.frames[0]
        for t in range(time - 3, time + 1)
    ]
    return np.stack(rows, axis=-1)


def make_episodes(seed, ends, lengths, rewards=(-1.0, 0.0, 1.0)):
  rng = np.random.default_rng(seed)
  return [
      Episode(
          rng.integers(1, 256, (length,) + FRAME_SHAPE).astype(np.uint8),
          rng.integers(0, 6, length),
          rng.choice(rewards, length),
          end,
      )
      for end, length in zip(ends, lengths)
  ]


def save(folder, episodes, n=1, capacity=10_000, compress=True) -> None:
  """Dopamine adds the episodes' steps to its replay and saves it."""
  buffer = replay_buffer.ReplayBuffer(
      accumulator.TransitionAccumulator(4, n, GAMMA),
      samplers.UniformSamplingDistribution(0),
      batch_size=32,
      max_capacity=capacity,
      compress=compress,
  )
  for episode in episodes:
    last = len(episode.actions) - 1
    for t, frame in enumerate(episode.frames):
      ends = t == last and episode.end != RUNNING
      buffer.add(
          elements.TransitionElement(
              frame,
              int(episode.actions[t]),
              float(episode.rewards[t]),
              ends and episode.end == TERMINAL,
              ends,
          )
      )
  os.makedirs(folder, exist_ok=True)
  buffer.save(str(folder), NUMBER)


def open_saved(folder) -> Optional[TeacherReplay]:
  path = dopamine41_replay.find(str(folder), NUMBER)
  return dopamine41_replay.open_replay(path)


def check_truth(replay: TeacherReplay, episodes, n: int) -> set:
  """Checks all valid transitions; returns their (episode, time)."""
  where = {
      frame.tobytes(): (e, t)
      for e, episode in enumerate(episodes)
      for t, frame in enumerate(episode.frames)
  }
  rows = np.flatnonzero(replay.valid(n))
  # As many as ever are asked for: one program for all.
  transitions = replay.transitions(np.resize(rows, 300), n)
  seen = set()
  for state, action, reward, next_state, terminal in zip(
      *(column[: len(rows)] for column in transitions)
  ):
    e, t = where[np.ascontiguousarray(state[..., 3]).tobytes()]
    assert (e, t) not in seen
    seen.add((e, t))
    episode = episodes[e]
    np.testing.assert_array_equal(state, episode.stack(t))
    assert action == episode.actions[t]
    steps = range(t, min(t + n, len(episode.actions)))
    wanted = sum(GAMMA ** (s - t) * episode.rewards[s] for s in steps)
    np.testing.assert_allclose(reward, wanted, atol=2e-5)
    assert terminal == (len(steps) < n or steps[-1] == len(episode.actions) - 1)
    if terminal:
      assert episode.end == TERMINAL
    else:
      np.testing.assert_array_equal(next_state, episode.stack(t + n))
  return seen


def expected(episodes, n_stored: int, n: int) -> set:
  """(episode, time) of all transitions that can be known."""
  known = set()
  for e, episode in enumerate(episodes):
    last = len(episode.actions) - 1
    if n_stored > 1 and last < 2 * n_stored:
      continue  # Too few elements to take apart.
    for t in range(last):
      goes_on = t + n <= last
      if episode.end == TERMINAL and n_stored > 1:
        known.add((e, t))
      elif goes_on and t + max(n, n_stored) <= last:
        known.add((e, t))
      elif goes_on and episode.end == TERMINAL:
        known.add((e, t))
  return known


ENDS = [TERMINAL, LIMIT, LIMIT, TERMINAL, TERMINAL, RUNNING]
LENGTHS = [30, 25, 40, 13, 33, 21]


@pytest.mark.parametrize(
    'n_stored, compress', [(1, True), (2, True), (3, False), (5, True)]
)
def test_every_transition_happened(tmp_path, n_stored, compress):
  episodes = make_episodes(0, ENDS, LENGTHS)
  save(tmp_path, episodes, n_stored, compress=compress)
  replay = open_saved(tmp_path)
  assert replay.only_horizon is None
  assert replay.spec.update_horizon == n_stored
  for n in (1, 2, 3, 5, 10):
    seen = check_truth(replay, episodes, n)
    assert seen == expected(episodes, n_stored, n), n


@pytest.mark.parametrize('n_stored', [1, 3])
@pytest.mark.parametrize('capacity', [40, 60, 61, 63, 66])
def test_a_replay_that_begins_anywhere(tmp_path, n_stored, capacity):
  """Its first stacks reach back to steps that are gone."""
  episodes = make_episodes(1, ENDS, LENGTHS)
  save(tmp_path, episodes, n_stored, capacity)
  seen = check_truth(open_saved(tmp_path), episodes, 3)
  newest = {(e, t) for e, t in expected(episodes, n_stored, 3) if e >= 4}
  if capacity >= 60:  # The last two episodes are whole.
    assert newest <= seen
  assert capacity - 25 < len(seen) <= capacity + 4


@pytest.mark.parametrize('n_stored', [1, 2, 3])
def test_short_episodes_form_nothing_that_did_not_happen(tmp_path, n_stored):
  for seed in range(2):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 14, 40)
    ends = rng.choice([TERMINAL, LIMIT], 40)
    episodes = make_episodes(seed, list(ends), lengths)
    shutil.rmtree(tmp_path)
    save(tmp_path, episodes, n_stored, capacity=int(rng.integers(60, 300)))
    check_truth(open_saved(tmp_path), episodes, 3)


@pytest.mark.parametrize('n_stored', [2, 3, 10])
def test_other_rewards_keep_their_horizon(tmp_path, n_stored):
  episodes = make_episodes(2, ENDS, LENGTHS, (0.0, 2.5, -7.0, 0.125))
  save(tmp_path, episodes, n_stored)
  replay = open_saved(tmp_path)
  assert replay.only_horizon == n_stored
  seen = check_truth(replay, episodes, n_stored)
  assert seen == expected(episodes, n_stored, n_stored)
  for ask in (
      lambda: replay.valid(1),
      lambda: replay.transitions(np.array([5]), 1),
      lambda: replay.for_training(1),
  ):
    with pytest.raises(TeacherError, match=f'set update_horizon to {n_stored}'):
      ask()
  spec, _ = replay.for_training(n_stored, 0.99)
  assert spec.gamma == 0.99
  with pytest.raises(TeacherError, match='discounts by 0.9: set gamma to 0.99'):
    replay.for_training(n_stored, 0.9)


@pytest.mark.parametrize(
    'changes, member, words',
    [
        ({'gamma': 0.9}, {}, 'set gamma to 0.99'),
        ({}, {'gamma': 0.99}, 'the population changes gamma'),
        ({'resets': resets.preset('bbf')}, {}, 'the annealing after resets'),
        ({}, {}, None),
        # Nobody reads it.
        ({'gamma': 0.9, 'teacher_steps': 100}, {}, None),
        ({'gamma': 0.9, 'num_pretraining_iterations': 0}, {}, None),
    ],
)
def test_another_discount_is_refused_before_it_is_read(
    tmp_path, changes, member, words
):
  episodes = make_episodes(2, ENDS, LENGTHS, (0.0, 2.5, -7.0, 0.125))
  save(tmp_path, episodes, 3)
  teacher = types.SimpleNamespace(replay=open_saved(tmp_path))
  config = RunConfig(**({'num_pretraining_iterations': 1} | changes))
  check = functools.partial(
      run_plan.check_discount, config, Method(Objective()), teacher, member
  )
  if words is None:
    check()
  else:
    with pytest.raises(ValueError, match=words):
      check()


def test_returns_of_one_step_are_rewards_of_any_size(tmp_path):
  episodes = make_episodes(2, ENDS, LENGTHS, (0.0, 2.5, -7.0, 0.125))
  save(tmp_path, episodes, 1)
  for n in (1, 3):
    seen = check_truth(open_saved(tmp_path), episodes, n)
    assert seen == expected(episodes, 1, n)


def test_still_screens_do_not_hide_the_horizon(tmp_path):
  (episode,) = make_episodes(3, [TERMINAL], [300])
  frames = episode.frames.copy()
  frames[:150] = frames[0]
  frames[150:250:2] = frames[150]  # A blinking one.
  frames[151:250:2] = frames[151]
  save(tmp_path, [episode._replace(frames=frames)], 3)
  assert open_saved(tmp_path).spec.update_horizon == 3


def test_training_draws_valid_rows_only(tmp_path):
  episodes = make_episodes(4, ENDS, LENGTHS)
  save(tmp_path, episodes, 3, capacity=90)
  replay = open_saved(tmp_path)
  spec, state = replay.for_training(3)
  leaves = np.asarray(state.priorities.tree.leaves)[: spec.capacity]
  np.testing.assert_array_equal(leaves > 0, replay.valid(3))


def test_blocks_of_frames_are_joined(tmp_path, monkeypatch):
  episodes = make_episodes(5, ENDS, LENGTHS)
  save(tmp_path, episodes, 3)
  whole = open_saved(tmp_path).storage
  monkeypatch.setattr(dopamine41_episodes, '_BLOCK_FRAMES', 32)
  for got, wanted in zip(open_saved(tmp_path).storage[:4], whole):
    np.testing.assert_array_equal(got, wanted)


def test_elements_that_are_missing_part_the_steps(tmp_path):
  """A file that somebody thinned out."""
  episodes = make_episodes(6, [TERMINAL, RUNNING], [50, 40])
  save(tmp_path, episodes, 3)
  content = load_map(tmp_path)
  memory = content['memory']
  for i in (10, 33, 34):
    del memory['keys'][i], memory['values'][i]
  save_map(tmp_path, content)
  seen = check_truth(open_saved(tmp_path), episodes, 3)
  assert 55 < len(seen) < 84


def test_an_element_that_leads_elsewhere_is_not_believed(tmp_path):
  episodes = make_episodes(6, [LIMIT, RUNNING], [50, 40])
  save(tmp_path, episodes, 1, compress=False)
  content = load_map(tmp_path)
  values = content['memory']['values']
  for i in (20, 48):  # In the middle of an episode, and at its end.
    values[i][3] = values[70][3]
  save_map(tmp_path, content)
  seen = check_truth(open_saved(tmp_path), episodes, 1)
  # A piece whose end is wrong is left out.
  assert seen == {(1, t) for t in range(39)}


def test_nothing_that_follows_is_no_replay(tmp_path, monkeypatch):
  warnings = record_warnings(monkeypatch)
  save(tmp_path, make_episodes(0, [TERMINAL] * 9, [2] * 9), 3)
  assert open_saved(tmp_path) is None
  assert 'do not lead to one another' in warnings[-1]
  save(tmp_path / 'empty', [], 3)
  assert open_saved(tmp_path / 'empty') is None


def test_the_agent_itself(tmp_path, monkeypatch):
  """JaxDQNAgent plays, and saves its replay as its runner would."""
  from dopamine.jax.agents.dqn import dqn_agent
  import gin

  rng = np.random.default_rng(0)
  monkeypatch.setattr(  # Without the network, whose programs take seconds.
      dqn_agent,
      'select_action',
      lambda net, params, state, key, *args: (key, rng.integers(4)),
  )
  with gin.unlock_config():
    gin.bind_parameter('ReplayBuffer.max_capacity', 1000)
    gin.bind_parameter('ReplayBuffer.batch_size', 32)
  agent = dqn_agent.JaxDQNAgent(
      num_actions=4,
      update_horizon=2,
      min_replay_history=10**6,
      seed=0,
  )
  gin.clear_config()
  episodes = []
  for end, length in ((TERMINAL, 12), (LIMIT, 15), (RUNNING, 9)):
    frames = rng.integers(1, 256, (length, 84, 84)).astype(np.uint8)
    rewards = rng.choice([-1.0, 0.0, 1.0], length)
    actions = [int(agent.begin_episode(frames[0][..., None]))]
    for t in range(1, length):
      actions.append(int(agent.step(rewards[t - 1], frames[t][..., None])))
    if end == RUNNING:  # What follows its last action is still to come.
      frames, actions, rewards = frames[:-1], actions[:-1], rewards[:-1]
    else:
      agent.end_episode(rewards[-1], end == TERMINAL)
    episodes.append(Episode(frames, np.array(actions), rewards, end))
  os.makedirs(tmp_path / 'checkpoints')
  agent.bundle_and_checkpoint(str(tmp_path / 'checkpoints'), NUMBER)
  replay = open_saved(tmp_path)
  assert replay.spec.observation.shape == (84, 84)
  for n in (1, 2, 3):
    assert check_truth(replay, episodes, n) == expected(episodes, 2, n)


# -- finding -------------------------------------------------------------------


def test_find(tmp_path, monkeypatch):
  warnings = record_warnings(monkeypatch)
  find = lambda number: dopamine41_replay.find(str(tmp_path), number)
  assert find(3) is None and not warnings
  for number in (2, 3):
    folder = tmp_path / 'checkpoints' / str(number) / 'replay'
    os.makedirs(folder)
    (folder / 'checkpoint.msgpack').touch()
  assert find(3) == str(folder / 'checkpoint.msgpack')
  assert dopamine41_replay.find(str(tmp_path / 'checkpoints'), 3) == find(3)
  assert find(9) is None
  assert 'holds those of 2, 3 only' in warnings[-1] and len(warnings) == 1


# -- damage --------------------------------------------------------------------


def test_an_empty_file_is_damaged(tmp_path):
  save(tmp_path, [], 1)
  replay_file(tmp_path).write_bytes(b'')
  with pytest.raises(TeacherError, match='it ends too early'):
    open_saved(tmp_path)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda m: m.pop('memory'), 'has no memory'),
        (lambda m: m['memory'].pop('values'), 'has no values'),
        (lambda m: m['memory']['keys'].pop(), 'not as many keys'),
        (lambda m: m['memory']['values'][4].pop(), 'elements are not those'),
        (lambda m: m['memory'].update(values=3), 'no msgpack of a replay'),
        (lambda m: set_leaf(m, 1, 256), 'action 256'),
        (lambda m: set_leaf(m, 1, -1), 'action -1'),
        (lambda m: set_leaf(m, 1, 1.5), 'a whole number belongs'),
        (lambda m: set_leaf(m, 1, 'left'), 'a number belongs'),
        (lambda m: set_leaf(m, 2, float('nan')), 'rewards are finite'),
        (lambda m: set_leaf(m, 2, []), 'a number belongs'),
        (lambda m: set_leaf(m, 0, b'abc'), 'a state that is no array'),
        (lambda m: set_state(m, shape=[7, 6, 5]), 'states of shape'),
        (lambda m: set_state(m, shape=[10**9] * 3), 'states of shape'),
        (lambda m: set_state(m, data=b'abc'), 'another size'),
        (lambda m: set_state(m, dtype="'<f8'"), 'not of bytes'),
        (lambda m: set_state(m, order='F'), 'not of bytes'),
        (lambda m: set_leaf(m, 0, packed(10**9)), 'of 1000000000 bytes'),
        (lambda m: set_leaf(m, 0, packed(168)), 'does not unpack'),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, words):
  save(tmp_path, make_episodes(0, [TERMINAL], [30]), 1, compress=False)
  content = load_map(tmp_path)
  change(content)
  save_map(tmp_path, content)
  with pytest.raises(TeacherError, match=words) as error:
    open_saved(tmp_path)
  assert str(replay_file(tmp_path)) in str(error.value)


def test_damaged_files_are_refused_or_read(tmp_path):
  """Flipped bits and cut ends: an error in one sentence, or some replay."""
  save(tmp_path, make_episodes(0, [TERMINAL, LIMIT], [20, 20]), 3)
  path = replay_file(tmp_path)
  content = path.read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(120):
    damaged = bytearray(content)
    at = int(rng.integers(len(content)))
    if rng.random() < 0.7:
      damaged[at] ^= 1 << int(rng.integers(8))
    else:
      del damaged[at : at + int(rng.choice([1, 5, len(content)]))]
    path.write_bytes(damaged)
    try:
      open_saved(tmp_path)
    except TeacherError as error:
      refused += 1
      assert str(path) in str(error) and '\n' not in str(error)
  assert refused > 30


def test_states_of_all_kinds_are_decompressed():
  rng = np.random.default_rng(0)
  kinds = (
      lambda n: rng.bytes(n),
      lambda n: bytes(n),
      lambda n: rng.integers(0, 2, n, np.uint8).tobytes(),
      lambda n: (rng.bytes(rng.integers(1, 90)) * n)[:n],
      lambda n: np.sort(rng.integers(0, 256, n, np.uint8)).tobytes(),
  )
  for size in (0, 1, 59, 60, 61, 257, 7056, 70_000):
    for kind in kinds:
      wanted = kind(size)
      packed_ = bytes(cramjam.snappy.compress_raw(wanted))
      assert dopamine41_elements.uncompressed(packed_, size) == wanted


def test_a_declared_size_is_refused_before_memory_is_taken():
  block = bytes(cramjam.snappy.compress_raw(b'abc'))
  huge = b'\xff\xff\xff\xff\x0f' + block[1:]
  with pytest.raises(npy_gz.Damage, match='4294967295 bytes instead of 3'):
    dopamine41_elements.uncompressed(huge, 3)
  for damaged in (b'', b'\xff' * 6, block[:2]):
    with pytest.raises(npy_gz.Damage, match='does not unpack|0 bytes'):
      dopamine41_elements.uncompressed(damaged, 3)


@pytest.mark.parametrize(
    ('block', 'content'),
    [
        ('0308616263', b'abc'),  # one literal
        # A literal, and copies with one and two bytes of offset that overlap.
        ('0b08616263' + '1103', b'abcabcabcab'[:11]),
        ('0908616263' + '16' + '0300', b'abcabcabc'),
    ],
)
def test_blocks_worked_out_by_hand(block, content):
  """The format: github.com/google/snappy, format_description.txt."""
  found = dopamine41_elements.uncompressed(bytes.fromhex(block), len(content))
  assert found == content


def test_flags_of_a_pickle_are_never_looked_at(tmp_path):
  save(tmp_path, make_episodes(0, [TERMINAL], [30]), 1)
  content = load_map(tmp_path)
  content['memory']['treedef'] = b'cos\nsystem\n(S"false"\ntR.'
  save_map(tmp_path, content)
  assert len(open_saved(tmp_path)) > 25


# -- helpers -------------------------------------------------------------------


def replay_file(folder) -> pathlib.Path:
  return folder / str(NUMBER) / 'replay' / 'checkpoint.msgpack'


def load_map(folder) -> dict:
  content = replay_file(folder).read_bytes()
  return msgpack.unpackb(content, strict_map_key=False)


def save_map(folder, content: dict) -> None:
  replay_file(folder).write_bytes(msgpack.packb(content))


def set_leaf(content: dict, leaf: int, value) -> None:
  content['memory']['values'][5][leaf] = value


def set_state(content: dict, **changes) -> None:
  content['memory']['values'][5][0].update(changes)


def packed(size: int) -> dict:
  """A compressed state that says to be of some size, and is not."""
  preamble = b''
  while size >= 0x80:
    preamble += bytes([size & 0x7F | 0x80])
    size >>= 7
  content = preamble + bytes([size]) + b'\x08abc'
  shape = np.array([*FRAME_SHAPE, 4], '<i4').tobytes()
  return {
      'shape': [],
      'data': content + shape + b'|u1',
      'dtype': (
          f"[('data', '|u1', ({len(content)},)), ('shape', '<i4', (3,)), "
          "('dtype', '|S3')]"
      ),
  }


def record_warnings(monkeypatch) -> list[str]:
  said: list[str] = []
  monkeypatch.setattr(
      logging, 'warning', lambda text, *args: said.append(text % args)
  )
  return said
