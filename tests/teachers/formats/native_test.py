"""Teacher directories: written, found, read, and refused when damaged."""

import dataclasses
import json
import os

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from replay_columns import make_spec
from replay_columns import random_rows

from reincarnating_rl import networks
from reincarnating_rl import teachers
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.formats import native
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

NETWORK = {
    'num_actions': 6,
    'encoder': 'nature',
    'features': [4, 8, 8],
    'hidden_size': 16,
}


def _params(seed=0):
  network = networks.make_network(**NETWORK)
  states = np.zeros((1, 84, 84, 4), np.uint8)
  return network.init(jax.random.PRNGKey(seed), states)['params']


def _replay(num_rows=40):
  rng = np.random.default_rng(0)
  spec = frame_replay.ReplaySpec(num_rows, 2, 3)
  slots = num_rows // 2
  flags = np.zeros((slots, 2), np.uint8)
  flags[0] = frame_replay.FIRST
  flags[9, 0] = frame_replay.TERMINAL
  flags[10, 0] = frame_replay.FIRST
  rows = frame_replay.Rows(
      rng.integers(0, 256, (slots, 2, 84, 84), np.uint8),
      rng.integers(0, 6, (slots, 2)).astype(np.int32),
      rng.standard_normal((slots, 2)).astype(np.float32),
      flags,
  )
  return TeacherReplay(spec, frame_replay.from_rows(spec, rows).storage)


@pytest.fixture(name='directory')
def _directory(tmp_path):
  manifest = native.Manifest(
      'Pong', NETWORK, 3, {'7': 3.5, '9': 4.5}, {'7': 70, '9': 90}
  )
  path = str(tmp_path / 'teacher')
  native.write_checkpoint(path, manifest, 7, _params(7))
  native.write_checkpoint(path, manifest, 9, _params(9), replay=_replay())
  return path


def test_newest_checkpoint_is_the_default(directory):
  teacher = teachers.load(directory)
  assert teacher.checkpoint_number == 9
  assert teacher.game == 'Pong'
  assert teacher.score == 4.5
  assert teacher.training_steps == 90
  assert teacher.num_actions == 6


def test_q_values_are_those_of_the_parameters_written(directory):
  states = np.random.default_rng(1).integers(0, 256, (5, 84, 84, 4), np.uint8)
  network = networks.make_network(**NETWORK)
  for number in (7, 9):
    expected = network.apply({'params': _params(number)}, states).q_values
    teacher = teachers.load(directory, number)
    np.testing.assert_allclose(teacher.q_values(states), expected, atol=1e-6)


def test_checkpoints_folder_is_the_same_teacher(directory):
  teacher = teachers.load(os.path.join(directory, 'checkpoints'), 7)
  assert teacher.checkpoint_number == 7


def test_half_precision_is_read_as_float32(directory, tmp_path):
  del directory
  path = str(tmp_path / 'half')
  manifest = native.Manifest('Pong', NETWORK)
  native.write_checkpoint(path, manifest, 1, _params(), dtype=np.float16)
  leaves = jax.tree.leaves(teachers.load(path).params)
  assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
  for got, wanted in zip(leaves, jax.tree.leaves(_params())):
    np.testing.assert_array_equal(
        got, np.asarray(wanted).astype(np.float16).astype(np.float32)
    )


def test_replay_comes_back_with_its_transitions(directory):
  replay = teachers.load(directory).replay
  original = _replay()
  indices = np.array([0, 5, 11, 20])
  for n in (1, 3):
    for got, wanted in zip(
        replay.transitions(indices, n), original.transitions(indices, n)
    ):
      np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(replay.valid(n), original.valid(n))


def test_a_replay_of_format_1_is_read(tmp_path):
  """Which called its column 'frames', and said only their shape."""
  folder, original = tmp_path / 'replay', _replay()
  spec = dataclasses.asdict(original.spec)
  for name in ('observation', 'action', 'extras'):
    spec.pop(name)
  columns = original.storage._asdict()
  columns.pop('extras')
  columns['frames'] = columns.pop('observation')
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(
        folder,
        ocp.args.Composite(
            columns=ocp.args.StandardSave(columns),
            spec=ocp.args.JsonSave(spec | {'frame_shape': (84, 84)}),
        ),
    )
  replay = native._read_replay(str(folder))
  assert replay.spec == original.spec
  jax.tree.map(np.testing.assert_array_equal, replay.storage, original.storage)


def test_a_replay_of_vectors_comes_back(tmp_path):
  spec = make_spec('vectors', 20, 2, 3)
  storage = frame_replay.from_rows(spec, random_rows(spec, 0, 20)).storage
  path = str(tmp_path / 'teacher')
  native.write_checkpoint(
      path,
      native.Manifest('Pong', NETWORK),
      1,
      _params(),
      replay=TeacherReplay(spec, storage),
  )
  replay = teachers.load(path).replay
  # Further columns are of the run that had them.
  assert replay.spec == dataclasses.replace(spec, extras=())
  storage = storage._replace(extras={})
  jax.tree.map(np.testing.assert_array_equal, replay.storage, storage)
  found = replay.transitions(np.arange(5), 3)
  np.testing.assert_array_equal(found.state, storage.observation[:5])
  np.testing.assert_array_equal(found.action, storage.action[:5])


def test_transitions_end_with_the_episode():
  replay = _replay()
  row = 2 * 8  # slot 8 of stream 0; the terminal follows slot 9's action
  transitions = replay.transitions(np.array([row]), 3)
  rewards = np.asarray(replay.storage.reward)
  expected = rewards[row] + 0.99 * rewards[row + 2]
  np.testing.assert_allclose(transitions.reward, [expected], rtol=1e-6)
  assert transitions.terminal.tolist() == [1]


def test_only_checkpoint_without_replay_has_none(directory):
  assert teachers.load(directory, 7).replay is None


def test_table_holds_the_q_values_at_each_row(directory):
  teacher = teachers.load(directory)
  spec, state = teacher.replay_with_q_values(3)
  rows = np.arange(spec.capacity)
  states = frame_replay.states(spec, state.storage, rows)
  np.testing.assert_allclose(
      state.storage.extras['q_teacher'], teacher.q_values(states), atol=1e-5
  )


@pytest.mark.parametrize(
    'path, number, words',
    [
        ('/nowhere/at/all', None, 'does not exist'),
        ('bundled:NoSuchGame', None, 'No teacher is bundled'),
    ],
)
def test_missing_teachers_are_named(path, number, words):
  with pytest.raises(teachers.TeacherError, match=words):
    teachers.load(path, number)


def test_empty_directory(tmp_path):
  with pytest.raises(teachers.TeacherError, match='is empty'):
    teachers.load(str(tmp_path))


def test_directory_without_teacher(tmp_path):
  (tmp_path / 'notes.txt').write_text('hello')
  with pytest.raises(teachers.TeacherError, match='holds no teacher'):
    teachers.load(str(tmp_path))


def test_absent_checkpoint_lists_those_that_are_there(directory):
  with pytest.raises(teachers.TeacherError, match=r'no checkpoint 8; .* 7, 9'):
    teachers.load(directory, 8)


def test_truncated_parameters(directory):
  file = os.path.join(directory, 'checkpoints', 'params.9.msgpack')
  with open(file, 'rb') as f:
    content = f.read()
  with open(file, 'wb') as f:
    f.write(content[: len(content) // 2])
  with pytest.raises(teachers.TeacherError, match=r'params\.9\.msgpack'):
    teachers.load(directory)


def test_parameters_of_another_network(directory):
  path = os.path.join(directory, 'teacher.json')
  with open(path) as f:
    document = json.load(f)
  document['network']['num_actions'] = 4
  with open(path, 'w') as f:
    json.dump(document, f)
  with pytest.raises(teachers.TeacherError, match='does not hold the param'):
    teachers.load(directory)


@pytest.mark.parametrize('content', ['', '{', '[]', '{"format": "x"}'])
def test_damaged_manifest(directory, content):
  with open(os.path.join(directory, 'teacher.json'), 'w') as f:
    f.write(content)
  with pytest.raises(teachers.TeacherError, match=r'teacher\.json'):
    teachers.load(directory)


def test_superseded_checkpoints_are_removed(directory):
  native.keep_checkpoints(directory, {9})
  assert native.checkpoint_numbers(directory) == [9]
