"""Initial state of a student that continues its teacher."""

from __future__ import annotations

import functools
from typing import Any, Optional

from absl import logging

from reincarnating_rl.agents.methods import Reload
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.loop.training.initial_state import Beginning
from reincarnating_rl.teachers import LoadedTeacher

# Kind of a teacher's optimizer -> state class of our direction.
_STATE_NAMES = {
    'adam': 'ScaleByAdamState',
    'rmsprop': 'ScaleByRStdDevState',
}


def begin_as(
    teacher: LoadedTeacher,
    learner: ValueLearner,
    reload: Reload,
    update_horizon: int,
    gamma: float,
) -> Beginning:
  """Initial state of a student that continues where its teacher stopped.

  A part that the teacher's checkpoint lacks starts fresh, with a warning.

  Args:
    teacher: teacher, whose network the learner has.
    learner: learner of the student.
    reload: parts to take over.
    update_horizon: n of the student's transitions.
    gamma: discount of one agent step.
  """
  missing = []
  if teacher.target_params is None:
    missing.append('target network (its online parameters are copied)')
  opt_state = None
  if reload.optimizer:
    opt_state = _optimizer_state(teacher, learner)
    if opt_state is None:
      missing.append('optimizer state that fits the optimizer of the student')
  replay = None
  if reload.replay:
    if teacher.replay is None:
      missing.append('replay')
    else:
      replay = functools.partial(
          teacher.replay.for_training, update_horizon, gamma
      )
  if teacher.training_steps is None:
    missing.append('count of training steps')
  if missing:
    logging.warning(
        'The checkpoint of the teacher %s has no %s: the student starts with '
        'fresh ones.',
        teacher.path,
        ', no '.join(missing),
    )
  return Beginning(
      teacher.params,
      teacher.target_params,
      opt_state,
      teacher.training_steps or 0,
      replay,
  )


def _optimizer_state(
    teacher: LoadedTeacher, learner: ValueLearner
) -> Optional[Any]:
  """The student's optimizer state with the teacher's moments, or None."""
  moments = teacher.optimizer
  state = learner.optimizer.init(teacher.params)
  if moments is None or _STATE_NAMES[moments.kind] != type(state).__name__:
    return None
  state = state._replace(mu=moments.mu, nu=moments.nu)
  if hasattr(state, 'count'):
    state = state._replace(count=state.count + moments.count)
  return state
