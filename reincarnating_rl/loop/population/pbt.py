"""Population-based training: who copies whom, and what changes by it.

After every `interval` online iterations the runs with the lowest scores copy
runs with the highest ones (exploit), and learn on with settings a little away
from theirs (explore): Jaderberg et al. (2017), with truncation selection.

Pure: all here is a function of scores, settings and seeds. Not here: runs
(`exploits`), what is kept on the disk (`lineage`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.loop.training.member_settings import Member

BOUNDS, UNIFORM, LOG_UNIFORM, CHOICE = KINDS = (
    'bounds',
    'uniform',
    'log_uniform',
    'choice',
)
# The value that each setting has where a member does not set it.
ValuesOfAll = Mapping[str, Optional[float]]


@dataclasses.dataclass(frozen=True)
class Mutation:
  """How one setting may change.

  Attributes:
    name: one of `population.NAMES`.
    kind: 'uniform', 'log_uniform': it may be drawn anew between two values;
      'choice': from some values; 'bounds': never, but stays between two.
    values: the lowest and the highest, or those to choose from.
  """

  PLACE: ClassVar[str] = 'PopulationBasedTraining.mutations'

  name: str
  kind: str
  values: tuple[Any, ...]

  def __post_init__(self):
    self.check_name()
    if self.kind not in KINDS:
      self._refuse(f'its kind is none of {", ".join(KINDS)}')
    wrong = [value for value in self.values if not self.is_possible(value)]
    if wrong:
      self._refuse(f'{wrong[0]!r} is no number in its range')
    if self.kind == CHOICE:
      if not self.values:
        self._refuse('there is nothing to choose from')
    elif len(self.values) != 2 or not self.values[0] < self.values[1]:
      self._refuse('that is no range from a lower to a higher value')
    if self.kind == LOG_UNIFORM and not self.values[0]:
      self._refuse('a logarithm needs a range above 0')

  def _refuse(self, why: str) -> None:
    raise ValueError(
        f'{self.PLACE} has {self.name!r}: {(self.kind, *self.values)}, but '
        f'{why}.'
    )

  def check_name(self) -> None:
    """Raises a ValueError if there is no such setting."""
    if self.name not in member_settings.NAMES:
      self._refuse(f'members can differ in {", ".join(member_settings.NAMES)}')

  def is_possible(self, value: Any) -> bool:
    """Whether the setting can have that value."""
    return member_settings.in_range(self.name, value)

  @property
  def can_draw(self) -> bool:
    """Whether it says where new values come from."""
    return self.kind != BOUNDS

  def draw(self, rng: np.random.Generator) -> float:
    """A new value, whatever the old one was."""
    if self.kind == CHOICE:
      return float(self.values[rng.integers(len(self.values))])
    low, high = self.values
    if self.kind == UNIFORM:
      return float(rng.uniform(low, high))
    return float(np.clip(np.exp(rng.uniform(*np.log([low, high]))), low, high))

  def perturb(
      self, value: float, factors: Sequence[float], rng: np.random.Generator
  ) -> float:
    """A value near the old one: times a factor, or beside it in a choice.

    Of gamma it is the distance to 1 that is multiplied: so the time that it
    looks ahead changes by a factor.
    """
    if self.kind == CHOICE:
      values = sorted(set(self.values))
      at = int(np.argmin(np.abs(np.array(values) - value)))
      beside = [i for i in (at - 1, at + 1) if 0 <= i < len(values)] or [at]
      return float(values[beside[int(rng.integers(len(beside)))]])
    factor = factors[int(rng.integers(len(factors)))]
    far = 1.0 - (1.0 - value) * factor
    is_gamma = self.name.rpartition('.')[2] == 'gamma'
    changed = far if is_gamma else value * factor
    return float(np.clip(changed, *self.values))

  def describe(self) -> str:
    """In words."""
    listed = ', '.join(f'{value:g}' for value in self.values)
    if self.kind == CHOICE:
      return f'{self.name} (one of {listed})'
    return f'{self.name} ({self.kind.replace("_", "-")}, {listed})'


@dataclasses.dataclass(frozen=True)
class PopulationBasedTraining:
  """When runs side by side copy each other, and how their settings change.

  Attributes:
    interval: online iterations between two exploits.
    mutations: of the settings that change; others are copied as they are.
    quantile: share of the runs that copy, and that are copied; one at least.
    copy_replay: whether the replay is copied, too.
    perturbation_factors: one of which a setting is multiplied by.
    resample_probability: that a setting is drawn anew instead, if it can be.
  """

  interval: int
  mutations: tuple[Mutation, ...]
  quantile: float = 0.25
  copy_replay: bool = False
  perturbation_factors: tuple[float, ...] = (0.8, 1.25)
  resample_probability: float = 0.25

  def __post_init__(self):
    if self.interval != int(self.interval) or self.interval < 1:
      self._refuse('interval', 'one or more online iterations')
    if not 0.0 < self.quantile <= 0.5:
      self._refuse('quantile', 'above 0 and at most 0.5')
    factors = self.perturbation_factors
    if not factors or not all(0.0 < f < np.inf for f in factors):
      self._refuse('perturbation_factors', 'some positive numbers')
    if not 0.0 <= self.resample_probability <= 1.0:
      self._refuse('resample_probability', 'between 0 and 1')
    if not self.mutations:
      raise ValueError(
          'PopulationBasedTraining.mutations names no setting that may change: '
          "bind it, to {'learning_rate': ('log_uniform', 1e-5, 1e-3)} say."
      )

  def _refuse(self, name: str, what: str) -> None:
    raise ValueError(
        f'PopulationBasedTraining.{name} must be {what}, got '
        f'{getattr(self, name)}.'
    )

  @property
  def names(self) -> tuple[str, ...]:
    """Of the settings that change by themselves."""
    return tuple(mutation.name for mutation in self.mutations)

  def is_due(self, iterations: int) -> bool:
    """Whether there is an exploit after so many online iterations."""
    return iterations > 0 and iterations % self.interval == 0

  def num_copying(self, num_runs: int) -> int:
    """How many runs copy, at most, and from among how many."""
    return max(1, int(self.quantile * num_runs))

  def check_size(self, num_runs: int) -> None:
    """Raises a ValueError if there is nobody to copy."""
    if num_runs < 2:
      raise ValueError(
          'PopulationBasedTraining needs two runs at least, but there is '
          f'{num_runs}: give --num_seeds, or a --population with as many '
          'members.'
      )

  def describe(
      self, num_runs: int, num_iterations: int, offset: int = 0
  ) -> str:
    """What will happen, in words.

    Args:
      num_runs: side by side.
      num_iterations: online; after the last one nobody copies any more.
      offset: iterations of the plan before the first of these.
    """
    due = [offset + i for i in range(1, num_iterations) if self.is_due(i)]
    when = f'after iterations {", ".join(map(str, due))}'
    if not due:
      when = f'never, since there are only {num_iterations} online iterations'
    count = self.num_copying(num_runs)
    who = f'the {count} lowest of {num_runs} runs copy one of as many highest'
    if count == 1:
      who = f'the lowest of {num_runs} runs copies the highest'
    what = 'weights, optimizer and replay'
    if not self.copy_replay:
      what = 'weights and optimizer'
    factors = ' or '.join(f'{factor:g}' for factor in self.perturbation_factors)
    changes = '; '.join(mutation.describe() for mutation in self.mutations)
    if other := _other_rate(self.names):
      changes += f'; {other} by the same factor'
    anew = ''
    if any(mutation.can_draw for mutation in self.mutations):
      chance = f'{self.resample_probability:g}'
      anew = f', or drawn anew with probability {chance}'
    return (
        f'Population-based training, {when}: {who} ({what}). Then settings '
        f'change, times {factors}{anew}: {changes}.'
    )


class Copy(NamedTuple):
  """One run becomes the continuation of another.

  Attributes:
    target: index of the run that copies.
    source: index of the run that it copies.
    member: settings that it goes on with.
  """

  target: int
  source: int
  member: dict[str, float]


def decide(
    training: PopulationBasedTraining,
    scores: Sequence[float],
    members: Sequence[Member],
    of_all: ValuesOfAll,
    rng: np.random.Generator,
) -> list[Copy]:
  """Who copies whom.

  A run copies only what is better than itself; of equal scores the run that
  comes first is the lower one.

  Args:
    training: how.
    scores: [S], of the last evaluation.
    members: [S], settings in force, with every mutated one.
    of_all: what the others are.
    rng: consumed.

  Returns:
    At most one entry a run; who is copied does not copy.
  """
  count = training.num_copying(len(scores))
  order = np.argsort(scores, kind='stable')
  copies = []
  for target in order[:count]:
    source = order[-count:][rng.integers(count)]
    member = explored(training, members[source], of_all, rng)
    if scores[source] > scores[target]:
      copies.append(Copy(int(target), int(source), member))
  return copies


def explored(
    training: PopulationBasedTraining,
    member: Member,
    of_all: ValuesOfAll,
    rng: np.random.Generator,
) -> dict[str, float]:
  """Settings near those of a member, or drawn anew."""
  changed = {}
  for mutation in training.mutations:
    old = member[mutation.name]
    if mutation.can_draw and rng.random() < training.resample_probability:
      changed[mutation.name] = mutation.draw(rng)
    else:
      factors = training.perturbation_factors
      changed[mutation.name] = mutation.perturb(old, factors, rng)
  return _with_rates(dict(of_all) | dict(member), dict(member), changed)


def first_member(
    training: PopulationBasedTraining,
    given: Optional[Member],
    of_all: ValuesOfAll,
    rng: np.random.Generator,
) -> dict[str, float]:
  """The settings that a run begins with, every mutated one among them.

  Args:
    training: how they will change.
    given: what a file says; None = they are drawn.
    of_all: what it does not say.
    rng: consumed.

  Raises:
    ValueError: if there is nothing to draw from, or to begin with.
  """
  if given is None:
    for mutation in training.mutations:
      if not mutation.can_draw:
        raise ValueError(
            f'PopulationBasedTraining.mutations bounds {mutation.name}, but '
            'does not say where first values come from: make it a range or a '
            'choice, or give them with --population.'
        )
    drawn = {m.name: m.draw(rng) for m in training.mutations}
    return _with_rates(of_all, {}, drawn)
  missing = {n: of_all[n] for n in training.names if n not in given}
  for name, value in missing.items():
    if value is None:
      raise ValueError(
          f'PopulationBasedTraining.mutations has {name}, but there is none to '
          'begin with: give one to every member with --population, or leave it '
          'out.'
      )
  return missing | dict(given)


def _with_rates(
    before: ValuesOfAll, member: dict[str, float], changed: dict[str, float]
) -> dict[str, float]:
  """A member with changes; of a pair of learning rates both change alike.

  Args:
    before: what every setting was.
    member: those of them that are its own.
    changed: new values.
  """
  other = _other_rate(changed)
  if other is None or before[other] is None:
    return member | changed
  (name,) = set(member_settings.RATES) - {other}
  factor = changed[name] / before[name] if before[name] else 1.0
  return member | changed | {other: float(before[other] * factor)}


def _other_rate(names: Sequence[str] | Mapping[str, float]) -> Optional[str]:
  """The learning rate that follows, where only one of the two changes."""
  missing = [name for name in member_settings.RATES if name not in names]
  return missing[0] if len(missing) == 1 else None
