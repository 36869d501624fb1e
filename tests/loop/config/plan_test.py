"""Tests of settings, plans, and of what is due when."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import math
from typing import Optional

import pytest

from reincarnating_rl.envs import atari
from reincarnating_rl.loop.config import parts
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.due import due
from reincarnating_rl.loop.config.due import nth_due
from reincarnating_rl.loop.config.plan import make_plan
from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.config.plan import RunConfig

RATIOS = [
    Fraction(1, 4),
    Fraction(1, 3),
    Fraction(1),
    Fraction(5, 2),
    Fraction(8),
]
each_ratio = pytest.mark.parametrize('ratio', RATIOS, ids=str)


# -- what is due ---------------------------------------------------------------


def due_one_by_one(first_step, num_steps, rate) -> int:
  """Counts the multiples k / rate, one after another."""
  count, k = 0, 0
  while Fraction(k) / rate < first_step + num_steps:
    count += Fraction(k) / rate >= first_step
    k += 1
  return count


@each_ratio
def test_due_counts_the_multiples(ratio):
  for first_step in (0, 1, 5, 12, 1003):
    for num_steps in (0, 1, 2, 3, 8, 31):
      expected = due_one_by_one(first_step, num_steps, ratio)
      assert due(first_step, num_steps, ratio) == expected


@each_ratio
@pytest.mark.parametrize('num_envs', [1, 3, 8])
def test_a_run_gets_exactly_its_ratio(ratio, num_envs):
  """However many steps are taken at a time, after any number of them."""
  updates = 0
  for first_step in range(0, 24 * 50, num_envs):
    updates += due(first_step, num_envs, ratio)
    assert updates == math.ceil(ratio * (first_step + num_envs))
  assert updates == ratio * (first_step + num_envs)


@each_ratio
def test_due_needs_no_state(ratio):
  """Any partition of the same steps has the same sum."""
  cuts = [0, 1, 4, 4, 11, 30, 31, 100]
  parts = [due(a, b - a, ratio) for a, b in zip(cuts, cuts[1:])]
  assert sum(parts) == due(0, 100, ratio)


def test_the_update_period_of_dopamine():
  """A ratio of 1/4 updates at training steps 0, 4, 8, ..."""
  steps = [step for step in range(20) if due(step, 1, Fraction(1, 4))]
  assert steps == [0, 4, 8, 12, 16]


def test_due_is_exact_after_a_billion_steps():
  """Where a float would have lost the third."""
  ratio = Fraction(1, 3)
  first_step = 3 * 10**15 + 1
  assert [due(first_step + i, 1, ratio) for i in range(6)] == [0, 0, 1, 0, 0, 1]


@each_ratio
@pytest.mark.parametrize('first_step', [0, 1, 7])
def test_when_each_multiple_is_due(ratio, first_step):
  steps = [first_step + i for i in range(20)]
  expected = [s for s in steps for _ in range(due(s, 1, ratio))]
  found = [nth_due(first_step, ratio, i) for i in range(len(expected))]
  assert found == expected


# -- settings ------------------------------------------------------------------

ZEROES_REFUSED = (
    'training_steps',
    'evaluation_steps',
    'num_envs',
    'num_eval_envs',
    'batch_size',
    'update_horizon',
    'teacher_update_horizon',
    'replay_capacity',
    'target_update_period',
    'max_agent_steps_per_episode',
    'updates_per_pretraining_step',
    'replay_ratio',
)
NEGATIVES_REFUSED = (
    'num_iterations',
    'num_pretraining_iterations',
    'num_pretraining_steps',
    'teacher_steps',
    'min_replay_history',
    'epsilon_decay_period',
)
PROBABILITIES = (
    'teacher_epsilon',
    'epsilon_train',
    'epsilon_eval',
    'teacher_data_ratio',
)


def test_the_defaults_are_the_papers():
  config = RunConfig()
  assert config.training_steps == 250_000
  assert config.evaluation_steps == 125_000
  assert config.num_pretraining_steps == 100_000
  assert config.replay_ratio == Fraction(1, 4)
  assert config.target_update_period == 8_000
  assert config.min_replay_history == 20_000
  assert config.max_agent_steps_per_episode == 27_000
  assert config.sticky_actions == 0.25
  assert (config.epsilon_train, config.epsilon_eval) == (0.01, 0.001)
  assert config.distill_decay_period == plan_lib.NEVER_DECAY


@pytest.mark.parametrize('name', ZEROES_REFUSED)
@pytest.mark.parametrize('value', [0, -3])
def test_what_must_be_positive(name, value):
  with pytest.raises(ValueError, match=f'{name} must be positive, got {value}'):
    RunConfig(**{name: value})


@pytest.mark.parametrize('name', NEGATIVES_REFUSED)
def test_what_must_not_be_negative(name):
  with pytest.raises(ValueError, match=f'{name} must be zero or more, got -1'):
    RunConfig(**{name: -1})
  assert getattr(RunConfig(**{name: 0}), name) == 0


@pytest.mark.parametrize('name', PROBABILITIES)
@pytest.mark.parametrize('value', [-0.01, 1.01, math.nan])
def test_what_must_be_a_probability(name, value):
  with pytest.raises(ValueError, match=f'{name} must be between 0 and 1'):
    RunConfig(**{name: value})
  RunConfig(**{name: 0.0})
  RunConfig(**{name: 1.0})


@pytest.mark.parametrize('capacity', [100, 500])
def test_a_replay_that_never_fills_is_refused(capacity):
  changes = {'replay_capacity': capacity, 'min_replay_history': 500}
  with pytest.raises(ValueError, match=f'500 is never .* capacity {capacity}'):
    RunConfig(**changes)
  RunConfig(**changes | {'replay_capacity': 501})
  RunConfig(num_iterations=0, **changes)  # Nothing online: nothing to fill.


def test_a_replay_too_small_for_one_transition_is_refused():
  changes = {'num_envs': 4, 'update_horizon': 9, 'min_replay_history': 0}
  with pytest.raises(ValueError, match='capacity 40'):
    RunConfig(replay_capacity=40, **changes)
  RunConfig(replay_capacity=41, **changes)


@pytest.mark.parametrize('num_envs', [1, 3, 8])
@pytest.mark.parametrize('num_iterations', [1, 2, 100])
def test_the_replay_is_no_larger_than_the_run(num_envs, num_iterations):
  config = RunConfig(
      num_iterations=num_iterations,
      training_steps=1000,
      num_envs=num_envs,
      replay_capacity=5000,
      min_replay_history=50,
      update_horizon=3,
  )
  steps = -(-1000 // num_envs) * num_envs
  stored = min(steps * num_iterations, 5000)
  assert config.student_capacity % num_envs == 0
  # Four steps more of each environment stand free before the write head.
  assert stored <= config.student_capacity <= stored + 5 * num_envs


@pytest.mark.parametrize('value', [2.5, '250k', (3,), float('inf'), None])
def test_what_is_no_whole_number_is_named(value):
  with pytest.raises(ValueError, match='update_horizon must be a whole number'):
    RunConfig(update_horizon=value)
  assert RunConfig(update_horizon=3.0).update_horizon == 3
  assert RunConfig().updates_per_call is None


def test_an_iteration_that_ends_between_two_steps_has_room():
  """7 iterations of 1000 steps in 24 environments: 1008 steps each."""
  config = RunConfig(
      num_iterations=7, training_steps=1000, num_envs=24, min_replay_history=50
  )
  assert config.student_capacity == 7 * 1008 + 4 * 24


def test_a_short_run_has_room_for_its_transitions():
  config = RunConfig(
      num_iterations=1,
      training_steps=1,
      num_envs=2,
      update_horizon=10,
      min_replay_history=0,
  )
  assert config.first_eligible_row == 22
  assert config.student_capacity // 2 > 10 + 4 + 1


@pytest.mark.parametrize('num_envs', [1, 3])
def test_the_replay_has_room_for_what_is_given(num_envs):
  config = RunConfig(
      num_iterations=2,
      training_steps=1000,
      num_envs=num_envs,
      replay_capacity=5000,
      min_replay_history=50,
      update_horizon=3,
  )
  assert config.student_capacity_with(0) == config.student_capacity
  two = 2 * -(-1000 // num_envs) * num_envs
  for given, stored in ((700, 700 + two), (2990, 2990 + two), (4000, 5000)):
    capacity = config.student_capacity_with(given)
    assert capacity % num_envs == 0
    # Beside the write head, as many steps as a return is long.
    assert stored <= capacity - 3 * num_envs <= stored + 5 * num_envs


@pytest.mark.parametrize(
    'changes, needed',
    [
        ({}, False),
        ({'teacher_data_ratio': 0.1}, True),
        ({'teacher_data_ratio': 0.1, 'num_iterations': 0}, False),
        ({'num_pretraining_iterations': 1, 'num_iterations': 0}, True),
    ],
)
def test_which_plans_learn_from_the_teachers_data(changes, needed):
  assert RunConfig(**changes).needs_teacher_data == needed


def test_what_is_said_where_there_is_no_data():
  both = RunConfig(num_pretraining_iterations=1, teacher_data_ratio=0.5)
  assert both.no_teacher_data.startswith(
      'There is no data of a teacher for pretraining and rehearsal '
      '(teacher_data_ratio 0.5): give a teacher'
  )
  one = RunConfig(num_pretraining_iterations=1)
  assert 'for pretraining: give' in one.no_teacher_data


def test_the_teacher_collects_at_least_what_is_asked():
  config = RunConfig(teacher_steps=100, num_eval_envs=8, gamma=0.9)
  spec = config.collection_spec()
  assert (spec.capacity, spec.num_streams, spec.gamma) == (104, 8, 0.9)
  short = RunConfig(teacher_steps=1, teacher_update_horizon=3)
  assert short.collection_spec().slots == 3 + 4 + 1


# -- parts ---------------------------------------------------------------------


def test_settings_are_composed_of_parts():
  student = parts.StudentSettings(batch_size=7, replay_ratio=Fraction(1, 2))
  reincarnation = parts.ReincarnationSettings(num_envs=3, teacher_steps=5)
  config = RunConfig.of(student, reincarnation, seed=9, teacher_steps=6)
  assert (config.batch_size, config.replay_ratio) == (7, Fraction(1, 2))
  assert (config.num_envs, config.teacher_steps, config.seed) == (3, 6, 9)
  assert config.training_steps == RunConfig().training_steps


@dataclasses.dataclass(frozen=True)
class Overriding(parts.Settings):
  """Settings of which a run has one."""

  replay_ratio: Optional[Fraction] = None
  unknown: int = 1


def test_a_later_part_wins_unless_it_is_none():
  student = parts.StudentSettings(replay_ratio=Fraction(1, 2))
  ratio = lambda *given: RunConfig.of(*given).replay_ratio
  assert ratio(student, Overriding()) == Fraction(1, 2)
  assert ratio(student, Overriding(Fraction(3))) == 3
  assert ratio(Overriding(Fraction(3)), student) == Fraction(1, 2)


def test_each_part_checks_its_own():
  with pytest.raises(ValueError, match='num_envs must be positive, got 0'):
    parts.ReincarnationSettings(num_envs=0)
  with pytest.raises(ValueError, match='updates_per_call must be positive'):
    parts.ReincarnationSettings(updates_per_call=0)
  with pytest.raises(ValueError, match='sticky_actions must be between 0 and'):
    parts.EnvironmentSettings(sticky_actions=2.0)


def test_the_environment_follows_from_the_settings():
  make_env = RunConfig(
      game='Boxing', max_agent_steps_per_episode=9, sticky_actions=0.0
  ).environment()
  assert make_env == atari.AtariFactory('Boxing', 9, 0.0)
  make_env = RunConfig(game='probe/Gridworld', frame_shape=(6, 6)).environment()
  assert make_env.frame_shape == (6, 6) and make_env.max_agent_steps == 27_000
  with pytest.raises(ValueError, match='no Atari game'):
    RunConfig(game='no such').environment()


# -- plans ---------------------------------------------------------------------


CONFIG = RunConfig(
    num_iterations=2,
    training_steps=70,
    num_pretraining_iterations=2,
    num_pretraining_steps=30,
    teacher_steps=50,
)


def test_a_whole_plan():
  assert make_plan(CONFIG, evaluate_teacher=True) == (
      Phase(plan_lib.TEACHER_EVALUATION, 0),
      Phase(plan_lib.COLLECTION, 0, agent_steps=50),
      Phase(plan_lib.PRETRAINING, 1, updates=30),
      Phase(plan_lib.PRETRAINING, 2, updates=30),
      Phase(plan_lib.ONLINE, 3, agent_steps=70, updates=None),
      Phase(plan_lib.ONLINE, 4, agent_steps=70, updates=None),
  )


def test_a_pretraining_step_may_make_several_updates():
  config = dataclasses.replace(CONFIG, updates_per_pretraining_step=4)
  phases = make_plan(config, evaluate_teacher=False)
  assert [p.updates for p in phases if p.kind == plan_lib.PRETRAINING] == [
      120
  ] * 2


def _kinds(config, **options) -> list[str]:
  return [phase.kind for phase in make_plan(config, **options)]


def test_without_teacher_steps_nothing_is_collected():
  config = dataclasses.replace(CONFIG, teacher_steps=0)
  kinds = _kinds(config, evaluate_teacher=True)
  assert plan_lib.COLLECTION not in kinds
  assert kinds[0] == plan_lib.TEACHER_EVALUATION


def test_a_known_teacher_is_not_evaluated():
  kinds = _kinds(CONFIG, evaluate_teacher=False)
  assert kinds[0] == plan_lib.COLLECTION
  assert plan_lib.TEACHER_EVALUATION not in kinds


def test_without_pretraining_iterations_count_from_one():
  config = dataclasses.replace(CONFIG, num_pretraining_iterations=0)
  phases = make_plan(config, evaluate_teacher=True)
  online = [p.iteration for p in phases if p.kind == plan_lib.ONLINE]
  assert online == [1, 2]


def test_learning_from_nothing_is_online_only():
  phases = make_plan(CONFIG, evaluate_teacher=True, reincarnate=False)
  assert phases == (
      Phase(plan_lib.ONLINE, 1, agent_steps=70, updates=None),
      Phase(plan_lib.ONLINE, 2, agent_steps=70, updates=None),
  )


def test_offline_only():
  config = dataclasses.replace(CONFIG, num_iterations=0)
  assert plan_lib.ONLINE not in _kinds(config, evaluate_teacher=False)
