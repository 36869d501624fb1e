"""A run of the package is a teacher: its student, and the replay it left."""

from __future__ import annotations

import json
import shutil

import google_crc32c
import jax
import numpy as np
import pytest
import small_runs

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import networks
from reincarnating_rl import teachers
from reincarnating_rl.base import files
from reincarnating_rl.loop.saving import state as state_lib
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers import inspection
from reincarnating_rl.teachers.formats import own_run
from reincarnating_rl.teachers.formats import own_run_layout

SIZES = {'features': (4, 4, 4), 'hidden_size': 16}
NETWORKS = {
    'dqn': networks.make_network(4, **SIZES),
    'rainbow': networks.make_network(
        4, num_atoms=5, distributional=True, dueling=True, noisy=True, **SIZES
    ),
    'iqn': networks.make_iqn_network(
        4, 'nature', num_quantiles=3, embedding_dim=4, **SIZES
    ),
}
LOSSES = {'dqn': 'huber', 'rainbow': 'categorical', 'iqn': 'quantile'}


@pytest.fixture(name='finished', scope='module')
def _finished(tmp_path_factory):
  """The directory of a run of two phases, and the run."""
  run = small_runs.make_run()
  return small_runs.save_all(tmp_path_factory.mktemp('runs') / 'run', run), run


@pytest.fixture(name='copy')
def _copy(finished, tmp_path):
  """A copy of that directory, that may be spoilt."""
  return shutil.copytree(finished[0], tmp_path / 'run')


def assert_same(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


# -- the student ---------------------------------------------------------------


@pytest.mark.parametrize('kind', NETWORKS)
def test_it_values_states_as_the_student_does(tmp_path, kind):
  run = small_runs.make_run(
      NETWORKS[kind],
      learner_lib.adam_direction(weight_decay=0.1),
      learner_lib.Objective(LOSSES[kind]),
      num_iterations=1,
      min_replay_history=50,  # it does not learn
  )
  teacher = small_runs.load(small_runs.save_all(tmp_path, run))
  assert teacher.agent == kind
  assert teacher.network == NETWORKS[kind]
  states = np.random.default_rng(0).integers(
      0, 256, (5,) + small_runs.FRAME_SHAPE + (4,), np.uint8
  )
  expected = run.trainer.policy.q_values(states)
  assert np.ptp(expected) > 0
  np.testing.assert_array_equal(teacher.q_values(states), expected)
  state = run.trainer.learner_state
  assert_same(teacher.params, jax.device_get(state.online_params))
  assert_same(teacher.target_params, jax.device_get(state.target_params))
  assert teacher.acting_params is teacher.params
  assert teacher.optimizer.kind == 'adam'


def test_moments_of_adam(finished):
  directory, run = finished
  teacher = small_runs.load(directory)
  state = jax.device_get(run.trainer.learner_state)
  assert_same(teacher.params, state.online_params)
  assert_same(teacher.target_params, state.target_params)
  adam, moments = state.opt_state, teacher.optimizer
  assert (moments.kind, moments.count) == ('adam', int(adam.count))
  assert moments.count > 0
  assert_same((moments.mu, moments.nu), (adam.mu, adam.nu))


def test_moments_of_rmsprop(tmp_path):
  run = small_runs.make_run(
      optimizer=learner_lib.rmsprop_direction(), num_iterations=1
  )
  moments = small_runs.load(small_runs.save_all(tmp_path, run)).optimizer
  assert (moments.kind, moments.count) == ('rmsprop', 0)
  state = jax.device_get(run.trainer.learner_state.opt_state)
  assert_same((moments.mu, moments.nu), (state.mu, state.nu))


def test_moments_of_another_optimizer_are_left_out(tmp_path):
  direction = learner_lib.rmsprop_direction(centered=False)
  run = small_runs.make_run(optimizer=direction, num_iterations=1)
  assert small_runs.load(small_runs.save_all(tmp_path, run)).optimizer is None


def test_where_the_target_acts(tmp_path):
  run = small_runs.make_run(act_with_target=True, num_iterations=1)
  teacher = small_runs.load(small_runs.save_all(tmp_path, run))
  assert_same(teacher.acting_params, jax.device_get(run.trainer.policy.params))
  assert_same(
      teacher.params, jax.device_get(run.trainer.learner_state.online_params)
  )


def test_what_is_known_of_it(finished):
  directory, run = finished
  teacher = small_runs.load(directory)
  assert (teacher.path, teacher.game) == (directory, 'probe')
  assert (teacher.checkpoint_number, teacher.format) == (
      2,
      'reincarnating_rl run',
  )
  assert teacher.score == run.records[-1].student_score
  assert teacher.training_steps == teacher.agent_steps == 80
  assert teacher.sticky_actions == 0.25
  assert '80 agent steps' in teacher.describe()
  found = inspection.file_facts(directory, 'ckpt')
  assert found.checkpoint_numbers == [1, 2]
  assert found.complete_checkpoint_numbers == [1, 2]
  assert found.versions == {}


def test_pretraining_steps_are_no_agent_steps(finished, tmp_path):
  """Of a student that had a teacher: such a run."""
  teacher = small_runs.load(finished[0])
  run = small_runs.make_run(
      teacher=small_runs.as_teacher(teacher), num_pretraining_iterations=1
  )
  student = small_runs.load(small_runs.save_all(tmp_path, run))
  assert student.agent_steps == student.known_agent_steps == 80
  assert student.training_steps == 80 + 12


def test_the_checkpoints_folder_and_versions(copy):
  (copy / 'summary.json').write_text('{"versions": {"jax": "0.1"}}')
  assert small_runs.load(copy / 'checkpoints').checkpoint_number == 2
  assert inspection.file_facts(str(copy), 'ckpt').versions == {'jax': '0.1'}
  for text in ('[]', '{', '{"versions": []}'):
    (copy / 'summary.json').write_text(text)
    assert inspection.file_facts(str(copy), 'ckpt').versions == {}


# -- which checkpoint ----------------------------------------------------------


def spoil(directory, number, file='document.json'):
  path = directory / 'checkpoints' / f'{number:08d}' / file
  path.write_text('{}')
  return path


def rewrite(directory, number, change):
  """Changes the document of a checkpoint, and its checksums with it."""
  folder = directory / 'checkpoints' / f'{number:08d}'
  document = json.loads((folder / 'document.json').read_text())
  change(document)
  (folder / 'document.json').write_text(json.dumps(document))
  path = folder / 'manifest.json'
  content = json.loads(path.read_text())['content']
  listing = files.listing(str(folder))
  content['files'] = {k: v for k, v in listing.items() if k != 'manifest.json'}
  text = json.dumps(content, sort_keys=True).encode()
  checksum = google_crc32c.Checksum(text).hexdigest().decode()
  path.write_text(json.dumps({'checksum': checksum, 'content': content}))


def test_a_number_chooses_the_checkpoint(finished):
  directory, run = finished
  first, second = small_runs.load(directory, 1), small_runs.load(directory, 2)
  assert (first.checkpoint_number, second.checkpoint_number) == (1, 2)
  assert first.agent_steps == 40
  assert first.score == run.records[0].student_score
  with pytest.raises(teachers.TeacherError, match='no checkpoint 7; .* 1, 2'):
    small_runs.load(directory, 7)


def test_the_one_before_a_damaged_one(copy, caplog):
  path = spoil(copy, 2)
  assert small_runs.load(copy).checkpoint_number == 1
  assert (
      str(path) in caplog.text and 'Going back to checkpoint 1' in caplog.text
  )
  with pytest.raises(teachers.TeacherError, match='Checkpoint 2 .* damaged'):
    small_runs.load(copy, 2)
  spoil(copy, 1, 'manifest.json')
  with pytest.raises(teachers.TeacherError, match='No checkpoint .* is whole'):
    small_runs.load(copy)
  assert inspection.file_facts(
      str(copy), 'ckpt'
  ).complete_checkpoint_numbers == [2]


# -- what is refused -----------------------------------------------------------


def refusal(directory, **options):
  """Why it cannot be loaded: one sentence."""
  with pytest.raises(teachers.TeacherError) as error:
    small_runs.load(directory, **options)
  sentence = str(error.value)
  assert '\n' not in sentence and sentence.endswith('.')
  return sentence


def test_a_directory_of_several_runs(finished, tmp_path):
  for seed in (10, 2):
    shutil.copytree(finished[0], tmp_path / f'run_{seed}')
  (tmp_path / 'run_3').mkdir()
  (tmp_path / 'summary.json').write_text('{}')
  sentence = refusal(tmp_path)
  assert 'name one of run_2, run_10' in sentence
  assert f'{tmp_path}/run_2' in sentence
  assert small_runs.load(tmp_path / 'run_10').checkpoint_number == 2


@pytest.mark.parametrize('file', ['summary.json', 'metrics.jsonl'])
def test_a_run_without_a_checkpoint(tmp_path, file):
  (tmp_path / 'checkpoints').mkdir()
  (tmp_path / file).write_text('{}')
  assert 'a run without a checkpoint' in refusal(tmp_path)


def test_a_run_of_long_ago(tmp_path):
  (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
  (tmp_path / 'summary.json').write_text('{}')
  assert 'another version of this package' in refusal(tmp_path)


def test_a_directory_of_something_else(tmp_path):
  (tmp_path / 'checkpoints' / '00000001').mkdir(parents=True)
  assert 'holds no teacher' in refusal(tmp_path)


def _set(key, value):
  return lambda document: document.update({key: value})


@pytest.mark.parametrize(
    'change, words',
    [
        (_set('schema', 1), 'its schema is 1, not 3'),
        (_set('network', None), 'an attribute that no file can hold'),
        (lambda d: d.pop('network'), 'did not record the network'),
        (
            _set('network', {'class': 'NoSuchNet'}),
            'no network called NoSuchNet',
        ),
        (_set('network', {'class': 'os:path'}), 'os:path is not of this'),
        (
            _set('network', {'class': 'QNetwork', 'encoder': 3, 'head': 'x'}),
            'cannot be built',
        ),
        (
            _set('network', {'class': 'probes:Linear', 'num_actions': 5}),
            'does not hold the parameters',
        ),
        (
            _set('network', {'class': 'probes:Linear', 'x': 5}),
            'Linear has chang',
        ),
    ],
)
def test_what_cannot_be_read(copy, change, words):
  rewrite(copy, 2, change)
  assert words in refusal(copy)


def test_a_module_is_imported_only_if_it_is_trusted(finished):
  with pytest.raises(teachers.TeacherError, match='probes:Linear is not of'):
    teachers.load(finished[0])


def test_another_kind_of_agent(finished):
  assert 'of the kind dqn, not iqn' in refusal(finished[0], agent='iqn')


def test_it_reads_what_the_loop_writes():
  assert own_run_layout.SCHEMA == state_lib.SCHEMA
  assert own_run.STACK_SIZE == frame_replay.ReplaySpec.stack_size
