"""Trainer: acting, storing and learning, without an environment.

A `Trainer` holds a learner's state, its replay and the schedule of updates.
The vectorised loop and the one-step agents of Dopamine both use it, so acting,
storing and learning are implemented once.
"""

from __future__ import annotations

from typing import Any, Callable, cast, Mapping, Optional

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base import schedules
from reincarnating_rl.base.stateful import restored
from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.learner import LearnerState
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import Sampler
from reincarnating_rl.learner import UpdateMany
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Carry
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.acting.guide import Guide
from reincarnating_rl.loop.acting.replay_writer import Data
from reincarnating_rl.loop.acting.replay_writer import num_rows
from reincarnating_rl.loop.acting.replay_writer import num_rows_kept
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.loop.training.events import MetricMeans
from reincarnating_rl.loop.training.events import TrainingDivergedError
from reincarnating_rl.loop.training.initial_state import Beginning
from reincarnating_rl.loop.training.initial_state import check_parts
from reincarnating_rl.loop.training.initial_state import check_resets
from reincarnating_rl.loop.training.initial_state import OfflineLearning
from reincarnating_rl.loop.training.member_settings import Member
from reincarnating_rl.loop.training.update_schedule import Counters
from reincarnating_rl.loop.training.update_schedule import Distill
from reincarnating_rl.loop.training.update_schedule import Duties
from reincarnating_rl.loop.training.update_schedule import Learn
from reincarnating_rl.loop.training.update_schedule import Reset
from reincarnating_rl.loop.training.update_schedule import Sync
from reincarnating_rl.loop.training.update_schedule import Work
from reincarnating_rl.replay import frame_replay

METRICS_EVERY_UPDATES = 200

# Folded into the evaluation key. Evaluations fold in the numbers of their
# streams (`loop.run.rollouts`), which are smaller.
_GUIDE_KEY = 1000
_RESET_KEY = 1001


class Trainer(Stateful):
  """A learner with its state, its schedules and (once online) its replay.

  Attributes:
    config: settings.
    online_learner: learner of the online phases.
    offline: learner of the pretraining; None = the online learner.
    beginning: initial state of the student; None = fresh parameters.
    began_as: settings of this member of a population at the start.
    member: settings of this member now.
    learner_state: parameters, optimizer state, key, coefficients.
    duties: schedule of updates, target copies and resets.
    lambda_: distillation weight.
    writer: writer of the student's replay; None before the online phases.
    guide: guide in training episodes (JSRL); None without.
    means: means of the metrics of updates.
  """

  SAVED = (
      'member',
      'lambda_',
      'duties',
      'means',
      'writer',
      'guide',
      'learner_state',
      'act_key',
  )
  REBUILT = (
      'config',
      'online_learner',
      'offline',
      'beginning',
      'began_as',
      'coefficients',
      'eval_key',
      '_is_online',
      '_observation',
      '_teacher',
      '_on_metrics',
  )

  def __init__(
      self,
      config: RunConfig,
      learner: Learner,
      *,
      teacher: Optional[Policy] = None,
      coefficients: Coefficients = Coefficients(),
      member: Optional[Member] = None,
      offline: Optional[OfflineLearning] = None,
      beginning: Optional[Beginning] = None,
      on_metrics: Callable[[dict[str, float]], None] = lambda _: None,
  ):
    """Builds a trainer before its first step.

    Args:
      config: settings; all keys derive from their seed.
      learner: network, objective, optimizer.
      teacher: policy of the teacher, for its Q-values and as a guide.
      coefficients: coefficients that do not decay.
      member: settings of this member of a population, which override the above.
      offline: learner of the pretraining; None = `learner`.
      beginning: initial state of the student; None = fresh parameters.
      on_metrics: called with the means of about METRICS_EVERY_UPDATES updates.

    Raises:
      ValueError: if the arguments do not fit together.
    """
    self.config = config
    self.online_learner = learner
    self.offline = offline
    self.duties = Duties(config)
    self.lambda_ = 1.0 if teacher else 0.0
    self.writer: Optional[ReplayWriter] = None
    self.guide: Optional[Guide] = None
    self.means = MetricMeans()
    self._is_online = offline is None
    self.coefficients = coefficients
    self.began_as = self.member = dict(member or {})
    self.beginning = beginning
    self._teacher = teacher
    self._on_metrics = on_metrics
    init_key, self.act_key, self.eval_key = _keys(config.seed)
    check_parts(learner, offline, beginning)
    check_resets(config, learner)
    self._observation = config.state
    self.learner_state = self._initial_state(init_key)
    if config.guide is not None:
      if teacher is None:
        raise ValueError('A guide (RunConfig.guide) needs a teacher that acts.')
      guide_key = jax.random.fold_in(self.eval_key, _GUIDE_KEY)
      self.guide = Guide(config.guide, teacher, config.num_envs, guide_key)

  def _initial_state(self, rng_key: jax.Array) -> LearnerState:
    coefficients = self._coefficients(self.lambda_)
    if self.beginning is None:
      return self.learner.init(rng_key, self._observation, coefficients)
    self.counters.training_steps = self.beginning.training_steps
    return self.beginning.state(
        self.learner, rng_key, self._observation, coefficients
    )

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores everything except the member's settings; see `settle`."""
    self.duties.set_state(state['duties'])
    self.means.set_state(state['means'])
    if state['writer'] is not None:
      self.allocate_replay(state['writer']['capacity'])
      self.writer.set_state(state['writer'])
      # The resumed run may be longer, and then needs a larger replay.
      self.writer.grow(
          self.config.student_capacity_with(self.duties.given_rows)
      )
    if self.guide is not None and state['guide'] is not None:
      self.guide.set_state(state['guide'])
    for name in ('learner_state', 'act_key'):
      setattr(self, name, restored(name, getattr(self, name), state[name]))
    self.set_lambda(state['lambda_'])  # coefficients as configured now

  @property
  def counters(self) -> Counters:
    """Progress of training."""
    return self.duties.counters

  @property
  def learner(self) -> Learner:
    """Present learner: the offline one until the online phases."""
    if self._is_online:
      return self.online_learner
    return cast(Learner, self.offline.learner)

  @property
  def policy(self) -> Policy:
    """Policy of the student with its present parameters."""
    return self.learner.policy(self.learner_state, self.config.act_with_target)

  def settle(self, member: Member) -> None:
    """Changes the settings of this member."""
    self.member = dict(member)
    self._weigh(self.lambda_)

  def set_lambda(self, lambda_: float) -> None:
    """Sets the distillation weight and the learning rate that follows it."""
    self.lambda_ = lambda_
    self._weigh(lambda_)

  def _weigh(self, lambda_: float) -> None:
    """Sets the coefficients for a weight that may differ from `lambda_`."""
    coefficients = self._coefficients(lambda_).as_arrays()
    self.learner_state = self.learner_state._replace(coefficients=coefficients)

  def _coefficients(self, lambda_: float) -> Coefficients:
    """Coefficients and learning rate at a distillation weight."""
    offline = None if self._is_online else self.offline
    config, coefficients = self.config, (offline or self).coefficients
    if self.member:
      config = member_settings.config_of(config, self.member)
      coefficients = member_settings.coefficients_of(coefficients, self.member)
    rate = config.learning_rate
    if offline is not None and offline.learning_rate is not None:
      rate = offline.learning_rate
    elif config.final_learning_rate is not None:
      rate = schedules.interpolated_learning_rate(
          config.learning_rate, config.final_learning_rate, lambda_
      )
    return coefficients._replace(learning_rate=rate, lambda_=lambda_)

  # -- offline ---------------------------------------------------------------

  def pretrain(self, teacher_data: Data, num_steps: int) -> None:
    """Makes updates on the teacher's data, sampled uniformly.

    Args:
      teacher_data: teacher's data, only read.
      num_steps: pretraining steps to make.
    """
    for work in self.duties.of_pretraining(num_steps):
      self.do(work, teacher_data)

  # -- online ----------------------------------------------------------------

  def begin_online(self) -> None:
    """Copies the target if there was a pretraining, and makes the replay.

    Raises:
      ValueError: if the rows that the replay begins with do not fit.
    """
    if self.counters.updates_made:
      self.sync_target()
    self.counters.online_since = self.counters.training_steps
    if self.beginning is None or self.beginning.replay is None:
      self.allocate_replay()
      return
    given = self.beginning.replay()
    rows = num_rows(*given)
    self.allocate_replay(self.config.student_capacity_with(rows), given)
    self.duties.given_rows = num_rows_kept(given[0], rows, self.writer.spec)

  def allocate_replay(
      self, capacity: Optional[int] = None, given: Optional[Data] = None
  ) -> None:
    """Makes the student's replay and switches to the online learner.

    Args:
      capacity: rows of the replay; None = as many as the plan can fill.
      given: first rows of the replay; None = empty.
    """
    self._leave_offline()
    config = self.config
    spec = config.student_spec(capacity or config.student_capacity)
    steps_per_update = config.grouped_updates / (
        config.replay_ratio * config.num_envs
    )
    teacher = self._teacher if self.learner.needs_teacher else None
    chunk = max(1, int(steps_per_update))
    self.writer = ReplayWriter(spec, teacher, chunk, given)

  def _leave_offline(self) -> None:
    """Switches to the online learner: its optimizer and coefficients."""
    if self._is_online:
      return
    self._is_online = True
    if not self.offline.keeps_optimizer:
      self.learner_state = self.learner.restart_optimizer(self.learner_state)
    self.set_lambda(self.lambda_)

  def train_step(self, teacher_data: Optional[Data] = None) -> None:
    """Does the resets, updates and target copies due before an action.

    Args:
      teacher_data: teacher's data, for rehearsal (`teacher_data_ratio`) and for
        the distillation after resets; ignored if neither is configured.

    Raises:
      ValueError: if the teacher's data is needed and missing.
    """
    if self.config.learns_from_it_online and teacher_data is None:
      raise ValueError(self.config.no_teacher_data)
    for work in self.duties.of_step():
      self.do(work, teacher_data)

  def catch_up(self, teacher_data: Optional[Data] = None) -> None:
    """Makes the updates that are due but do not fill a group.

    Args:
      teacher_data: see `train_step`.
    """
    for work in self.duties.left():
      self.do(work, teacher_data)

  @property
  def epsilon(self) -> float:
    """Probability of a random action at the present training step."""
    return schedules.linearly_decaying_epsilon(
        self.config.epsilon_decay_period,
        self.counters.training_steps,
        self.config.epsilon_train,
        self.config.epsilon_warmup_steps,
    )

  def act(
      self, observation: np.ndarray, first: np.ndarray, carry: Carry = ()
  ) -> tuple[np.ndarray, Carry]:
    """Chooses exploring actions, taking turns with the guide if there is one.

    Args:
      observation: [E, ...].
      first: [E] bool, True where the observation begins an episode.
      carry: carry of the policy.

    Returns:
      [E, ...] actions, and the next carry.
    """
    if self.guide is not None:
      actions, carry, self.act_key = self.guide.act(
          self.policy,
          observation,
          first,
          carry,
          self.epsilon,
          self.counters.agent_steps,
          self.act_key,
      )
    else:
      actions, carry, self.act_key = act(
          *self.policy,
          observation,
          first,
          carry,
          np.float32(self.epsilon),
          self.act_key,
          True,
      )
    return np.asarray(actions), carry

  def store(self, *step: np.ndarray, **flags: Any) -> None:
    """Stores one agent step per environment; see `ReplayWriter.append`."""
    self.writer.append(*step, **flags)
    self.counters.agent_steps += self.config.num_envs

  # -- pieces ----------------------------------------------------------------

  def do(self, work: Work, teacher_data: Optional[Data]) -> None:
    """Does one piece of work.

    Args:
      work: piece of work of the schedule.
      teacher_data: see `train_step`.
    """
    if isinstance(work, Sync):
      self.sync_target()
    elif isinstance(work, Reset):
      self._reset_network(work)
    elif isinstance(work, Distill):
      self._weigh(1.0 if work.fully else self.lambda_)
    else:
      self._learn(work, teacher_data)

  def _reset_network(self, work: Reset) -> None:
    """Applies the reset schedule to network, optimizer and priorities."""
    schedule = self.config.resets
    key = jax.random.fold_in(self.eval_key, _RESET_KEY)
    self.learner_state = self.learner.reset(
        self.learner_state,
        schedule,
        jax.random.fold_in(key, work.index),
        self._observation,
    )
    if not schedule.keep_priorities:
      state = self.writer.state
      priorities = frame_replay.equalized(self.writer.spec, state.priorities)
      self.writer.state = state._replace(priorities=priorities)
    logging.info(
        'Reset %d before agent step %d.',
        work.index + 1,
        self.counters.agent_steps,
    )

  def _learn(self, work: Learn, teacher_data: Optional[Data]) -> None:
    self.learner_state, priorities, metrics = self.updater(work, teacher_data)(
        self.learner_state, *self.sampled(work, teacher_data)
    )
    self.take_outcome(work, priorities, metrics)

  def updater(
      self,
      work: Learn,
      teacher_data: Optional[Data],
      num_members: Optional[int] = None,
  ) -> UpdateMany:
    """Returns the compiled function that makes these updates.

    Args:
      work: updates to make.
      teacher_data: see `train_step`.
      num_members: size of a group of trainers like this one; None = this one
        alone.
    """
    config = self.config
    rehearses = bool(config.teacher_data_ratio) and not work.offline
    sampler = Sampler(
        self.learner,
        teacher_data[0] if work.offline else self.writer.spec,
        config.batch_size,
        config.prioritized and not work.offline,
        teacher_spec=teacher_data[0] if rehearses else None,
        teacher_data_ratio=config.teacher_data_ratio if rehearses else 0.0,
    )
    return make_updater(
        sampler,
        scan=jax.default_backend() != 'cpu',
        num_members=num_members,
    )

  def sampled(self, work: Learn, teacher_data: Optional[Data]) -> tuple:
    """Returns the arguments of `UpdateMany` after the state."""
    if work.offline:
      replay, rehearsed = teacher_data[1], None
    else:
      self.writer.flush()
      replay = self.writer.state
      rehearsed = teacher_data[1] if self.config.teacher_data_ratio else None
    return replay.storage, replay.priorities, work.updates.count, rehearsed

  def take_outcome(
      self,
      work: Learn,
      priorities: frame_replay.Priorities,
      metrics: dict[str, Any],
      member: Optional[int] = None,
  ) -> None:
    """Takes over the results of updates: priorities, counts, metrics.

    Args:
      work: updates that were made.
      priorities: new priorities of the replay.
      metrics: metrics of each update.
      member: index of this trainer in its group; None = no group.
    """
    if not work.offline:
      self.writer.state = self.writer.state._replace(priorities=priorities)
    self.counters.updates_made += work.updates.count
    self.means.add(work.updates, metrics, member)
    if self.means.pending_updates >= METRICS_EVERY_UPDATES:
      self._on_metrics(self.means.fetch())

  def sync_target(self) -> None:
    """Copies the online parameters into the target, unless it is an EMA."""
    self.learner_state = self.learner.sync_target(self.learner_state)

  def pop_metrics(self) -> dict[str, float]:
    """Returns means over the updates since the last call.

    Raises:
      TrainingDivergedError: if a metric is not finite.
    """
    return self.means.pop()

  def check_finite(self) -> None:
    """Checks the metrics of updates, the parameters and the optimizer state.

    Raises:
      TrainingDivergedError: if a number in them is not finite.
    """
    self.means.check_finite()
    if self.means.count and not _all_finite(self.learner_state):
      # Only the last update can have made them: a later one would have had
      # metrics that are not finite.
      last = self.counters.updates_made
      raise TrainingDivergedError(
          last, self.counters.training_steps, ['parameters']
      )


def _keys(seed: int) -> jax.Array:
  """Three keys: for parameters and learning, for acting, for evaluation."""
  return jax.random.split(jax.random.PRNGKey(seed), 3)


def evaluation_key(seed: int) -> jax.Array:
  """Returns the key of all evaluations of a run with this seed."""
  return _keys(seed)[2]


@jax.jit
def _all_finite(state: Any) -> jax.Array:
  """[] bool, True if parameters and optimizer state are finite."""
  leaves = jax.tree.leaves(state._replace(rng_key=(), coefficients=()))
  return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all()
