"""Runs of several teachers: who is right where, and going on."""

from __future__ import annotations

import dataclasses

import numpy as np
from probes import Linear
from probes import NUM_ACTIONS
from probes import SMALL_RUN
from probes import small_vector
from probes import table_policy
import pytest
from small_runs import assert_same
from small_runs import FRAME_SHAPE
from small_runs import make_policy
from small_runs import outcome
import stopped_runs
from stopped_runs import Cut

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import teachers
from reincarnating_rl.envs.probe import draw_states
from reincarnating_rl.envs.probe import Gridworld
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import CheckpointMismatchError
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.teachers.ensemble import BEST
from reincarnating_rl.teachers.ensemble import Combination

GRID = Gridworld(3, 3)
Q_OPTIMAL = GRID.optimal_q_values(0.7)
STATES = np.arange(GRID.num_states)
NEAR = STATES >= 4  # the half of the states at the goal
TEMPERATURE = 0.1


def as_teacher(policy, path='here'):
  return teachers.LoadedTeacher(
      path, policy.network, policy.params, checkpoint_number=1
  )


def together(policies, how, temperature=TEMPERATURE):
  """Several policies as one teacher of a run."""
  loaded = [as_teacher(policy, str(k)) for k, policy in enumerate(policies)]
  ensemble = teachers.combine(loaded, how, temperature)
  return Teacher(value_policy(ensemble.network, ensemble.acting_params))


# -- who is right where --------------------------------------------------------


def right_in(states):
  """A teacher that knows some states, and promises less elsewhere, wrongly."""
  wrong = 0.5 * np.roll(Q_OPTIMAL, 2, axis=1)  # The opposite way.
  return table_policy(np.where(states[:, None], Q_OPTIMAL, wrong))


def distilled(teacher):
  """A student that has heard the teacher, and nobody else."""
  config = dataclasses.replace(
      SMALL_RUN,
      num_iterations=0,
      num_pretraining_steps=800,
      teacher_steps=400,
      teacher_epsilon=0.2,
      batch_size=32,
      learning_rate=1e-2,
      epsilon_eval=0.0,
      evaluation_steps=100,
      frame_shape=FRAME_SHAPE,
  )
  objective = learner_lib.Objective(None, distill='policy')
  run = Run(
      config,
      learner_lib.ValueLearner(
          Linear(), objective, learner_lib.adam_direction()
      ),
      lambda num_envs, seed, stream: small_vector(
          GRID,
          num_envs,
          seed,
          stream=stream,
          stack_size=4,
          frame_shape=FRAME_SHAPE,
      ),
      random_score=0.0,
      teacher=teacher,
      coefficients=learner_lib.Coefficients(temperature=TEMPERATURE),
  )
  run.run()
  return run


def is_right(run):
  """[S] whether an episode that begins there begins with an optimal action."""
  stacks = np.zeros((GRID.num_states,) + FRAME_SHAPE + (4,), np.uint8)
  stacks[..., -1] = draw_states(GRID.num_states, FRAME_SHAPE)
  chosen = np.asarray(run.trainer.policy.q_values(stacks)).argmax(axis=1)
  return Q_OPTIMAL[STATES, chosen] >= Q_OPTIMAL.max(axis=1) - 1e-6


def test_of_two_that_know_a_half_each_the_best_knows_all():
  run = distilled(
      together([right_in(NEAR), right_in(~NEAR)], Combination(BEST))
  )
  assert run.teacher_score == 1.0  # They play as one, and find the way out.
  assert is_right(run).all()
  assert run.records[-1].student_score == 1.0
  alone = distilled(Teacher(right_in(NEAR)))
  np.testing.assert_array_equal(is_right(alone), NEAR)


def test_a_mixture_follows_who_is_sure():
  """Where one has no preference, the other's decides."""
  unsure = np.full((GRID.num_states, NUM_ACTIONS), 0.5, np.float32)
  halves = [
      table_policy(np.where(half[:, None], Q_OPTIMAL, unsure))
      for half in (NEAR, ~NEAR)
  ]
  run = distilled(together(halves, Combination()))
  assert run.teacher_score == 1.0
  assert is_right(run).all()


# -- going on ------------------------------------------------------------------


def make_run(how=Combination(), order=1, **changes):
  policies = [make_policy(seed) for seed in (9, 10)]
  teacher = together(policies[::order], how)
  return stopped_runs.make_run(teacher=teacher, **changes)


def cut_after(directory, run, num_phases):
  """Saves a run after so many phases, and ends it there."""
  checkpointer = RunCheckpointer(str(directory))

  def after_phase(run):
    if run.next_phase == num_phases:
      checkpointer.save(run)
      raise Cut

  with pytest.raises(Cut):
    run.run(after_phase)
  checkpointer.close()


# After the collection; after the first online iteration.
@pytest.mark.parametrize('num_phases', [2, 4])
def test_stopped_and_continued_it_is_the_same_run(tmp_path, num_phases):
  whole = make_run()
  whole.run()
  cut_after(tmp_path, make_run(), num_phases)
  continued = make_run()
  assert RunCheckpointer(str(tmp_path)).restore(continued)
  assert continued.next_phase == num_phases
  continued.run()
  assert 'q_teacher' in whole.trainer.writer.state.storage.extras
  assert_same(outcome(whole), outcome(continued))
  assert len(continued.records) == len(whole.plan)


def test_other_teachers_weights_or_combination_are_refused(tmp_path):
  cut_after(tmp_path, make_run(), 1)
  others = [
      make_run(order=-1),
      make_run(Combination(weights=(1, 2))),
      make_run(Combination(BEST)),
  ]
  for other in others:
    with pytest.raises(CheckpointMismatchError, match='teacher was .*, is'):
      RunCheckpointer(str(tmp_path)).restore(other)
  assert RunCheckpointer(str(tmp_path)).restore(
      make_run(Combination(weights=(3, 3)))
  )


def test_several_guide_as_one():
  """Every step of the student's episodes is theirs."""
  guide = GuideConfig(max_roll_in_steps=100, decay_roll_in_steps=False)
  run = make_run(Combination(BEST), guide=guide)
  run.run()
  assert run.records[-1].metrics['guide_share'] == 1.0
