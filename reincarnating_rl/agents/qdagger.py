"""QDagger (Agarwal et al., 2022, eq. 3) for any student.

Kickstarting (Schmitt et al., 2018) is QDagger without pretraining; DAgger
(Ross et al., 2011) is the distillation alone.
"""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

from reincarnating_rl.agents.methods import Method
from reincarnating_rl.agents.methods import METHOD_TYPES
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.config.parts import NEVER_DECAY

if TYPE_CHECKING:
  from reincarnating_rl.agents.one_step import OneStepAgent as _Agent
else:
  _Agent = object  # A mixin stands before the agent, not above it.


class QDagger(_Agent):
  """Mixin, before an agent: adds the distillation to its objective."""

  needs_teacher = True
  pretrains = True

  def __init__(
      self,
      *args: Any,
      distill_loss_coefficient: float = 1.0,
      distill_temperature: float = 1.0,
      distill_decay_period: int = NEVER_DECAY,
      distill_best_action_only: bool = False,
      distill_type: str = 'policy',
      td_loss_coefficient: float = 1.0,
      method_type: str = 'reincarnation',
      lr_decay: bool = True,
      **kwargs: Any,
  ):
    """Adds to the parameters of the agent.

    Args:
      *args: passed on to the agent.
      distill_loss_coefficient: c, weight of the distillation at lambda = 1.
      distill_temperature: tau of both softmax policies.
      distill_decay_period: online agent steps after which lambda is 0;
        negative = the score alone decides.
      distill_best_action_only: cross-entropy with the teacher's greedy
        action instead of the KL divergence.
      distill_type: 'policy', 'value' or 'both'.
      td_loss_coefficient: weight of the TD loss.
      method_type: one of METHOD_TYPES.
      lr_decay: True if the learning rate follows lambda
        (`create_linear_schedule`).
      **kwargs: passed on to the agent.

    Raises:
      ValueError: for an unknown method_type.
    """
    super().__init__(*args, **kwargs)
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
    self._distill_type = distill_type
    self._distill_best_action_only = distill_best_action_only
    self._distill_decay_period = distill_decay_period
    self._lr_decay = lr_decay

  def method(self) -> Method:
    has_td, decays = METHOD_TYPES[self._method_type]
    objective = self.objective(
        distill=self._distill_type,
        distill_best_action_only=self._distill_best_action_only,
        **({} if has_td else {'td': None}),
    )
    return Method(
        objective,
        self._coefficients,
        self._distill_decay_period,
        self._lr_decay and decays,
        decays,
    )
