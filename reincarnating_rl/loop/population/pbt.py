"""Decisions of population-based training: copies and new settings.

After every `interval` online iterations the runs with the lowest scores copy
runs with the highest scores (exploit) and continue with changed settings
(explore): Jaderberg et al. (2017), with truncation selection.

All decisions are pure functions of scores, settings and seeds. Not here: their
execution on runs (`pbt_execution`), and the file of the copies (`lineage`).
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
# Value of each setting for members that do not set it.
ValuesOfAll = Mapping[str, Optional[float]]


@dataclasses.dataclass(frozen=True)
class Mutation:
  """Range and rule of change of one setting.

  Attributes:
    name: one of `member_settings.NAMES`.
    kind: 'uniform' or 'log_uniform' to sample anew between two values; 'choice'
      to sample from a list; 'bounds' to never sample, but keep the setting
      between two values.
    values: the lowest and the highest value, or the list of a choice.
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
    """True if the value is allowed for the setting."""
    return member_settings.in_range(self.name, value)

  @property
  def can_draw(self) -> bool:
    """True if new values can be sampled."""
    return self.kind != BOUNDS

  def draw(self, rng: np.random.Generator) -> float:
    """Samples a new value, independent of the old one."""
    if self.kind == CHOICE:
      return float(self.values[rng.integers(len(self.values))])
    low, high = self.values
    if self.kind == UNIFORM:
      return float(rng.uniform(low, high))
    return float(np.clip(np.exp(rng.uniform(*np.log([low, high]))), low, high))

  def perturb(
      self, value: float, factors: Sequence[float], rng: np.random.Generator
  ) -> float:
    """Returns the old value times a factor, or its neighbour in a choice.

    For gamma the factor multiplies 1 - gamma, so that the effective horizon
    1 / (1 - gamma) changes by a factor.
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
    """Describes the mutation, for the plan."""
    listed = ', '.join(f'{value:g}' for value in self.values)
    if self.kind == CHOICE:
      return f'{self.name} (one of {listed})'
    return f'{self.name} ({self.kind.replace("_", "-")}, {listed})'


@dataclasses.dataclass(frozen=True)
class PopulationBasedTraining:
  """Settings of population-based training.

  Attributes:
    interval: online iterations between two exploits.
    mutations: mutations of the settings that change; all other settings are
      copied unchanged.
    quantile: share of the runs that copy, and share that may be copied; at
      least one run each.
    copy_replay: True to copy the replay, too.
    perturbation_factors: factors to choose from when a setting is perturbed.
    resample_probability: probability to sample a setting anew instead of
      perturbing it, if its kind allows that.
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
    """Names of the settings that change during training."""
    return tuple(mutation.name for mutation in self.mutations)

  def is_due(self, iterations: int) -> bool:
    """True if there is an exploit after this number of online iterations."""
    return iterations > 0 and iterations % self.interval == 0

  def num_copying(self, num_runs: int) -> int:
    """Size of the lowest group, which copies, and of the highest group."""
    return max(1, int(self.quantile * num_runs))

  def check_size(self, num_runs: int) -> None:
    """Raises a ValueError if there are fewer than two runs."""
    if num_runs < 2:
      raise ValueError(
          'PopulationBasedTraining needs two runs at least, but there is '
          f'{num_runs}: give --num_seeds, or a --population with as many '
          'members.'
      )

  def describe(
      self, num_runs: int, num_iterations: int, offset: int = 0
  ) -> str:
    """Describes times, copies and changes, for the plan.

    Args:
      num_runs: number of runs in the population.
      num_iterations: online iterations; there is no exploit after the last.
      offset: iterations of the plan before the online ones.
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
    member: settings of the target after the copy.
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
  """Decides the copies after an evaluation.

  A run copies only a run with a higher score. Among equal scores the run with
  the smaller index counts as the lower one.

  Args:
    training: settings of population-based training.
    scores: [S], scores of the last evaluation.
    members: [S], present settings, including all mutated ones.
    of_all: values of the settings that a member does not set.
    rng: consumed.

  Returns:
    At most one copy per run; a run that is copied does not copy.
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
  """Returns the settings of a member, perturbed or sampled anew."""
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
  """Returns the first settings of a run, including all mutated ones.

  Args:
    training: settings of population-based training.
    given: settings from a population file; None = sample them.
    of_all: values of the settings that are not given.
    rng: consumed.

  Raises:
    ValueError: if a mutated setting has no first value.
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
  """Returns changed settings; both learning rates change by one factor.

  Args:
    before: all settings before the change.
    member: settings that the member sets, before the change.
    changed: new values.
  """
  other = _other_rate(changed)
  if other is None or before[other] is None:
    return member | changed
  (name,) = set(member_settings.RATES) - {other}
  factor = changed[name] / before[name] if before[name] else 1.0
  return member | changed | {other: float(before[other] * factor)}


def _other_rate(names: Sequence[str] | Mapping[str, float]) -> Optional[str]:
  """Returns the other learning rate if exactly one of the two is named."""
  missing = [name for name in member_settings.RATES if name not in names]
  return missing[0] if len(missing) == 1 else None
