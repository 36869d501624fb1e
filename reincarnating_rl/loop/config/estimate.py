"""What a run will do and need, worked out without doing any of it.

All of it follows from the settings: updates and resets are due at counts, not
at random. The loop makes them by the same counts (`clock`).
"""

from __future__ import annotations

import math
from typing import Iterator, NamedTuple, Optional, Sequence

from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.due import due
from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.replay.frame_replay import ReplaySpec


class PhaseForecast(NamedTuple):
  """What one phase will come to.

  Attributes:
    phase: of the plan.
    agent_steps: in all environments together.
    updates: those of its resets included.
    resets: the online agent steps before which they are made.
  """

  phase: Phase
  agent_steps: int
  updates: int
  resets: tuple[int, ...] = ()


class OnlineClock:
  """Updates and resets of the online phases, by ticks.

  A tick is one step of all environments; tick t begins with the updates that
  are due in it, before it with a reset if one is due.
  """

  def __init__(
      self, config: RunConfig, training_steps: int = 0, given_rows: int = 0
  ):
    """Starts counting where the online phases begin.

    Args:
      config: settings.
      training_steps: done before.
      given_rows: agent steps that the replay begins with.
    """
    self._config = config
    self._training_steps = training_steps
    needed = max(config.min_replay_history, config.first_eligible_row)
    missing = needed - given_rows
    self._ready = max(missing // config.num_envs + 1, 0)
    self.ticks = config.num_iterations * config.ticks

  def updates(self, tick: int) -> int:
    """Due by the replay ratio before that tick."""
    envs = self._config.num_envs
    first = self._training_steps + self._ready * envs
    num_ticks = max(tick - self._ready, 0)
    return due(first, num_ticks * envs, self._config.replay_ratio)

  def reset_ticks(self) -> Iterator[int]:
    """Before which ticks the network is reset."""
    schedule = self._config.resets
    if schedule is None:
      return
    by_updates = schedule.unit == 'updates'
    envs = self._config.num_envs
    total = self.updates(self.ticks) if by_updates else self.ticks * envs
    count = schedule.period
    while schedule.happens(count, total):
      yield self._tick_of_update(count) if by_updates else -(-count // envs)
      count += schedule.period

  def updates_after_reset(self, tick: int) -> int:
    """Those that a reset before that tick is followed by."""
    schedule = self._config.resets
    if schedule is None:
      return 0
    own = schedule.updates_after if tick >= self._ready else 0
    return schedule.distill_updates_after + own

  def _tick_of_update(self, count: int) -> int:
    """The first tick before which so many updates were due."""
    envs, rate = self._config.num_envs, self._config.replay_ratio
    first = self._training_steps + self._ready * envs
    # ceil(rate * steps) >= wanted, hence rate * steps > wanted - 1.
    wanted = count + math.ceil(rate * first)
    steps = (wanted - 1) / rate - self._training_steps
    return math.floor(steps / envs) + 1


def forecast(
    config: RunConfig,
    phases: Sequence[Phase],
    training_steps: int = 0,
    given_rows: int = 0,
) -> list[PhaseForecast]:
  """What the phases of a run will come to.

  Args:
    config: settings.
    phases: the whole plan.
    training_steps: done before the first phase.
    given_rows: agent steps that the student's replay begins with.
  """
  pretraining = [p for p in phases if p.kind == plan_lib.PRETRAINING]
  training_steps += len(pretraining) * config.num_pretraining_steps
  clock = OnlineClock(config, training_steps, given_rows)
  reset_ticks = list(clock.reset_ticks())
  found, tick = [], 0
  for phase in phases:
    if phase.kind != plan_lib.ONLINE:
      found.append(PhaseForecast(phase, phase.agent_steps, phase.updates or 0))
      continue
    end = tick + config.ticks
    resets = [t for t in reset_ticks if tick <= t < end]
    updates = clock.updates(end) - clock.updates(tick)
    updates += sum(map(clock.updates_after_reset, resets))
    found.append(
        PhaseForecast(
            phase,
            config.ticks * config.num_envs,
            updates,
            tuple(t * config.num_envs for t in resets),
        )
    )
    tick = end
  return found


class Memory(NamedTuple):
  """Bytes that a run will allocate for data, within a few kilobytes.

  Attributes:
    student: its replay.
    teacher: the teacher's data.
    at_once: whether both are there at one time; else the one goes first.
  """

  student: int
  teacher: int
  at_once: bool = True

  def peak(self, num_members: int = 1) -> int:
    """What is needed at most; members share the teacher's data."""
    students = num_members * self.student
    # The first of several begins while others hold what they share.
    if self.at_once or num_members > 1:
      return students + self.teacher
    return max(students, self.teacher)


def memory(
    config: RunConfig,
    num_actions: Optional[int] = None,
    keeps_q_values: bool = False,
    given_rows: int = 0,
    teacher_rows: int = 0,
) -> Memory:
  """What the replays of a run will need.

  Args:
    config: settings.
    num_actions: A of the teacher, whose Q-values stand beside its data; None
      without a teacher.
    keeps_q_values: whether they stand beside the student's rows, too.
    given_rows: agent steps that the student's replay begins with.
    teacher_rows: of the data that the teacher left.
  """
  student = 0
  if config.num_iterations:
    spec = config.student_spec(config.student_capacity_with(given_rows))
    if keeps_q_values and num_actions is not None:
      spec = spec.with_q_teacher(num_actions)
    student = spec.nbytes
  rows = 0
  if num_actions is None:
    pass
  elif config.teacher_steps:  # They are collected, whoever learns from them.
    rows = config.collection_spec().capacity
  elif config.needs_teacher_data or given_rows:
    rows = teacher_rows
  teacher = 0
  if rows and num_actions is not None:
    spec = ReplaySpec(rows, observation=config.observation)
    teacher = spec.with_q_teacher(num_actions).nbytes
  at_once = bool(config.learns_from_it_online or given_rows)
  return Memory(student, teacher, at_once)
