"""DQN students and teachers as Dopamine agents."""

from __future__ import annotations

from typing import Any, Optional

from dopamine.jax.agents.dqn import dqn_agent
import gin

from reincarnating_rl.agents.methods import Method
from reincarnating_rl.agents.methods import Offline
from reincarnating_rl.agents.methods import Reload
from reincarnating_rl.agents.one_step import ActingOnly
from reincarnating_rl.agents.one_step import OneStepAgent
from reincarnating_rl.agents.qdagger import QDagger
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.config.parts import NEVER_DECAY


@gin.configurable
class ReincarnationDQNAgent(OneStepAgent, dqn_agent.JaxDQNAgent):
  """Q-learning alone; base of the other DQN students."""

  def objective(self, **terms: Any) -> Objective:
    options: dict[str, Any] = {
        'td': self._loss_type,
        'augment': self._data_augmentation,
    }
    return Objective(**(options | terms))


@gin.configurable
class TeacherDQNAgent(ActingOnly, ReincarnationDQNAgent):
  """A DQN teacher under Dopamine's Runner: acts and never learns."""


@gin.configurable
class QDaggerDQNAgent(QDagger, ReincarnationDQNAgent):
  """QDagger, and kickstarting, with a DQN student."""


@gin.configurable
class DQfDAgent(ReincarnationDQNAgent):
  """Deep Q-learning from demonstrations (Hester et al., 2018, eq. 1).

  The margin falls with lambda, as every influence of the teacher does in
  Agarwal et al. (2022, section 4.2).
  """

  needs_teacher = True
  pretrains = True

  def __init__(
      self,
      *args: Any,
      margin: float = 1.0,
      margin_coefficient: float = 1.0,
      dqfd_margin: bool = False,
      use_teacher_actions: bool = True,
      decay_period: int = NEVER_DECAY,
      lr_decay: bool = False,
      **kwargs: Any,
  ):
    """Adds to the parameters of the family.

    Args:
      *args: passed on.
      margin: m, distance between the expert's action and the others.
      margin_coefficient: weight of the margin loss at lambda = 1.
      dqfd_margin: max_a [Q + m 1(a != a_E)] - Q(a_E), as Hester et al. have
        it, instead of the mean of max(Q + m 1(a != a_E) - Q(a_E), 0).
      use_teacher_actions: a_E is the teacher's greedy action, else that of
        its data (no margin then on the student's own data).
      decay_period: online agent steps after which lambda is 0; negative =
        the score alone decides.
      lr_decay: True if the learning rate follows lambda.
      **kwargs: passed on.
    """
    self._coefficients = Coefficients(
        margin=margin_coefficient, margin_size=margin
    )
    self._margin_type = 'dqfd' if dqfd_margin else 'elementwise'
    self._use_teacher_actions = use_teacher_actions
    self._decay_period = decay_period
    self._lr_decay = lr_decay
    super().__init__(*args, **kwargs)

  def method(self) -> Method:
    demonstrations = self.objective(
        margin=self._margin_type, use_teacher_actions=self._use_teacher_actions
    )
    method = Method(
        demonstrations,
        self._coefficients,
        self._decay_period,
        self._lr_decay,
    )
    if self._use_teacher_actions:
      return method
    offline = Offline(demonstrations, self._coefficients)
    return method._replace(objective=self.objective(), offline=offline)


@gin.configurable
class PretrainedDQNAgent(ReincarnationDQNAgent):
  """Offline pretraining with CQL (Kumar et al., 2020), then Q-learning.

  With a `teacher_data_ratio` also rehearsal (Paine et al., 2019): a share of
  the online samples comes from the teacher's data.
  """

  needs_teacher = True
  pretrains = True

  def __init__(
      self,
      *args: Any,
      cql_coefficient: float = 1.0,
      temperature: float = 0.1,
      teacher_data_ratio: float = 0.0,
      use_offline_samples_only: bool = False,
      **kwargs: Any,
  ):
    """Adds to the parameters of the family.

    Args:
      *args: passed on.
      cql_coefficient: alpha, weight of the conservative term offline.
      temperature: tau of that term.
      teacher_data_ratio: probability that an online sample is taken from the
        teacher's data.
      use_offline_samples_only: teacher_data_ratio = 1.
      **kwargs: passed on.
    """
    self._coefficients = Coefficients(
        cql=cql_coefficient, temperature=temperature
    )
    self._ratio = 1.0 if use_offline_samples_only else teacher_data_ratio
    super().__init__(*args, **kwargs)

  def method(self) -> Method:
    offline = Offline(
        self.objective(cql=True),
        self._coefficients,
        settings.create_pretraining_optimizer(self._optimizer_name),
    )
    return Method(
        self.objective(), offline=offline, teacher_data_ratio=self._ratio
    )


@gin.configurable
class JSRLAgent(ReincarnationDQNAgent):
  """Jump-start RL (Uchendu et al., 2023): teacher and student take turns."""

  needs_teacher = True

  def __init__(
      self,
      *args: Any,
      max_roll_in_steps: int = 1000,
      roll_in_guide: bool = False,
      roll_out_guide_prob: float = 1.0,
      roll_out_decay_period: int = 2_500_000,
      decay_roll_in_steps: bool = True,
      roll_out_decay_fn: Optional[Any] = None,
      **kwargs: Any,
  ):
    """Adds to the parameters of the family.

    Args:
      *args: passed on.
      max_roll_in_steps: H; an episode rolls in for U{1..H} agent steps.
      roll_in_guide: True if the teacher rolls in, else the student does.
      roll_out_guide_prob: probability that the teacher takes a later step.
      roll_out_decay_period: online agent steps in which that falls to 0.
      decay_roll_in_steps: True if H shrinks by a fifth each iteration.
      roll_out_decay_fn: Dopamine's linearly_decaying_epsilon (the default)
        or identity_epsilon, which keeps the probability.
      **kwargs: passed on.

    Raises:
      ValueError: for another roll_out_decay_fn.
    """
    decays = settings.decays(roll_out_decay_fn, 'JSRLAgent.roll_out_decay_fn')
    self._guide = GuideConfig(
        max_roll_in_steps=max_roll_in_steps,
        roll_in_guide=roll_in_guide,
        decay_roll_in_steps=decay_roll_in_steps,
        roll_out_guide_prob=roll_out_guide_prob,
        roll_out_decay_period=roll_out_decay_period if decays else NEVER_DECAY,
    )
    super().__init__(*args, **kwargs)

  def method(self) -> Method:
    return Method(self.objective(), guide=self._guide)


@gin.configurable
class ReloadedDQNAgent(ReincarnationDQNAgent):
  """Fine-tuning: the student continues the teacher where it stopped."""

  needs_teacher = True

  def __init__(
      self,
      *args: Any,
      load_replay: bool = True,
      reload_optimizer: bool = True,
      **kwargs: Any,
  ):
    """Adds to the parameters of the family.

    Args:
      *args: passed on.
      load_replay: True if the student's replay starts with the teacher's.
      reload_optimizer: True if the optimizer keeps the teacher's moments.
      **kwargs: passed on.
    """
    self._reload = Reload(load_replay, reload_optimizer)
    super().__init__(*args, **kwargs)

  def method(self) -> Method:
    return Method(self.objective(), reload=self._reload)
