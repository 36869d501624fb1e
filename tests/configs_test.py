"""Every config that is shipped: loaded, built, and run for some iterations."""

import json
import os
import pathlib

from absl.testing import flagsaver
import gin
from paths import TESTDATA
import pytest

from reincarnating_rl import configs
from reincarnating_rl import train
from reincarnating_rl.app import experiment
from reincarnating_rl.base import errors
from reincarnating_rl.dopamine_bridge import gin_files
from reincarnating_rl.runners import runner as _  # noqa: F401, registers names

FOLDER = pathlib.Path(configs.__file__).parent
# Not runs of their own.
FRAGMENTS = ('base', 'comparison')
AGENTS = {
    'dqfd_dqn': 'dqfd_dqn',
    'dqn': 'dqn',
    'jsrl_dqn': 'jsrl_dqn',
    'kickstarting_dqn': 'qdagger_dqn',
    'pretrained_dqn': 'pretrained_dqn',
    'qdagger_bbf': 'qdagger_rainbow',
    'qdagger_dqn': 'qdagger_dqn',
    'qdagger_drq': 'qdagger_rainbow',
    'qdagger_iqn': 'qdagger_iqn',
    'qdagger_rainbow': 'qdagger_rainbow',
    'qdagger_rainbow_sr': 'qdagger_rainbow',
    'quickstart': 'qdagger_rainbow',
    'quickstart_sr': 'qdagger_rainbow',
    'rainbow': 'rainbow',
    'rehearsal_dqn': 'pretrained_dqn',
    'reloaded_dqn': 'reloaded_dqn',
    'reloaded_dqn_nature': 'reloaded_dqn',
}
# Seconds instead of days; what makes a method is left as its config has it.
# Emulators take longest to begin an episode: there are few.
TINY = (
    'Runner.num_iterations = 2',
    'Runner.training_steps = 48',
    'Runner.evaluation_steps = 20',
    'Runner.max_steps_per_episode = 30',
    'RunnerWithTeacher.num_pretraining_steps = 3',
    'RunnerWithTeacher.num_envs = 2',
    'RunnerWithTeacher.num_eval_envs = 1',
    'RunnerWithTeacher.teacher_steps = 0',
    'JaxDQNAgent.min_replay_history = 30',
    'JaxDQNAgent.epsilon_decay_period = 40',
    'ReplayBuffer.max_capacity = 2000',
    'ReplayBuffer.batch_size = 4',
)
# Two of them in the steps above, the first of which only fill the replay.
RESETS = (
    'ResetSchedule.period = 32',
    'ResetSchedule.distill_updates_after = 2',
)
NARROW = {
    'ImpalaRainbowNetwork': (
        'nn_scale = 1',
        'stack_sizes = (4, 4, 4)',
        'num_blocks = 1',
        'hidden_size = 16',
    ),
    'NatureDQNNetwork': ('features = (4, 8, 8)', 'hidden_size = 16'),
    'FullRainbowNetwork': ('features = (4, 8, 8)', 'hidden_size = 16'),
    'ImpalaImplicitQuantileNetwork': (
        'stack_sizes = (4, 4, 4)',
        'num_blocks = 1',
        'hidden_size = 16',
    ),
}


def shipped():
  return sorted(path.stem for path in FOLDER.glob('*.gin'))


def test_every_config_has_an_agent_here():
  assert set(shipped()) == set(AGENTS) | set(FRAGMENTS)
  assert set(AGENTS.values()) == set(train.AGENTS)


@pytest.mark.parametrize('config', shipped())
def test_what_a_config_names_exists(config):
  """gin refuses a binding of what does not exist only when it is strict."""
  gin_files.parse([f'{config}.gin'], [])
  with open(FOLDER / f'{config}.gin', encoding='utf-8') as f:
    lines = [line.split('#')[0].strip() for line in f]
  bindings = [line.split('=')[0].strip() for line in lines if '=' in line]
  assert bindings or any(line.startswith('include') for line in lines)
  for binding in bindings:
    gin.query_parameter(binding)
  assert gin.config._IMPORTS or config == 'comparison'


def test_a_config_that_names_what_does_not_exist_is_refused(tmp_path):
  (tmp_path / 'mine.gin').write_text(
      "include 'reincarnating_rl/configs/qdagger_dqn.gin'\n"
      'QDaggerDQNAgent.no_such_parameter = 1\n'
  )
  with pytest.raises(ValueError, match='no_such_parameter'):
    gin_files.parse([str(tmp_path / 'mine.gin')], [])


def run_config(config, base_dir, *bindings):
  """Runs a config with a tiny budget; the summary."""
  teacher = TESTDATA / 'dopamine_406_small'
  agent = AGENTS[config]
  flags = [f'--agent={agent}', f'--gin_files={config}.gin']
  flags += [f'--base_dir={base_dir}']
  if experiment.agent_class(agent).needs_teacher:
    flags += [f'--teacher_checkpoint_dir={teacher}']
  narrow = [
      f'reincarnation_networks.{network}.{setting}'
      for network, settings in NARROW.items()
      for setting in settings
  ]
  flags += [f'--gin_bindings={b}' for b in (*TINY, *narrow, *bindings)]
  train.FLAGS.unparse_flags()
  with flagsaver.flagsaver():
    train.FLAGS(['train'] + flags)
    train.main(['train'])
  with open(os.path.join(base_dir, 'summary.json'), encoding='utf-8') as f:
    return json.load(f)


def _pretrains(config):
  gin_files.parse([f'{config}.gin'], [])
  iterations = gin.query_parameter(
      'RunnerWithTeacher.num_pretraining_iterations'
  )
  gin.clear_config()
  return iterations > 0 and experiment.agent_class(AGENTS[config]).pretrains


@pytest.mark.parametrize('config', sorted(AGENTS))
def test_every_config_runs(config, tmp_path):
  pretrains = _pretrains(config)
  bindings = ()
  if pretrains:
    bindings = ('RunnerWithTeacher.num_pretraining_iterations = 1',)
  if config in ('qdagger_bbf', 'qdagger_rainbow_sr', 'quickstart_sr'):
    bindings += RESETS
  summary = run_config(config, tmp_path, *bindings)
  needs_teacher = experiment.agent_class(AGENTS[config]).needs_teacher
  phases = ['teacher_evaluation'] * needs_teacher
  phases += ['pretraining'] * pretrains + ['online'] * 2
  assert [i['phase'] for i in summary['iterations']] == phases
  last = summary['iterations'][-1]
  assert last['student_score'] is not None
  assert last['agent_steps'] == 96
  assert last['updates'] > 3 * pretrains
  teacher = summary['config']['teacher']
  assert (teacher is not None) == needs_teacher
  if needs_teacher:
    assert teacher['replay_rows'] == 1000 and teacher['agent'] == 'dqn'


def test_a_teacher_without_data_is_refused_by_rehearsal(tmp_path):
  gin_files.parse(['rehearsal_dqn.gin'], [])
  gin.clear_config()
  train.FLAGS.unparse_flags()
  flags = ['--agent=pretrained_dqn', '--gin_files=rehearsal_dqn.gin']
  flags += [f'--base_dir={tmp_path}', '--teacher_checkpoint_dir=bundled:Pong']
  with flagsaver.flagsaver():
    train.FLAGS(['train'] + flags)
    with pytest.raises(
        errors.UserError, match='bind RunnerWithTeacher.teacher_s'
    ):
      train.main(['train'])
