"""Bindings of population-based training, as data (layer 5)."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import gin
import numpy as np

from reincarnating_rl.loop.population import pbt
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining
from reincarnating_rl.loop.saving import checkpoint
from reincarnating_rl.loop.training.member_settings import Member


@gin.configurable('PopulationBasedTraining', module='reincarnating_rl')
def population_based_training(
    interval: Optional[int] = None,
    mutations: Optional[Mapping[str, Sequence[Any]]] = None,
    quantile: Optional[float] = None,
    copy_replay: Optional[bool] = None,
    perturbation_factors: Optional[Sequence[float]] = None,
    resample_probability: Optional[float] = None,
) -> Optional[PopulationBasedTraining]:
  """Population-based training as bound, or None; see `population.pbt`.

  Args:
    interval: online iterations between two exploits; None = no exploits.
    mutations: {setting: (kind, *values)}, with a kind 'uniform',
      'log_uniform', 'choice' or 'bounds'; see `pbt.Mutation`.
    quantile: share of the runs that copy, and share that is copied.
    copy_replay: True if the replay is copied, too.
    perturbation_factors: factors, of which a setting is multiplied by one.
    resample_probability: probability that a setting is drawn anew instead.

  Raises:
    ValueError: one sentence, for values that make no sense.
  """
  others = {
      'mutations': mutations,
      'quantile': quantile,
      'copy_replay': copy_replay,
      'perturbation_factors': perturbation_factors,
      'resample_probability': resample_probability,
  }
  given: dict[str, Any] = {
      name: value for name, value in others.items() if value is not None
  }
  if interval is None:
    if given:
      raise ValueError(
          f'PopulationBasedTraining.{next(iter(given))} is bound, but its '
          'interval is not: bind PopulationBasedTraining.interval to a number '
          'of online iterations, too.'
      )
    return None
  if 'perturbation_factors' in given:
    given['perturbation_factors'] = tuple(given['perturbation_factors'])
  given['mutations'] = tuple(
      _mutation(name, found) for name, found in (mutations or {}).items()
  )
  return PopulationBasedTraining(interval, **given)


def _mutation(name: str, found: Any) -> Mutation:
  if not isinstance(found, (tuple, list)) or not found:
    raise ValueError(
        f'PopulationBasedTraining.mutations has {name!r}: {found!r}, but a '
        "kind and values are wanted, such as ('log_uniform', 1e-5, 1e-3)."
    )
  kind, *values = found
  return Mutation(name, kind, tuple(values))


def first_member(
    given: Optional[Member],
    run_number: int,
    of_all: Mapping[str, Optional[float]],
) -> Member:
  """The settings in which a run begins to differ from others.

  Args:
    given: settings from a population file; None without a file.
    run_number: seed of the run, and of the draws.
    of_all: values of the settings that the file does not name.

  Raises:
    ValueError: if there is nothing to draw from, or to begin with.
  """
  training = population_based_training()
  if training is None:
    return given or {}
  rng = generator(run_number)
  return pbt.first_member(training, given, of_all, rng)


def generator(run_number: int, iteration: int = 0) -> np.random.Generator:
  """Generator of the draws after an iteration; 0 = before the run."""
  return np.random.default_rng((run_number % 2**32, iteration))


def identity(member: Member) -> dict[str, str]:
  """Facts that must be equal when runs that copy each other are resumed."""
  training = population_based_training()
  if training is None:
    return {}
  return dict(
      zip(
          checkpoint.LINEAGE, (str(training), str(dict(sorted(member.items()))))
      )
  )
