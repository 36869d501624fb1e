"""What a sweep is made of: read from YAML or gin, and from flags."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Iterable, Mapping, Optional, Sequence

import gin
import yaml

from reincarnating_rl.app import api
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.base import errors
from reincarnating_rl.launch import population_spec
from reincarnating_rl.launch import sampling
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.sampling import Distribution

# YAML takes 1e-4 for text: it wants a point.
_NUMBER = re.compile(r'[+-]?\d+(\.\d*)?[eE][+-]?\d+')


class Faults(errors.UserError):
  """Everything that is wrong with a sweep, a line each."""

  def __init__(self, faults: Sequence[str]):
    lines = [f'  - {fault}' for fault in faults]
    noun = 'fault' if len(faults) == 1 else 'faults'
    super().__init__(
        '\n'.join([f'nothing was started, for {len(faults)} {noun}:', *lines])
    )


@dataclasses.dataclass(frozen=True)
class Method:
  """Who learns, and how.

  Attributes:
    name: of its directory.
    agent: as `train` calls it.
    gin_files: its configurations; none = the agent's own.
    bindings: of its own, over them.
  """

  name: str
  agent: str
  gin_files: tuple[str, ...] = ()
  bindings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A grid of experiments; each combination is a configuration.

  Attributes:
    games: in Dopamine's spelling.
    agents: who learns.
    networks: such as '@reincarnation_networks.FullRainbowNetwork'; none = the
      agents' own.
    teachers: addresses, in which {game} stands for the game; a list in their
      place are several teachers together.
    seeds: run numbers.
    gin_files: after those of each agent.
    bindings: for all.
    grid: values by the name of what is bound: all combinations.
    sample: distributions by the name of what is bound: `num_samples` draws.
    num_samples: how many.
    sample_seed: of the draws.
    population: how the seeds of a configuration copy each other; None = they
      do not.
  """

  games: tuple[str, ...] = ()
  agents: tuple[Method, ...] = ()
  networks: tuple[str, ...] = ()
  teachers: tuple[str | tuple[str, ...], ...] = ()
  seeds: tuple[int, ...] = (0,)
  gin_files: tuple[str, ...] = ()
  bindings: tuple[str, ...] = ()
  grid: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
  sample: Mapping[str, Distribution] = dataclasses.field(default_factory=dict)
  num_samples: int = 1
  sample_seed: int = 0
  population: Optional[Population] = None


_FIELDS = tuple(field.name for field in dataclasses.fields(Sweep))


def read(path: Optional[str], flags: Mapping[str, Any]) -> Sweep:
  """The sweep that a file describes, with what flags say instead.

  Args:
    path: of a YAML or .gin file; None = flags alone.
    flags: entries of a description that replace those of the file.

  Raises:
    Faults: if an entry is unknown or not of its form, all of them listed.
    UserError: if the file cannot be read.
  """
  description = {}
  if path is not None:
    load = _read_gin if path.endswith('.gin') else _read_yaml
    description = load(path)
  return parse(description | dict(flags))


def _read_yaml(path: str) -> dict[str, Any]:
  try:
    with open(path, encoding='utf-8') as f:
      found = yaml.safe_load(f)
  except OSError as e:
    raise errors.UserError(
        f'The sweep {path} cannot be read: {e.strerror}.'
    ) from e
  except (yaml.YAMLError, UnicodeDecodeError) as e:
    reason = ' '.join(str(e).split())
    raise errors.UserError(f'The sweep {path} is no YAML: {reason}.') from e
  if not isinstance(found, dict):
    raise errors.UserError(
        f'The sweep {path} must be a mapping with entries of '
        f'{", ".join(_FIELDS)}.'
    )
  return found


def _read_gin(path: str) -> dict[str, Any]:
  """The Sweep.<entry> = ... of a gin file."""
  with errors.user_errors(), experiment_flags.own_gin([path]):
    return _entries()


@gin.configurable('Sweep', module='reincarnating_rl.launch')
def _entries(**entries: Any) -> dict[str, Any]:
  return entries


def parse(description: Mapping[str, Any]) -> Sweep:
  """Checks a description's form; what its names mean is checked later.

  Args:
    description: entries as in `Sweep`, in the forms of YAML.

  Raises:
    Faults: all that is wrong with it.
  """
  faults, fields = [], {}
  for name, value in description.items():
    if name not in _FIELDS:
      faults.append(
          f'a sweep has no entry {name!r}; there are {", ".join(_FIELDS)}'
      )
      continue
    try:
      fields[name] = _PARSERS[name](name, with_numbers(value))
      _check_twins(name, fields[name])
    except ValueError as e:
      faults.append(str(e).rstrip('.'))
  sweep = Sweep(**fields)
  for name in ('games', 'agents'):
    if name not in description:
      faults.append(f'a sweep needs {name}')
  both = sorted(set(sweep.grid) & set(sweep.sample))
  if both:
    faults.append(f'{", ".join(both)} stands in grid and in sample')
  if sweep.population is not None:
    faults += sweep.population.faults(sweep.seeds)
    given = {*sweep.grid, *sweep.sample} & set(sweep.population.training.names)
    if given:
      faults.append(
          f'{", ".join(sorted(given))} stands in mutations of population, and '
          'in grid or sample'
      )
  if sweep.num_samples > 1 and not sweep.sample:
    faults.append(
        f'num_samples is {sweep.num_samples}, but nothing is sampled: add '
        'an entry sample'
    )
  if faults:
    raise Faults(faults)
  return sweep


def _check_twins(name: str, value: Any) -> None:
  """Raises a ValueError if a list has an entry twice."""
  lists = (
      {f'{name} of {k}': v for k, v in value.items()} if name == 'grid' else {}
  )
  if isinstance(value, tuple) and name != 'bindings':
    lists = {name: value}
  for what, entries in lists.items():
    twins = [e for i, e in enumerate(entries) if e in entries[:i]]
    if twins:
      raise ValueError(f'{what} has {twins[0]!r} twice')


def with_numbers(value: Any) -> Any:
  """The same with numbers for texts like 1e-4, at any depth."""
  if isinstance(value, str) and _NUMBER.fullmatch(value):
    return float(value)
  if isinstance(value, (list, tuple)):
    return [with_numbers(v) for v in value]
  if isinstance(value, dict):
    return {k: with_numbers(v) for k, v in value.items()}
  return value


def parse_grid(entries: Sequence[str]) -> dict[str, Any]:
  """Reads 'NAME=[VALUES]' of the command line.

  Raises:
    UserError: for an entry of another form.
  """
  found = {}
  for entry in entries:
    name, sign, text = entry.partition('=')
    try:
      values = yaml.safe_load(text)
    except yaml.YAMLError:
      values = None
    if not sign or not isinstance(values, list):
      raise errors.UserError(
          f"--grid {entry} is not of the form 'NAME=[VALUE, VALUE]'."
      )
    found[name.strip()] = values
  return found


def parse_yaml(flag: str, text: str) -> Any:
  """Reads the value of a flag.

  Raises:
    UserError: if it is no YAML.
  """
  try:
    return yaml.safe_load(text)
  except yaml.YAMLError as e:
    raise errors.UserError(f'--{flag} {text} is no YAML.') from e


def _texts(name: str, value: Any) -> tuple[str, ...]:
  values = [value] if isinstance(value, str) else value
  if not isinstance(values, list) or not all(
      isinstance(v, str) and v for v in values
  ):
    raise ValueError(f'{name} must be a text or a list of texts, not {value!r}')
  if not values:
    raise ValueError(f'{name} is empty')
  return tuple(values)


def _teachers(name: str, value: Any) -> tuple[str | tuple[str, ...], ...]:
  entries = value if isinstance(value, list) else [value]
  if not entries:
    raise ValueError(f'{name} is empty')
  found = []
  for entry in entries:
    texts = _texts(f'an entry of {name}', entry)
    found.append(texts if isinstance(entry, list) else texts[0])
  return tuple(found)


def _seeds(name: str, value: Any) -> tuple[int, ...]:
  if _is_count(value) and value > 0:
    return tuple(range(value))
  if isinstance(value, list) and value and all(map(_is_count, value)):
    return tuple(value)
  raise ValueError(
      f'{name} must be how many there are, or a list of seeds from 0 on, not '
      f'{value!r}'
  )


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(name: str, value: Any) -> int:
  if not _is_count(value) or (name == 'num_samples' and not value):
    raise ValueError(f'{name} must be a whole number, not {value!r}')
  return value


def _bindings(name: str, value: Any) -> tuple[str, ...]:
  if isinstance(value, dict):
    return api.binding_lines(value)
  return _texts(name, value)


def _methods(name: str, value: Any) -> tuple[Method, ...]:
  entries = value if isinstance(value, list) else [value]
  if not entries:
    raise ValueError(f'{name} is empty')
  return tuple(map(_method, entries))


def _method(entry: Any) -> Method:
  if isinstance(entry, str):
    return Method(entry, entry)
  known = [field.name for field in dataclasses.fields(Method)]
  if not isinstance(entry, dict) or not set(entry) <= set(known):
    raise ValueError(
        f'an entry of agents must be a name or have {", ".join(known)}, not '
        f'{entry!r}'
    )
  name = entry.get('name') or entry.get('agent')
  if not isinstance(name, str):
    raise ValueError(f'an entry of agents has no name: {entry!r}')
  return Method(
      name,
      str(entry.get('agent', name)),
      _texts('gin_files', entry['gin_files']) if 'gin_files' in entry else (),
      _bindings('bindings', entry.get('bindings', {})),
  )


def _grid(name: str, value: Any) -> dict[str, tuple[Any, ...]]:
  ok = isinstance(value, dict) and all(
      isinstance(k, str) and isinstance(v, list) and v for k, v in value.items()
  )
  if not ok:
    raise ValueError(
        f'{name} must give a list of values for each name that is bound, not '
        f'{value!r}'
    )
  _check_names(name, value)
  return {k: tuple(v) for k, v in value.items()}


def _check_names(entry: str, names: Iterable[str]) -> None:
  """Raises a ValueError for what gin would take for a name of its own."""
  wrong = [name for name in names if not api.is_bound_name(name)]
  if wrong:
    raise ValueError(
        f'{entry} has {wrong[0]!r}, which is no name that gin binds, such as '
        'JaxDQNAgent.gamma'
    )


def _sample(name: str, value: Any) -> dict[str, Distribution]:
  if not isinstance(value, dict):
    raise ValueError(
        f'{name} must give a distribution for each name that is bound, not '
        f'{value!r}'
    )
  _check_names(name, value)
  return {k: sampling.parse(k, v) for k, v in value.items()}


_PARSERS = {
    'games': _texts,
    'agents': _methods,
    'networks': _texts,
    'teachers': _teachers,
    'seeds': _seeds,
    'gin_files': _texts,
    'bindings': _bindings,
    'grid': _grid,
    'sample': _sample,
    'num_samples': _count,
    'sample_seed': _count,
    'population': lambda name, value: population_spec.parse(value),
}
