"""Teachers of every format by one door, against what wrote them computed."""

import collections
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
from paths import TESTDATA
import pytest

from reincarnating_rl import teachers

LEGACY = ('dopamine_315_prelinen', 'dopamine_402_jax03', 'dopamine_406_small')


def expected(folder):
  return np.load(TESTDATA / folder / 'expected.npz')


@pytest.fixture(name='run')
def _run(tmp_path):
  """A copy of the newest format that may be spoilt."""
  return shutil.copytree(TESTDATA / 'dopamine_406_small', tmp_path / 'run')


@pytest.mark.parametrize('folder', LEGACY)
def test_old_pickles_with_their_replay(folder):
  data = expected(folder)
  teacher = teachers.load(str(TESTDATA / folder))
  assert teacher.checkpoint_number == data['current_iteration'] == 1
  assert teacher.training_steps == data['training_steps']
  assert (teacher.agent, teacher.num_actions) == ('dqn', 6)
  q_values = teacher.q_values(data['q_states'])
  np.testing.assert_allclose(q_values, data['q_online'], atol=1e-5)
  bundle_state = data['bundle_state'][None].astype(np.uint8)
  np.testing.assert_allclose(
      teacher.q_values(bundle_state)[0],
      data['bundle_state_q_online'],
      atol=1e-5,
  )
  for n in (1, 3):
    transitions = teacher.replay.transitions(data['replay_indices'], n)
    for name, values in transitions._asdict().items():
      np.testing.assert_allclose(values, data[f'n{n}_{name}'], atol=1e-6)
    assert not (teacher.replay.valid(n) & ~data[f'n{n}_valid_recomputed']).any()


@pytest.mark.parametrize('folder', LEGACY)
def test_the_target_network_too(folder):
  data = expected(folder)
  teacher = teachers.load(str(TESTDATA / folder), read_replay=False)
  q_values = teacher.network.apply(
      {'params': teacher.target_params}, data['q_states']
  ).q_values
  np.testing.assert_allclose(q_values, data['q_target'], atol=1e-5)


def test_optimizer_moments_have_the_shape_of_the_parameters():
  import jax

  teacher = teachers.load(str(TESTDATA / 'dopamine_406_small'))
  moments = teacher.optimizer
  assert (moments.kind, moments.count) == ('adam', 274)
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  assert shapes(moments.mu) == shapes(moments.nu) == shapes(teacher.params)
  assert all((leaf >= 0).all() for leaf in jax.tree.leaves(moments.nu))
  before = teachers.load(str(TESTDATA / 'dopamine_315_prelinen'))
  assert before.optimizer is None


def test_true_nature_shapes(tmp_path):
  archive = TESTDATA / 'dopamine_406_nature_shapes' / 'quant.tar.xz'
  with tarfile.open(archive) as tar:
    tar.extractall(tmp_path, filter='data')
  data = np.load(tmp_path / 'quant' / 'expected.npz')
  teacher = teachers.load(str(tmp_path / 'quant'), read_replay=False)
  assert teacher.params['hidden']['dense']['kernel'].shape == (7744, 512)
  np.testing.assert_allclose(
      teacher.q_values(data['q_states']), data['q_online'], atol=1e-5
  )


@pytest.mark.parametrize('prefix', ['tf_ckpt', 'ckpt'])
def test_tensorflow_checkpoints(prefix):
  data = expected('tf1_small')
  teacher = teachers.load(str(TESTDATA / 'tf1_small'), None, prefix)
  assert (teacher.checkpoint_number, teacher.format) == (3, 'TensorFlow')
  np.testing.assert_allclose(
      teacher.q_values(data['q_states']), data['q_online'], atol=1e-5
  )
  q_target = teacher.network.apply(
      {'params': teacher.target_params}, data['q_states']
  ).q_values
  np.testing.assert_allclose(q_target, data['q_target'], atol=1e-5)


def test_tensorflow_is_imported_for_tensorflow_checkpoints_only():
  program = (
      'import sys\n'
      'from reincarnating_rl import teachers\n'
      f'teachers.load({str(TESTDATA / "dopamine_406_small")!r})\n'
      'print([n for n in ("tensorflow", "dopamine", "gin") '
      'if n in sys.modules])\n'
  )
  result = subprocess.run(
      [sys.executable, '-c', program],
      capture_output=True,
      text=True,
      check=True,
  )
  assert result.stdout.strip().splitlines()[-1] == '[]'


# -- where things lie ----------------------------------------------------------


def test_an_older_checkpoint_and_the_checkpoints_folder(run):
  first = teachers.load(str(run / 'checkpoints'), 0)
  second = teachers.load(str(run))
  assert (first.checkpoint_number, second.checkpoint_number) == (0, 1)
  assert first.training_steps < second.training_steps
  assert first.score == -21.0 and second.score == -5.0


def test_checkpoints_without_a_folder_of_their_own(run):
  folder = run / 'checkpoints'
  teacher = teachers.load(str(shutil.move(folder, run / 'files')))
  assert teacher.checkpoint_number == 1 and teacher.replay is not None


def test_replay_logs_beside_the_checkpoints(run):
  """Checkpoint 7 pairs with replay file (7 + 1) // 4 = 2."""
  checkpoints, logs = run / 'checkpoints', run / 'replay_logs'
  logs.mkdir()
  for file in list(checkpoints.glob('*.1.gz')):
    file.rename(logs / file.name.replace('.1.gz', '.2.gz'))
  for file in list(checkpoints.glob('*.0.gz')):
    file.unlink()
  for name in ('ckpt', 'sentinel_checkpoint_complete'):
    (checkpoints / f'{name}.1').rename(checkpoints / f'{name}.7')
  data = expected('dopamine_406_small')
  teacher = teachers.load(str(run), 7)
  transitions = teacher.replay.transitions(data['replay_indices'], 3)
  np.testing.assert_array_equal(transitions.state, data['n3_state'])


def test_without_replay(run):
  for file in run.glob('checkpoints/*.gz'):
    file.unlink()
  assert teachers.load(str(run)).replay is None


def test_frames_are_not_read_before_they_are_needed(run):
  observations = run / 'checkpoints' / '$store$_observation_ckpt.1.gz'
  observations.write_bytes(observations.read_bytes()[:-2000])
  teacher = teachers.load(str(run), read_replay=False)
  with pytest.raises(teachers.TeacherError, match='observation') as e:
    teacher.replay.read()
  assert str(observations) in str(e.value)
  with pytest.raises(teachers.TeacherError, match='observation'):
    teachers.load(str(run))


def test_the_newest_whole_checkpoint_is_the_default(run, caplog):
  (run / 'checkpoints' / 'sentinel_checkpoint_complete.1').unlink()
  assert teachers.load(str(run)).checkpoint_number == 0
  with caplog.at_level('WARNING'):
    assert teachers.load(str(run), 1).checkpoint_number == 1
  assert 'may not be whole' in caplog.text


def test_what_was_loaded_is_said(run, caplog):
  with caplog.at_level('INFO', logger='absl'):
    teachers.load(str(run))
  assert 'dqn with 6 actions, checkpoint 1 (Dopamine pickle' in caplog.text
  assert '1293 agent steps' in caplog.text and '1000 rows' in caplog.text


# -- what goes wrong -----------------------------------------------------------


@pytest.mark.parametrize(
    'number, prefix, agent, words',
    [
        (5, 'ckpt', None, 'no checkpoint 5; there are 0, 1'),
        (None, 'other', None, r'nor checkpoints/other\.<N> or tf_ckpt'),
        (None, 'ckpt', 'rainbow', '6 outputs are no Q-values'),
        (None, 'ckpt', 'iqn', 'not of iqn'),
    ],
)
def test_what_is_not_there(run, number, prefix, agent, words):
  with pytest.raises(teachers.TeacherError, match=words):
    teachers.load(str(run), number, prefix, agent=agent)


def test_a_tensorflow_index_without_its_data(tmp_path):
  run = shutil.copytree(TESTDATA / 'tf1_small', tmp_path / 'run')
  os.remove(run / 'checkpoints' / 'tf_ckpt-3.data-00000-of-00001')
  with pytest.raises(teachers.TeacherError, match='tf_ckpt-3 is damaged'):
    teachers.load(str(run))


def test_a_pickle_that_is_no_checkpoint(run):
  import pickle

  file = run / 'checkpoints' / 'ckpt.1'
  for content, words in (([1], 'holds a list'), ({'a': 1}, 'no online_params')):
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(teachers.TeacherError, match=words):
      teachers.load(str(run))


def test_mutated_checkpoints_load_or_say_why(run):
  """Through the whole reader: never another error, never a bad network."""
  file = run / 'checkpoints' / 'ckpt.1'
  blob = file.read_bytes()
  rng = np.random.default_rng(1)
  outcomes = collections.Counter()
  for _ in range(200):
    mutated = bytearray(blob)
    for _ in range(rng.integers(1, 30)):
      mutated[rng.integers(len(blob))] ^= 1 << int(rng.integers(8))
    file.write_bytes(mutated)
    try:
      teacher = teachers.load(str(run), read_replay=False)
      assert teacher.num_actions == 6
      outcomes['loaded'] += 1
    except teachers.TeacherError as e:
      assert 'ckpt.1' in str(e) and '\n' not in str(e)
      outcomes['refused'] += 1
  assert min(outcomes['loaded'], outcomes['refused']) > 10
