"""Implicit quantile (IQN) students as Dopamine agents.

They subclass Dopamine's DQN, not its IQN, whose constructor takes gamma,
horizon and schedules under names of its own: here `JaxDQNAgent`'s bindings
hold for every student.
"""

from __future__ import annotations

from typing import Any

from dopamine.jax.agents.dqn import dqn_agent
import gin

from reincarnating_rl.agents.one_step import OneStepAgent
from reincarnating_rl.agents.qdagger import QDagger
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import Quantile


@gin.configurable
class ReincarnationIQNAgent(OneStepAgent, dqn_agent.JaxDQNAgent):
  """Learns quantile values (Dabney et al., 2018b); base of IQN students."""

  def __init__(
      self,
      *args: Any,
      num_tau_samples: int = 64,
      num_tau_prime_samples: int = 64,
      double_dqn: bool = False,
      **kwargs: Any,
  ):
    """Adds to the parameters of `JaxDQNAgent`.

    Args:
      *args: passed on.
      num_tau_samples: N, online quantiles of the loss.
      num_tau_prime_samples: N', target quantiles of the loss.
      double_dqn: bootstrap from the action that the online network prefers.
      **kwargs: passed on.
    """
    self._num_tau_samples = num_tau_samples
    self._num_tau_prime_samples = num_tau_prime_samples
    self._double_dqn = double_dqn
    super().__init__(*args, **kwargs)

  def objective(self, **terms: Any) -> Objective:
    options: dict[str, Any] = {
        'td': Quantile(self._num_tau_samples, self._num_tau_prime_samples),
        'double': self._double_dqn,
    }
    return Objective(**(options | terms))


@gin.configurable
class QDaggerIQNAgent(QDagger, ReincarnationIQNAgent):
  """QDagger with an implicit quantile student."""
