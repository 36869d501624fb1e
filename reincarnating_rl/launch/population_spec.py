"""Entry `population` of a sweep: population-based training over processes.

Members are processes, so hyperparameters are whatever gin binds: n, the replay
ratio, the length of a decay. They change as `loop.population.pbt` says; the
training itself is in `population`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, ClassVar, Mapping, Sequence

import numpy as np

from reincarnating_rl.app import api
from reincarnating_rl.loop.population.pbt import CHOICE
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining

_FIELDS = (
    'interval',
    'mutations',
    'quantile',
    'perturbation_factors',
    'resample_probability',
    'first',
)
# Position in a range that is tried. No round number, as draws are none.
_BETWEEN = 0.381966
# These decide the shapes of weights, and a copy takes its source's weights.
_SHAPES = re.compile(r'network|hidden|features|@')


class GinMutation(Mutation):
  """Mutation of a hyperparameter that gin binds; a choice has any values."""

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
    # In the given order, since some values are no numbers.
    at = self.values.index(value)
    beside = [i for i in (at - 1, at + 1) if 0 <= i < len(self.values)] or [at]
    return self.values[beside[rng.integers(len(beside))]]

  def extremes(self) -> list[Any]:
    """Values to check: all of a choice, or the ends of a range and one more."""
    if self.kind == CHOICE:
      return list(self.values)
    low, high = self.values
    return [low, high, low + (high - low) * _BETWEEN]

  def describe(self) -> str:
    listed = ', '.join(map(str, self.values))
    return f'{self.name} ({self.kind.replace("_", "-")}, {listed})'


@dataclasses.dataclass(frozen=True)
class Population:
  """Population-based training of the seeds of a configuration.

  Attributes:
    training: when members copy each other, and how settings change.
    first: initial values of the members, in the order of the seeds, by the
      name of the setting; settings that are not here are drawn.
  """

  training: PopulationBasedTraining
  first: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

  def first_settings(self, index: int, seed: int) -> dict[str, Any]:
    """Initial settings of a member, a function of its seed.

    Args:
      index: position of the member in the population.
      seed: run number of the member.
    """
    rng = np.random.default_rng(seed)
    settings = {}
    for mutation in self.training.mutations:
      value = mutation.draw(rng) if mutation.can_draw else None
      given = self.first.get(mutation.name)
      settings[mutation.name] = value if given is None else given[index]
    return settings

  def described(self) -> dict[str, Any]:
    """Entries for the record of a sweep."""
    found = dataclasses.asdict(self.training) | {'first': dict(self.first)}
    return {f'population.{name}': value for name, value in found.items()}

  def possible_settings(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Settings that show, when bound, if all that members may reach is valid.

    Args:
      seeds: run numbers of the members.

    Returns:
      The initial settings, and settings at the ends of each range.
    """
    found = [self.first_settings(i, seed) for i, seed in enumerate(seeds)]
    for mutation in self.training.mutations:
      assert isinstance(mutation, GinMutation)
      found += [
          found[0] | {mutation.name: value} for value in mutation.extremes()
      ]
    return found

  def faults(self, seeds: Sequence[int]) -> list[str]:
    """Sentences about what is wrong for members with these seeds."""
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
    for mutation in self.training.mutations:
      given = self.first.get(mutation.name, ())
      wrong = [value for value in given if not mutation.is_possible(value)]
      if wrong:
        faults.append(
            f'first of population has {mutation.name} {wrong[0]!r}, which is '
            'no number in its range'
        )
      if not mutation.can_draw and not given:
        faults.append(
            f'population bounds {mutation.name}, but does not say where first '
            'values come from: make it a range or a choice, or give each '
            'member one in first'
        )
    return faults


def parse(description: Any) -> Population:
  """Reads the entry `population` of a sweep.

  Args:
    description: the entry, in the forms of YAML.

  Raises:
    ValueError: one sentence, if the entry is malformed.
  """
  if not isinstance(description, dict) or set(description) - set(_FIELDS):
    raise ValueError(
        f'population must have entries of {", ".join(_FIELDS)}, not '
        f'{description!r}'
    )
  given: dict[str, Any] = {'interval': 1, 'mutations': {}} | description
  first = given.pop('first', {})
  if not isinstance(given['mutations'], dict) or not given['mutations']:
    raise ValueError(
        'population needs mutations, which say what may change: '
        '{create_linear_schedule.initial_lr: [log_uniform, 1e-5, 1e-3]} say'
    )
  given['mutations'] = tuple(
      _mutation(name, found) for name, found in given['mutations'].items()
  )
  names = [mutation.name for mutation in given['mutations']]
  if not isinstance(first, dict) or not all(
      name in names and isinstance(values, list)
      for name, values in first.items()
  ):
    raise ValueError(
        'first of population must give a list of values, one a member, for '
        f'some of {", ".join(names)}, not {first!r}'
    )
  try:
    # A copy begins with a checkpoint, which has the replay.
    training = PopulationBasedTraining(copy_replay=True, **given)
  except TypeError as e:
    raise ValueError(f'population is not of its form: {e}') from e
  except ValueError as e:
    ours = str(e).replace('PopulationBasedTraining.', 'population.')
    raise ValueError(ours) from e
  return Population(training, {n: tuple(v) for n, v in first.items()})


def _mutation(name: str, found: Any) -> GinMutation:
  if not isinstance(found, (list, tuple)) or not found:
    raise ValueError(
        f'population.mutations has {name!r}: {found!r}, but a setting changes '
        'by [kind, value, value, ...]'
    )
  return GinMutation(name, found[0], tuple(found[1:]))
