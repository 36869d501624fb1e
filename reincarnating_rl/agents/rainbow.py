"""Rainbow students and teachers as Dopamine agents."""

from __future__ import annotations

from typing import Any, Optional

from dopamine.jax.agents.full_rainbow import full_rainbow_agent
import gin
import numpy as np

from reincarnating_rl.agents import settings
from reincarnating_rl.agents.one_step import ActingOnly
from reincarnating_rl.agents.one_step import Method
from reincarnating_rl.agents.one_step import OneStepAgent
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.loop.plan import NEVER_DECAY

# method_type -> (has TD, lambda and learning rate decay).
METHOD_TYPES = {
    'reincarnation': (True, True),
    'q_learning_and_dagger': (True, False),
    'dagger': (False, False),
}


@gin.configurable
class ReincarnationRainbowAgent(
    OneStepAgent, full_rainbow_agent.JaxFullRainbowAgent
):
  """Learns as Rainbow does; base of the other Rainbow students.

  Everything but the seed is `JaxFullRainbowAgent`'s and `JaxDQNAgent`'s.
  """

  @property
  def prioritized(self) -> bool:
    # Dopamine 4.1.2 overwrites the scheme that was chosen by 'uniform'.
    scheme = settings.query('JaxFullRainbowAgent.replay_scheme')
    return scheme in (None, 'prioritized')

  @property
  def num_updates_per_train_step(self) -> int:
    return self._num_updates_per_train_step

  def __init__(
      self,
      num_actions: int,
      data_augmentation: bool = False,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxFullRainbowAgent`.

    Args:
      num_actions: A.
      data_augmentation: random shifts and intensities of DrQ.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.
    """
    self._data_augmentation = data_augmentation
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

  def _build_networks_and_optimizer(self) -> None:
    super()._build_networks_and_optimizer()
    support = np.asarray(self._support)
    head = self.network_def.head.clone(
        v_min=float(support[0]), v_max=float(support[-1])
    )
    self.network_def = self.network_def.clone(head=head)

  def _objective(self, **terms: Any) -> Objective:
    td = 'mse' if self._mse_loss else 'huber'
    options = {
        'td': 'categorical' if self._distributional else td,
        'double': self._double_dqn,
        'augment': self._data_augmentation,
    }
    return Objective(**(options | terms))

  def method(self) -> Method:
    return Method(self._objective())


@gin.configurable
class TeacherRainbowAgent(ActingOnly, ReincarnationRainbowAgent):
  """A Rainbow teacher under Dopamine's Runner: it acts and never learns."""


@gin.configurable
class QDaggerRainbowAgent(ReincarnationRainbowAgent):
  """QDagger (Agarwal et al., 2022, eq. 3) with a Rainbow student."""

  def __init__(
      self,
      num_actions: int,
      distill_loss_coefficient: float = 1.0,
      distill_temperature: float = 1.0,
      distill_decay_period: int = NEVER_DECAY,
      distill_best_action_only: bool = False,
      td_loss_coefficient: float = 1.0,
      method_type: str = 'reincarnation',
      lr_decay: bool = True,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxFullRainbowAgent`.

    Args:
      num_actions: A.
      distill_loss_coefficient: c, weight of the distillation at lambda = 1.
      distill_temperature: tau of both softmax policies.
      distill_decay_period: online agent steps after which lambda is 0;
        negative = the score alone decides.
      distill_best_action_only: cross-entropy with the teacher's greedy
        action instead of the KL divergence.
      td_loss_coefficient: weight of the TD loss.
      method_type: one of METHOD_TYPES.
      lr_decay: whether the learning rate follows lambda, as
        `create_linear_schedule` says.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.
    """
    if method_type not in METHOD_TYPES:
      raise ValueError(
          f'method_type is {method_type!r}; choose one of '
          f'{", ".join(METHOD_TYPES)}.'
      )
    self._method_type = method_type
    self._coefficients = Coefficients(
        td=td_loss_coefficient,
        distill=distill_loss_coefficient,
        temperature=distill_temperature,
    )
    self._distill_best_action_only = distill_best_action_only
    self._distill_decay_period = distill_decay_period
    self._lr_decay = lr_decay
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

  def method(self) -> Method:
    has_td, decays = METHOD_TYPES[self._method_type]
    terms = {} if has_td else {'td': 'none'}
    objective = self._objective(
        distill='policy',
        distill_best_action_only=self._distill_best_action_only,
        **terms,
    )
    return Method(
        objective,
        self._coefficients,
        self._distill_decay_period,
        self._lr_decay and decays,
        decays,
    )
