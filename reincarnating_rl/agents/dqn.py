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
from reincarnating_rl.loop.config.plan import NEVER_DECAY


@gin.configurable
class ReincarnationDQNAgent(OneStepAgent, dqn_agent.JaxDQNAgent):
  """Learns by Q-learning alone; base of the other DQN students."""

  def objective(self, **terms: Any) -> Objective:
    options = {'td': self._loss_type, 'augment': self._data_augmentation}
    return Objective(**(options | terms))


@gin.configurable
class TeacherDQNAgent(ActingOnly, ReincarnationDQNAgent):
  """A DQN teacher under Dopamine's Runner: it acts and never learns."""


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
      num_actions: int,
      margin: float = 1.0,
      margin_coefficient: float = 1.0,
      dqfd_margin: bool = False,
      use_teacher_actions: bool = True,
      decay_period: int = NEVER_DECAY,
      lr_decay: bool = False,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxDQNAgent`.

    Args:
      num_actions: A.
      margin: m, by which the expert's action should stand out.
      margin_coefficient: weight of the margin loss at lambda = 1.
      dqfd_margin: max_a [Q + m 1(a != a_E)] - Q(a_E), as Hester et al. have
        it, instead of the mean of max(Q + m 1(a != a_E) - Q(a_E), 0).
      use_teacher_actions: a_E is the teacher's greedy action, else that of
        its data (no margin then on the student's own data).
      decay_period: online agent steps after which lambda is 0; negative =
        the score alone decides.
      lr_decay: whether the learning rate follows lambda.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.
    """
    self._coefficients = Coefficients(
        margin=margin_coefficient, margin_size=margin
    )
    self._margin_type = 'dqfd' if dqfd_margin else 'elementwise'
    self._use_teacher_actions = use_teacher_actions
    self._decay_period = decay_period
    self._lr_decay = lr_decay
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

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
      num_actions: int,
      cql_coefficient: float = 1.0,
      temperature: float = 0.1,
      teacher_data_ratio: float = 0.0,
      use_offline_samples_only: bool = False,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxDQNAgent`.

    Args:
      num_actions: A.
      cql_coefficient: alpha, weight of the conservative term offline.
      temperature: tau of that term.
      teacher_data_ratio: probability that an online sample is taken from the
        teacher's data.
      use_offline_samples_only: teacher_data_ratio = 1.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.
    """
    self._coefficients = Coefficients(
        cql=cql_coefficient, temperature=temperature
    )
    self._ratio = 1.0 if use_offline_samples_only else teacher_data_ratio
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

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
      num_actions: int,
      max_roll_in_steps: int = 1000,
      roll_in_guide: bool = False,
      roll_out_guide_prob: float = 1.0,
      roll_out_decay_period: int = 2_500_000,
      decay_roll_in_steps: bool = True,
      roll_out_decay_fn: Optional[Any] = None,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxDQNAgent`.

    Args:
      num_actions: A.
      max_roll_in_steps: H; an episode rolls in for U{1..H} agent steps.
      roll_in_guide: whether the teacher rolls in, else the student.
      roll_out_guide_prob: probability that the teacher takes a later step.
      roll_out_decay_period: online agent steps in which that falls to 0.
      decay_roll_in_steps: whether H shrinks by a fifth an iteration.
      roll_out_decay_fn: Dopamine's linearly_decaying_epsilon (the default)
        or identity_epsilon, which keeps the probability.
      summary_writer: directory or writer of TensorBoard events.
      seed: of networks, sampling and acting.

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
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

  def method(self) -> Method:
    return Method(self.objective(), guide=self._guide)


@gin.configurable
class ReloadedDQNAgent(ReincarnationDQNAgent):
  """Fine-tuning: the student is the teacher, and goes on where it stopped."""

  needs_teacher = True

  def __init__(
      self,
      num_actions: int,
      load_replay: bool = True,
      reload_optimizer: bool = True,
      summary_writer: Optional[Any] = None,
      seed: Optional[int] = None,
  ):
    """Takes Dopamine's hyperparameters from `JaxDQNAgent`.

    Args:
      num_actions: A.
      load_replay: whether the student's replay starts with the teacher's.
      reload_optimizer: whether the optimizer goes on with its moments.
      summary_writer: directory or writer of TensorBoard events.
      seed: of sampling and acting.
    """
    self._reload = Reload(load_replay, reload_optimizer)
    super().__init__(
        num_actions=num_actions, summary_writer=summary_writer, seed=seed
    )

  def method(self) -> Method:
    return Method(self.objective(), reload=self._reload)
