"""Schedule of updates, target copies and resets, computed from step counts.

`Duties` yields pieces of work in the order in which they must be done. The
caller (`trainer`, or a group of trainers in `loop.population.side_by_side`)
does each one before it asks for the next. Not here: arrays.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import functools
from typing import Callable, Iterator, NamedTuple

from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.loop.config.due import due
from reincarnating_rl.loop.config.estimate import OnlineClock
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training.events import Updates

# Updates per call in phases without environment steps.
OFFLINE_UPDATES_PER_CALL = 50


@dataclasses.dataclass
class Counters(Stateful):
  """Progress of training, as JSON-ready counts."""

  SAVED = (
      'training_steps',
      'agent_steps',
      'updates_due',
      'updates_made',
      'online_since',
      'resets',
  )

  training_steps: int = 0  # pretraining steps and agent steps
  agent_steps: int = 0  # online, of the student
  updates_due: int = 0  # in all phases, including those after resets
  updates_made: int = 0
  online_since: int = 0  # training steps when the online phases began
  resets: list[int] = dataclasses.field(default_factory=list)  # at agent steps


class Learn(NamedTuple):
  """Work: some updates.

  Attributes:
    updates: range of the updates.
    offline: True for the teacher's data, False for the student's replay.
  """

  updates: Updates
  offline: bool


class Sync(NamedTuple):
  """Work: a copy of the online parameters into the target."""


class Reset(NamedTuple):
  """Work: a reset of the network.

  Attributes:
    index: number of resets before this one.
  """

  index: int  # type: ignore[assignment]


class Distill(NamedTuple):
  """Work: a change of the distillation weight for the updates that follow.

  Attributes:
    fully: True for lambda = 1, False for the lambda of the run.
  """

  fully: bool


Work = Learn | Sync | Reset | Distill


class Duties(Stateful):
  """Schedule of updates, target copies and resets.

  Attributes:
    config: settings.
    counters: progress of training. This class counts `training_steps`,
      `updates_due` and `resets`; the trainer counts the rest.
    given_rows: agent steps in the student's replay at the start.
  """

  SAVED = ('counters', 'given_rows')
  REBUILT = ('config', '_reset_ticks')

  def __init__(self, config: RunConfig):
    self.config = config
    self.counters = Counters()
    self.given_rows = 0

  @property
  def replay_is_ready(self) -> bool:
    """True once the replay holds enough steps to learn from."""
    config = self.config
    needed = max(config.min_replay_history, config.first_eligible_row)
    return self.given_rows + self.counters.agent_steps > needed

  def of_pretraining(self, num_steps: int) -> Iterator[Work]:
    """Yields the work of some pretraining steps.

    A pretraining step corresponds to one online update: the target is copied
    after as many of these steps as there are updates between copies online.

    Args:
      num_steps: pretraining steps to make.
    """
    config, counters = self.config, self.counters
    copies = 1 / (config.target_update_period * config.replay_ratio)
    rate = Fraction(config.updates_per_pretraining_step)
    counters.updates_due += int(num_steps * rate)
    left = num_steps
    while left:
      # Stop at the next copy of the target.
      num = 1
      while num < left and not due(counters.training_steps, num, copies):
        num += 1
      yield Learn(self._updates(int(num * rate), rate), offline=True)
      if due(counters.training_steps, num, copies):
        yield Sync()
      counters.training_steps += num
      left -= num

  def of_step(self) -> Iterator[Work]:
    """Yields the work that is due before the next step of all environments."""
    config, counters = self.config, self.counters
    if counters.agent_steps // config.num_envs in self._reset_ticks:
      yield from self._of_reset()
    first = counters.training_steps
    if self.replay_is_ready:
      counters.updates_due += due(first, config.num_envs, config.replay_ratio)
      while self._owed >= config.grouped_updates:
        yield self._learn_online(config.grouped_updates)
      if due(first, config.num_envs, Fraction(1, config.target_update_period)):
        yield Sync()
    counters.training_steps += config.num_envs

  def left(self) -> Iterator[Work]:
    """Yields the updates that are due but do not fill a group."""
    while self._owed:
      yield self._learn_online(1)

  @property
  def _owed(self) -> int:
    return self.counters.updates_due - self.counters.updates_made

  @functools.cached_property
  def _reset_ticks(self) -> frozenset[int]:
    """Steps of all environments that follow a reset."""
    if self.config.resets is None:
      return frozenset()
    since = self.counters.online_since
    return frozenset(
        OnlineClock(self.config, since, self.given_rows).reset_ticks()
    )

  def _of_reset(self) -> Iterator[Work]:
    """Yields a reset and the updates right after it."""
    schedule, counters = self.config.resets, self.counters
    yield from self.left()
    yield Reset(len(counters.resets))
    counters.resets.append(counters.agent_steps)
    if schedule.distill_updates_after:
      yield Distill(fully=True)
      learn = lambda count: Learn(self._updates(count, Fraction(count)), True)
      yield from self._extra(schedule.distill_updates_after, learn)
      yield Distill(fully=False)
    if schedule.updates_after and self.replay_is_ready:
      yield from self._extra(schedule.updates_after, self._learn_online)

  def _extra(
      self, num_updates: int, learn: Callable[[int], Learn]
  ) -> Iterator[Work]:
    """Yields updates beyond the replay ratio, with their target copies."""
    config = self.config
    self.counters.updates_due += num_updates
    period = max(int(config.target_update_period * config.replay_ratio), 1)
    made = 0
    while made < num_updates:
      until_copy = period - made % period
      count = min(OFFLINE_UPDATES_PER_CALL, until_copy, num_updates - made)
      yield learn(count)
      made += count
      if made % period == 0:
        yield Sync()

  def _learn_online(self, count: int) -> Learn:
    """Returns the next `count` updates on the student's replay."""
    rate = Fraction(count, self.config.num_envs)
    return Learn(self._updates(count, rate), offline=False)

  def _updates(self, count: int, rate: Fraction) -> Updates:
    """Returns the next `count` updates, due at `rate` per training step."""
    counters = self.counters
    return Updates(
        count, counters.updates_made + 1, counters.training_steps, rate
    )
