"""Rainbow students and teachers as Dopamine agents."""

from __future__ import annotations

from typing import Any

from dopamine.jax.agents.full_rainbow import full_rainbow_agent
import gin
import numpy as np

from reincarnating_rl.agents.one_step import ActingOnly
from reincarnating_rl.agents.one_step import OneStepAgent
from reincarnating_rl.agents.qdagger import QDagger
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.learner import Objective

_SCHEMES = ('uniform', 'prioritized')


@gin.configurable
class ReincarnationRainbowAgent(
    OneStepAgent, full_rainbow_agent.JaxFullRainbowAgent
):
  """Learns as Rainbow does; base of the other Rainbow students.

  Everything but the seed is `JaxFullRainbowAgent`'s and `JaxDQNAgent`'s.
  """

  network_binding = 'JaxFullRainbowAgent.network'

  @property
  def prioritized(self) -> bool:
    # Dopamine 4.1.2 overwrites the scheme that was chosen by 'uniform'.
    scheme = settings.query('JaxFullRainbowAgent.replay_scheme')
    if scheme not in (None, *_SCHEMES):
      raise ValueError(
          f'JaxFullRainbowAgent.replay_scheme is {scheme!r}; choose one of '
          f'{", ".join(_SCHEMES)}.'
      )
    return scheme != 'uniform'

  def __init__(
      self,
      *args: Any,
      teacher_replay_scheme: str = 'uniform',
      **kwargs: Any,
  ):
    """Adds to the parameters of `JaxFullRainbowAgent`.

    Args:
      *args: passed on.
      teacher_replay_scheme: how pretraining draws from the teacher's data:
        'uniform', as in the paper, and nothing else.
      **kwargs: passed on.

    Raises:
      ValueError: for another teacher_replay_scheme.
    """
    if teacher_replay_scheme != 'uniform':
      raise ValueError(
          f'teacher_replay_scheme is {teacher_replay_scheme!r}; the data of a '
          "teacher, which runs share, is drawn from uniformly: 'uniform'."
      )
    super().__init__(*args, **kwargs)

  def _build_networks_and_optimizer(self) -> None:
    super()._build_networks_and_optimizer()
    support = np.asarray(self._support)
    head = self.network_def.head.clone(
        v_min=float(support[0]), v_max=float(support[-1])
    )
    self.network_def = self.network_def.clone(head=head)

  def objective(self, **terms: Any) -> Objective:
    td = 'mse' if self._mse_loss else 'huber'
    options: dict[str, Any] = {
        'td': 'categorical' if self._distributional else td,
        'double': self._double_dqn,
        'augment': self._data_augmentation,
    }
    return Objective(**(options | terms))


@gin.configurable
class TeacherRainbowAgent(ActingOnly, ReincarnationRainbowAgent):
  """A Rainbow teacher under Dopamine's Runner: it acts and never learns."""


@gin.configurable
class QDaggerRainbowAgent(QDagger, ReincarnationRainbowAgent):
  """QDagger with a Rainbow student; with one atom and augmentation, DrQ."""
