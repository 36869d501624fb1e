"""Initial state of a student, and the learner of its pretraining.

Not here: the switch from the offline to the online learner (`trainer`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, Optional

import jax
import jax.numpy as jnp

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.learner import LearnerState
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.loop.acting.replay_writer import Data
from reincarnating_rl.loop.config.plan import RunConfig


@dataclasses.dataclass(frozen=True)
class OfflineLearning:
  """Learner of a pretraining that differs from the online learner.

  Attributes:
    learner: learner of the same network, with its own objective and optimizer.
    coefficients: coefficients of that objective.
    learning_rate: constant learning rate; None = as online.
    keeps_optimizer: True if the online learner continues with its optimizer
      state.
  """

  learner: ValueLearner
  coefficients: Coefficients
  learning_rate: Optional[float] = None
  keeps_optimizer: bool = False


@dataclasses.dataclass(frozen=True)
class Beginning:
  """Initial state of a student that does not start with fresh parameters.

  Attributes:
    params: parameters of the network.
    target_params: parameters of the target; None = equal to `params`.
    opt_state: state of the online learner's optimizer; None = a fresh one.
    training_steps: training steps done before; epsilon decays with them.
    replay: reads the first rows of the student's replay; called once, when the
      online phases begin. None = an empty replay.
  """

  params: Any
  target_params: Optional[Any] = None
  opt_state: Optional[Any] = None
  training_steps: int = 0
  replay: Optional[Callable[[], Data]] = None

  def describe(self) -> str:
    """Names the given parts; checkpoints compare this text."""
    given = {
        'target_params': self.target_params is not None,
        'opt_state': self.opt_state is not None,
        'replay': self.replay is not None,
    }
    parts = ['params'] + [name for name, there in given.items() if there]
    return ', '.join(parts) + f' after {self.training_steps} training steps'

  def state(
      self,
      learner: Any,
      rng_key: jax.Array,
      observation: ArraySpec,
      coefficients: Coefficients,
  ) -> LearnerState:
    """Returns a learner state made of copies, since updates donate states.

    Args:
      learner: network, objective, optimizer.
      rng_key: consumed.
      observation: shape and dtype of one state.
      coefficients: initial values.

    Raises:
      ValueError: if a part belongs to another network or optimizer.
    """
    init = functools.partial(learner.init, observation=observation)
    expected = jax.eval_shape(init, rng_key)
    take = lambda name, given: _copy(name, given, getattr(expected, name))
    params = take('online_params', self.params)
    state = learner.from_params(rng_key, params, coefficients)
    if self.target_params is not None:
      target = take('target_params', self.target_params)
      state = state._replace(target_params=target)
    if self.opt_state is not None:
      state = state._replace(opt_state=take('opt_state', self.opt_state))
    return state


def _copy(name: str, given: Any, expected: Any) -> Any:
  """Copies a tree to the device, with the expected dtypes.

  Raises:
    ValueError: if the structure or a shape differs.
  """
  shapes = lambda tree: [jnp.shape(x) for x in jax.tree.leaves(tree)]
  structure: Any = jax.tree.structure(given)
  same_structure = structure == jax.tree.structure(expected)
  if not same_structure or shapes(given) != shapes(expected):
    raise ValueError(
        f'The {name} that the student is to begin with are not those of its '
        'network and optimizer.'
    )
  return jax.tree.map(lambda x, e: jnp.array(x, e.dtype), given, expected)


def check_parts(
    learner: Any,
    offline: Optional[OfflineLearning],
    beginning: Optional[Beginning],
) -> None:
  """Raises a ValueError if learner, pretraining and initial state conflict."""
  if offline is None:
    return
  if offline.learner.network != learner.network:
    raise ValueError(
        'The network of the pretraining must be that of the online phases.'
    )
  if offline.keeps_optimizer and offline.learner.optimizer != learner.optimizer:
    raise ValueError(
        'A pretraining with another optimizer cannot leave its moments to the '
        'online phases.'
    )
  if beginning is not None and beginning.opt_state is not None:
    raise ValueError(
        'A student with a pretraining of its own starts online with a fresh '
        'optimizer: the optimizer state that it is to begin with would be lost.'
    )


def check_resets(config: RunConfig, learner: Learner) -> None:
  """Raises a ValueError if the resets do not fit the network or the method."""
  schedule = config.resets
  if schedule is None:
    return
  learner.check_resets(schedule, config.state)
  if schedule.distill_updates_after and not learner.needs_teacher:
    raise ValueError(
        f'Resets are to be followed by {schedule.distill_updates_after} '
        'updates of distillation, but this method has no distillation loss: '
        'choose a QDagger agent, or bind distill_updates_after to 0.'
    )
