"""Dopamine's one-step interface on top of the loop's trainer.

Dopamine's own Runner asks an agent for one action at a time. The mixin here
answers with the functions of the vectorised loop: the trainer acts, stores and
learns.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Optional, TYPE_CHECKING

import jax
import numpy as np

from reincarnating_rl.agents.methods import Method
from reincarnating_rl.dopamine_bridge import networks
from reincarnating_rl.dopamine_bridge import replay_ratio
from reincarnating_rl.dopamine_bridge import reset_settings
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.dopamine_bridge import signatures
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.config.parts import StudentSettings
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training.initial_state import OfflineLearning
from reincarnating_rl.loop.training.trainer import Trainer

if TYPE_CHECKING:
  from dopamine.jax.agents.dqn.dqn_agent import JaxDQNAgent as _DopamineAgent
else:
  _DopamineAgent = object  # A mixin stands before the agent, not above it.

_EPSILON_SCHEDULES: dict[str, Callable[[Any], dict[str, Any]]] = {
    'reincarnation_linearly_decaying_epsilon': lambda agent: {
        'epsilon_decay_period': agent.epsilon_decay_period
    },
    'linearly_decaying_epsilon': lambda agent: {
        'epsilon_decay_period': agent.epsilon_decay_period,
        'epsilon_warmup_steps': agent.min_replay_history,
    },
    'identity_epsilon': lambda agent: {'epsilon_decay_period': 0},
    'zero_epsilon': lambda agent: {
        'epsilon_decay_period': 0,
        'epsilon_train': 0.0,
    },
}


class OneStepAgent(_DopamineAgent):
  """Mixin for subclasses of Dopamine's JaxDQNAgent.

  A leaf defines its way of learning by `method()`, starting from `objective()`
  of its family. Everything else is configuration that Dopamine's constructor
  has put on the instance. A constructor names its own parameters and passes
  the others on: every parameter can be bound under the name of every subclass.

  Attributes:
    needs_teacher: True if the agent learns only from a teacher.
    pretrains: True if the agent begins offline.
    network_binding: parameter that `--gin_bindings @network` binds.
    prioritized: True if online samples are drawn by priority.
  """

  needs_teacher = False
  pretrains = False
  network_binding = 'JaxDQNAgent.network'
  # Attributes that Dopamine's agent sets.
  network_def: Any
  state: Any

  @property
  def prioritized(self) -> bool:
    return False

  def __init_subclass__(cls, **options: Any) -> None:
    super().__init_subclass__(**options)
    signatures.declare_constructor(cls, last=OneStepAgent)

  def __init__(
      self,
      *args: Any,
      num_updates_per_train_step: Optional[int] = None,
      num_updates_per_reincarnation_step: int = 1,
      num_updates_per_persistent_step: Optional[int] = None,
      data_augmentation: bool = False,
      **kwargs: Any,
  ):
    """Adds to the hyperparameters of Dopamine's agent.

    Args:
      *args: passed on to Dopamine's agent: num_actions.
      num_updates_per_train_step: updates every `update_period` agent steps;
        None = as Dopamine's agent has it, else 1.
      num_updates_per_reincarnation_step: updates of a pretraining step.
      num_updates_per_persistent_step: older name of the same.
      data_augmentation: random shifts and intensities of DrQ.
      **kwargs: passed on to Dopamine's agent: seed, summary_writer.
    """
    super().__init__(*args, **kwargs)
    if num_updates_per_train_step is None:
      # Dopamine's Rainbow has a parameter for it, its DQN has none.
      num_updates_per_train_step = getattr(
          self, '_num_updates_per_train_step', 1
      )
    self._data_augmentation = data_augmentation
    self.num_updates_per_train_step = num_updates_per_train_step
    self.num_updates_per_reincarnation_step = (
        num_updates_per_persistent_step or num_updates_per_reincarnation_step
    )

  def objective(self, **terms: Any) -> Objective:
    """The family's TD loss as configured, with further terms.

    Args:
      **terms: fields of an `Objective`; they override the configured ones.
    """
    raise TypeError(f'{type(self).__name__} does not define its objective.')

  def method(self) -> Method:
    """The way of learning; by default TD learning and nothing else."""
    return Method(self.objective())

  # -- parts that the loop needs ---------------------------------------------

  def make_learner(self) -> ValueLearner:
    """Network, objective and optimizer, as configured."""
    optimizer = settings.optimizer_settings(self._optimizer_name)
    return self._learner(self.method().objective, optimizer)

  def _learner(
      self, objective: Objective, optimizer: settings.OptimizerSettings
  ) -> ValueLearner:
    schedule = reset_settings.reset_schedule()
    return ValueLearner(
        self.network_def,
        objective,
        optimizer.direction,
        annealing=schedule and schedule.annealing,
        target_ema=reset_settings.target_network().ema,
    )

  def make_offline_learning(self) -> Optional[OfflineLearning]:
    """The pretraining, where it differs from the online phase."""
    offline = self.method().offline
    if offline is None:
      return None
    if offline.optimizer is None:
      optimizer = settings.optimizer_settings(self._optimizer_name)
      rate = None
    else:
      optimizer, rate = offline.optimizer, offline.optimizer.learning_rate
    return OfflineLearning(
        self._learner(offline.objective, optimizer),
        offline.coefficients,
        rate,
        offline.optimizer is None,
    )

  def student_settings(self) -> StudentSettings:
    """The part of a run's settings that the agent decides.

    Raises:
      ValueError: one sentence, for bindings that make no sense.
    """
    method = self.method()
    schedule = getattr(self.epsilon_fn, '__name__', repr(self.epsilon_fn))
    if schedule not in _EPSILON_SCHEDULES:
      raise ValueError(
          f'epsilon_fn is bound to {schedule}; choose one of '
          f'{", ".join(_EPSILON_SCHEDULES)}.'
      )
    rates = settings.LearningRates(
        settings.optimizer_settings(self._optimizer_name).learning_rate, None
    )
    if method.lr_decay:
      rates = settings.create_linear_schedule()
    resets, update_horizon = reset_settings.reset_schedule(), None
    if resets is not None and resets.annealing is not None:
      update_horizon = resets.annealing.max_update_horizon
    epsilons = {
        'epsilon_train': self.epsilon_train,
        'epsilon_eval': self.epsilon_eval,
    } | _EPSILON_SCHEDULES[schedule](self)
    return StudentSettings(
        batch_size=settings.batch_size(),
        replay_capacity=settings.replay_capacity(),
        update_horizon=update_horizon or self.update_horizon,
        gamma=self.gamma,
        min_replay_history=self.min_replay_history,
        replay_ratio=replay_ratio.of_agent(
            self.num_updates_per_train_step, self.update_period
        ),
        target_update_period=self.target_update_period,
        # Priorities come from the TD loss.
        prioritized=self.prioritized and method.objective.td is not None,
        resets=resets,
        act_with_target=reset_settings.target_network().acts,
        learning_rate=rates.initial,
        final_learning_rate=rates.final,
        distill_decay_period=method.distill_decay_period,
        wean=method.wean,
        updates_per_pretraining_step=self.num_updates_per_reincarnation_step,
        teacher_data_ratio=method.teacher_data_ratio,
        guide=method.guide,
        **epsilons,
    )

  # -- Dopamine's interface --------------------------------------------------

  def _build_replay_buffer(self) -> None:
    """The trainer has the replay."""

  def _build_networks_and_optimizer(self) -> None:
    """Takes the core's network; parameters come with the trainer."""
    self.network_def = networks.from_dopamine(self.network_def)
    self._trainer: Optional[Trainer] = None
    self._teacher: Optional[Policy] = None

  def set_teacher(self, teacher: Policy) -> None:
    """Gives the teacher that the objective asks; before the first episode."""
    if self._trainer is not None:
      raise ValueError('The agent has acted already: set its teacher before.')
    self._teacher = teacher

  @property
  def trainer(self) -> Trainer:
    """The trainer behind the one-step interface, made when first needed."""
    if self._trainer is None:
      learner = self.make_learner()
      if learner.needs_teacher and self._teacher is None:
        raise ValueError(
            f'{type(self).__name__} learns from a teacher: call set_teacher.'
        )
      self._trainer = Trainer(
          RunConfig.of(self.student_settings(), seed=self._seed % 2**31),
          learner,
          teacher=self._teacher,
          coefficients=self.method().coefficients,
      )
      self._trainer.begin_online()
    return self._trainer

  def begin_episode(self, observation: np.ndarray) -> int:
    """Returns the first action of an episode.

    Args:
      observation: [H, W, 1] or [H, W] uint8 frame.
    """
    self._reset_state()
    self._first = True
    return self._next_action(observation)

  def step(self, reward: float, observation: np.ndarray) -> int:
    """Keeps the last action's outcome and returns the next action."""
    self._store(reward)
    self._first = False
    return self._next_action(observation)

  def end_episode(self, reward: float, terminal: bool = True) -> None:
    """Keeps the last action's outcome; not `terminal` means a time limit."""
    self._store(reward, terminal=terminal, truncated=not terminal)

  def _next_action(self, observation: np.ndarray) -> int:
    self._record_observation(observation)
    state = np.moveaxis(self.state.astype(np.uint8), -1, 0)[None]  # [1,C,H,W]
    trainer, first = self.trainer, np.array([self._first])
    if self._first:
      self._carry = trainer.policy.actor.initial_carry(1)
    if self.eval_mode:
      actions, self._carry, trainer.eval_key = act(
          *trainer.policy,
          state,
          first,
          self._carry,
          np.float32(self.epsilon_eval),
          trainer.eval_key,
      )
    else:
      trainer.train_step()
      actions, self._carry = trainer.act(state, first, self._carry)
      self._acted_on = state
    self.training_steps = trainer.counters.training_steps
    self.action = int(actions[0])
    return self.action

  def _store(
      self, reward: float, terminal: bool = False, truncated: bool = False
  ) -> None:
    if self.eval_mode:
      return
    self.trainer.store(
        self._acted_on,
        np.array([self.action]),
        np.array([reward]),
        first=np.array([self._first]),
        terminal=np.array([terminal]),
        truncated=np.array([truncated]),
    )

  def bundle_and_checkpoint(
      self, checkpoint_dir: str, iteration_number: int
  ) -> Optional[dict[str, Any]]:
    """Parameters and counters in Dopamine's bundle, replay left out.

    Dopamine's Runner pickles the bundle; whole runs are saved by the loop.
    """
    del iteration_number
    if not os.path.isdir(checkpoint_dir):
      return None
    state = self.trainer.learner_state
    return {
        'state': self.state,
        'training_steps': self.trainer.counters.training_steps,
        'online_params': jax.device_get(state.online_params),
        'target_params': jax.device_get(state.target_params),
        'optimizer_state': jax.device_get(state.opt_state),
    }

  def unbundle(
      self,
      checkpoint_dir: str,
      iteration_number: int,
      bundle_dictionary: Optional[dict[str, Any]],
  ) -> bool:
    """Takes parameters and counters from a bundle; the replay starts empty."""
    del checkpoint_dir, iteration_number
    if bundle_dictionary is None:
      return False
    trainer = self.trainer
    on_device = lambda name: jax.tree.map(
        jax.numpy.asarray, bundle_dictionary[name]
    )
    trainer.learner_state = trainer.learner_state._replace(
        online_params=on_device('online_params'),
        target_params=on_device('target_params'),
        opt_state=on_device('optimizer_state'),
    )
    trainer.counters.training_steps = bundle_dictionary['training_steps']
    self.training_steps = trainer.counters.training_steps
    self.state = bundle_dictionary['state']
    return True


class ActingOnly(_DopamineAgent):
  """Mixin, before an agent: plays a teacher's policy and keeps nothing."""

  eval_mode: bool

  def __init__(
      self,
      *args: Any,
      update_horizon: Optional[int] = None,
      load_replay: bool = True,
      **kwargs: Any,
  ):
    """Adds to the parameters of the agent.

    Args:
      *args: passed on to the agent.
      update_horizon: n of the teacher's data; default the student's.
      load_replay: no effect; gin files of the earlier release bind it. A
        teacher's replay is read where it is learned from.
      **kwargs: passed on to the agent.
    """
    del load_replay
    super().__init__(*args, **kwargs)
    if update_horizon is not None:
      self.update_horizon = update_horizon

  def set_teacher(self, teacher: Policy) -> None:
    """Acts with these parameters from now on."""
    self.network_def = teacher.network
    trainer = self.trainer
    trainer.learner_state = trainer.learner_state._replace(
        online_params=teacher.params
    )

  def _next_action(self, observation: np.ndarray) -> int:
    training, self.eval_mode = self.eval_mode, True
    try:
      return super()._next_action(observation)
    finally:
      self.eval_mode = training

  def _store(self, *unused_args: Any, **unused_kwargs: Any) -> None:
    """Teachers do not learn."""
