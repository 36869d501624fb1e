"""Runs of seconds on a probe, and their directories."""

from __future__ import annotations

import dataclasses
import functools
import os

import jax
import numpy as np
from probes import Linear
from probes import SMALL_RUN

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import teachers
from reincarnating_rl.envs import probe
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer

FRAME_SHAPE = (6, 6)
NETWORK = Linear()
CONFIG = dataclasses.replace(
    SMALL_RUN,
    num_iterations=2,
    training_steps=40,
    evaluation_steps=16,
    num_pretraining_steps=120,
    replay_capacity=60,  # the ring is written over in the second iteration
    frame_shape=FRAME_SHAPE,
)
# Without a teacher.
ALONE = dataclasses.replace(
    CONFIG,
    num_pretraining_iterations=0,
    num_pretraining_steps=SMALL_RUN.num_pretraining_steps,
    teacher_steps=0,
)
DISTILLING_LEARNER = learner_lib.ValueLearner(
    NETWORK,
    learner_lib.Objective('huber', distill='policy'),
    learner_lib.adam_direction(),
)


@functools.cache
def teacher_params():
  states = np.zeros((1,) + FRAME_SHAPE + (4,), np.uint8)
  return NETWORK.init(jax.random.PRNGKey(9), states)['params']


def make_env(num_envs, seed, stream=()):
  """Episodes end by themselves, and by a time limit."""
  return probe.ProbeVector(
      probe.Gridworld(),
      num_envs,
      seed,
      stream,
      max_agent_steps=7,
      frame_shape=FRAME_SHAPE,
  )


def make_run(
    network=None,
    optimizer=None,
    objective=None,
    teacher=None,
    **changes,
):
  """A run before its first phase; `changes` of ALONE."""
  learner = learner_lib.ValueLearner(
      network or NETWORK,
      objective or learner_lib.Objective('huber'),
      optimizer or learner_lib.adam_direction(),
  )
  config = dataclasses.replace(ALONE, **changes)
  return Run(config, learner, make_env, random_score=-1.0, teacher=teacher)


def save_all(directory, run):
  """Carries a run out, with a checkpoint after each of its phases."""
  folder = os.path.join(directory, 'checkpoints')
  checkpointer = RunCheckpointer(folder, keep=9)
  run.run(checkpointer.save)
  checkpointer.close()
  return str(directory)


def load(directory, number=None, **options):
  """The teacher there; `Linear` is a module of the tests."""
  return teachers.load(str(directory), number, trusted=('probes',), **options)


def as_teacher(teacher):
  """A loaded teacher as runs take it, its data with it."""
  policy = value_policy(teacher.network, teacher.params)
  read = functools.partial(teacher.replay_with_q_values, CONFIG.update_horizon)
  return Teacher(policy, 0.5, read)
