"""Run: carries out a plan, phase by phase.

A `Run` has a trainer, environments and the bookkeeping between phases. It
passes its records to listeners. Not here: Dopamine, gin, files.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

from reincarnating_rl.base import schedules
from reincarnating_rl.base.scores import normalized_score
from reincarnating_rl.base.stateful import state_of
from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.envs.base import EnvironmentFactory
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.loop.acting.env_player import Player
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.replay_writer import COLLECTED_ROWS
from reincarnating_rl.loop.acting.replay_writer import Data
from reincarnating_rl.loop.acting.replay_writer import replay_state
from reincarnating_rl.loop.acting.replay_writer import restored_replay
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.rollouts import EVALUATION_STREAM
from reincarnating_rl.loop.run.rollouts import RANDOM_EVALUATION_STREAM
from reincarnating_rl.loop.run.rollouts import Stage
from reincarnating_rl.loop.run.teacher import Teacher
from reincarnating_rl.loop.training.events import episode_metrics
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.events import Listeners
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached
from reincarnating_rl.loop.training.events import TrainingDivergedError
from reincarnating_rl.loop.training.initial_state import Beginning
from reincarnating_rl.loop.training.initial_state import OfflineLearning
from reincarnating_rl.loop.training.member_settings import Member
from reincarnating_rl.loop.training.trainer import Trainer
from reincarnating_rl.loop.training.update_schedule import (
    OFFLINE_UPDATES_PER_CALL,
)
from reincarnating_rl.replay import frame_replay


class Run(Stateful):
  """Run of one agent, with a teacher or from scratch.

  Attributes:
    config: settings.
    plan: phases of the run.
    end: index into the plan at which the run ends; less than its length if the
      run is to stop early.
    next_phase: index into the plan of the present or next phase.
    steps_done: steps of this phase so far: pretraining steps, or steps of all
      environments.
    copied_after: last iteration after which this run copied another run of its
      population; 0 = never.
    at_step: called between steps, at each point where the run can be saved.
    latest_checkpoint: returns the number of the newest checkpoint, or None.
    trainer: learner state, replay and schedules of the student.
    teacher: teacher of the run; None = from scratch.
    teacher_score: mean return of the teacher, once known.
    random_score: mean return of the random policy.
    records: records of the finished phases.
    listeners: listeners to records, metrics and progress.
    stage: environments and time of evaluations and collections.
    player: online environments; None before the online phases.
    teacher_data: data of the teacher, while it is needed.
    collected: episodes in the data that this run itself collected with the
      teacher, while it is needed.
  """

  SAVED = (
      'next_phase',
      'steps_done',
      'copied_after',
      'random_score',
      'teacher_score',
      'records',
      'collected',
      'teacher_data',
      'player',
      'trainer',
      'stage',
  )
  REBUILT = (
      'config',
      'plan',
      'end',
      'teacher',
      'at_step',
      'latest_checkpoint',
      'listeners',
  )

  def __init__(
      self,
      config: RunConfig,
      learner: Learner,
      make_env: EnvironmentFactory,
      random_score: Optional[float],
      teacher: Optional[Teacher] = None,
      coefficients: Coefficients = Coefficients(),
      member: Optional[Member] = None,
      listeners: Sequence[Listener] = (),
      offline: Optional[OfflineLearning] = None,
      beginning: Optional[Beginning] = None,
  ):
    """Builds a run before its first phase; it does not play yet.

    Args:
      config: settings.
      learner: network, objective, optimizer.
      make_env: builds environments for a stream of episode seeds.
      random_score: mean return of the random policy; None = measure it first.
      teacher: teacher of the run; None = learn from scratch.
      coefficients: coefficients that do not decay.
      member: settings of this member of a population, which override the above.
      listeners: listeners to records, metrics and progress.
      offline: learner of the pretraining; None = the online learner, whose
        optimizer then keeps its moments.
      beginning: initial state of the student; None = fresh parameters.

    Raises:
      ValueError: if the arguments do not fit together.
    """
    self.config = config
    self.plan = plan_lib.make_plan(
        config,
        evaluate_teacher=teacher is not None and teacher.score is None,
        reincarnate=teacher is not None,
    )
    self.end = len(self.plan)
    self.next_phase = 0
    self.steps_done = 0
    self.copied_after = 0
    self.at_step: Callable[[Run], None] = lambda run: None
    self.latest_checkpoint: Callable[[], Optional[int]] = lambda: None
    self.teacher = teacher
    self.teacher_score = teacher.score if teacher else None
    self.random_score = random_score
    self.teacher_data: Optional[Data] = None
    self.player: Optional[Player] = None
    self.collected: Optional[Episodes] = None
    self.records: list[PhaseRecord] = []
    self.listeners = Listeners(listeners)
    self.stage = Stage(
        config, make_env, self.listeners, lambda: self.at_step(self)
    )
    self.trainer = Trainer(
        config,
        learner,
        teacher=teacher.policy if teacher else None,
        coefficients=coefficients,
        member=member,
        offline=offline,
        beginning=beginning,
        on_metrics=self._tell_metrics,
    )

  # -- state -----------------------------------------------------------------

  def get_state(self) -> dict[str, Any]:
    collected = None
    if self.collected is not None:
      collected = replay_state(self.teacher_data[1]) | {
          'rows': COLLECTED_ROWS,
          'episodes': self.collected.to_json(),
      }
    trainer = self.trainer.get_state()
    if self.player is None:
      trainer['writer'] = trainer['guide'] = None
    return {
        'next_phase': self.next_phase,
        'steps_done': self.steps_done,
        'copied_after': self.copied_after,
        'random_score': self.random_score,
        'teacher_score': self.teacher_score,
        'records': [record.to_json() for record in self.records],
        'collected': collected,
        'player': state_of(self.player),
        'trainer': trainer,
        'stage': self.stage.get_state(),
    }

  def set_state(
      self, state: Mapping[str, Any], keeps_copied: bool = True
  ) -> None:
    """Restores a saved state into a freshly built run.

    Args:
      state: result of `get_state`, with the rows of replays in 'segments'.
      keeps_copied: False to drop settings that the saved run copied from
        another member of its population.

    Raises:
      StateMismatchError: if the state does not fit this run.
    """
    for name in ('next_phase', 'steps_done', 'random_score', 'teacher_score'):
      setattr(self, name, state[name])
    self.records = [PhaseRecord.from_json(r) for r in state['records']]
    self.trainer.set_state(state['trainer'])
    if state['player'] is not None:
      self.player = Player(self.stage.training_env(), self.trainer.policy.actor)
      self.player.set_state(state['player'])
    if state['collected'] is not None:
      self._restore_collection(state['collected'])
    self.stage.set_state(state['stage'])
    if keeps_copied and state['copied_after']:
      self.copied_after = state['copied_after']
      self.trainer.settle(state['trainer']['member'])

  def _restore_collection(self, state: Mapping[str, Any]) -> None:
    """Restores the data that the teacher collected, for other runs, too."""
    num_actions = self.teacher.policy.network.num_actions
    spec = self.config.collection_spec().with_q_teacher(num_actions)
    empty = frame_replay.init(spec)
    self.teacher_data = spec, restored_replay(spec, empty, state)
    self.collected = Episodes.from_json(state['episodes'])
    shared = self.teacher.shared
    if shared.collection is None:
      shared.collection = (self.teacher_data, self.collected)

  # -- the loop --------------------------------------------------------------

  def run(self, after_phase: Callable[[Run], None] = lambda run: None) -> None:
    """Carries out the rest of the plan.

    Args:
      after_phase: called after each phase, for example to save the run.
    """
    self.prepare()
    while not self.is_done:
      self.run_phase(self.plan[self.next_phase])
      after_phase(self)

  @property
  def is_done(self) -> bool:
    """True if no phase is left."""
    return self.next_phase >= self.end

  def stop_after(self, online_iterations: int) -> None:
    """Ends the run early; the schedules stay those of the whole plan.

    Args:
      online_iterations: online iterations before the end, including those that
        are done. A number beyond the plan has no effect.
    """
    before = len(self.plan) - self.config.num_iterations
    self.end = min(before + online_iterations, len(self.plan))

  def prepare(self) -> None:
    """Gets what the phases need: the random score and the teacher's data."""
    if self.random_score is None:
      self.random_score = self._evaluate_random_policy()
    self.prepare_teacher_data()

  def run_phase(self, phase: Phase) -> PhaseRecord:
    """Carries out one phase and passes its record to the listeners.

    Raises:
      TrainingDivergedError: if a loss, gradient or parameter is not finite; the
        phase then has no record.
    """
    self.at_step(self)
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
    """Evaluates the student after a training phase that a caller carried out.

    Args:
      phase: phase that `training` was entered with.
    """
    with self.naming_the_way_back():
      record = self._training_record(phase)
    return self._keep(record)

  def _keep(self, record: PhaseRecord) -> PhaseRecord:
    """Keeps the record of a phase and moves on to the next one."""
    self.records.append(record)
    self.next_phase += 1
    self.steps_done = 0
    self.listeners.on_record(record)
    return record

  @contextlib.contextmanager
  def naming_the_way_back(self) -> Iterator[None]:
    """Adds the last good checkpoint to a TrainingDivergedError."""
    try:
      yield
    except TrainingDivergedError as e:
      raise e.with_way_back(self._way_back()) from None

  def _way_back(self) -> str:
    """Names the last good checkpoint."""
    number = self.latest_checkpoint()
    if number is None:
      return f'seed {self.config.seed} has no checkpoint to go back to'
    return (
        f'checkpoint {number} of seed {self.config.seed} is the last good one'
    )

  @property
  def seconds(self) -> dict[str, float]:
    """Wall-clock seconds by kind of phase; evaluations have their own entry."""
    return self.stage.seconds

  def where(self) -> str:
    """Describes the present phase, for messages."""
    if self.next_phase == len(self.plan):
      return 'after the last phase'
    phase = self.plan[self.next_phase]
    name = phase.kind.replace('_', ' ')
    if phase.iteration:
      name += f' {phase.iteration}'
    return f'{name} of seed {self.config.seed}'

  def _evaluate_random_policy(self) -> float:
    """Mean return of random actions, for games without a published score."""
    episodes = self.stage.evaluate(
        self.trainer.policy,
        Phase('random_evaluation', 0),
        (RANDOM_EVALUATION_STREAM,),
        epsilon=1.0,
    )
    return episodes.mean_return

  def _evaluate_teacher(self, phase: Phase) -> PhaseRecord:
    shared = self.teacher.shared
    if shared.evaluation is None:
      policy = self.teacher.policy
      shared.evaluation = self.stage.evaluate_teacher(policy, phase)
    episodes = shared.evaluation
    self.teacher_score = episodes.mean_return
    return self._record(phase, {'eval': episodes})

  def _collect(self, phase: Phase) -> PhaseRecord:
    """Collects data: the steps of the teacher, with its Q-values."""
    shared = self.teacher.shared
    if shared.collection is None:
      shared.collection = self.stage.collect(self.teacher.policy, phase)
      self.collected = shared.collection[1]
    self.teacher_data, episodes = shared.collection
    return self._record(phase, {'train': episodes})

  @contextlib.contextmanager
  def training(self, phase: Phase) -> Iterator[None]:
    """Prepares a training phase, announces it and measures its time.

    Raises:
      ValueError: if the phase needs the teacher's data and there is none.
    """
    self.begin(phase)
    total, unit = phase.updates, 'updates'
    each = self.config.updates_per_pretraining_step
    if phase.kind == plan_lib.ONLINE:
      total, unit = self.config.ticks * self.config.num_envs, 'agent steps'
      each = self.config.num_envs
    done = self.steps_done * each
    with self.stage.timed(phase.kind, phase, total, unit, done):
      yield

  def begin(self, phase: Phase) -> None:
    """Checks the data of a training phase; makes the online environments.

    Raises:
      ValueError: if the phase needs the teacher's data and there is none.
    """
    if phase.kind == plan_lib.PRETRAINING and self.teacher_data is None:
      raise ValueError(self.config.no_teacher_data)
    if phase.kind == plan_lib.ONLINE and self.player is None:
      self._begin_online()

  def _pretrain(self, phase: Phase) -> None:
    for num in self.pretraining_chunks():
      self.trainer.pretrain(self.teacher_data, num)
      self.pretrained(num)
      self.at_step(self)

  def pretraining_chunks(self) -> Iterator[int]:
    """Yields the rest of a phase's pretraining steps, as counts per call."""
    each = self.config.updates_per_pretraining_step
    left = self.config.num_pretraining_steps - self.steps_done
    while left:
      num = min(max(OFFLINE_UPDATES_PER_CALL // each, 1), left)
      yield num
      left -= num

  def pretrained(self, num_steps: int, announced: bool = True) -> None:
    """Counts pretraining steps; `announced` tells the listeners of them."""
    self.steps_done += num_steps
    if announced:
      updates = num_steps * self.config.updates_per_pretraining_step
      self.listeners.on_progress(updates)

  def _train_online(self, phase: Phase) -> None:
    trainer = self.trainer
    while self.steps_done < self.config.ticks:
      # After a resume actions may be in flight; the updates before them have
      # been made already.
      if self.player.in_flight is not None:
        self.finish_step()
      elif self.config.overlap:
        self.player.decide(trainer.act)
        self.player.begin()
        trainer.train_step(self.teacher_data)
        self.finish_step()
      else:
        trainer.train_step(self.teacher_data)
        self.player.decide(trainer.act)
        self.finish_step()
      self.at_step(self)
    trainer.catch_up(self.teacher_data)

  def finish_step(self) -> None:
    """Finishes and stores the step whose actions are in flight."""
    self.player.finish(self.trainer.store)
    self.steps_done += 1
    self.listeners.on_progress(self.config.num_envs)

  # -- pieces of phases ------------------------------------------------------

  def _begin_online(self) -> None:
    """Drops the teacher's data unless it is rehearsed; starts the replay."""
    if not self.config.learns_from_it_online:
      self.teacher_data = self.collected = None
      if self.teacher is not None:
        self.teacher.shared.forget_data()
    self.trainer.begin_online()
    self.player = Player(self.stage.training_env(), self.trainer.policy.actor)

  def prepare_teacher_data(self) -> None:
    """Reads the teacher's data, or collects it again, if a phase needs it.

    Raises:
      ValueError: if there is no data and the plan collects none, or the data is
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
    """Evaluates the student, updates lambda, and makes the phase's record."""
    trainer = self.trainer
    if trainer.writer is not None:
      trainer.writer.flush()
    trainer.check_finite()
    # Metrics are popped after the evaluation, since a checkpoint may be taken
    # during it.
    episodes = self.stage.evaluate(
        trainer.policy, phase, (EVALUATION_STREAM, phase.iteration)
    )
    metrics = trainer.pop_metrics()
    finished = {'eval': episodes}
    if phase.kind == plan_lib.ONLINE:
      metrics |= self._online_metrics()
      finished['train'] = self.player.tracker.pop()
    rate = trainer.learner_state.coefficients.learning_rate
    metrics['learning_rate'] = float(rate)
    score, normalized = episodes.mean_return, None
    random, teacher = self.random_score, self.teacher_score
    # A teacher no better than the random policy gives no scale.
    if teacher is not None and teacher > random:
      normalized = normalized_score(score, random, teacher)
    if phase.kind == plan_lib.ONLINE and self.config.wean:
      trainer.set_lambda(
          schedules.next_distillation_weight(
              trainer.lambda_,
              normalized,
              trainer.counters.agent_steps,
              self.config.distill_decay_period,
          )
      )
    return self._record(
        phase,
        finished,
        metrics,
        student_score=score,
        teacher_normalized=normalized,
        lambda_=trainer.lambda_,
    )

  def _online_metrics(self) -> dict[str, float]:
    trainer = self.trainer
    metrics = {
        'epsilon': trainer.epsilon,
        'resets': len(trainer.counters.resets),
        'updates_due': trainer.counters.updates_due,
    }
    if trainer.guide is not None:
      steps = self.config.ticks * self.config.num_envs
      metrics |= trainer.guide.end_iteration(steps)
    return metrics

  def _record(
      self,
      phase: Phase,
      finished: dict[str, Episodes],
      metrics: Optional[dict[str, float]] = None,
      **fields: float,
  ) -> PhaseRecord:
    metrics = dict(metrics or {})
    for name, episodes in finished.items():
      metrics |= episode_metrics(name, episodes)
    return PhaseRecord(
        phase.kind,
        phase.iteration,
        self.trainer.counters.agent_steps,
        self.trainer.counters.updates_made,
        metrics=metrics,
        member=dict(self.trainer.member),
        episodes={name: e.to_json() for name, e in finished.items()},
        seconds=sum(self.seconds.values()),
        **fields,
    )

  def _tell_metrics(self, metrics: dict[str, float]) -> None:
    phase, counters = self.plan[self.next_phase], self.trainer.counters
    self.listeners.on_metrics(
        Reached(
            phase.kind,
            phase.iteration,
            counters.training_steps,
            counters.agent_steps,
            counters.updates_made,
            sum(self.stage.seconds_so_far().values()),
        ),
        metrics,
    )
