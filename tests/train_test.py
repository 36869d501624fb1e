"""The entry point: the contract's command, determinism, and bad input."""

import os
import signal
import subprocess
import sys

import events
import gin
import pytest
import small_teacher
import tiny_runs
from tiny_runs import metrics
from tiny_runs import summary

from reincarnating_rl import train
from reincarnating_rl.app import experiment
from reincarnating_rl.base import errors
from reincarnating_rl.dopamine_bridge import gin_files
from reincarnating_rl.dopamine_bridge import settings

# What a run pretrains on, the teacher collects.
_BINDINGS = tiny_runs.COLLECTING | {
    'RunnerWithTeacher.num_pretraining_iterations': 2,
    'RunnerWithTeacher.num_pretraining_steps': 4,
}


def _flags(base_dir, *more, agent='qdagger_rainbow'):
  """Flags of a run that takes seconds."""
  flags = [f'--base_dir={base_dir}', f'--agent={agent}']
  if not any(flag.startswith('--gin_files') for flag in more):
    flags += [f'--gin_files=reincarnating_rl/configs/{agent}.gin']
  return [*flags, *tiny_runs.binding_flags(_BINDINGS), *more]


def _train(*args, **options):
  """Runs the entry point in this process."""
  tiny_runs.run_train(*_flags(*args, **options))


# Runs a module where some packages are there but cannot be imported, and says
# at the end which it tried: libraries look whether TensorFlow is there.
_WITHOUT = """
import importlib.util, runpy, sys
class Refusing:
  tried = []
  def find_spec(self, name, path=None, target=None):
    if name in {packages!r}:
      return importlib.util.spec_from_loader(name, self)
  def create_module(self, spec):
    self.tried.append(spec.name)
    raise ImportError(f'{{spec.name}} is refused', name=spec.name)
  def exec_module(self, module):
    pass
sys.meta_path.insert(0, Refusing())
try:
  runpy.run_module(sys.argv[1], run_name='__main__', alter_sys=True)
finally:
  print('Tried:', *Refusing.tried, file=sys.stderr)
"""


def _process_of_its_own(*args, without=(), **options):
  command = [sys.executable, '-u']
  if without:
    command += ['-c', _WITHOUT.format(packages=without)]
  else:
    command += ['-m']
  return subprocess.Popen(
      command + ['reincarnating_rl.train'] + _flags(*args, **options),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
  )


@pytest.fixture(name='teacher', scope='module')
def _teacher(tmp_path_factory):
  return small_teacher.write(tmp_path_factory.mktemp('teacher') / 'Pong' / '1')


@pytest.fixture(name='of_probe', scope='module')
def _of_probe(tmp_path_factory):
  path = tmp_path_factory.mktemp('teacher') / 'probe'
  return small_teacher.write(path, game=tiny_runs.PROBE)


def _run(base_dir, teacher, *flags, **options):
  _train(base_dir, f'--teacher_checkpoint_dir={teacher}', *flags, **options)
  return summary(base_dir)


def test_stopped_and_started_again_it_is_the_same_run(tmp_path, teacher):
  flags = ['--run_number=1']
  whole = _run(tmp_path / 'whole', teacher, *flags)

  victim = _process_of_its_own(
      tmp_path / 'parts', f'--teacher_checkpoint_dir={teacher}', *flags
  )
  said = ''
  while 'pretraining 1/4' not in said:
    piece = victim.stderr.read(1)
    assert piece, said
    said += piece
  victim.send_signal(signal.SIGTERM)
  said += victim.communicate(timeout=300)[1]
  assert victim.returncode == 128 + signal.SIGTERM, said
  assert 'everything up to there is saved. To go on, run the same' in said
  before = summary(tmp_path / 'parts')
  assert len(before['iterations']) < len(whole['iterations'])

  parts = _run(tmp_path / 'parts', teacher, *flags)
  assert parts['iterations'] == whole['iterations']
  assert metrics(tmp_path / 'parts') == metrics(tmp_path / 'whole')
  assert parts['run_number'] == 1

  # What the contract says of the summary.
  assert whole['game'] == 'Pong'
  assert whole['agent'] == 'qdagger_rainbow'
  assert [e['phase'] for e in whole['iterations']] == [
      'teacher_evaluation',
      'data_collection',
      'pretraining',
      'pretraining',
      'online',
      'online',
  ]
  last = whole['iterations'][-2]
  assert last['agent_steps'] == 48
  # 8 pretraining updates; online every fourth training step once the replay
  # has more than 30 steps: training steps 40, 44, ... 52 of 8 + [0, 48).
  assert last['updates'] == 8 + 4
  assert None not in last.values()
  assert 'total' not in whole['seconds']
  assert os.path.exists(tmp_path / 'parts' / 'config.gin')


def test_impala_network_by_a_bare_reference(tmp_path, of_probe):
  def begin():
    runner = experiment.make_runner(train.experiment_of_flags(), str(tmp_path))
    run, checkpointer = runner.make_run()
    runner.saved(run)
    runner.close(checkpointer)

  flags = _flags(
      tmp_path,
      f'--teacher_checkpoint_dir={of_probe}',
      '--gin_bindings',
      '@reincarnation_networks.ImpalaRainbowNetwork',
  )
  tiny_runs.with_flags(begin, flags)
  network = summary(tmp_path)['config']['network']
  assert network['name'] == 'Impala C51'
  used = (tmp_path / 'config.gin').read_text()
  assert 'network = @reincarnation_networks.ImpalaRainbowNetwork' in used
  # The environment is part of it, though Dopamine's is never made.
  assert f'{tiny_runs.GAME} = {tiny_runs.PROBE!r}' in used
  assert 'create_atari_environment.sticky_actions = True' in used


def test_a_run_never_imports_tensorflow(tmp_path, teacher):
  run = _process_of_its_own(
      tmp_path,
      f'--teacher_checkpoint_dir={teacher}',
      agent='qdagger_dqn',
      without=('tensorflow', 'tensorflow_probability', 'keras', 'tf_keras')
      + ('tf_slim', 'gym', 'pandas', 'matplotlib'),
  )
  said = run.communicate(timeout=300)[1]
  assert run.returncode == 0, said
  assert said.strip().split('\n')[-1].strip() == 'Tried:'
  last = summary(tmp_path)['iterations'][-1]
  score, number = last['student_score'], last['iteration']
  logged = ('Eval/AverageReturns', number, score)
  assert logged in events.scalars(tmp_path)
  assert logged in events.scalars(tmp_path / 'metrics' / 'tensorboard')
  # Dopamine counts from 0 on.
  assert (tmp_path / 'logs' / f'log_{number - 1}').exists()


def test_tabula_rasa_needs_no_teacher(tmp_path):
  probe = f'--gin_bindings={tiny_runs.GAME} = {tiny_runs.PROBE!r}'
  _train(tmp_path, probe, agent='dqn')
  found = summary(tmp_path)
  assert [e['phase'] for e in found['iterations']] == ['online'] * 2
  assert found['teacher_score'] is None


@pytest.mark.parametrize(
    'flags, words',
    [
        ([], 'needs a teacher'),
        (['--teacher_checkpoint_dir=/no/such'], '/no/such does not exist'),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                '--teacher_checkpoint_number=5',
            ],
            'no checkpoint 5; there are 3',
        ),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                f"--gin_bindings={tiny_runs.GAME} = 'Pnog'",
            ],
            'Did you mean Pong',
        ),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                f"--gin_bindings={tiny_runs.GAME} = 'Breakout'",
            ],
            'the teacher was trained on Pong',
        ),
        (
            ['--teacher_checkpoint_dir={teacher}', '--gin_files=nope.gin'],
            'nope.gin does not exist',
        ),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                '--gin_bindings=RunnerWithTeacher.no_such = 1',
            ],
            "'RunnerWithTeacher.no_such = 1' does not resolve",
        ),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                '--gin_bindings=@reincarnation_networks.NoSuchNetwork',
            ],
            'NoSuchNetwork',
        ),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                '--gin_bindings=RunnerWithTeacher.teacher_steps = 0',
            ],
            'bind RunnerWithTeacher.teacher_steps',
        ),
        (
            [
                '--teacher_checkpoint_dir={teacher}',
                '--atari_roms_path={teacher}',
            ],
            'pong.bin',
        ),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, teacher, flags, words):
  base_dir = tmp_path / 'run'
  with pytest.raises(errors.UserError) as error:
    _train(base_dir, *(flag.format(teacher=teacher) for flag in flags))
  sentence = str(error.value)
  assert words in sentence
  assert '\n' not in sentence
  assert sentence.endswith(('.', '?'))
  assert not base_dir.exists()


def test_failure_in_a_process_of_its_own(tmp_path):
  failed = _process_of_its_own(tmp_path / 'run', agent='qdager_rainbow')
  said = failed.communicate(timeout=300)[1]
  assert failed.returncode == 1
  assert 'Traceback' not in said
  assert 'Did you mean qdagger_rainbow?' in said


def test_teacher_of_another_action_set(tmp_path):
  teacher = small_teacher.write(tmp_path / 'teacher', num_actions=4)
  with pytest.raises(errors.UserError, match='4 actions, Pong has 6'):
    _train(tmp_path / 'run', f'--teacher_checkpoint_dir={teacher}')


def test_base_dir_below_a_file(tmp_path, teacher):
  (tmp_path / 'file').write_text('')
  base_dir = tmp_path / 'file' / 'run'
  with pytest.raises(errors.UserError, match='cannot be written to'):
    _train(base_dir, f'--teacher_checkpoint_dir={teacher}')


def test_dry_run_prints_the_plan_and_runs_nothing(tmp_path, teacher, capsys):
  base_dir = tmp_path / 'run'
  _train(
      base_dir,
      f'--teacher_checkpoint_dir={teacher}',
      '--gin_bindings=RunnerWithTeacher.teacher_steps = 0',
      '--dry_run',
  )
  printed = capsys.readouterr().out
  assert 'pretraining' in printed
  assert 'Warning: ' in printed
  assert not base_dir.exists()


def test_files_of_older_releases_load(tmp_path, teacher, capsys):
  old = tmp_path / 'old.gin'
  old.write_text(
      'import dopamine.replay_memory.circular_replay_buffer\n'
      'import reincarnating_rl.persistence_networks\n'
      "include 'reincarnating_rl/configs/qdagger_rainbow.gin'\n"
      'OutOfGraphPrioritizedReplayBuffer.replay_capacity = 90\n'
  )
  _train(
      tmp_path / 'run',
      f'--gin_files={old}',
      f'--teacher_checkpoint_dir={teacher}',
      '--dry_run',
  )
  assert 'pretraining' in capsys.readouterr().out
  gin_files.parse([str(old)], [])
  assert gin.query_parameter('JaxDQNAgent.update_horizon') == 3
  assert settings.replay_capacity() == 90
