"""Population-based training over processes: what is wanted of it.

Members are processes, so anything that gin binds may differ and change: n, the
replay ratio, the length of a decay. How it changes is as in `loop.evolution`;
Ray Tune decides who copies whom (`together`).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, ClassVar, Mapping, Sequence

import numpy as np

from reincarnating_rl.app import api
from reincarnating_rl.loop.population import pbt
from reincarnating_rl.loop.population.pbt import CHOICE
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining

Settings = Mapping[str, Any]  # by the name that is bound

_FIELDS = (
    'interval',
    'mutations',
    'quantile',
    'perturbation_factors',
    'resample_probability',
    'first',
)
# Of a range: no round number, as those that are drawn are none.
_BETWEEN = 0.381966
# A copy goes on with its source's weights: what they are must stay.
_SHAPES = re.compile(r'network|hidden|features|@')


class Rule(Mutation):
  """How a setting that gin binds may change; a choice is of any values."""

  PLACE: ClassVar[str] = 'population.mutations'

  def check_name(self) -> None:
    if not api.is_bound_name(self.name):
      self._refuse('that is no name that gin binds, such as JaxDQNAgent.gamma')
    if any(map(_SHAPES.search, (self.name, *map(str, self.values)))):
      self._refuse(
          'who copies goes on with the weights of its source, so networks '
          'cannot change: give each a population, with agents or networks'
      )

  def is_possible(self, value: Any) -> bool:
    if self.kind == CHOICE:
      return isinstance(value, (int, float, str))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    highest = 1.0 if self.name.endswith('.gamma') else np.inf
    return is_number and 0.0 <= value <= highest and value < np.inf

  def draw(self, rng: np.random.Generator) -> Any:
    if self.kind == CHOICE:
      return self.values[rng.integers(len(self.values))]
    return super().draw(rng)

  def perturb(
      self, value: Any, factors: Sequence[float], rng: np.random.Generator
  ) -> Any:
    if self.kind != CHOICE:
      return super().perturb(value, factors, rng)
    if value not in self.values:
      return self.draw(rng)
    # In the order in which they are given: some are no numbers.
    at = self.values.index(value)
    beside = [i for i in (at - 1, at + 1) if 0 <= i < len(self.values)] or [at]
    return self.values[beside[rng.integers(len(beside))]]

  def extremes(self) -> list[Any]:
    """Values that it may come to: all, or the ends and one between."""
    if self.kind == CHOICE:
      return list(self.values)
    low, high = self.values
    return [low, high, low + (high - low) * _BETWEEN]

  def describe(self) -> str:
    listed = ', '.join(map(str, self.values))
    return f'{self.name} ({self.kind.replace("_", "-")}, {listed})'


@dataclasses.dataclass(frozen=True)
class Population:
  """The seeds of a configuration as members that copy each other.

  Attributes:
    training: when, and how settings change.
    first: by the name of a setting, what each member begins with, in the order
      of the seeds; others are drawn.
  """

  training: PopulationBasedTraining
  first: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

  def first_settings(self, index: int, seed: int) -> dict[str, Any]:
    """Of a member; the same ones whenever they are asked for."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for rule in self.training.mutations:
      value = rule.draw(rng) if rule.can_draw else None
      given = self.first.get(rule.name)
      drawn[rule.name] = value if given is None else given[index]
    return drawn

  def described(self) -> dict[str, Any]:
    """All that it is, for the record of a sweep."""
    found = dataclasses.asdict(self.training) | {'first': dict(self.first)}
    return {f'population.{name}': value for name, value in found.items()}

  def possible_settings(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Settings that members may come to, the ends of each range among them.

    Args:
      seeds: of the members.

    Returns:
      What is enough to know that all of it can be bound.
    """
    found = [self.first_settings(i, seed) for i, seed in enumerate(seeds)]
    for rule in self.training.mutations:
      found += [found[0] | {rule.name: value} for value in rule.extremes()]
    return found

  def explored(self, settings: Settings, rng: np.random.Generator) -> Settings:
    """Settings near those of a member, or drawn anew."""
    return pbt.explored(self.training, settings, {}, rng)

  def faults(self, seeds: Sequence[int]) -> list[str]:
    """What is wrong with it for members with these seeds."""
    faults = []
    if len(seeds) < 2:
      faults.append(
          'population needs two members at least, but seeds has '
          f'{len(seeds)}: each is a member'
      )
    for name, values in self.first.items():
      if len(values) != len(seeds):
        faults.append(
            f'first of population has {len(values)} values of {name} for '
            f'{len(seeds)} seeds'
        )
    for rule in self.training.mutations:
      wrong = [
          value
          for value in self.first.get(rule.name, ())
          if not rule.is_possible(value)
      ]
      if wrong:
        faults.append(
            f'first of population has {rule.name} {wrong[0]!r}, which is no '
            'number in its range'
        )
      if not rule.can_draw and rule.name not in self.first:
        faults.append(
            f'population bounds {rule.name}, but does not say where first '
            'values come from: make it a range or a choice, or give each '
            'member one in first'
        )
    return faults


def parse(description: Any) -> Population:
  """Reads the entry `population` of a sweep.

  Raises:
    ValueError: one sentence, for what is not of its form.
  """
  if not isinstance(description, dict) or set(description) - set(_FIELDS):
    raise ValueError(
        f'population must have entries of {", ".join(_FIELDS)}, not '
        f'{description!r}'
    )
  given = {'interval': 1, 'mutations': {}} | description
  first = given.pop('first', {})
  if not isinstance(given['mutations'], dict) or not given['mutations']:
    raise ValueError(
        'population needs mutations, which say what may change: '
        '{create_linear_schedule.initial_lr: [log_uniform, 1e-5, 1e-3]} say'
    )
  given['mutations'] = tuple(
      _rule(name, found) for name, found in given['mutations'].items()
  )
  names = [rule.name for rule in given['mutations']]
  if not isinstance(first, dict) or not all(
      name in names and isinstance(values, list)
      for name, values in first.items()
  ):
    raise ValueError(
        'first of population must give a list of values, one a member, for '
        f'some of {", ".join(names)}, not {first!r}'
    )
  try:
    # Rows are in the checkpoint, with which a copy begins.
    training = PopulationBasedTraining(copy_replay=True, **given)
  except TypeError as e:
    raise ValueError(f'population is not of its form: {e}') from e
  except ValueError as e:
    ours = str(e).replace('PopulationBasedTraining.', 'population.')
    raise ValueError(ours) from e
  return Population(training, {n: tuple(v) for n, v in first.items()})


def _rule(name: str, found: Any) -> Rule:
  if not isinstance(found, (list, tuple)) or not found:
    raise ValueError(
        f'population.mutations has {name!r}: {found!r}, but a setting changes '
        'by [kind, value, value, ...]'
    )
  return Rule(name, found[0], tuple(found[1:]))
