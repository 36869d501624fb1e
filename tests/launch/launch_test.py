"""Entry point of sweeps: flags, and all errors at once."""

from concurrent import futures
import dataclasses
import subprocess
import sys

from absl import flags
import pytest

from reincarnating_rl import train
from reincarnating_rl.app import api
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import errors
from reincarnating_rl.launch import __main__ as launch
from reincarnating_rl.launch import check
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import rates
from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch.trials import Configuration
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.loop.config.estimate import Memory


class _ThisProcess(futures.Executor):

  def map(self, function, *arguments):
    return map(function, *arguments)


@pytest.fixture(name='checks_here')
def _checks_here(monkeypatch):
  """Lets `check` work here, since each of its processes imports everything."""
  monkeypatch.setattr(check, '_executor', lambda count: _ThisProcess())


@pytest.fixture(name='values')
def _values():
  values = flags.FlagValues()
  launch.define_flags(values)

  def parse(*arguments):
    values(['launch', *arguments])
    return values

  return parse


def test_flags_replace_entries_of_the_file(values):
  given = launch.description(
      values(
          '--games=Pong,Boxing',
          '--agents=dqn',
          '--seeds=0,3',
          '--grid=a.b=[1, 2]',
          '--gin_bindings=c.d = 4',
          '--gin_bindings=e.f = 5',
          '--num_samples=2',
      )
  )
  assert given == {
      'games': ['Pong', 'Boxing'],
      'agents': ['dqn'],
      'seeds': [0, 3],
      'grid': {'a.b': [1, 2]},
      'bindings': ['c.d = 4', 'e.f = 5'],
      'num_samples': 2,
  }
  assert launch.description(values()) == given


def test_flags_that_make_no_sense(values):
  with pytest.raises(errors.UserError, match='--seeds a must be whole numbers'):
    launch.description(values('--seeds=a'))
  with pytest.raises(errors.UserError, match='--base_dir is missing'):
    launch.main([], values('--seeds=1'))


def test_all_faults_are_listed_before_anything_starts(values, tmp_path):
  root = tmp_path / 'sweep'
  arguments = values(
      f'--base_dir={root}',
      '--games=Pong,Bxing',
      '--agents=qdagger_dqn,dqm',
      '--teachers=bundled:{game}',
      '--gin_bindings=Runner.nonsense = 1',
      '--gin_files=none.gin',
      '--dry_run',
  )
  with pytest.raises(sweep_lib.Faults, match='for 4 faults') as e:
    launch.main([], arguments)
  text = str(e.value)
  assert "'Runner' doesn't have a parameter named 'nonsense'" in text
  assert 'and 3 more' in text
  assert "There is no agent called 'dqm'" in text
  assert "no Atari game called 'Bxing'. Did you mean Boxing" in text
  assert 'none.gin does not exist' in text
  assert not root.exists()


@pytest.mark.usefixtures('checks_here')
def test_faults_of_a_population_are_among_them(values, tmp_path):
  wanted = lambda mutations, *more: values(
      f'--base_dir={tmp_path}',
      '--games=Bxing',
      '--agents=dqn',
      '--seeds=0,1',
      f'--population={{mutations: {mutations}}}',
      *more,
  )
  with pytest.raises(sweep_lib.Faults, match='for 2 faults') as e:
    launch.main([], wanted('{Runner.nonsense: [uniform, 0, 1]}', '--dry_run'))
  assert "doesn't have a parameter named 'nonsense'" in str(e.value)
  assert "no Atari game called 'Bxing'" in str(e.value)
  with pytest.raises(sweep_lib.Faults, match='population needs mutations'):
    launch.main([], wanted('{}', '--dry_run'))
  with pytest.raises(errors.UserError, match='--population {a is no YAML'):
    launch.description(values('--population={a'))


@pytest.mark.usefixtures('checks_here')
def test_each_member_of_a_population_is_checked(values, tmp_path):
  """The second member, and what they may come to between whole numbers."""
  text = (
      '{mutations: {JaxDQNAgent.update_horizon: [bounds, 1, 4], '
      'JaxDQNAgent.update_period: [choice, 4, 0]}, '
      'first: {JaxDQNAgent.update_horizon: [1, 2], '
      'JaxDQNAgent.update_period: [4, 0]}}'
  )
  arguments = values(
      f'--base_dir={tmp_path}',
      '--games=Pong',
      '--agents=dqn',
      '--seeds=0,1',
      f'--population={text}',
      '--dry_run',
  )
  with pytest.raises(sweep_lib.Faults, match='for 2 faults') as e:
    launch.main([], arguments)
  assert 'update_horizon must be a whole number, got 2.1' in str(e.value)
  assert 'update_period must be' in str(e.value)


def test_a_sweep_is_carried_out_by_one_launch_at_a_time(tmp_path):
  root = tmp_path / 'sweep'
  program = (
      'from reincarnating_rl.base import run_lock\n'
      f'run_lock.take(run_lock.make({str(root)!r}))\n'
      'print("taken", flush=True)\n'
      'input()\n'
  )
  with subprocess.Popen(
      [sys.executable, '-c', program],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
  ) as other:
    assert other.stdout.readline() == b'taken\n'
    found = Configuration('Pong/q', POPULATION)
    trials = [Trial(found, (1,), packed=False)]
    needs = {'Pong/q': api.Needs({}, {}, 2, 1, Memory(0, 0))}
    with pytest.raises(
        errors.UserError, match=f'in use .by process {other.pid} '
    ):
      launch.run(str(root), trials, needs, engine.Resources())
    other.communicate(b'\n')
  assert not (root / 'sweep.json').exists()


def test_a_population_of_processes_is_not_packed(values, tmp_path):
  arguments = values(
      f'--base_dir={tmp_path}',
      '--games=Pong',
      '--agents=dqn',
      '--seeds=0,1',
      '--population={mutations: {JaxDQNAgent.gamma: [uniform, 0.9, 0.99]}}',
      '--pack_seeds',
      '--dry_run',
  )
  with pytest.raises(errors.UserError, match='leave one of them out'):
    launch.main([], arguments)


POPULATION = Experiment(
    agent='qdagger_dqn',
    gin_files=('qdagger_dqn.gin', 'comparison.gin'),
    bindings=(
        'PopulationBasedTraining.interval = 1',
        "PopulationBasedTraining.mutations = {'learning_rate': "
        "('log_uniform', 1e-5, 1e-3)}",
        'PopulationBasedTraining.quantile = 0.5',
        'PopulationBasedTraining.copy_replay = True',
        'PopulationBasedTraining.perturbation_factors = (0.5, 2)',
        'PopulationBasedTraining.resample_probability = 0.1',
    ),
    teacher='bundled:Pong',
    game='Pong',
    run_number=1,
)


@pytest.mark.usefixtures('checks_here')
def test_packed_seeds_may_be_a_population_and_one_alone_not(tmp_path):
  found = Configuration('Pong/q', POPULATION)
  trials = [Trial(found, seeds, packed=True) for seeds in ((1, 2), (5,))]
  counts = []
  with pytest.raises(sweep_lib.Faults, match='for 1 fault') as e:
    check.check(str(tmp_path), trials, counts.append)
  assert 'needs two runs at least, but there is 1' in str(e.value)
  assert counts == [1, 0]


def test_a_population_needs_and_takes_what_its_runs_do_alone():
  pair = dataclasses.replace(POPULATION, num_seeds=2)
  alone = rates.without_population(POPULATION)
  assert api.needs_of(pair) == api.needs_of(alone)


def test_a_trial_is_a_command_that_train_understands():
  wanted = Experiment(
      agent='qdagger_dqn',
      gin_files=('qdagger_dqn.gin', 'comparison.gin'),
      bindings=('a.b = 1', "c.d = 'x'"),
      teacher=('bundled:Pong', '/t'),
      teacher_checkpoint_number=(3, 4),
      allow_random_teacher=True,
      run_number=7,
      num_seeds=2,
      population='/p.json',
  )
  saved = flags.FLAGS.flag_values_dict()
  command = experiment_flags.flags_of(wanted, '/base')
  try:
    flags.FLAGS.unparse_flags()
    assert flags.FLAGS(['train', *command]) == ['train']
    assert train.experiment_of_flags() == wanted
  finally:
    for name, value in saved.items():
      setattr(flags.FLAGS, name, value)
  # The game has no flag.
  on_pong = experiment_flags.flags_of(Experiment(game='Pong'), '/base')
  assert "create_atari_environment.game_name = 'Pong'" in on_pong
