"""What gin binds about resets, the target, weight decay and replay ratio."""

from __future__ import annotations

from fractions import Fraction

from absl.testing import flagsaver
import gin
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import train
from reincarnating_rl.agents import dqn
from reincarnating_rl.app import experiment
from reincarnating_rl.base import errors
from reincarnating_rl.base.schedules import Annealing
from reincarnating_rl.dopamine_bridge import gin_files
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.dopamine_bridge.reset_settings import reset_schedule
from reincarnating_rl.dopamine_bridge.reset_settings import target_network
from reincarnating_rl.learner import adam_direction
from reincarnating_rl.learner import resets
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.runners import runner  # noqa: F401, registers names


def schedule(*bindings):
  """The schedule that these bindings of ResetSchedule make."""
  gin.parse_config([f'ResetSchedule.{binding}' for binding in bindings])
  return reset_schedule()


# -- the schedule --------------------------------------------------------------


def test_nothing_bound_is_no_reset():
  assert schedule() is None
  assert tuple(target_network()) == (0.0, False)


@pytest.mark.parametrize('name', resets.PRESETS)
def test_a_preset_as_it_is(name):
  assert schedule(f"preset = '{name}'") == resets.PRESETS[name]


def test_what_is_bound_overrides_the_preset():
  found = schedule(
      "preset = 'sr_spr'",
      'period = 7',
      "unit = 'updates'",
      'no_resets_after = 70',
      "kept = {'head': 0.25, 'encoder': 1}",
      'others_kept = 0.5',
      "target = 'copy'",
      'keep_optimizer = True',
      'keep_priorities = False',
      'updates_after = 3',
      'distill_updates_after = 5',
  )
  assert found == ResetSchedule(
      7,
      'updates',
      70,
      (('encoder', 1), ('head', 0.25)),
      0.5,
      'copy',
      True,
      False,
      3,
      5,
  )
  hash(found)  # As every part of a RunConfig: kept is no dict any more.


def test_zero_and_false_override_too():
  found = schedule("preset = 'full'", 'others_kept = 0', 'updates_after = 0')
  assert found == resets.PRESETS['full']
  found = schedule("preset = 'full'", 'keep_priorities = False')
  assert not found.keep_priorities


def test_nothing_kept():
  found = schedule("preset = 'sr_spr'", 'kept = {}')
  assert found == ResetSchedule(5_000)


def test_annealing_is_on_by_the_preset_and_off_by_zero():
  assert schedule("preset = 'bbf'").annealing == Annealing()
  assert schedule("preset = 'bbf'", 'annealing_updates = 0').annealing is None


@pytest.mark.parametrize('name', ['bbf', 'sr_spr'])
def test_annealing_is_overridden_or_begun(name):
  found = schedule(f"preset = '{name}'", 'annealed_update_horizon = [5, 2]')
  assert found.annealing == Annealing(update_horizon=(5, 2))
  found = schedule('annealed_gamma = (0.5, 0.75)', 'annealing_updates = 9')
  assert found.annealing == Annealing(9, (5, 2), (0.5, 0.75))
  hash(found)


@pytest.mark.parametrize(
    'binding, name',
    [
        ('period = 10', 'period is bound'),
        ("kept = {'encoder': 0.5}", 'kept is bound'),
        ('keep_optimizer = False', 'keep_optimizer is bound'),
        ('annealing_updates = 5', 'annealed updates is bound'),
    ],
)
def test_no_preset_yet_bindings(binding, name):
  with pytest.raises(ValueError, match=f"preset is 'none', yet {name}.*sr_spr"):
    schedule(binding)


@pytest.mark.parametrize(
    'bindings, message',
    [
        (["preset = 'spr'"], "no reset schedule called 'spr'; choose one of"),
        (["preset = 'full'", 'period = 0'], 'at least 1, got 0'),
        (["preset = 'full'", "unit = 'frames'"], "'frames'; choose one of"),
        (["preset = 'bbf'", 'annealing_updates = -1'], 'positive, got -1'),
        (
            ["preset = 'bbf'", "kept = {'encoder': 2}"],
            'share of encoder .* got 2',
        ),
    ],
)
def test_what_makes_no_sense_is_refused(bindings, message):
  with pytest.raises(ValueError, match=message):
    schedule(*bindings)


# -- what an agent makes of it -------------------------------------------------


def agent(*bindings):
  gin_files.parse(['dqn.gin'], bindings)
  return dqn.ReincarnationDQNAgent(num_actions=3, seed=1)


def test_the_replay_holds_the_longest_returns_that_are_annealed():
  found = agent(
      'JaxDQNAgent.update_horizon = 3',
      "ResetSchedule.preset = 'bbf'",
      'ResetSchedule.annealed_update_horizon = (2, 7)',
  )
  fields = found.student_settings()
  assert fields.update_horizon == 7
  assert fields.resets.annealing.update_horizon == (2, 7)
  assert found.make_learner().annealing == fields.resets.annealing


@pytest.mark.parametrize('preset', ['none', 'sr_spr'])
def test_without_annealing_the_returns_are_as_long_as_bound(preset):
  found = agent(
      'JaxDQNAgent.update_horizon = 5', f"ResetSchedule.preset = '{preset}'"
  )
  fields = found.student_settings()
  assert fields.update_horizon == 5
  assert fields.resets == resets.PRESETS[preset]
  assert found.make_learner().annealing is None


def test_a_target_that_trails_and_acts():
  found = agent('target_network.ema = 0.25', 'target_network.acts = True')
  assert found.make_learner().target_ema == 0.25
  assert found.student_settings().act_with_target is True


def test_adamw_decays_the_weights_as_bound():
  gin.parse_config(['weight_decay.rate = 0.5', 'create_optimizer.eps = 0.25'])
  direction, rate = settings.optimizer_settings('adamw')
  assert rate == 6.25e-5  # Dopamine's default.
  # Equal settings give the very same object: learners are compared by it.
  assert direction == adam_direction(0.9, 0.999, 0.25, 0.5)
  params = {'kernel': jnp.full((1, 2), 3.0), 'bias': jnp.full((2,), 3.0)}
  zeros = {'kernel': jnp.zeros((1, 2)), 'bias': jnp.zeros((2,))}
  step, _ = direction.update(zeros, direction.init(params), params)
  np.testing.assert_allclose(step['kernel'], 1.5)
  np.testing.assert_allclose(step['bias'], 0.0)


def test_adam_knows_no_weight_decay():
  gin.parse_config('weight_decay.rate = 0.5')
  direction, _ = settings.optimizer_settings('adam')
  assert direction == adam_direction(0.9, 0.999, 1.5e-4)


# -- updates per agent step ----------------------------------------------------


def replay_ratio(scratch, *bindings):
  """That of a run with these bindings, which is only planned."""
  flags = ['--agent=dqn', '--gin_files=dqn.gin', '--dry_run']
  flags += [f'--gin_bindings={binding}' for binding in bindings]
  train.FLAGS.unparse_flags()
  with flagsaver.flagsaver():
    train.FLAGS(['train'] + flags)
    with errors.user_errors():
      return experiment.make_runner(
          train.experiment_of_flags(), str(scratch), dry_run=True
      ).run_config.replay_ratio


@pytest.mark.parametrize(
    'value, expected',
    [
        ("'1/3'", Fraction(1, 3)),
        ('0.25', Fraction(1, 4)),
        ('0.1', Fraction(1, 10)),  # Which no float is.
        ('8', Fraction(8)),
        ("'2.5'", Fraction(5, 2)),
    ],
)
def test_the_ratio_is_exact(tmp_path, value, expected):
  found = replay_ratio(tmp_path, f'RunnerWithTeacher.replay_ratio = {value}')
  assert isinstance(found, Fraction)
  assert found == expected


def test_the_ratio_of_the_agent(tmp_path):
  found = replay_ratio(
      tmp_path,
      'JaxDQNAgent.update_period = 6',
      'ReincarnationDQNAgent.num_updates_per_train_step = 4',
  )
  assert found == Fraction(2, 3)


@pytest.mark.parametrize(
    'bindings',
    [
        ['JaxDQNAgent.update_period = 3'],
        [
            'JaxDQNAgent.update_period = 6',
            'ReincarnationDQNAgent.num_updates_per_train_step = 2',
        ],
    ],
)
def test_the_same_ratio_may_be_bound_twice(tmp_path, bindings):
  both = ["RunnerWithTeacher.replay_ratio = '1/3'", *bindings]
  assert replay_ratio(tmp_path, *both) == Fraction(1, 3)


@pytest.mark.parametrize(
    'bindings, named',
    [
        (['JaxDQNAgent.update_period = 4'], 'which make 1/4 updates'),
        (
            ['ReincarnationDQNAgent.num_updates_per_train_step = 2'],
            'which make 1/2 updates',
        ),
    ],
)
def test_two_ratios_are_refused_in_a_sentence(tmp_path, bindings, named):
  with pytest.raises(errors.UserError) as error:
    replay_ratio(tmp_path, "RunnerWithTeacher.replay_ratio = '1/3'", *bindings)
  sentence = str(error.value)
  assert 'RunnerWithTeacher.replay_ratio = 1/3 contradicts' in sentence
  assert all(binding in sentence for binding in bindings)
  assert named in sentence
  assert '\n' not in sentence and sentence.endswith('.')


@pytest.mark.parametrize('value', ['0', '-1', "'-1/2'"])
def test_a_ratio_that_makes_no_sense_is_refused(tmp_path, value):
  with pytest.raises(errors.UserError, match='replay_ratio must be positive'):
    replay_ratio(tmp_path, f'RunnerWithTeacher.replay_ratio = {value}')


@pytest.mark.parametrize('value', ["'often'", "'1/0'", '1e400'])
def test_a_ratio_that_is_no_number_is_refused(tmp_path, value):
  with pytest.raises(errors.UserError, match='RunnerWithTeacher.replay_ratio'):
    replay_ratio(tmp_path, f'RunnerWithTeacher.replay_ratio = {value}')
