"""Settings in which the members of a population may differ.

Each setting is an array leaf of the learner's state, so members that differ in
it share compiled code. A population file is a JSON list with one object per
member:

  [{"learning_rate": 1e-4}, {"learning_rate": 3e-4, "gamma": 0.98}]
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any, Mapping, Optional, Sequence

from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.config.plan import RunConfig

# Name in a file -> field of Coefficients.
_COEFFICIENTS = {
    'td_loss_coefficient': 'td',
    'distill_loss_coefficient': 'distill',
    'distill_temperature': 'temperature',
    'cql_coefficient': 'cql',
    'margin_coefficient': 'margin',
    'margin': 'margin_size',
    'gamma': 'gamma',
}
RATES = ('learning_rate', 'final_learning_rate')
LAMBDA_SCALE = 'lambda_scale'
NAMES = (*RATES, LAMBDA_SCALE, *_COEFFICIENTS)

Member = Mapping[str, float]


def read(path: str) -> list[dict[str, float]]:
  """Reads the members of a population file.

  Args:
    path: path of a JSON file as above.

  Raises:
    ValueError: if the file cannot be read, or a member is not a mapping from
      NAMES to numbers in their range; one sentence.
  """
  try:
    with open(path, encoding='utf-8') as f:
      members = json.load(f)
  except (OSError, ValueError) as e:  # no file, no text, no JSON
    raise ValueError(f'The population {path} cannot be read: {e}.') from e
  if not isinstance(members, list) or not members:
    raise ValueError(
        f'The population {path} must be a list with an object a member.'
    )
  for index, member in enumerate(members):
    if not isinstance(member, dict):
      raise ValueError(f'Member {index} of {path} is no object: {member!r}.')
    for name, value in member.items():
      _check(path, index, name, value)
  if any('gamma' in m for m in members):
    missing = [i for i, m in enumerate(members) if 'gamma' not in m]
    if missing:
      raise ValueError(
          f'Members {missing} of {path} lack gamma, which others have: give '
          'it to all or to none.'
      )
  return members


def _check(path: str, index: int, name: str, value: Any) -> None:
  if name not in NAMES:
    raise ValueError(
        f'Member {index} of {path} sets {name}; members can differ in '
        f'{", ".join(NAMES)}.'
    )
  if not in_range(name, value):
    raise ValueError(
        f'Member {index} of {path} sets {name} to {value!r}, which is no '
        f'number in its range.'
    )


def in_range(name: str, value: Any) -> bool:
  """True if the value is allowed for the setting of that name."""
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  highest = 1.0 if name == 'gamma' else sys.float_info.max
  positive = name in ('distill_temperature', 'gamma')
  return is_number and 0.0 <= value <= highest and bool(value or not positive)


def config_of(config: RunConfig, member: Member) -> RunConfig:
  """Returns the settings of a run with those of a member."""
  rates: dict[str, Any] = {n: member[n] for n in RATES if n in member}
  return dataclasses.replace(config, **rates)


def coefficients_of(coefficients: Coefficients, member: Member) -> Coefficients:
  """Returns coefficients with those of a member."""
  own = {ours: member[n] for n, ours in _COEFFICIENTS.items() if n in member}
  coefficients = coefficients._replace(**own)
  scale = member.get(LAMBDA_SCALE, 1.0)
  return coefficients._replace(
      distill=coefficients.distill * scale, margin=coefficients.margin * scale
  )


def values_of_all(
    config: RunConfig, coefficients: Coefficients
) -> dict[str, Optional[float]]:
  """Returns the value of each setting for members that do not set it.

  Args:
    config: settings of the population.
    coefficients: coefficients of the population.

  Returns:
    {setting: value}; None for a setting that is not in use.
  """
  values = {n: getattr(coefficients, ours) for n, ours in _COEFFICIENTS.items()}
  values |= {name: getattr(config, name) for name in RATES}
  if values['gamma'] is None:
    values['gamma'] = config.gamma
  return values | {LAMBDA_SCALE: 1.0}


def describe(member: Member) -> str:
  """Describes a member's settings, for logs."""
  return ', '.join(f'{name} {value:g}' for name, value in member.items())


def check_teacher(
    members: Sequence[Member], mixes: bool, mutated: Sequence[str] = ()
) -> None:
  """Checks that the members can share one teacher.

  Args:
    members: settings of the members.
    mixes: True if the teacher is a mixture of policies, which has one
      temperature for all members.
    mutated: names of the settings that change during training.

  Raises:
    ValueError: if members of a mixture differ in the temperature.
  """
  if mixes and 'distill_temperature' in mutated:
    raise ValueError(
        'PopulationBasedTraining.mutations changes distill_temperature, but '
        'the members share one mixture of teachers, which has one temperature: '
        "leave it out, or bind TeacherEnsemble.combine to 'best'."
    )
  wanted = {member.get('distill_temperature') for member in members}
  if mixes and len(wanted) > 1:
    named = sorted(f'{t:g}' if t else "the agent's own" for t in wanted)
    raise ValueError(
        f'The population sets distill_temperature to {", ".join(named)}, but '
        'its members share one mixture of teachers, which has one temperature: '
        "give all the same, or bind TeacherEnsemble.combine to 'best'."
    )


def check_objective(members: Sequence[Member], has_annealing: bool) -> None:
  """Raises a ValueError if a member sets gamma and the resets anneal it."""
  if has_annealing and any('gamma' in member for member in members):
    raise ValueError(
        'The population sets gamma, and so does the annealing of the resets: '
        'bind ResetSchedule.annealing_updates to 0, or leave gamma out.'
    )
