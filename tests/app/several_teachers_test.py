"""Several teachers by the command line and from Python, in seconds."""

from __future__ import annotations

from absl.testing import flagsaver
import pytest
import small_teacher
import tiny_runs

import reincarnating_rl as rrl
from reincarnating_rl import train
from reincarnating_rl.app import api
from reincarnating_rl.app import experiment
from reincarnating_rl.base import errors
from reincarnating_rl.report.reading import loading
from reincarnating_rl.teachers import TeacherError


def _two(folder, game):
  """Two teachers of a game that think differently."""
  return [
      small_teacher.write(folder / str(seed), game, seed=seed, score=-18.0)
      for seed in (1, 2)
  ]


@pytest.fixture(name='pair', scope='module')
def _pair(tmp_path_factory):
  return _two(tmp_path_factory.mktemp('teachers') / 'Pong', 'Pong')


@pytest.fixture(name='of_probe', scope='module')
def _of_probe(tmp_path_factory):
  return _two(tmp_path_factory.mktemp('teachers'), tiny_runs.PROBE)


def _run(base_dir, teacher, more=None, agent='qdagger_dqn', **options):
  bindings = tiny_runs.COLLECTING | (more or {})
  return rrl.reincarnate(
      str(base_dir), teacher=teacher, agent=agent, bindings=bindings, **options
  )


def _wanted(teacher, more=None, **fields):
  bindings = api.binding_lines(tiny_runs.COLLECTING | (more or {}))
  fields = {'agent': 'qdagger_dqn'} | fields
  return experiment.Experiment(teacher=teacher, bindings=bindings, **fields)


# -- whole runs ----------------------------------------------------------------


def test_a_run_with_two_teachers(tmp_path, of_probe):
  weights = {'TeacherEnsemble.weights': (3, 1)}
  whole = _run(tmp_path / 'whole', of_probe, weights)
  phases = [e['phase'] for e in whole.summary['iterations']]
  assert phases == [
      'teacher_evaluation',
      'data_collection',
      'pretraining',
      'online',
      'online',
  ]
  # It goes on where it was, and ends as if it had never stopped.
  parts = tmp_path / 'parts'
  _run(parts, of_probe, weights | {'RunnerWithTeacher.stop_after': 1})
  again = _run(parts, of_probe, weights)
  assert again.summary['iterations'] == whole.summary['iterations']

  teacher = whole.summary['config']['teacher']
  assert teacher['path'] == ' and '.join(of_probe)
  assert teacher['checkpoint_number'] is None
  assert teacher['weights'] == [0.75, 0.25] and teacher['combine'] == 'mixture'
  assert teacher['temperature'] == pytest.approx(0.1)  # Of qdagger_dqn.gin.
  assert [t['path'] for t in teacher['teachers']] == of_probe
  assert [t['recorded_score'] for t in teacher['teachers']] == [-18.0, -18.0]
  assert teacher['replay_of'] is teacher['recorded_score'] is None
  assert 'TeacherEnsemble.weights = (3, 1)' in whole.summary['config']['gin']

  # What it was is not what others are.
  for other in ({}, {'TeacherEnsemble.combine': 'best'}):
    with pytest.raises(errors.UserError, match='teacher was'):
      _run(parts, of_probe, other)
  with pytest.raises(errors.UserError, match='teacher was'):
    _run(parts, of_probe[0])

  (read,) = loading.load([str(parts)]).runs
  assert read.teacher.identity == teacher['params_crc32c']
  assert read.teacher.place == (
      f'checkpoint 3 of {of_probe[0]} and checkpoint 3 of {of_probe[1]} '
      '(mixture, weights 0.75, 0.25)'
  )


# -- what is asked for ---------------------------------------------------------


def test_flags_and_fields_name_the_same_teachers():
  train.FLAGS.unparse_flags()
  with flagsaver.flagsaver():
    train.FLAGS(
        [
            'train',
            '--teacher_checkpoint_dir=a',
            '--teacher_checkpoint_dir=b',
            '--teacher_checkpoint_number=1',
            '--teacher_checkpoint_number=2',
        ]
    )
    assert train.experiment_of_flags().teachers == (('a', 1), ('b', 2))
    train.FLAGS.unparse_flags()
  named = lambda *args: experiment.Experiment(
      teacher=args[0], teacher_checkpoint_number=args[1]
  ).teachers
  assert named('a', None) == (('a', None),)
  assert named('a', 399) == (('a', 399),)
  assert named(['a', 'b'], None) == (('a', None), ('b', None))
  assert named(['a', 'b'], 7) == (('a', 7), ('b', 7))
  assert named(['a', 'a'], [1, None]) == (('a', 1), ('a', None))
  assert named(None, None) == named('', None) == named(['a', ''], None) == ()
  with pytest.raises(errors.UserError, match='given 2 times, .* 3 times: give'):
    named(['a', 'b', 'c'], [1, 2])


def test_the_plan_names_every_teacher(pair):
  plan = api.describe_plan(_wanted(pair))
  for path in pair:
    assert f'Teacher {path}: dqn with 6 actions, checkpoint 3' in plan
  assert (
      'Together: a mixture of 2 policies, weights 0.5, 0.5, 6 actions, no '
      'replay, temperature 0.1.'
  ) in plan
  best = {'TeacherEnsemble.combine': 'best'}
  plan = api.describe_plan(_wanted(pair, best))
  assert 'Together: the best of 2 teachers in each state, 6 actions' in plan
  assert 'temperature' not in plan
  assert 'Together' not in api.describe_plan(_wanted(pair[:1]))


def test_other_methods_mix_at_their_own_temperature(pair):
  plan = api.describe_plan(_wanted(pair, agent='jsrl_dqn'))
  assert 'temperature 1.' in plan


@pytest.mark.parametrize(
    'more, fields, message',
    [
        ({'TeacherEnsemble.combine': 'mean'}, {}, "combine is 'mean'; choose"),
        ({'TeacherEnsemble.weights': (1, 2, 3)}, {}, 'is 3 for 2 teachers'),
        ({'TeacherEnsemble.weights': (1, -2)}, {}, r'got \(1, -2\)'),
        ({}, {'agent': 'reloaded_dqn'}, 'but 2 teachers are named'),
        (
            {'RunnerWithTeacher.evaluate_teacher': False},
            {},
            'bind RunnerWithTeacher.teacher_score',
        ),
        (
            {'RunnerWithTeacher.teacher_steps': 0},
            {},
            'has no replay and RunnerWithTeacher.teacher_steps is 0',
        ),
        ({}, {'agent': 'dqn'}, 'leave out --teacher_checkpoint_dir'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, pair, more, fields, message):
  base_dir = tmp_path / 'run'
  with pytest.raises(errors.UserError, match=message) as error:
    api.carry_out(_wanted(pair, more, **fields), str(base_dir))
  assert '\n' not in str(error.value) and str(error.value).endswith('.')
  assert not base_dir.exists()


def test_weights_need_teachers(tmp_path, pair):
  with pytest.raises(errors.UserError, match='is 2 for 1 teachers'):
    _run(tmp_path / 'run', pair[0], {'TeacherEnsemble.weights': (1, 2)})


def test_teachers_of_two_games(tmp_path, pair):
  named = [pair[0], 'bundled:Boxing']
  with pytest.raises(
      errors.UserError, match='plays Pong, bundled:Boxing plays'
  ):
    _run(tmp_path / 'run', named)
  actions = small_teacher.write(tmp_path / 'four', num_actions=4)
  with pytest.raises(errors.UserError, match='number of actions, but .* has 4'):
    _run(tmp_path / 'run', [pair[0], actions])


def test_paths_of_two_games(monkeypatch, pair):
  """Where no manifest tells, the paths do."""
  from reincarnating_rl import teachers

  def load(path, *unused_args, **unused_kwargs):
    network = teachers.loading.load(pair[0], read_replay=False).network
    return teachers.LoadedTeacher(path, network, {}, 1)

  monkeypatch.setattr(teachers, 'load', load)
  with pytest.raises(
      errors.UserError, match='/x/Boxing/1 of Boxing, /x/Pong/1'
  ):
    api.describe_plan(_wanted(['/x/Boxing/1', '/x/Pong/1']))
  assert 'on Pong' in api.describe_plan(_wanted(['/x/y/1', '/x/Pong/1']))


def test_a_population_shares_one_temperature(tmp_path, pair):
  path = tmp_path / 'population.json'
  path.write_text('[{"distill_temperature": 0.5}, {}]')
  population = {'population': str(path)}
  with pytest.raises(errors.UserError, match="0.5, the agent's own, but its"):
    api.describe_plan(_wanted(pair, **population))
  best = {'TeacherEnsemble.combine': 'best'}
  plan = api.describe_plan(_wanted(pair, best, **population))
  assert 'Run 0: distill_temperature 0.5' in plan
  path.write_text(
      '[{"distill_temperature": 0.5}, {"distill_temperature": 0.5}]'
  )
  assert 'temperature 0.5.' in api.describe_plan(_wanted(pair, **population))


def test_a_teacher_that_is_not_there_is_named(tmp_path, pair):
  with pytest.raises(
      errors.UserError, match='/no/such does not exist'
  ) as error:
    _run(tmp_path / 'run', [pair[0], '/no/such'])
  assert isinstance(error.value.__cause__, TeacherError)
