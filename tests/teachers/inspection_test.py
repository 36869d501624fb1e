"""Numbers about teachers equal those that are counted by hand."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
from paths import TESTDATA
import pytest

from reincarnating_rl import networks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers import inspection
from reincarnating_rl.teachers.formats import native
from reincarnating_rl.teachers.formats import replay_logs
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

FIRST = frame_replay.FIRST
TERMINAL = frame_replay.TERMINAL
TRUNCATED = frame_replay.TRUNCATED
EXCLUDED = frame_replay.EXCLUDED


def _replay(flags, reward, action, head=0, num_rows=None, **options):
  """A ring of [S, E] columns, given oldest first."""
  slots, streams = flags.shape
  flat = lambda x, dtype: np.roll(x, head, axis=0).reshape(-1).astype(dtype)
  storage = frame_replay.Storage(
      np.zeros((slots * streams, 84, 84), np.uint8),
      flat(action, np.uint8),
      flat(reward, np.float32),
      flat(flags, np.uint8),
  )
  spec = frame_replay.ReplaySpec(slots * streams, streams)
  options |= {'head': head, 'num_rows': num_rows}
  return TeacherReplay(spec, storage, **options)


def _two_streams():
  """[12, 2]: two whole episodes, and parts of four.

  Stream 0: rest of an episode (2 steps), one of 4 steps to its terminal, one
  of 3 steps to a time limit, begin of another.
  Stream 1: first step and no end.
  """
  flags = np.zeros((12, 2), np.uint8)
  flags[2, 0] = FIRST
  flags[1, 0] = flags[5, 0] = TERMINAL
  flags[6, 0] = FIRST
  flags[8, 0] = TRUNCATED
  flags[9, 0] = FIRST
  flags[4, 1] = FIRST
  flags[3, 1] = TRUNCATED
  reward = np.zeros((12, 2), np.float32)
  reward[[1, 5, 5, 8], [0, 0, 1, 0]] = [-1.0, 1.0, 1.0, -1.0]
  reward[3, 0] = 1.0
  action = np.zeros((12, 2), int)
  action[:, 1] = 2
  action[0, 0] = 1
  return flags, reward, action


@pytest.mark.parametrize('head', [0, 5])
def test_steps_are_counted(head):
  found = inspection.step_facts(_replay(*_two_streams(), head=head), 3)
  usable = found.usable_rows_by_n_step
  # Without the last row of each stream, the two before a time limit, and those
  # whose stacks are cut: the first two and the first three.
  assert usable[1] == 24 - 2 - 2 - 5
  assert usable[3] < usable[1]
  assert dataclasses.replace(found, usable_rows_by_n_step={}) == (
      inspection.StepFacts(
          agent_steps=24,
          usable_rows_by_n_step={},
          terminals=2,
          time_limits=2,
          whole_episodes=2,
          episode_agent_steps_mean=3.5,
          episode_agent_steps_min=3,
          episode_agent_steps_max=4,
          episode_reward_mean=(2.0 - 1.0) / 2,
          reward_n_step=1,
          reward_mean=1.0 / 24,
          reward_nonzero_share=5 / 24,
          agent_steps_by_action=[11, 1, 12],
      )
  )


def test_the_ring_is_described_without_its_frames():
  flags, _, _ = _two_streams()
  spec = frame_replay.ReplaySpec(flags.size, 2)

  def read():
    raise AssertionError('frames were read')

  replay = TeacherReplay(spec, read, head=5)
  found = inspection.ring_facts(replay)
  assert found == inspection.RingFacts(
      rows=24,
      rows_written=24,
      head_row=10,
      environments=2,
      bytes_in_memory=spec.nbytes,
  )


def test_padding_separates_episodes_where_no_first_step_is_marked():
  flags = np.zeros((20, 1), np.uint8)
  flags[[0, 1, 2, 8, 9, 10], 0] = EXCLUDED
  flags[7] = TRUNCATED
  flags[15] = TERMINAL
  ones = np.ones((20, 1), np.float32)
  # Rows 3 to 7 and 11 to 15; what is before row 3 tells nothing in a full ring.
  not_full = inspection.whole_episodes(flags, ones, starts_at_head=False)
  assert not_full.lengths.tolist() == [5, 5]
  assert not_full.rewards.tolist() == [5.0, 5.0]
  full = inspection.whole_episodes(flags, ones, starts_at_head=True)
  assert full.lengths.tolist() == [5]


def test_a_ring_without_episodes():
  flags = np.zeros((20, 1), np.uint8)
  zeros = np.zeros((20, 1))
  found = inspection.step_facts(_replay(flags, zeros, zeros), 4)
  assert found.whole_episodes == 0
  assert found.episode_agent_steps_mean is None
  assert found.episode_reward_mean is None
  assert found.reward_mean == 0.0
  assert found.agent_steps_by_action == [20, 0, 0, 0]


def test_a_ring_of_padding():
  flags = np.full((20, 1), EXCLUDED, np.uint8)
  zeros = np.zeros((20, 1))
  found = inspection.step_facts(_replay(flags, zeros, zeros), 2)
  assert (found.agent_steps, found.whole_episodes) == (0, 0)
  assert found.reward_mean is None
  assert found.reward_nonzero_share is None
  assert found.agent_steps_by_action == [0, 0]


def test_returns_in_place_of_rewards_are_not_summed():
  found = inspection.step_facts(_replay(*_two_streams(), only_horizon=3), 3)
  assert list(found.usable_rows_by_n_step) == [3]
  assert found.reward_n_step == 3
  assert found.episode_reward_mean is None


def test_old_logs_have_the_ends_that_the_old_release_names():
  directory = TESTDATA / 'dopamine_406_small'
  expected = np.load(directory / 'expected.npz')
  replay = replay_logs.open_replay(replay_logs.find(str(directory), 1))
  found = inspection.step_facts(replay, 6)
  terminals = expected['terminal_indices']
  ends = set(expected['episode_end_indices'].tolist())
  assert found.terminals == len(terminals) == 1
  assert found.time_limits == len(ends - set(terminals.tolist())) == 2
  # An episode has 250 steps there; rows 49 to 51 and 796 to 798 are padding.
  assert found.whole_episodes == 2
  assert found.episode_agent_steps_mean == 250.0
  assert found.agent_steps == 1000 - 2 * 3 - 4
  assert inspection.ring_facts(replay).head_row == int(expected['cursor'])
  assert found.usable_rows_by_n_step == {
      n: int(replay.valid(n).sum()) for n in (1, 3)
  }


def _params(network):
  states = np.zeros((1, 84, 84, 4), np.uint8)
  return jax.eval_shape(network.init, jax.random.PRNGKey(0), states)['params']


def test_rainbow_network():
  network = networks.make_network(
      3,
      'impala',
      stack_sizes=(2, 4),
      num_blocks=1,
      hidden_size=8,
      num_atoms=51,
      distributional=True,
      dueling=True,
      noisy=True,
  )
  found = inspection.network_facts(network, _params(network))
  assert (found.encoder, found.hidden_size) == ('impala', 8)
  assert (found.num_actions, found.num_atoms) == (3, 51)
  assert found.support == (-10.0, 10.0)
  assert found.noisy and found.dueling
  shapes = found.parameter_shapes
  assert shapes['head/value/noisy/kernel_mu'] == (8, 51)
  parts = [name.split('/')[0] for name in shapes]
  assert list(dict.fromkeys(parts)) == ['encoder', 'hidden', 'head']


def test_small_network_has_as_many_parameters_as_its_layers():
  network = networks.make_network(6, features=(4, 8, 8), hidden_size=16)
  found = inspection.network_facts(network, _params(network))
  convs = (8 * 8 * 4 * 4 + 4) + (4 * 4 * 4 * 8 + 8) + (3 * 3 * 8 * 8 + 8)
  dense = (11 * 11 * 8 * 16 + 16) + (16 * 6 + 6)
  assert found.num_parameters == convs + dense
  assert found.support is None and found.num_atoms == 1


def test_implicit_quantile_network():
  network = networks.make_iqn_network(
      4, 'nature', embedding_dim=8, hidden_size=16, features=(4, 8, 8)
  )
  found = inspection.network_facts(network, _params(network))
  assert (found.encoder, found.hidden_size) == ('nature', 16)
  assert (found.num_actions, found.num_atoms) == (4, None)
  assert not found.noisy and not found.dueling


def test_checkpoints_with_and_without_the_mark_of_a_whole_one(tmp_path):
  folder = tmp_path / 'checkpoints'
  folder.mkdir()
  for name in ('ckpt.3', 'ckpt.12', 'sentinel_checkpoint_complete.3'):
    (folder / name).write_bytes(b'')
  found = inspection.file_facts(str(tmp_path), 'ckpt')
  assert found == inspection.FileFacts([3, 12], [3], {})


def _native_files(directory, provenance):
  """A teacher's manifest, and a checkpoint that is not opened."""
  (directory / 'checkpoints').mkdir()
  (directory / 'checkpoints' / 'params.3.msgpack').write_bytes(b'')
  document = {'format': native.FORMAT, 'version': native.FORMAT_VERSION}
  document |= {'game': 'Pong', 'network': {}, 'provenance': provenance}
  (directory / native.MANIFEST).write_text(json.dumps(document))


@pytest.mark.parametrize(
    'content, versions',
    [
        ('{"versions": {"jax": "0.10.2"}}', {'jax': '0.10.2'}),
        ('{"versions": 3}', {}),
        ('[]', {}),
        ('{', {}),
    ],
)
def test_versions_beside_the_manifest(tmp_path, content, versions):
  _native_files(tmp_path, {})
  (tmp_path / 'provenance.json').write_text(content)
  found = inspection.file_facts(str(tmp_path), 'ckpt')
  assert found == inspection.FileFacts([3], [3], versions)


def test_versions_in_the_manifest(tmp_path):
  _native_files(tmp_path, {'versions': {'jax': '0.11'}})
  assert inspection.file_facts(str(tmp_path), 'ckpt').versions == {
      'jax': '0.11'
  }
