"""The loop: carries a plan out, phase by phase.

A `Run` is a trainer, environments and the bookkeeping between phases. What
becomes of its records is the listeners' affair. Not here: Dopamine, gin,
files.
"""

from __future__ import annotations

import collections
import contextlib
import time
from typing import Callable, Iterator, Optional, Sequence

import jax
import numpy as np

from reincarnating_rl import schedules
from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.loop import plan as plan_lib
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.beginning import Beginning
from reincarnating_rl.loop.beginning import OfflineLearning
from reincarnating_rl.loop.duties import OFFLINE_UPDATES_PER_CALL
from reincarnating_rl.loop.evaluation import Episodes
from reincarnating_rl.loop.evaluation import evaluate
from reincarnating_rl.loop.plan import Phase
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.player import collect
from reincarnating_rl.loop.player import Player
from reincarnating_rl.loop.records import episode_metrics
from reincarnating_rl.loop.records import Listener
from reincarnating_rl.loop.records import Listeners
from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.records import TrainingDivergedError
from reincarnating_rl.loop.store import Data
from reincarnating_rl.loop.teacher import Teacher
from reincarnating_rl.loop.trainer import evaluation_key
from reincarnating_rl.loop.trainer import Trainer
from reincarnating_rl.scores import normalized_score

# Streams of episode seeds and keys: one number a purpose.
RANDOM_EVALUATION_STREAM = 0
TEACHER_EVALUATION_STREAM = 1
COLLECTION_STREAM = 2
ONLINE_STREAM = 3
EVALUATION_STREAM = 4

# (num_envs, seed, stream) -> environments whose episodes these seed.
EnvFactory = Callable[[int, int, tuple[int, ...]], VectorEnv]


class Run:
  """A reincarnation (or, without a teacher, tabula rasa) run.

  Attributes:
    config: settings.
    plan: its phases.
    next_phase: index into the plan.
    trainer: the student.
    teacher: None when learning from nothing.
    teacher_score: mean return of the teacher, once known.
    random_score: mean return of a random policy.
    records: of the phases done.
    seconds: wall-clock time by phase kind, evaluations under their own name.
    player: the online environments, once the online phases have begun.
    teacher_data: what the teacher left or collected, while it is needed.
  """

  def __init__(
      self,
      config: RunConfig,
      learner: Learner,
      make_env: EnvFactory,
      random_score: Optional[float],
      teacher: Optional[Teacher] = None,
      coefficients: Coefficients = Coefficients(),
      listeners: Sequence[Listener] = (),
      offline: Optional[OfflineLearning] = None,
      beginning: Optional[Beginning] = None,
  ):
    """Builds a run before its first phase; nothing is played yet.

    Args:
      config: settings.
      learner: network, objective, optimizer.
      make_env: builds environments for a stream of episode seeds.
      random_score: the game's score under a random policy; None = measure
        it first.
      teacher: None to learn from nothing.
      coefficients: those that do not decay.
      listeners: told what happens.
      offline: how the student learns in pretraining; None = as online, and
        the optimizer keeps its moments.
      beginning: what the student begins with; None = fresh parameters.

    Raises:
      ValueError: if these do not fit together.
    """
    self.config = config
    self.plan = plan_lib.make_plan(
        config,
        evaluate_teacher=teacher is not None and teacher.score is None,
        reincarnate=teacher is not None,
    )
    self.next_phase = 0
    self.teacher = teacher
    self.teacher_score = teacher.score if teacher else None
    self.random_score = random_score
    self.teacher_data: Optional[Data] = None
    self.player: Optional[Player] = None
    self.records: list[PhaseRecord] = []
    self.seconds: dict[str, float] = collections.defaultdict(float)
    self._listeners = Listeners(listeners)
    self._make_env = make_env
    self._eval_env: Optional[VectorEnv] = None
    self.trainer = Trainer(
        config,
        learner,
        teacher=teacher.policy if teacher else None,
        coefficients=coefficients,
        offline=offline,
        beginning=beginning,
        on_metrics=self._listeners.on_metrics,
    )

  # -- the loop --------------------------------------------------------------

  def run(self, after_phase: Callable[[Run], None] = lambda run: None) -> None:
    """Carries out what is left of the plan.

    Args:
      after_phase: called after each phase, to save the run for instance.
    """
    self.prepare()
    while self.next_phase < len(self.plan):
      self.run_phase(self.plan[self.next_phase])
      after_phase(self)

  def prepare(self) -> None:
    """Finds out what the plan takes for known."""
    if self.random_score is None:
      self.random_score = self._evaluate_random_policy()
    self.prepare_teacher_data()

  def run_phase(self, phase: Phase) -> PhaseRecord:
    """Carries out one phase and tells the listeners.

    Raises:
      TrainingDivergedError: if learning came to numbers that are not finite;
        there is no record of the phase then.
    """
    with self.naming_the_way_back():
      if phase.kind == plan_lib.TEACHER_EVALUATION:
        record = self._evaluate_teacher(phase)
      elif phase.kind == plan_lib.COLLECTION:
        record = self._collect(phase)
      else:
        with self.training(phase):
          if phase.kind == plan_lib.PRETRAINING:
            self._pretrain(phase)
          else:
            self._train_online(phase)
        record = self._training_record(phase)
    return self._keep(record)

  def finish_training(self, phase: Phase) -> PhaseRecord:
    """Evaluates after a training that was carried out from outside.

    Args:
      phase: what `training` was entered for.
    """
    with self.naming_the_way_back():
      record = self._training_record(phase)
    return self._keep(record)

  def _keep(self, record: PhaseRecord) -> PhaseRecord:
    """Goes on to the next phase."""
    self.records.append(record)
    self.next_phase += 1
    self._listeners.on_record(record)
    return record

  @contextlib.contextmanager
  def naming_the_way_back(self) -> Iterator[None]:
    """Adds to an error of learning what there is to go back to."""
    try:
      yield
    except TrainingDivergedError as e:
      raise e.with_way_back(self._way_back()) from None

  def _way_back(self) -> str:
    """The last phase that went well, in words."""
    if not self.records:
      return 'no phase was done before, so there is no checkpoint to go back to'
    last = self.records[-1]
    name = last.phase.replace('_', ' ')
    if last.iteration:
      name += f' {last.iteration}'
    return (
        f'checkpoint {self.next_phase} of seed {self.config.seed}, written '
        f'after {name}, is the last good one'
    )

  def _evaluate_random_policy(self) -> float:
    """Mean return of uniformly random actions, for games without a record."""
    phase = Phase('random_evaluation', 0)
    episodes = self._evaluate(
        self.trainer.policy, phase, (RANDOM_EVALUATION_STREAM,), epsilon=1.0
    )
    return episodes.mean_return

  def _evaluate_teacher(self, phase: Phase) -> PhaseRecord:
    config, stream = self.config, (TEACHER_EVALUATION_STREAM,)
    shared = self.teacher.shared
    if shared.evaluation is None:
      env = self._make_env(config.num_eval_envs, config.teacher_seed, stream)
      shared.evaluation = self._play(
          self.teacher.policy,
          phase,
          env,
          env.reset(),
          self._teacher_key(*stream),
      )
    episodes = shared.evaluation
    self.teacher_score = episodes.mean_return
    return self._record(phase, episode_metrics('eval', episodes))

  def _collect(self, phase: Phase) -> PhaseRecord:
    """The teacher plays and its steps, with its Q-values, become the data."""
    shared = self.teacher.shared
    if shared.collection is None:
      shared.collection = self._play_for_data(phase)
    self.teacher_data, episodes = shared.collection
    return self._record(phase, episode_metrics('train', episodes))

  def _play_for_data(self, phase: Phase) -> tuple[Data, Episodes]:
    config, stream = self.config, (COLLECTION_STREAM,)
    spec = config.collection_spec()
    with self._timed(phase.kind, phase, spec.capacity, 'agent steps'):
      replay, episodes = collect(
          self.teacher.policy,
          self._make_env(spec.num_streams, config.teacher_seed, stream),
          spec,
          config.teacher_epsilon,
          self._teacher_key(*stream),
          self._listeners.on_progress,
      )
    return (spec, replay), episodes

  @contextlib.contextmanager
  def training(self, phase: Phase) -> Iterator[None]:
    """Prepares a training phase, announces it and books its time.

    Raises:
      ValueError: if the teacher's data is needed and not there.
    """
    self.begin(phase)
    total, unit = phase.updates, 'updates'
    if phase.kind == plan_lib.ONLINE:
      total, unit = self.config.ticks * self.config.num_envs, 'agent steps'
    with self._timed(phase.kind, phase, total, unit):
      yield

  def begin(self, phase: Phase) -> None:
    """Makes sure that a training phase has what it needs.

    Raises:
      ValueError: if the teacher's data is needed and not there.
    """
    if phase.kind == plan_lib.PRETRAINING and self.teacher_data is None:
      raise ValueError(self.config.no_teacher_data)
    if phase.kind == plan_lib.ONLINE and self.player is None:
      self._begin_online()

  def _pretrain(self, phase: Phase) -> None:
    for num in self.pretraining_chunks():
      self.trainer.pretrain(self.teacher_data, num)
      self.pretrained(num)

  def pretraining_chunks(self) -> Iterator[int]:
    """The pretraining steps of a phase, some at a time."""
    each = self.config.updates_per_pretraining_step
    left = self.config.num_pretraining_steps
    while left:
      num = min(max(OFFLINE_UPDATES_PER_CALL // each, 1), left)
      yield num
      left -= num

  def pretrained(self, num_steps: int) -> None:
    """Tells the listeners of pretraining steps."""
    updates = num_steps * self.config.updates_per_pretraining_step
    self._listeners.on_progress(updates)

  def _train_online(self, phase: Phase) -> None:
    trainer = self.trainer
    for _ in range(self.config.ticks):
      trainer.train_step(self.teacher_data)
      self.step(trainer.act)
    trainer.catch_up(self.teacher_data)

  def step(self, act: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """One step of all environments, stored.

    Args:
      act: see `Player.step`.
    """
    self.player.step(act, self.trainer.store)
    self._listeners.on_progress(self.config.num_envs)

  # -- pieces of phases ------------------------------------------------------

  def _begin_online(self) -> None:
    """Frees the teacher's data, unless rehearsed; starts the student's own."""
    if not self.config.learns_from_it_online:
      self.teacher_data = None
      if self.teacher is not None:
        self.teacher.shared.forget_data()
    self.trainer.begin_online()
    self.player = self._new_player()

  def _new_player(self) -> Player:
    config, stream = self.config, (ONLINE_STREAM,)
    return Player(self._make_env(config.num_envs, config.seed, stream))

  def allocate_student(self, capacity: int) -> None:
    """Makes the online environments and replay, for a checkpoint to fill.

    Args:
      capacity: rows of the replay; a run that is prolonged had planned fewer.
    """
    self.trainer.allocate_replay(capacity)
    self.player = self._new_player()

  def prepare_teacher_data(self) -> None:
    """Reads the teacher's data, or collects it again, if the plan needs it.

    Raises:
      ValueError: if there are none and none will be collected, or they are
        damaged.
    """
    kinds = [phase.kind for phase in self.plan]
    learn_from_it = {plan_lib.PRETRAINING}
    if self.config.learns_from_it_online:
      learn_from_it.add(plan_lib.ONLINE)
    needed = learn_from_it.intersection(kinds[self.next_phase :])
    if not needed or self.teacher_data is not None:
      return
    if plan_lib.COLLECTION in kinds:
      phase = self.plan[kinds.index(plan_lib.COLLECTION)]
      if phase in self.plan[: self.next_phase]:
        self._collect(phase)
    elif self.teacher is None or self.teacher.read_data is None:
      raise ValueError(self.config.no_teacher_data)
    else:
      shared = self.teacher.shared
      if shared.read is None:
        shared.read = self.teacher.read_data()
      self.teacher_data = shared.read

  def _training_record(self, phase: Phase) -> PhaseRecord:
    """Evaluates the student, moves lambda, and sums the phase up."""
    trainer = self.trainer
    if trainer.writer is not None:
      trainer.writer.flush()
    metrics = trainer.pop_metrics()
    if phase.kind == plan_lib.ONLINE:
      metrics |= self._online_metrics()
    episodes = self._evaluate(
        trainer.policy, phase, (EVALUATION_STREAM, phase.iteration)
    )
    metrics |= episode_metrics('eval', episodes)
    rate = trainer.learner_state.coefficients.learning_rate
    metrics['learning_rate'] = float(rate)
    score, normalized = episodes.mean_return, None
    if self.teacher_score not in (None, self.random_score):
      normalized = normalized_score(
          score, self.random_score, self.teacher_score
      )
    if phase.kind == plan_lib.ONLINE and self.config.wean:
      # Beside a teacher no better than chance no score counts, but time does.
      kept = 1.0 - trainer.lambda_
      trainer.set_lambda(
          schedules.next_distillation_weight(
              trainer.lambda_,
              kept if normalized is None else normalized,
              trainer.counters.agent_steps,
              self.config.distill_decay_period,
          )
      )
    return self._record(
        phase,
        metrics,
        student_score=score,
        teacher_normalized=normalized,
        lambda_=trainer.lambda_,
    )

  def _online_metrics(self) -> dict[str, float]:
    trainer = self.trainer
    metrics = episode_metrics('train', self.player.tracker.pop()) | {
        'epsilon': trainer.epsilon,
        'resets': len(trainer.counters.resets),
        'updates_due': trainer.counters.updates_due,
    }
    if trainer.guide is not None:
      steps = self.config.ticks * self.config.num_envs
      metrics |= trainer.guide.end_iteration(steps)
    return metrics

  def _record(
      self, phase: Phase, metrics: dict[str, float], **fields: float
  ) -> PhaseRecord:
    return PhaseRecord(
        phase.kind,
        phase.iteration,
        self.trainer.counters.agent_steps,
        self.trainer.counters.updates_made,
        metrics=metrics,
        **fields,
    )

  def _evaluate(
      self,
      policy: Policy,
      phase: Phase,
      stream: tuple[int, ...],
      epsilon: Optional[float] = None,
  ) -> Episodes:
    """Plays the student, in environments that are made once."""
    config = self.config
    if self._eval_env is None:
      self._eval_env = self._make_env(config.num_eval_envs, config.seed, stream)
    return self._play(
        policy,
        phase,
        self._eval_env,
        self._eval_env.start_stream(stream),
        _fold_in(self.trainer.eval_key, *stream),
        epsilon,
    )

  def _teacher_key(self, *stream: int) -> jax.Array:
    """What the teacher draws from, the same in every student's run."""
    return _fold_in(evaluation_key(self.config.teacher_seed), *stream)

  def _play(
      self,
      policy: Policy,
      phase: Phase,
      env: VectorEnv,
      observation: np.ndarray,
      rng_key: jax.Array,
      epsilon: Optional[float] = None,
  ) -> Episodes:
    """Whole episodes of a policy, timed and announced."""
    steps = self.config.evaluation_steps
    trains = phase.kind in (plan_lib.PRETRAINING, plan_lib.ONLINE)
    kind = 'evaluation' if trains else phase.kind
    with self._timed(kind, phase, steps, 'agent steps'):
      return evaluate(
          policy,
          env,
          observation,
          steps,
          self.config.epsilon_eval if epsilon is None else epsilon,
          rng_key,
          self._listeners.on_progress,
      )

  @contextlib.contextmanager
  def _timed(
      self, kind: str, phase: Phase, total: int, unit: str
  ) -> Iterator[None]:
    """Announces a piece of work and books its time."""
    self._listeners.on_work(kind, phase, total, unit)
    start = time.monotonic()
    yield
    self.seconds[kind] += time.monotonic() - start


def _fold_in(rng_key: jax.Array, *numbers: int) -> jax.Array:
  for number in numbers:
    rng_key = jax.random.fold_in(rng_key, number)
  return rng_key
