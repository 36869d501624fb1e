"""The loop: carries a plan out, phase by phase.

One `Run` holds everything alive. It knows environments, replay and learner
only through their interfaces; what becomes of its records is the listeners'
affair. Not here: Dopamine, gin, files.
"""

from __future__ import annotations

import dataclasses
import time
from fractions import Fraction
from typing import Callable, Optional, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl import schedules
from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.learner import make_updater
from reincarnating_rl.loop import plan as plan_lib
from reincarnating_rl.loop.acting import act
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.evaluation import Episodes
from reincarnating_rl.loop.evaluation import EpisodeTracker
from reincarnating_rl.loop.evaluation import evaluate
from reincarnating_rl.loop.plan import Phase
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.records import Listener
from reincarnating_rl.loop.records import MetricMeans
from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.store import ReplayWriter
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.scores import normalized_score

# Streams of episode seeds and keys: one number a purpose.
TEACHER_EVALUATION_STREAM = 1
COLLECTION_STREAM = 2
ONLINE_STREAM = 3
EVALUATION_STREAM = 4

METRICS_EVERY_UPDATES = 200
OFFLINE_UPDATES_PER_CALL = 50

# (num_envs, stream) -> environments whose episodes that stream seeds.
EnvFactory = Callable[[int, tuple[int, ...]], VectorEnv]


@dataclasses.dataclass(frozen=True)
class Teacher:
  """What a run needs to know of a teacher.

  Attributes:
    policy: its network and parameters.
    score: its mean return where known, else None (it is then evaluated).
    spec: of its replay, if it has one.
    replay: its data on the device, teacher Q-values included.
  """

  policy: Policy
  score: Optional[float] = None
  spec: Optional[frame_replay.ReplaySpec] = None
  replay: Optional[frame_replay.ReplayState] = None


@dataclasses.dataclass
class Counters:
  """Where a run is; JSON-ready."""

  next_phase: int = 0  # index into the plan
  training_steps: int = 0  # one per pretraining update and per agent step
  agent_steps: int = 0  # the student's, online
  updates_due: int = 0
  updates_made: int = 0
  online_started: bool = False


class Run:
  """A reincarnation (or, without teacher, tabula rasa) run."""

  def __init__(
      self,
      config: RunConfig,
      learner: Learner,
      make_env: EnvFactory,
      random_score: float,
      teacher: Optional[Teacher] = None,
      listeners: Sequence[Listener] = (),
      params: Optional[object] = None,
  ):
    """Builds a run at its beginning; nothing is played yet.

    Args:
      config: settings.
      learner: network, objective, optimizer.
      make_env: builds environments for a stream of episode seeds.
      random_score: the game's score under a random policy.
      teacher: None to learn from nothing.
      listeners: told what happens.
      params: initial parameters of the student; None = fresh ones.
    """
    self.config = config
    self.learner = learner
    self.teacher = teacher
    self.random_score = random_score
    self.listeners = list(listeners)
    self.plan = plan_lib.make_plan(
        config,
        evaluate_teacher=teacher is not None and teacher.score is None,
        reincarnate=teacher is not None,
    )
    self.teacher_score = teacher.score if teacher else None
    self.lambda_ = 1.0 if teacher else 0.0
    self.counters = Counters()
    self.records: list[PhaseRecord] = []
    self._make_env = make_env
    self._eval_env: Optional[VectorEnv] = None
    self._means = MetricMeans()

    init_key, self._act_key, self._eval_key = jax.random.split(
        jax.random.PRNGKey(config.seed), 3
    )
    if params is None:
      self.learner_state = learner.init(init_key)
    else:
      self.learner_state = learner.from_params(init_key, params)
    self._set_coefficients()
    self.teacher_spec = teacher.spec if teacher else None
    self.teacher_replay = teacher.replay if teacher else None
    self.student: Optional[OnlineActor] = None

  # -- the loop ------------------------------------------------------------

  def run(self, after_phase: Callable[[Run], None] = lambda run: None) -> None:
    """Carries out what is left of the plan.

    Args:
      after_phase: called after each phase, to save the run for instance.
    """
    while self.counters.next_phase < len(self.plan):
      self.run_phase(self.plan[self.counters.next_phase])
      after_phase(self)

  def run_phase(self, phase: Phase) -> PhaseRecord:
    """Carries out one phase and tells the listeners."""
    start = time.monotonic()
    handler = {
        plan_lib.TEACHER_EVALUATION: self._evaluate_teacher,
        plan_lib.COLLECTION: self._collect,
        plan_lib.PRETRAINING: self._pretrain,
        plan_lib.ONLINE: self._train_online,
    }[phase.kind]
    record = handler(phase)
    record = dataclasses.replace(record, seconds=time.monotonic() - start)
    self.records.append(record)
    self.counters.next_phase += 1
    for listener in self.listeners:
      listener.on_record(record)
    return record

  def _evaluate_teacher(self, phase: Phase) -> PhaseRecord:
    episodes = self._evaluate(
        self.teacher.policy, phase, (TEACHER_EVALUATION_STREAM,)
    )
    self.teacher_score = episodes.mean_return
    return self._record(
        phase, int(episodes.lengths.sum()), _summary('eval', episodes)
    )

  def _collect(self, phase: Phase) -> PhaseRecord:
    config = self.config
    slots = -(-phase.agent_steps // config.num_eval_envs)
    horizon = config.teacher_update_horizon
    slots = max(slots, horizon + 16)
    self.teacher_spec = frame_replay.ReplaySpec(
        slots * config.num_eval_envs,
        config.num_eval_envs,
        horizon,
        config.gamma,
    )
    env = self._env_for((COLLECTION_STREAM,))
    actor = OnlineActor(
        env, self.teacher_spec, self.teacher.policy, chunk=1
    )
    self._start_phase(phase, self.teacher_spec.capacity, 'agent steps')
    key = jax.random.fold_in(self._eval_key, COLLECTION_STREAM)
    epsilon = np.float32(config.teacher_epsilon)
    for _ in range(slots):
      key = actor.step(self.teacher.policy, epsilon, key)
      self._progress(env.num_envs)
    actor.writer.flush()
    self.teacher_replay = actor.writer.state
    episodes = actor.tracker.pop()
    return self._record(
        phase, self.teacher_spec.capacity, _summary('train', episodes)
    )

  def _pretrain(self, phase: Phase) -> PhaseRecord:
    if self.teacher_replay is None:
      raise ValueError(
          'Pretraining needs teacher data: give a teacher with replay logs, '
          'or set teacher_steps to let the teacher collect some.'
      )
    update_many = self._updater(self.teacher_spec, prioritized=False)
    # One pretraining step stands for one update, so the target is copied as
    # often, counted in updates, as it is online.
    period = Fraction(self.config.target_update_period)
    copies = 1 / (period * self.config.replay_ratio)
    self._start_phase(phase, phase.updates, 'updates')
    done = 0
    while done < phase.updates:
      first = self.counters.training_steps
      num = min(OFFLINE_UPDATES_PER_CALL, phase.updates - done)
      # Stop at the next copy of the target.
      while num > 1 and plan_lib.due(first, num - 1, copies):
        num -= 1
      self.teacher_replay = self._update(update_many, self.teacher_replay, num)
      self.counters.training_steps += num
      if plan_lib.due(first, num, copies):
        self._sync_target()
      done += num
      self._progress(num)
    return self._training_record(phase, {})

  def _train_online(self, phase: Phase) -> PhaseRecord:
    config = self.config
    self._begin_online()
    student = self.student
    update_many = self._updater(student.spec, config.prioritized)
    ticks = -(-phase.agent_steps // config.num_envs)
    copies = Fraction(1, config.target_update_period)
    self._start_phase(phase, ticks * config.num_envs, 'agent steps')
    for _ in range(ticks):
      first = self.counters.training_steps
      if self._replay_is_ready():
        num = plan_lib.due(first, config.num_envs, config.replay_ratio)
        self.counters.updates_due += num
        if num:
          student.writer.flush()
          student.writer.state = self._update(
              update_many, student.writer.state, num
          )
        if plan_lib.due(first, config.num_envs, copies):
          self._sync_target()
      epsilon = schedules.linearly_decaying_epsilon(
          config.epsilon_decay_period, first, config.epsilon_train
      )
      self._act_key = student.step(
          self._policy(), np.float32(epsilon), self._act_key, noise=True
      )
      self.counters.training_steps += config.num_envs
      self.counters.agent_steps += config.num_envs
      self._progress(config.num_envs)
    student.writer.flush()
    metrics = _summary('train', student.tracker.pop())
    metrics['epsilon'] = epsilon
    return self._training_record(phase, metrics)

  # -- pieces of phases ------------------------------------------------------

  def _begin_online(self) -> None:
    """At the first online phase: copies the target, frees teacher data."""
    if self.counters.online_started:
      return
    self.counters.online_started = True
    if self.counters.training_steps:
      self._sync_target()
    self.teacher_replay = self.teacher_spec = None
    self.student = self.make_student()
    self.student.reset()

  def make_student(self) -> OnlineActor:
    """Environments and an empty replay for the online phases."""
    config = self.config
    spec = frame_replay.ReplaySpec(
        config.student_capacity,
        config.num_envs,
        config.update_horizon,
        config.gamma,
    )
    per_tick = config.replay_ratio * config.num_envs
    chunk = max(1, int(1 / per_tick)) if per_tick else 1
    teacher = self.teacher.policy if self._distills() else None
    env = self._make_env(config.num_envs, (ONLINE_STREAM,))
    return OnlineActor(env, spec, teacher, chunk)

  def restore_replays(self, teacher_spec: Optional[dict[str, object]]) -> None:
    """Allocates what the counters say is alive, for a checkpoint to fill.

    Args:
      teacher_spec: fields of the teacher replay's spec, None if it is gone.
    """
    self.teacher_spec = self.teacher_replay = None
    if teacher_spec is not None:
      fields = {
          k: tuple(v) if isinstance(v, list) else v
          for k, v in teacher_spec.items()
      }
      self.teacher_spec = frame_replay.ReplaySpec(**fields)
      num_actions = self.teacher.policy.network.num_actions
      self.teacher_replay = frame_replay.init(self.teacher_spec, num_actions)
    if self.counters.online_started:
      self.student = self.make_student()

  def _distills(self) -> bool:
    return self.teacher is not None and self.learner.objective.needs_teacher

  def _replay_is_ready(self) -> bool:
    rows = self.counters.agent_steps
    config = self.config
    # The first updates wait for a row whose successors are there, too.
    return rows > max(config.min_replay_history, config.first_eligible_row)

  def _updater(self, spec: frame_replay.ReplaySpec, prioritized: bool):
    scan = jax.default_backend() != 'cpu'
    return make_updater(
        self.learner, spec, self.config.batch_size, prioritized, scan
    ).update_many

  def _update(
      self, update_many, replay: frame_replay.ReplayState, num_updates: int
  ) -> frame_replay.ReplayState:
    self.learner_state, priorities, metrics = update_many(
        self.learner_state, replay.storage, replay.priorities, num_updates
    )
    self.counters.updates_made += num_updates
    self._means.add(metrics, num_updates)
    if self._means.pending_updates >= METRICS_EVERY_UPDATES:
      means = self._means.fetch()
      for listener in self.listeners:
        listener.on_metrics(self.counters.training_steps, means)
    return replay._replace(priorities=priorities)

  def _sync_target(self) -> None:
    state = self.learner_state
    self.learner_state = state._replace(
        target_params=_copy(state.online_params)
    )

  def _training_record(
      self, phase: Phase, metrics: dict[str, float]
  ) -> PhaseRecord:
    """Evaluates the student, moves lambda, and sums the phase up."""
    metrics = metrics | self._means.pop()
    episodes = self._evaluate(
        self._policy(), phase, (EVALUATION_STREAM, phase.iteration)
    )
    score = episodes.mean_return
    metrics |= _summary('eval', episodes)
    normalized = None
    if self.teacher_score is not None:
      normalized = normalized_score(
          score, self.random_score, self.teacher_score
      )
      if phase.kind == plan_lib.ONLINE:
        self.lambda_ = schedules.next_distillation_weight(
            self.lambda_,
            normalized,
            self.counters.agent_steps,
            self.config.distill_decay_period,
        )
        self._set_coefficients()
    metrics['learning_rate'] = float(
        self.learner_state.coefficients.learning_rate
    )
    return self._record(
        phase,
        self.counters.agent_steps,
        metrics,
        student_score=score,
        teacher_normalized=normalized,
        lambda_=self.lambda_,
    )

  def _record(
      self, phase: Phase, agent_steps: int, metrics: dict[str, float], **fields
  ) -> PhaseRecord:
    return PhaseRecord(
        phase.kind,
        phase.iteration,
        agent_steps,
        self.counters.updates_made,
        metrics=metrics,
        **fields,
    )

  def _set_coefficients(self) -> None:
    config = self.config
    final = config.final_learning_rate
    rate = schedules.interpolated_learning_rate(
        config.learning_rate,
        config.learning_rate if final is None else final,
        self.lambda_ if self.teacher else 1.0,
    )
    coefficients = self.learner_state.coefficients._replace(
        learning_rate=rate, lambda_=self.lambda_
    )
    self.learner_state = self.learner_state._replace(
        coefficients=coefficients.as_arrays()
    )

  def set_coefficients(self, coefficients: Coefficients) -> None:
    """Sets the coefficients that do not decay; lambda and lr follow the run."""
    self.learner_state = self.learner_state._replace(
        coefficients=coefficients.as_arrays()
    )
    self._set_coefficients()

  def _policy(self) -> Policy:
    return Policy(self.learner.network, self.learner_state.online_params)

  def _env_for(self, stream: tuple[int, ...]) -> VectorEnv:
    return self._make_env(self.config.num_eval_envs, stream)

  def _evaluate(
      self, policy: Policy, phase: Phase, stream: tuple[int, ...]
  ) -> Episodes:
    if self._eval_env is None:
      self._eval_env = self._env_for(stream)
    observation = self._eval_env.start_stream(stream)
    key = self._eval_key
    for number in stream:
      key = jax.random.fold_in(key, number)
    evaluating = dataclasses.replace(phase, kind='evaluation')
    self._start_phase(evaluating, self.config.evaluation_steps, 'agent steps')
    return evaluate(
        policy,
        self._eval_env,
        observation,
        self.config.evaluation_steps,
        self.config.epsilon_eval,
        key,
        self._progress,
    )

  def _start_phase(self, phase: Phase, total: int, unit: str) -> None:
    for listener in self.listeners:
      listener.on_phase_start(phase, total, unit)

  def _progress(self, amount: int) -> None:
    for listener in self.listeners:
      listener.on_progress(amount)


class OnlineActor:
  """Environments that a policy plays, and the replay that they fill."""

  def __init__(
      self,
      env: VectorEnv,
      spec: frame_replay.ReplaySpec,
      teacher: Optional[Policy],
      chunk: int,
  ):
    """Builds an empty replay; `reset` or `restore` must follow.

    Args:
      env: E environments.
      spec: of the replay.
      teacher: whose Q-values are stored beside each row, or None.
      chunk: agent steps that are usually written at once.
    """
    self.env = env
    self.spec = spec
    self.writer = ReplayWriter(spec, teacher, chunk)
    self.tracker = EpisodeTracker(env.num_envs)
    self.observation: Optional[np.ndarray] = None
    self.first = np.ones(env.num_envs, np.bool_)

  def reset(self) -> None:
    """Starts fresh episodes everywhere."""
    self.observation = self.env.reset()
    self.first = np.ones(self.env.num_envs, np.bool_)

  def step(
      self,
      policy: Policy,
      epsilon: np.float32,
      rng_key: jax.Array,
      noise: bool = False,
  ) -> jax.Array:
    """Acts once everywhere and keeps the rows; returns the next key."""
    if self.observation is None:
      self.reset()
    actions, rng_key = act(
        policy.network,
        policy.params,
        self.observation,
        epsilon,
        rng_key,
        noise,
    )
    actions = np.asarray(actions)
    step = self.env.step(actions)
    self.writer.append(
        self.observation,
        actions,
        step.reward,
        first=self.first,
        terminal=step.terminal,
        truncated=step.truncated,
    )
    ended = step.terminal | step.truncated
    self.tracker.step(step.reward, ended, None)
    self.observation = step.observation
    self.first = ended
    return rng_key


def _summary(name: str, episodes: Episodes) -> dict[str, float]:
  """Metrics of some finished episodes; empty if there are none."""
  if not len(episodes.returns):
    return {f'{name}_episodes': 0}
  return {
      f'{name}_episodes': len(episodes.returns),
      f'{name}_return_mean': episodes.mean_return,
      f'{name}_return_std': float(np.std(episodes.returns)),
      f'{name}_length_mean': float(np.mean(episodes.lengths)),
  }


@jax.jit
def _copy(tree):
  return jax.tree.map(jnp.copy, tree)
