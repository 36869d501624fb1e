"""Acting, storing and learning, without any environment.

A `Trainer` holds a learner's state and its replay, and knows what is due
after so many steps. The vectorised loop and the one-step agents of Dopamine
both drive it; there is no other implementation of these three.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any, Callable, Optional

import jax
import numpy as np

from reincarnating_rl import schedules
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import sync_target
from reincarnating_rl.loop.acting import act
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.plan import due
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.records import MetricMeans
from reincarnating_rl.loop.store import ReplayWriter
from reincarnating_rl.replay import frame_replay

METRICS_EVERY_UPDATES = 200


@dataclasses.dataclass
class Counters:
  """How far training is; JSON-ready."""

  training_steps: int = 0  # one per pretraining update and per agent step
  agent_steps: int = 0  # the student's, online
  updates_due: int = 0
  updates_made: int = 0


class Trainer:
  """One learner, its schedules, and (once online) its replay.

  Attributes:
    learner: pure functions.
    learner_state: parameters, optimizer, key, coefficients.
    counters: how far training is.
    lambda_: distillation weight.
    writer: the student's replay, None before the online phase.
  """

  def __init__(
      self,
      config: RunConfig,
      learner: Learner,
      *,
      teacher: Optional[Policy] = None,
      coefficients: Coefficients = Coefficients(),
      params: Optional[Any] = None,
      on_metrics: Callable[[int, dict[str, float]], None] = lambda *_: None,
  ):
    """Builds a trainer before its first step.

    Args:
      config: settings; their seed makes every key.
      learner: network, objective, optimizer.
      teacher: whose Q-values the objective may need.
      coefficients: those that do not decay.
      params: initial parameters; None = fresh ones.
      on_metrics: told the means of some hundred updates at a time.
    """
    self.config = config
    self.learner = learner
    self.counters = Counters()
    self.lambda_ = 1.0 if teacher else 0.0
    self.means = MetricMeans()
    self.writer: Optional[ReplayWriter] = None
    self._teacher = teacher
    self._on_metrics = on_metrics
    init_key, self.act_key, self.eval_key = jax.random.split(
        jax.random.PRNGKey(config.seed), 3
    )
    if params is None:
      shape = config.frame_shape + (frame_replay.ReplaySpec.stack_size,)
      self.learner_state = learner.init(init_key, shape, coefficients)
    else:
      self.learner_state = learner.from_params(init_key, params, coefficients)
    self.set_lambda(self.lambda_)

  @property
  def policy(self) -> Policy:
    """The student as it is now."""
    return Policy(self.learner.network, self.learner_state.online_params)

  def set_lambda(self, lambda_: float) -> None:
    """Sets the distillation weight and the learning rate that follows it."""
    self.lambda_ = lambda_
    config = self.config
    rate = config.learning_rate
    if config.final_learning_rate is not None:
      rate = schedules.interpolated_learning_rate(
          config.learning_rate, config.final_learning_rate, lambda_
      )
    coefficients = self.learner_state.coefficients._replace(
        learning_rate=rate, lambda_=lambda_
    )
    self.learner_state = self.learner_state._replace(
        coefficients=coefficients.as_arrays()
    )

  # -- offline ---------------------------------------------------------------

  def pretrain(
      self,
      spec: frame_replay.ReplaySpec,
      replay: frame_replay.ReplayState,
      num_updates: int,
  ) -> frame_replay.ReplayState:
    """Updates on fixed data, sampled uniformly.

    One pretraining step stands for one update, so the target is copied as
    often, counted in updates, as it is online.

    Args:
      spec: of the data.
      replay: the data; donated in part.
      num_updates: to make now.

    Returns:
      The data, to be used instead of `replay`.
    """
    copies = 1 / (self.config.target_update_period * self.config.replay_ratio)
    counters = self.counters
    left = num_updates
    while left:
      # Stop at the next copy of the target.
      num = 1
      while num < left and not due(counters.training_steps, num, copies):
        num += 1
      replay = self._update(spec, replay, num, prioritized=False)
      if due(counters.training_steps, num, copies):
        self.sync_target()
      counters.training_steps += num
      left -= num
    return replay

  # -- online ----------------------------------------------------------------

  def begin_online(self) -> None:
    """Copies the target after pretraining, and allocates the replay."""
    if self.counters.training_steps:
      self.sync_target()
    self.allocate_replay()

  def allocate_replay(self, capacity: Optional[int] = None) -> None:
    """Makes the student's replay, empty.

    Args:
      capacity: rows; default what the plan can store.
    """
    config = self.config
    spec = frame_replay.ReplaySpec(
        capacity or config.student_capacity,
        config.num_envs,
        config.update_horizon,
        config.gamma,
        frame_shape=config.frame_shape,
    )
    steps_per_update = 1 / (config.replay_ratio * config.num_envs)
    teacher = self._teacher if self.learner.objective.needs_teacher else None
    self.writer = ReplayWriter(spec, teacher, max(1, int(steps_per_update)))

  def train_step(self) -> None:
    """What stands before each action: the updates and copies that are due."""
    config, counters = self.config, self.counters
    first = counters.training_steps
    if self._replay_is_ready:
      num = due(first, config.num_envs, config.replay_ratio)
      counters.updates_due += num
      if num:
        self.writer.flush()
        self.writer.state = self._update(
            self.writer.spec, self.writer.state, num, config.prioritized
        )
      if due(first, config.num_envs, Fraction(1, config.target_update_period)):
        self.sync_target()
    counters.training_steps += config.num_envs

  @property
  def _replay_is_ready(self) -> bool:
    config = self.config
    needed = max(config.min_replay_history, config.first_eligible_row)
    return self.counters.agent_steps > needed

  @property
  def epsilon(self) -> float:
    """Exploration at the present training step."""
    return schedules.linearly_decaying_epsilon(
        self.config.epsilon_decay_period,
        self.counters.training_steps,
        self.config.epsilon_train,
        self.config.epsilon_warmup_steps,
    )

  def act(self, observation: np.ndarray) -> np.ndarray:
    """Exploring actions: [E, C, H, W] uint8 to [E] int32."""
    actions, self.act_key = act(
        self.learner.network,
        self.learner_state.online_params,
        observation,
        np.float32(self.epsilon),
        self.act_key,
        True,
    )
    return np.asarray(actions)

  def store(self, *step: np.ndarray, **flags: np.ndarray) -> None:
    """Keeps one agent step of every stream; see `ReplayWriter.append`."""
    self.writer.append(*step, **flags)
    self.counters.agent_steps += self.config.num_envs

  # -- pieces ----------------------------------------------------------------

  def sync_target(self) -> None:
    """Copies the online parameters into the target."""
    self.learner_state = sync_target(self.learner_state)

  def _update(
      self,
      spec: frame_replay.ReplaySpec,
      replay: frame_replay.ReplayState,
      num_updates: int,
      prioritized: bool,
  ) -> frame_replay.ReplayState:
    update_many = make_updater(
        self.learner,
        spec,
        self.config.batch_size,
        prioritized,
        scan=jax.default_backend() != 'cpu',
    )
    self.learner_state, priorities, metrics = update_many(
        self.learner_state, replay.storage, replay.priorities, num_updates
    )
    self.counters.updates_made += num_updates
    self.means.add(metrics, num_updates)
    if self.means.pending_updates >= METRICS_EVERY_UPDATES:
      self._on_metrics(self.counters.training_steps, self.means.fetch())
    return replay._replace(priorities=priorities)
