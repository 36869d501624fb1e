"""What is due when, as pieces of work: pure bookkeeping, no arrays.

Updates, copies of the target and resets follow from counts alone. `Duties`
hands them out one by one, in the order in which they are to be done; whoever
does them (`trainer`, one seed or many) asks for the next when the last is done.
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

# Of those that no environment step stands behind.
OFFLINE_UPDATES_PER_CALL = 50


@dataclasses.dataclass
class Counters(Stateful):
  """Progress of training; JSON-ready."""

  SAVED = (
      'training_steps',
      'agent_steps',
      'updates_due',
      'updates_made',
      'online_since',
      'resets',
  )

  training_steps: int = 0  # one per pretraining step and per agent step
  agent_steps: int = 0  # the student's, online
  updates_due: int = 0  # in all phases, those after resets included
  updates_made: int = 0
  online_since: int = 0  # training steps when the online phases began
  resets: list[int] = dataclasses.field(default_factory=list)  # agent steps


class Learn(NamedTuple):
  """Some updates.

  Attributes:
    updates: which they are.
    offline: whether on the teacher's data, else on the student's replay.
  """

  updates: Updates
  offline: bool


class Sync(NamedTuple):
  """A copy of the network into the target."""


class Reset(NamedTuple):
  """The network gives up a part of what it learned.

  Attributes:
    index: how many there were before.
  """

  index: int  # type: ignore[assignment]


class Distill(NamedTuple):
  """What follows is learned with the full weight of the distillation loss.

  Attributes:
    fully: whether it is, else with the weight that it had.
  """

  fully: bool


Work = Learn | Sync | Reset | Distill


class Duties(Stateful):
  """Hands out what is due.

  Attributes:
    config: settings.
    counters: how far training is; moved on here, but for `agent_steps` and
      `updates_made`.
    given_rows: agent steps that the student's replay began with.
  """

  SAVED = ('counters', 'given_rows')
  REBUILT = ('config', '_reset_ticks')

  def __init__(self, config: RunConfig):
    self.config = config
    self.counters = Counters()
    self.given_rows = 0

  @property
  def replay_is_ready(self) -> bool:
    """Whether the student's replay may be learned from."""
    config = self.config
    needed = max(config.min_replay_history, config.first_eligible_row)
    return self.given_rows + self.counters.agent_steps > needed

  def of_pretraining(self, num_steps: int) -> Iterator[Work]:
    """What is due in pretraining steps.

    Such a step stands for one update online, so the target is copied as
    often, counted in these, as it is online.

    Args:
      num_steps: pretraining steps to make now.
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
    """What is due before the next step of all environments."""
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
    """The updates that wait for a group to be full."""
    while self._owed:
      yield self._learn_online(1)

  @property
  def _owed(self) -> int:
    return self.counters.updates_due - self.counters.updates_made

  @functools.cached_property
  def _reset_ticks(self) -> frozenset[int]:
    """Steps of all environments before which there is a reset."""
    if self.config.resets is None:
      return frozenset()
    since = self.counters.online_since
    return frozenset(
        OnlineClock(self.config, since, self.given_rows).reset_ticks()
    )

  def _of_reset(self) -> Iterator[Work]:
    """A reset, and what is learned right after it."""
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
    """Updates beyond the replay ratio; the target is copied as often."""
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
    """The next so many updates on the student's replay."""
    rate = Fraction(count, self.config.num_envs)
    return Learn(self._updates(count, rate), offline=False)

  def _updates(self, count: int, rate: Fraction) -> Updates:
    """The next so many updates, which are due at so many a training step."""
    counters = self.counters
    return Updates(
        count, counters.updates_made + 1, counters.training_steps, rate
    )
