"""Plan of a run, as data: its settings and its list of phases."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import math
from typing import Any, Optional

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.envs import registry
from reincarnating_rl.envs.base import EnvironmentFactory
from reincarnating_rl.loop.config import parts as parts_lib
from reincarnating_rl.loop.config.parts import NEVER_DECAY as NEVER_DECAY
from reincarnating_rl.replay.frame_replay import ReplaySpec

TEACHER_EVALUATION = 'teacher_evaluation'
COLLECTION = 'data_collection'
PRETRAINING = 'pretraining'
ONLINE = 'online'


@dataclasses.dataclass(frozen=True)
class RunConfig(
    parts_lib.EnvironmentSettings,
    parts_lib.OnlineSettings,
    parts_lib.ReincarnationSettings,
    parts_lib.StudentSettings,
):
  """Settings of a run, composed of its parts; every count says its unit.

  Attributes:
    seed: seed of networks, sampling, acting and episodes (the run number).
    teacher_update_horizon: n of the teacher's data.
  """

  seed: int = 0
  teacher_update_horizon: int = parts_lib.positive(1)

  @classmethod
  def of(cls, *parts: parts_lib.Settings, **fields: Any) -> RunConfig:
    """Composes settings of parts.

    Args:
      *parts: settings; a later part wins, but not with a field that is None.
        Fields that a run does not have are left out.
      **fields: fields that win over all parts.
    """
    own = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, Any] = {}
    for part in parts:
      values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
      found |= {
          name: value
          for name, value in values.items()
          if name in own and value is not None
      }
    return cls(**(found | fields))

  def __post_init__(self):
    super().__post_init__()
    self._check_resets()
    first_update = max(self.min_replay_history, self.first_eligible_row)
    if self.num_iterations and first_update >= self.replay_capacity:
      raise ValueError(
          f'min_replay_history {self.min_replay_history} is never passed by '
          f'a replay of capacity {self.replay_capacity}: enlarge the replay '
          'or lower min_replay_history.'
      )

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
    shortest = Fraction(max(grouped, in_a_step))
    if unit == 'agent_steps':
      shortest = max(Fraction(self.num_envs), grouped / self.replay_ratio)
    if period < shortest:
      raise ValueError(
          f'The period of resets is {period} {unit.replace("_", " ")}, but '
          f'{grouped} updates are made at once in {self.num_envs} '
          f'environments, every {math.ceil(shortest)}: lengthen the period or '
          'lower updates_per_call or num_envs.'
      )

  def environment(self) -> EnvironmentFactory:
    """The factory of the environments that these settings describe.

    Raises:
      ValueError: for an unknown environment.
    """
    return registry.make_factory(
        self.game,
        max_agent_steps=self.max_agent_steps_per_episode,
        sticky_actions=self.sticky_actions,
        frame_shape=self.frame_shape,
    )

  def to_json(self) -> dict[str, Any]:
    """The settings, JSON-ready; fractions as text."""
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
    """Updates that are made in one call."""
    in_a_step = int(self.replay_ratio * self.num_envs)
    return self.updates_per_call or max(in_a_step, 1)

  @property
  def first_eligible_row(self) -> int:
    """Agent steps until the student's replay can be sampled from."""
    return (self.update_horizon + 1) * self.num_envs

  @property
  def needs_teacher_data(self) -> bool:
    """True if a plan with a teacher learns from its data."""
    return self.num_pretraining_iterations > 0 or self.learns_from_it_online

  @property
  def learns_from_it_online(self) -> bool:
    """True if the online phases need the teacher's data, too."""
    distills = self.resets is not None and self.resets.distill_updates_after
    return self.num_iterations > 0 and bool(self.teacher_data_ratio or distills)

  @property
  def no_teacher_data(self) -> str:
    """Message for a plan whose teacher's data is missing; one sentence."""
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
      given_rows: agent steps that the replay begins with.
    """
    planned = self.num_iterations * self.ticks * self.num_envs + given_rows
    wanted = min(self.replay_capacity, max(planned, self.min_replay_history))
    # The rows just before the write head have no complete stack.
    slots = -(-wanted // self.num_envs) + ReplaySpec.stack_size
    if given_rows:
      # Free rows between the given steps and the student's.
      slots += self.update_horizon
    # A short run also needs the rows around the write head.
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


@dataclasses.dataclass(frozen=True)
class Phase:
  """One entry of the plan.

  Attributes:
    kind: TEACHER_EVALUATION, COLLECTION, PRETRAINING or ONLINE.
    iteration: 0 before training; pretraining and online phases count on.
    agent_steps: agent steps of the phase, without evaluations.
    updates: updates of the phase; None where they depend on the replay.
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
    evaluate_teacher: True to measure the teacher's score.
    reincarnate: False to learn from scratch: online phases only.
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
