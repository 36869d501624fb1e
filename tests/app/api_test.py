"""The Python interface: runs as functions, and nothing left in gin."""

import gin
import jax
import matplotlib
import numpy as np
import pytest
import small_teacher
import tiny_runs

import reincarnating_rl as rrl
from reincarnating_rl.app import api
from reincarnating_rl.app import experiment
from reincarnating_rl.base import errors


@pytest.fixture(name='teacher', scope='module')
def _teacher(tmp_path_factory):
  path = tmp_path_factory.mktemp('teacher') / 'Pong' / '1'
  return small_teacher.write(path)


@pytest.fixture(name='of_probe', scope='module')
def _of_probe(tmp_path_factory):
  path = tmp_path_factory.mktemp('teacher') / 'probe'
  return small_teacher.write(path, game=tiny_runs.PROBE)


@gin.configurable
def somebody_elses(value=1):
  return value


def _run(base_dir, teacher, more=None, **options):
  bindings = tiny_runs.COLLECTING | (more or {})
  options = {'agent': 'qdagger_dqn', 'bindings': bindings} | options
  return rrl.reincarnate(str(base_dir), teacher=teacher, **options)


def test_a_run_and_its_outcome(tmp_path, teacher):
  run = _run(tmp_path / 'run', teacher, run_number=3)
  assert isinstance(run, rrl.Result)
  assert run.summary['run_number'] == 3
  # Its configuration is the agent's own, since none was named.
  assert run.summary['config']['gin_files'] == ['qdagger_dqn.gin']
  assert [(s.phase, s.agent_steps) for s in run.scores] == [
      ('pretraining', 0),
      ('online', 48),
      ('online', 96),
  ]
  assert run.scores[-1].score == run.summary['iterations'][-1]['student_score']
  assert [m['phase'] for m in run.metrics()][-2:] == ['online', 'online']
  figure = run.plot(str(tmp_path / 'curve.pdf'))
  assert isinstance(figure, matplotlib.figure.Figure)
  assert (tmp_path / 'curve.pdf').read_bytes().startswith(b'%PDF')
  # Asked for again, it is there.
  again = _run(tmp_path / 'run', teacher, run_number=3)
  assert again.scores == run.scores


def test_nothing_of_a_run_stays_in_gin(tmp_path, of_probe):
  gin.parse_config('somebody_elses.value = 2')
  margin = {'JaxDQNAgent.gamma': 0.5}
  first = _run(tmp_path / 'first', of_probe, margin)
  second = _run(tmp_path / 'second', of_probe)
  gamma = lambda run: run.summary['config']['settings']['gamma']
  assert gamma(first) == 0.5 and gamma(second) == 0.99
  assert somebody_elses() == 2
  assert 'JaxDQNAgent' not in gin.config_str()
  with pytest.raises(errors.UserError):
    _run(tmp_path / 'third', of_probe, {'JaxDQNAgent.no_such': 1})
  assert somebody_elses() == 2


def test_several_seeds_are_a_list(tmp_path, of_probe, monkeypatch):
  # Code is compiled for each device anew; that takes most of the time.
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  runs = _run(tmp_path, of_probe, run_number=4, num_seeds=2)
  assert [run.base_dir for run in runs] == [
      str(tmp_path / 'run_4'),
      str(tmp_path / 'run_5'),
  ]
  assert [run.summary['run_number'] for run in runs] == [4, 5]


@pytest.mark.parametrize(
    'options, message',
    [
        ({'agent': 'qdager_dqn'}, 'Did you mean qdagger_dqn'),
        ({'game': 'Breakout'}, 'The game is Breakout, but the teacher'),
        ({'gin_files': ['nowhere.gin']}, 'nowhere.gin does not exist'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, options, message):
  with pytest.raises(errors.UserError, match=message):
    rrl.reincarnate(
        str(tmp_path / 'run'), **{'teacher': 'bundled:Pong', **options}
    )
  assert not (tmp_path / 'run').exists()


def test_two_games_are_refused(tmp_path):
  bound = {'create_atari_environment.game_name': 'Pong'}
  with pytest.raises(
      errors.UserError, match='game is Boxing, but Pong is bound'
  ):
    rrl.reincarnate(
        str(tmp_path),
        teacher='bundled:Boxing',
        game='Boxing',
        bindings=bound,
    )


def test_the_plan_alone():
  wanted = experiment.Experiment(
      agent='dqn', game='Pong', bindings=api.binding_lines(tiny_runs.COLLECTING)
  )
  assert 'dqn on Pong, seed 0' in api.describe_plan(wanted)


def test_how_bindings_are_written():
  bindings = {
      'a.b': 'text',
      'a.c': '@network',
      'a.d': (1, 2),
      'a.e': None,
      'a.f': np.float32(0.5),
      'a.g': [np.int64(3), {'x': np.arange(2)}],
  }
  assert api.binding_lines(bindings) == (
      "a.b = 'text'",
      'a.c = @network',
      'a.d = (1, 2)',
      'a.e = None',
      'a.f = 0.5',
      "a.g = [3, {'x': [0, 1]}]",
  )
  assert api.binding_lines(['a.b = 1']) == ('a.b = 1',)
