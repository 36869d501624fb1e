"""Every shipped config: loaded, built, and run for some iterations."""

import pathlib

import gin
import pytest
import tiny_runs

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
# Two resets in the steps of such a run; before the first one the replay fills.
RESETS = {
    'ResetSchedule.period': 32,
    'ResetSchedule.distill_updates_after': 2,
}
# The paper's method plays the game; all others play a probe.
ON_ATARI = ('qdagger_rainbow',)


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


def run_config(config, base_dir, bindings):
  """Runs a config with a tiny budget; returns the summary."""
  agent = AGENTS[config]
  flags = [f'--agent={agent}', f'--gin_files={config}.gin']
  flags += [f'--base_dir={base_dir}']
  if experiment.agent_class(agent).needs_teacher:
    flags += [f'--teacher_checkpoint_dir={tiny_runs.TEACHER}']
  game = {} if config in ON_ATARI else {tiny_runs.GAME: tiny_runs.PROBE}
  flags += tiny_runs.binding_flags(tiny_runs.TINY | game | bindings)
  tiny_runs.run_train(*flags)
  return tiny_runs.summary(base_dir)


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
  bindings = {}
  if pretrains:
    bindings = {'RunnerWithTeacher.num_pretraining_iterations': 1}
  if config in ('qdagger_bbf', 'qdagger_rainbow_sr', 'quickstart_sr'):
    bindings |= RESETS
  summary = run_config(config, tmp_path, bindings)
  game = 'Pong' if config in ON_ATARI else tiny_runs.PROBE
  assert summary['game'] == game
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
  flags = ['--agent=pretrained_dqn', '--gin_files=rehearsal_dqn.gin']
  flags += [f'--base_dir={tmp_path}', '--teacher_checkpoint_dir=bundled:Pong']
  with pytest.raises(
      errors.UserError, match='bind RunnerWithTeacher.teacher_s'
  ):
    tiny_runs.run_train(*flags)
