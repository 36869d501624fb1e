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
import jax.numpy as jnp
import numpy as np

from reincarnating_rl import schedules
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.learner import LearnerState
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import sync_target
from reincarnating_rl.loop.acting import act
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.beginning import Beginning
from reincarnating_rl.loop.beginning import check_parts
from reincarnating_rl.loop.beginning import OfflineLearning
from reincarnating_rl.loop.guide import Guide
from reincarnating_rl.loop.plan import due
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.records import MetricMeans
from reincarnating_rl.loop.records import TrainingDivergedError
from reincarnating_rl.loop.records import Updates
from reincarnating_rl.loop.store import Data
from reincarnating_rl.loop.store import num_rows
from reincarnating_rl.loop.store import num_rows_kept
from reincarnating_rl.loop.store import ReplayWriter
from reincarnating_rl.replay import frame_replay

METRICS_EVERY_UPDATES = 200

# The guide's key among those that are made of the evaluations'; evaluations
# use the numbers of streams (`run`), which are smaller.
_GUIDE_KEY = 1000


@dataclasses.dataclass
class Counters:
  """How far training is; JSON-ready."""

  training_steps: int = 0  # one per pretraining step and per agent step
  agent_steps: int = 0  # the student's, online
  updates_due: int = 0
  updates_made: int = 0


class Trainer:
  """One learner, its schedules, and (once online) its replay.

  Attributes:
    config: settings.
    online_learner: pure functions of the online phases.
    offline: how it learns before them; None = in the same way.
    beginning: what the student begins with; None = fresh parameters.
    learner_state: parameters, optimizer, key, coefficients.
    counters: how far training is.
    lambda_: distillation weight.
    writer: the student's replay, None before the online phase.
    given_rows: agent steps that were in it from the beginning.
    guide: acts along online, None without.
  """

  def __init__(
      self,
      config: RunConfig,
      learner: Learner,
      *,
      teacher: Optional[Policy] = None,
      coefficients: Coefficients = Coefficients(),
      offline: Optional[OfflineLearning] = None,
      beginning: Optional[Beginning] = None,
      on_metrics: Callable[[int, dict[str, float]], None] = lambda *_: None,
  ):
    """Builds a trainer before its first step.

    Args:
      config: settings; their seed makes every key.
      learner: network, objective, optimizer.
      teacher: whose Q-values the objective may need, and who may guide.
      coefficients: those that do not decay.
      offline: how to learn until the online phases; None = with `learner`.
      beginning: what the student begins with; None = fresh parameters.
      on_metrics: told the means of some hundred updates at a time.

    Raises:
      ValueError: if these do not fit together.
    """
    self.config = config
    self.online_learner = learner
    self.offline = offline
    self.counters = Counters()
    self.lambda_ = 1.0 if teacher else 0.0
    self.writer: Optional[ReplayWriter] = None
    self.given_rows = 0
    self.guide: Optional[Guide] = None
    self._means = MetricMeans()
    self._is_online = offline is None
    self._coefficients = coefficients
    self.beginning = beginning
    self._teacher = teacher
    self._on_metrics = on_metrics
    init_key, self.act_key, self.eval_key = _keys(config.seed)
    check_parts(learner, offline, beginning)
    self.learner_state = self._initial_state(init_key)
    self.set_lambda(self.lambda_)
    if config.guide is not None:
      if teacher is None:
        raise ValueError('A guide (RunConfig.guide) needs a teacher that acts.')
      guide_key = jax.random.fold_in(self.eval_key, _GUIDE_KEY)
      self.guide = Guide(config.guide, teacher, config.num_envs, guide_key)

  def _initial_state(self, rng_key: jax.Array) -> LearnerState:
    coefficients = self._coefficients
    if not self._is_online:
      coefficients = self.offline.coefficients
    shape = self.config.frame_shape + (frame_replay.ReplaySpec.stack_size,)
    if self.beginning is None:
      return self.learner.init(rng_key, shape, coefficients)
    self.counters.training_steps = self.beginning.training_steps
    return self.beginning.state(self.learner, rng_key, shape, coefficients)

  @property
  def learner(self) -> Learner:
    """Who learns now."""
    return self.online_learner if self._is_online else self.offline.learner

  @property
  def policy(self) -> Policy:
    """The student as it is now."""
    return Policy(self.learner.network, self.learner_state.online_params)

  def set_lambda(self, lambda_: float) -> None:
    """Sets the distillation weight and the learning rate that follows it."""
    self.lambda_ = lambda_
    config = self.config
    rate = config.learning_rate
    if not self._is_online and self.offline.learning_rate is not None:
      rate = self.offline.learning_rate
    elif config.final_learning_rate is not None:
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
      num_steps: int,
  ) -> frame_replay.ReplayState:
    """Updates on fixed data, sampled uniformly.

    A pretraining step stands for one update online, so the target is copied
    as often, counted in these, as it is online.

    Args:
      spec: of the data.
      replay: the data; donated in part.
      num_steps: pretraining steps to make now.

    Returns:
      The data, to be used instead of `replay`.
    """
    copies = 1 / (self.config.target_update_period * self.config.replay_ratio)
    rate = Fraction(self.config.updates_per_pretraining_step)
    counters = self.counters
    left = num_steps
    while left:
      # Stop at the next copy of the target.
      num = 1
      while num < left and not due(counters.training_steps, num, copies):
        num += 1
      replay = self._update(
          spec, replay, self._updates(int(num * rate), rate), prioritized=False
      )
      if due(counters.training_steps, num, copies):
        self.sync_target()
      counters.training_steps += num
      left -= num
    return replay

  # -- online ----------------------------------------------------------------

  def begin_online(self) -> None:
    """Copies the target after pretraining, and makes the replay.

    Raises:
      ValueError: if the beginning's replay does not fit.
    """
    if self.counters.updates_made:
      self.sync_target()
    if self.beginning is None or self.beginning.replay is None:
      self.allocate_replay()
      return
    given = self.beginning.replay()
    rows = num_rows(*given)
    self.allocate_replay(self.config.student_capacity_with(rows), given)
    self.given_rows = num_rows_kept(given[0], rows, self.writer.spec)

  def allocate_replay(
      self, capacity: Optional[int] = None, given: Optional[Data] = None
  ) -> None:
    """Makes the student's replay; from here on the online learner learns.

    Args:
      capacity: rows; default what the plan can store.
      given: what it begins with; None = nothing.
    """
    self._leave_offline()
    config = self.config
    spec = config.student_spec(capacity or config.student_capacity)
    steps_per_update = 1 / (config.replay_ratio * config.num_envs)
    teacher = self._teacher if self.learner.objective.needs_teacher else None
    chunk = max(1, int(steps_per_update))
    self.writer = ReplayWriter(spec, teacher, chunk, given)

  def _leave_offline(self) -> None:
    """Gives the online learner moments and coefficients of its own."""
    if self._is_online:
      return
    self._is_online = True
    state = self.learner_state
    if not self.offline.keeps_optimizer:
      fresh = self.learner.optimizer.init(state.online_params)
      state = state._replace(opt_state=fresh)
    self.learner_state = state._replace(
        coefficients=self._coefficients.as_arrays()
    )
    self.set_lambda(self.lambda_)

  def train_step(self, teacher_data: Optional[Data] = None) -> None:
    """What stands before each action: the updates and copies that are due.

    Args:
      teacher_data: from which `teacher_data_ratio` of the samples come; not
        looked at where that is 0.

    Raises:
      ValueError: if it is needed and not there.
    """
    config, counters = self.config, self.counters
    if config.teacher_data_ratio and teacher_data is None:
      raise ValueError(config.no_teacher_data)
    first = counters.training_steps
    if self._replay_is_ready:
      num = due(first, config.num_envs, config.replay_ratio)
      counters.updates_due += num
      if num:
        self.writer.flush()
        self.writer.state = self._update(
            self.writer.spec,
            self.writer.state,
            self._updates(num, config.replay_ratio),
            config.prioritized,
            teacher_data if config.teacher_data_ratio else None,
        )
      if due(first, config.num_envs, Fraction(1, config.target_update_period)):
        self.sync_target()
    counters.training_steps += config.num_envs

  @property
  def _replay_is_ready(self) -> bool:
    config = self.config
    needed = max(config.min_replay_history, config.first_eligible_row)
    return self.given_rows + self.counters.agent_steps > needed

  @property
  def epsilon(self) -> float:
    """Exploration at the present training step."""
    return schedules.linearly_decaying_epsilon(
        self.config.epsilon_decay_period,
        self.counters.training_steps,
        self.config.epsilon_train,
        self.config.epsilon_warmup_steps,
    )

  def act(self, observation: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Exploring actions, the guide's among them if there is one.

    Args:
      observation: [E, C, H, W] uint8.
      first: [E] bool, whether that begins an episode.

    Returns:
      [E] int32.
    """
    if self.guide is not None:
      actions, self.act_key = self.guide.act(
          self.policy,
          observation,
          first,
          self.epsilon,
          self.counters.agent_steps,
          self.act_key,
      )
      return np.asarray(actions)
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

  def pop_metrics(self) -> dict[str, float]:
    """Means over all updates since the last call.

    Raises:
      TrainingDivergedError: if one of their metrics, or what they have made
        of parameters and moments, is not finite.
    """
    means = self._means.pop()
    state = self.learner_state
    if means and not _all_finite((state.online_params, state.opt_state)):
      # Of the very last update: no later one has seen them.
      last = self.counters.updates_made
      raise TrainingDivergedError(
          last, self.counters.training_steps, ['parameters']
      )
    return means

  def _updates(self, count: int, rate: Fraction) -> Updates:
    """The next so many updates, which are due at so many a training step."""
    counters = self.counters
    return Updates(
        count, counters.updates_made + 1, counters.training_steps, rate
    )

  def _update(
      self,
      spec: frame_replay.ReplaySpec,
      replay: frame_replay.ReplayState,
      updates: Updates,
      prioritized: bool,
      teacher_data: Optional[Data] = None,
  ) -> frame_replay.ReplayState:
    teacher_spec, teacher_replay = teacher_data or (None, None)
    update_many = make_updater(
        self.learner,
        spec,
        self.config.batch_size,
        prioritized,
        scan=jax.default_backend() != 'cpu',
        teacher_spec=teacher_spec,
        teacher_data_ratio=self.config.teacher_data_ratio
        if teacher_data
        else 0.0,
    )
    self.learner_state, priorities, metrics = update_many(
        self.learner_state,
        replay.storage,
        replay.priorities,
        updates.count,
        teacher_replay,
    )
    self.counters.updates_made += updates.count
    self._means.add(updates, metrics)
    if self._means.pending_updates >= METRICS_EVERY_UPDATES:
      self._on_metrics(self.counters.training_steps, self._means.fetch())
    return replay._replace(priorities=priorities)


def _keys(seed: int) -> jax.Array:
  """Keys for parameters and learning, for acting, for evaluation."""
  return jax.random.split(jax.random.PRNGKey(seed), 3)


def evaluation_key(seed: int) -> jax.Array:
  """What evaluations of a run with that seed draw from."""
  return _keys(seed)[2]


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  """[] bool."""
  return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
