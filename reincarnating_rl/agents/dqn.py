"""DQN students and teachers as Dopamine agents."""

from __future__ import annotations

from typing import Any, Optional

from dopamine.jax.agents.dqn import dqn_agent
import gin

from reincarnating_rl.agents.one_step import ActingOnly
from reincarnating_rl.agents.one_step import Method
from reincarnating_rl.agents.one_step import OneStepAgent
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.loop.plan import NEVER_DECAY


@gin.configurable
class ReincarnationDQNAgent(OneStepAgent, dqn_agent.JaxDQNAgent):
  """Learns by Q-learning alone; base of the other DQN students."""

  def __init__(
      self,
      num_actions: int,
      num_updates_per_train_step: int = 1,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxDQNAgent`.

    Args:
      num_actions: A.
      num_updates_per_train_step: updates every `update_period` agent steps.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.
    """
    self.num_updates_per_train_step = num_updates_per_train_step
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

  def method(self) -> Method:
    return Method(Objective(td=self._loss_type))


@gin.configurable
class TeacherDQNAgent(ActingOnly, ReincarnationDQNAgent):
  """A DQN teacher under Dopamine's Runner: it acts and never learns."""


@gin.configurable
class QDaggerDQNAgent(ReincarnationDQNAgent):
  """QDagger (Agarwal et al., 2022, eq. 3), and kickstarting, with a DQN."""

  def __init__(
      self,
      num_actions: int,
      distill_loss_coefficient: float = 1.0,
      distill_temperature: float = 1.0,
      distill_decay_period: int = NEVER_DECAY,
      distill_best_action_only: bool = False,
      distill_type: str = 'policy',
      lr_decay: bool = True,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxDQNAgent`.

    Args:
      num_actions: A.
      distill_loss_coefficient: c, weight of the distillation at lambda = 1.
      distill_temperature: tau of both softmax policies.
      distill_decay_period: online agent steps after which lambda is 0;
        negative = the score alone decides.
      distill_best_action_only: cross-entropy with the teacher's greedy
        action instead of the KL divergence.
      distill_type: 'policy', 'value' or 'both'.
      lr_decay: whether the learning rate follows lambda, as
        `create_linear_schedule` says.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.
    """
    self._coefficients = Coefficients(
        distill=distill_loss_coefficient, temperature=distill_temperature
    )
    self._distill_type = distill_type
    self._distill_best_action_only = distill_best_action_only
    self._distill_decay_period = distill_decay_period
    self._lr_decay = lr_decay
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

  def method(self) -> Method:
    objective = Objective(
        td=self._loss_type,
        distill=self._distill_type,
        distill_best_action_only=self._distill_best_action_only,
    )
    return Method(
        objective,
        self._coefficients,
        self._distill_decay_period,
        self._lr_decay,
    )
