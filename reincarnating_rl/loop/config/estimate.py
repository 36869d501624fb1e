"""Estimate of a run's updates, resets and memory, from its settings alone.

Updates and resets are due at counts, not at random. The loop makes them by the
same counts (`due`).
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
  """Work of one phase.

  Attributes:
    phase: phase of the plan.
    agent_steps: agent steps of all environments together.
    updates: updates, with those after resets.
    resets: online agent steps before which the network is reset.
  """

  phase: Phase
  agent_steps: int
  updates: int
  resets: tuple[int, ...] = ()


class OnlineClock:
  """Updates and resets of the online phases, by ticks.

  A tick is one step of all environments. It begins with a reset, if one is
  due, and then with the updates that are due.
  """

  def __init__(
      self, config: RunConfig, training_steps: int = 0, given_rows: int = 0
  ):
    """Starts counting where the online phases begin.

    Args:
      config: settings.
      training_steps: training steps before the online phases.
      given_rows: agent steps that the replay begins with.
    """
    self._config = config
    self._training_steps = training_steps
    needed = max(config.min_replay_history, config.first_eligible_row)
    missing = needed - given_rows
    self._ready = max(missing // config.num_envs + 1, 0)
    self.ticks = config.num_iterations * config.ticks

  def updates(self, tick: int) -> int:
    """Updates that the replay ratio makes due before a tick."""
    envs = self._config.num_envs
    first = self._training_steps + self._ready * envs
    num_ticks = max(tick - self._ready, 0)
    return due(first, num_ticks * envs, self._config.replay_ratio)

  def reset_ticks(self) -> Iterator[int]:
    """Ticks before which the network is reset."""
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
    """Updates that follow a reset before a tick."""
    schedule = self._config.resets
    if schedule is None:
      return 0
    own = schedule.updates_after if tick >= self._ready else 0
    return schedule.distill_updates_after + own

  def _tick_of_update(self, count: int) -> int:
    """The first tick before which `count` updates were due."""
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
  """Work of each phase of a run.

  Args:
    config: settings.
    phases: the whole plan.
    training_steps: training steps before the first phase.
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
  """Bytes that a run allocates for data, within a few kilobytes.

  Attributes:
    student: bytes of the student's replay.
    teacher: bytes of the teacher's data.
    at_once: True if both exist at one time; else the teacher's data go first.
  """

  student: int
  teacher: int
  at_once: bool = True

  def peak(self, num_members: int = 1) -> int:
    """Largest need at one time; members share the teacher's data."""
    students = num_members * self.student
    # The first of several begins online while others hold the shared data.
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
  """Bytes that the replays of a run need.

  Args:
    config: settings.
    num_actions: A of the teacher, whose Q-values stand beside its data; None
      without a teacher.
    keeps_q_values: True if they stand beside the student's rows, too.
    given_rows: agent steps that the student's replay begins with.
    teacher_rows: rows of the data that the teacher left.
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
