"""What is foretold of a run is what it does."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import functools

import numpy as np
import pytest

from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.config import estimate as forecast_lib
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config import plan_text
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training.update_schedule import Duties
from reincarnating_rl.loop.training.update_schedule import Learn
from reincarnating_rl.loop.training.update_schedule import Reset

CONFIG = RunConfig(
    num_iterations=3,
    training_steps=101,
    num_pretraining_iterations=2,
    num_pretraining_steps=30,
    num_envs=2,
    replay_capacity=400,
    min_replay_history=20,
    target_update_period=8,
    frame_shape=(4, 4),
)
RATIOS = [Fraction(1, 4), Fraction(1, 3), 1, Fraction(5, 2), 8]


def carried_out(config):
  """(updates, agent steps of resets) of each phase, by counting duties."""
  duties, found = Duties(config), []
  counters = duties.counters

  def do(works):
    for work in works:
      if isinstance(work, Learn):
        counters.updates_made += work.updates.count
      elif isinstance(work, Reset):
        found[-1][1].append(counters.agent_steps)

  for phase in plan_lib.make_plan(config, evaluate_teacher=False):
    found.append([-counters.updates_made, []])
    if phase.kind == plan_lib.PRETRAINING:
      do(duties.of_pretraining(config.num_pretraining_steps))
      counters.online_since = counters.training_steps
    else:
      for _ in range(config.ticks):
        do(duties.of_step())
        counters.agent_steps += config.num_envs
      do(duties.left())
      assert counters.updates_made == counters.updates_due
    found[-1][0] += counters.updates_made
  return found


@pytest.mark.parametrize('updates_per_call', [None, 5])
@pytest.mark.parametrize('unit', ['agent_steps', 'updates', None])
@pytest.mark.parametrize('num_envs', [1, 2, 3])
@pytest.mark.parametrize('ratio', RATIOS)
def test_a_run_does_what_was_foretold(ratio, num_envs, unit, updates_per_call):
  resets = None
  if unit is not None:
    period = max(30, 31 * int(ratio)) if unit == 'updates' else 37
    resets = ResetSchedule(period, unit=unit, updates_after=7)
  config = dataclasses.replace(
      CONFIG,
      replay_ratio=ratio,
      num_envs=num_envs,
      resets=resets,
      updates_per_call=updates_per_call,
  )
  phases = plan_lib.make_plan(config, evaluate_teacher=False)
  foretold = forecast_lib.forecast(config, phases)
  done = carried_out(config)
  assert [(f.updates, list(f.resets)) for f in foretold] == [
      (updates, steps) for updates, steps in done
  ]
  if resets is not None:
    assert any(f.resets for f in foretold)


@pytest.mark.parametrize('ratio', RATIOS)
def test_updates_due_are_the_ratio_times_the_steps(ratio):
  """From the first training step on that finds the replay filled."""
  config = dataclasses.replace(CONFIG, replay_ratio=ratio, num_envs=1)
  done = sum(updates for updates, _ in carried_out(config)[2:])
  learning = 3 * 101 - (config.min_replay_history + 1)
  assert abs(done - ratio * learning) < 1


def test_resets_by_hand():
  """Every 40 agent steps of 303, none with less than 40 left: 40 to 240."""
  config = dataclasses.replace(CONFIG, num_envs=1, resets=ResetSchedule(40))
  phases = plan_lib.make_plan(config, evaluate_teacher=False)
  resets = [f.resets for f in forecast_lib.forecast(config, phases)]
  assert resets == [(), (), (40, 80), (120, 160, 200), (240,)]


def test_no_updates_after_a_reset_that_comes_before_the_replay_is_ready():
  """At agent steps 10 and 20; it is learned from from step 22 on."""
  schedule = ResetSchedule(10, updates_after=7, no_resets_after=30)
  config = dataclasses.replace(CONFIG, resets=schedule)
  phases = plan_lib.make_plan(config, evaluate_teacher=False)
  foretold = forecast_lib.forecast(config, phases)[2]
  done = carried_out(config)[2]
  assert list(foretold.resets) == done[1] == [10, 20]
  assert foretold.updates == done[0] == 20


@pytest.mark.parametrize(
    'changes',
    [
        {'num_envs': 1, 'replay_ratio': Fraction(5, 2)},  # 2 or 3 in a step
        {'replay_ratio': 8, 'updates_per_call': 1},  # 16 in a step
    ],
)
def test_no_two_resets_before_one_step(changes):
  """Such a period is refused, or foretold as it is carried out."""
  schedule = ResetSchedule(2, unit='updates', no_resets_after=40)
  try:
    config = dataclasses.replace(CONFIG, resets=schedule, **changes)
  except ValueError as e:
    assert 'period of resets is 2 updates' in str(e)
    return
  foretold = forecast_lib.forecast(
      config, plan_lib.make_plan(config, evaluate_teacher=False)
  )
  assert [list(f.resets) for f in foretold] == [
      r for _, r in carried_out(config)
  ]


def test_rows_that_are_given_count_at_once():
  config = dataclasses.replace(CONFIG, num_envs=1, replay_ratio=1)
  clock = functools.partial(forecast_lib.OnlineClock, config)
  assert clock(given_rows=100).updates(10) == 10
  assert clock().updates(21) == 0
  assert clock().updates(22) == 1


def test_memory_is_what_the_replays_will_take():
  config = dataclasses.replace(CONFIG, teacher_steps=64, num_eval_envs=8)
  memory = forecast_lib.memory(config, num_actions=6, keeps_q_values=True)
  spec = config.student_spec(config.student_capacity)
  assert memory.student == spec.nbytes + spec.capacity * 24
  assert memory.teacher == pytest.approx(
      config.collection_spec().nbytes + 64 * 24
  )
  assert not memory.at_once
  # Nobody learns from what is collected, and it is there.
  alone = dataclasses.replace(config, num_pretraining_iterations=0)
  assert forecast_lib.memory(alone, 6) == (spec.nbytes, memory.teacher, False)
  assert forecast_lib.memory(alone) == (spec.nbytes, 0, False)
  # What the teacher left, for what it is needed for.
  config = dataclasses.replace(config, teacher_steps=0)
  assert forecast_lib.memory(config, 6, teacher_rows=64) == (
      spec.nbytes,
      pytest.approx(memory.teacher),
      False,
  )
  alone = dataclasses.replace(alone, teacher_steps=0)
  assert forecast_lib.memory(alone, 6, teacher_rows=64).teacher == 0
  given = forecast_lib.memory(alone, 6, given_rows=64, teacher_rows=64)
  assert given.teacher == pytest.approx(memory.teacher) and given.at_once
  rehearsed = dataclasses.replace(config, teacher_data_ratio=0.5)
  assert forecast_lib.memory(rehearsed, 6, teacher_rows=64).at_once


def test_the_plan_in_words():
  config = dataclasses.replace(CONFIG, num_envs=1, resets=ResetSchedule(40))
  phases = plan_lib.make_plan(config, evaluate_teacher=True)
  lines = plan_text.describe(
      config,
      forecast_lib.forecast(config, phases),
      forecast_lib.Memory(3 * 2**30, 2**20),
  )
  text = '\n'.join(lines)
  assert '3 resets at agent step 120, 160, 200' in text
  assert '1 reset at agent step 240' in text
  assert '303 online agent steps (1212 frames)' in text
  assert '3.00 GiB for the replay of the student, 1.0 MiB' in text
  assert np.all([len(line) < 160 for line in lines])
