"""What gin binds under the names of the runners."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import gin
import pytest

from reincarnating_rl.dopamine_bridge import runner_settings
from reincarnating_rl.dopamine_bridge.runner_settings import RunnerSettings


def bound(*bindings, pretrains=True):
  gin.parse_config(bindings)
  return runner_settings.bound(pretrains)


def test_nothing_bound_is_the_defaults():
  assert bound() == RunnerSettings()
  without = dataclasses.replace(RunnerSettings(), num_pretraining_iterations=0)
  assert bound(pretrains=False) == without


@pytest.mark.parametrize('module', ['', 'reincarnating_rl.runner.', 'runner.'])
def test_bindings_fill_the_fields(module):
  found = bound(
      f'{module}RunnerWithTeacher.num_envs = 4',
      f"{module}RunnerWithTeacher.replay_ratio = '1/3'",
      f'{module}RunnerWithTeacher.stop_after = 2.0',
  )
  assert (found.num_envs, found.stop_after) == (4, 2)
  assert found.ratio == found.replay_ratio == Fraction(1, 3)


def test_those_of_the_pretraining_runner_win():
  bindings = (
      'RunnerWithTeacher.num_envs = 4',
      'RunnerWithTeacher.keep = 5',
      'ReincarnationRunner.num_envs = 3',
  )
  found = bound(*bindings)
  assert (found.num_envs, found.keep) == (3, 5)
  # What was used, parsed again, is the same.
  used = gin.operative_config_str()
  gin.clear_config()
  assert bound(used) == found
  gin.clear_config()
  assert bound(*bindings, pretrains=False).num_envs == 4


@pytest.mark.parametrize(
    'name', ['no_such', 'overrides', 'game', 'base_dir', 'dry_run']
)
@pytest.mark.parametrize('runner', ['RunnerWithTeacher', 'ReincarnationRunner'])
def test_other_names_are_refused(runner, name):
  with pytest.raises(ValueError, match=f'named .{name}'):
    gin.parse_config(f'{runner}.{name} = 1')


@pytest.mark.parametrize(
    'binding, words',
    [
        ('num_envs = 0', 'num_envs must be positive, got 0'),
        ('stop_after = -1', 'stop_after must be zero or more, got -1'),
        ('stop_after = 1.5', 'stop_after must be a whole number, got 1.5'),
        ("keep = 'all'", "keep must be a whole number, got 'all'"),
    ],
)
def test_values_that_make_no_sense_are_refused(binding, words):
  with pytest.raises(ValueError) as error:
    bound(f'RunnerWithTeacher.{binding}')
  assert str(error.value).startswith(words)


def test_the_score_of_a_teacher_that_is_not_measured():
  assert RunnerSettings().known_teacher_score(3.0) is None
  assert RunnerSettings(teacher_score=2.0).known_teacher_score(3.0) == 2.0
  unmeasured = RunnerSettings(evaluate_teacher=False)
  assert unmeasured.known_teacher_score(3.0) == 3.0
  with pytest.raises(ValueError, match='bind RunnerWithTeacher.teacher_score'):
    unmeasured.known_teacher_score(None)
