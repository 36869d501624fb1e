"""What a run does, as data: its settings and its list of phases."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import math
from typing import Any, Optional

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.replay.frame_replay import ReplaySpec

TEACHER_EVALUATION = 'teacher_evaluation'
COLLECTION = 'data_collection'
PRETRAINING = 'pretraining'
ONLINE = 'online'

NEVER_DECAY = -1


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """Settings of a run; every count says its unit.

  Attributes:
    game: name in Dopamine's spelling.
    seed: of networks, sampling, acting and episodes (the run number).
    teacher_seed: of the teacher's evaluation and of the data it collects: what
      it is worth, and what it leaves, is the same for every student's seed.
    num_iterations: online iterations.
    training_steps: agent steps of an online iteration.
    evaluation_steps: agent steps of an evaluation, at least.
    num_pretraining_iterations: offline iterations before them.
    num_pretraining_steps: pretraining steps of an offline iteration.
    updates_per_pretraining_step: updates of each of them.
    teacher_steps: agent steps that the teacher collects; 0 = none.
    teacher_epsilon: of the teacher while it collects.
    teacher_update_horizon: n of the teacher's data.
    num_envs: environments that train online, side by side.
    num_eval_envs: environments that evaluate and collect, side by side.
    batch_size: transitions of an update.
    update_horizon: n of the student's online returns.
    gamma: discount of one agent step.
    replay_capacity: agent steps that the student's replay keeps.
    min_replay_history: agent steps in it before online updates start.
    replay_ratio: updates per agent step, any positive rational.
    updates_per_call: updates that are made in one go, as soon as so many are
      due; None = as many as are due in one step of all environments.
    overlap: whether the updates that stand before an action are made after it,
      while the environments play it: it is chosen by the network before them.
    resets: when the network gives up a part of what it learned; None = never.
    act_with_target: whether the target network acts, not the online one.
    target_update_period: training steps between copies of the target.
    prioritized: whether the online phase samples by priority.
    teacher_data_ratio: probability that an online sample is taken from the
      teacher's data instead of the student's (rehearsal).
    guide: how the teacher acts in the student's episodes; None = it does not.
    epsilon_train: final exploration.
    epsilon_eval: exploration in evaluation.
    epsilon_decay_period: training steps of the decay from 1.
    epsilon_warmup_steps: training steps before that decay begins.
    learning_rate: while lambda is 1.
    final_learning_rate: once lambda is 0; None = as `learning_rate`.
    distill_decay_period: online agent steps after which lambda is 0;
      NEVER_DECAY = only the score decides.
    wean: whether lambda falls at all.
    max_agent_steps_per_episode: time limit.
    sticky_actions: probability that the last action is repeated.
    frame_shape: (H, W) of a frame.
  """

  game: str = 'Pong'
  seed: int = 0
  teacher_seed: int = 1
  num_iterations: int = 10
  training_steps: int = 250_000
  evaluation_steps: int = 125_000
  num_pretraining_iterations: int = 0
  num_pretraining_steps: int = 100_000
  updates_per_pretraining_step: int = 1
  teacher_steps: int = 0
  teacher_epsilon: float = 0.01
  teacher_update_horizon: int = 1
  num_envs: int = 1
  num_eval_envs: int = 8
  batch_size: int = 32
  update_horizon: int = 1
  gamma: float = 0.99
  replay_capacity: int = 1_000_000
  min_replay_history: int = 20_000
  replay_ratio: Fraction = Fraction(1, 4)
  updates_per_call: Optional[int] = None
  overlap: bool = False
  resets: Optional[ResetSchedule] = None
  act_with_target: bool = False
  target_update_period: int = 8_000
  prioritized: bool = False
  teacher_data_ratio: float = 0.0
  guide: Optional[GuideConfig] = None
  epsilon_train: float = 0.01
  epsilon_eval: float = 0.001
  epsilon_decay_period: int = 50_000
  epsilon_warmup_steps: int = 0
  learning_rate: float = 6.25e-5
  final_learning_rate: Optional[float] = None
  distill_decay_period: int = NEVER_DECAY
  wean: bool = True
  max_agent_steps_per_episode: int = 27_000
  sticky_actions: float = 0.25
  frame_shape: tuple[int, int] = (84, 84)

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if field.type == 'int' or (
          field.type == 'Optional[int]'
          and getattr(self, field.name) is not None
      ):
        self._make_whole(field.name)
    positive = (
        'training_steps evaluation_steps num_envs num_eval_envs batch_size '
        'update_horizon teacher_update_horizon replay_capacity '
        'target_update_period max_agent_steps_per_episode '
        'updates_per_pretraining_step'
    )
    for name in positive.split():
      _require(getattr(self, name) > 0, name, getattr(self, name), 'positive')
    counts = (
        'num_iterations num_pretraining_iterations num_pretraining_steps '
        'teacher_steps min_replay_history epsilon_decay_period '
        'epsilon_warmup_steps'
    )
    for name in counts.split():
      _require(
          getattr(self, name) >= 0, name, getattr(self, name), 'zero or more'
      )
    probabilities = (
        'teacher_epsilon epsilon_train epsilon_eval teacher_data_ratio'
    )
    for name in probabilities.split():
      value = getattr(self, name)
      _require(0.0 <= value <= 1.0, name, value, 'between 0 and 1')
    object.__setattr__(self, 'replay_ratio', Fraction(self.replay_ratio))
    _require(
        self.replay_ratio > 0, 'replay_ratio', self.replay_ratio, 'positive'
    )
    if self.updates_per_call is not None:
      _require(
          self.updates_per_call > 0,
          'updates_per_call',
          self.updates_per_call,
          'positive',
      )
    self._check_resets()
    first_update = max(self.min_replay_history, self.first_eligible_row)
    if self.num_iterations and first_update >= self.replay_capacity:
      raise ValueError(
          f'min_replay_history {self.min_replay_history} is never passed by '
          f'a replay of capacity {self.replay_capacity}: enlarge the replay '
          'or lower min_replay_history.'
      )

  def _make_whole(self, name: str) -> None:
    """Takes 4.0 for 4; what is between two numbers is refused."""
    value = getattr(self, name)
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    is_whole = is_number and value == int(value)
    _require(is_whole, name, repr(value), 'a whole number')
    object.__setattr__(self, name, int(value))

  def _check_resets(self) -> None:
    if self.resets is None:
      return
    if not self.num_iterations:
      raise ValueError(
          'There are resets, but no online iterations (Runner.num_iterations '
          "is 0), and nothing else is reset: bind resets to 'none'."
      )
    period, unit = self.resets.period, self.resets.unit
    grouped = self.grouped_updates
    in_a_step = math.ceil(self.replay_ratio * self.num_envs)
    shortest = {
        'updates': max(grouped, in_a_step),
        'agent_steps': max(self.num_envs, grouped / self.replay_ratio),
    }[unit]
    if period < shortest:
      raise ValueError(
          f'The period of resets is {period} {unit.replace("_", " ")}, but '
          f'{grouped} updates are made at once in {self.num_envs} '
          f'environments, every {math.ceil(shortest)}: lengthen the period or '
          'lower updates_per_call or num_envs.'
      )

  def to_json(self) -> dict[str, Any]:
    """JSON-ready; fractions as text."""
    return {
        k: str(v) if isinstance(v, Fraction) else v
        for k, v in dataclasses.asdict(self).items()
    }

  @property
  def ticks(self) -> int:
    """Steps of all environments in an online iteration."""
    return -(-self.training_steps // self.num_envs)

  @property
  def grouped_updates(self) -> int:
    """Updates that are made in one go."""
    in_a_step = int(self.replay_ratio * self.num_envs)
    return self.updates_per_call or max(in_a_step, 1)

  @property
  def first_eligible_row(self) -> int:
    """Agent steps until the student's replay can be sampled from."""
    return (self.update_horizon + 1) * self.num_envs

  @property
  def needs_teacher_data(self) -> bool:
    """Whether a plan with a teacher learns from its data."""
    return self.num_pretraining_iterations > 0 or self.learns_from_it_online

  @property
  def learns_from_it_online(self) -> bool:
    """Whether the online phases need the teacher's data, too."""
    distills = self.resets is not None and self.resets.distill_updates_after
    return self.num_iterations > 0 and bool(self.teacher_data_ratio or distills)

  @property
  def no_teacher_data(self) -> str:
    """What is to be said where that data is not there, in a sentence."""
    uses = []
    if self.num_pretraining_iterations:
      uses.append('pretraining')
    if self.teacher_data_ratio:
      uses.append(f'rehearsal (teacher_data_ratio {self.teacher_data_ratio})')
    if self.resets is not None and self.resets.distill_updates_after:
      uses.append('the distillation after resets')
    return (
        f'There is no data of a teacher for {" and ".join(uses)}: give a '
        'teacher with replay logs, or set teacher_steps to let the teacher '
        'collect some.'
    )

  @property
  def student_capacity(self) -> int:
    """Agent steps to allocate: no more than the plan can store."""
    return self.student_capacity_with(0)

  def student_capacity_with(self, given_rows: int) -> int:
    """Agent steps to allocate for a replay that does not begin empty.

    Args:
      given_rows: agent steps that it begins with.
    """
    planned = self.num_iterations * self.ticks * self.num_envs + given_rows
    wanted = min(self.replay_capacity, max(planned, self.min_replay_history))
    # The write head spoils the stacks of the rows just before it.
    slots = -(-wanted // self.num_envs) + ReplaySpec.stack_size
    if given_rows:
      # What stands between the given steps and the student's.
      slots += self.update_horizon
    # Room for the rows around the write head, however short the run.
    return max(slots, self.update_horizon + 16) * self.num_envs

  @property
  def observation(self) -> ArraySpec:
    """One observation of one environment."""
    return ArraySpec(tuple(self.frame_shape), 'uint8')

  @property
  def state(self) -> ArraySpec:
    """One state, as networks see it."""
    return self.student_spec(self.student_capacity).state

  def student_spec(self, capacity: int) -> ReplaySpec:
    """Description of the student's replay, without Q-values of a teacher.

    Args:
      capacity: agent steps that it keeps.
    """
    return ReplaySpec(
        capacity,
        self.num_envs,
        self.update_horizon,
        self.gamma,
        observation=self.observation,
    )

  def collection_spec(self) -> ReplaySpec:
    """Description of the data that the teacher collects, without Q-values.

    It has room for at least `teacher_steps`.
    """
    horizon = self.teacher_update_horizon
    shortest = horizon + ReplaySpec.stack_size + 1
    slots = max(-(-self.teacher_steps // self.num_eval_envs), shortest)
    return ReplaySpec(
        slots * self.num_eval_envs,
        self.num_eval_envs,
        horizon,
        self.gamma,
        observation=self.observation,
    )


def _require(ok: bool, name: str, value: object, what: str) -> None:
  if not ok:
    raise ValueError(f'{name} must be {what}, got {value}.')


@dataclasses.dataclass(frozen=True)
class Phase:
  """One entry of the plan.

  Attributes:
    kind: TEACHER_EVALUATION, COLLECTION, PRETRAINING or ONLINE.
    iteration: 0 before training, then counting through both training kinds.
    agent_steps: taken in the phase (evaluations apart).
    updates: made in the phase; None where the replay's filling decides.
  """

  kind: str
  iteration: int
  agent_steps: int = 0
  updates: Optional[int] = 0


def make_plan(
    config: RunConfig, evaluate_teacher: bool, reincarnate: bool = True
) -> tuple[Phase, ...]:
  """The phases of a run, in order.

  Args:
    config: settings.
    evaluate_teacher: whether the teacher's score is to be measured.
    reincarnate: False for learning from nothing: online phases only.
  """
  phases = []
  if reincarnate:
    if evaluate_teacher:
      phases.append(Phase(TEACHER_EVALUATION, 0))
    if config.teacher_steps:
      phases.append(Phase(COLLECTION, 0, agent_steps=config.teacher_steps))
    updates = config.num_pretraining_steps * config.updates_per_pretraining_step
    for i in range(config.num_pretraining_iterations):
      phases.append(Phase(PRETRAINING, i + 1, updates=updates))
  offset = config.num_pretraining_iterations if reincarnate else 0
  for i in range(config.num_iterations):
    phases.append(
        Phase(ONLINE, offset + i + 1, config.training_steps, updates=None)
    )
  return tuple(phases)
