"""Description of a sweep: read from YAML or gin, and from flags."""

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

# YAML reads 1e-4, without a point, as text.
_NUMBER = re.compile(r'[+-]?\d+(\.\d*)?[eE][+-]?\d+')


class Faults(errors.UserError):
  """All errors of a sweep, a line each."""

  def __init__(self, faults: Sequence[str]):
    lines = [f'  - {fault}' for fault in faults]
    noun = 'fault' if len(faults) == 1 else 'faults'
    super().__init__(
        '\n'.join([f'nothing was started, for {len(faults)} {noun}:', *lines])
    )


@dataclasses.dataclass(frozen=True)
class Method:
  """An agent with its configuration.

  Attributes:
    name: name of its directory.
    agent: value of `train`'s --agent.
    gin_files: its gin files; none = the agent's own.
    bindings: its own bindings, applied after the gin files.
  """

  name: str
  agent: str
  gin_files: tuple[str, ...] = ()
  bindings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A grid of experiments; each combination is a configuration.

  Attributes:
    games: games, in Dopamine's spelling.
    agents: agents to train.
    networks: networks for each agent, such as
      '@reincarnation_networks.FullRainbowNetwork'; none = the agents' own.
    teachers: addresses, in which {game} is replaced by the game; an entry with
      several addresses is an ensemble.
    seeds: run numbers.
    gin_files: gin files read after those of each agent.
    bindings: bindings of all runs.
    grid: values by the name that gin binds: all combinations.
    sample: distributions by the name that gin binds.
    num_samples: number of draws from `sample`.
    sample_seed: seed of the draws.
    population: population-based training of the seeds of each configuration;
      None = they are independent.
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
  """Reads a sweep from a file and flags.

  Args:
    path: path of a YAML or .gin file; None = flags only.
    flags: entries that replace those of the file.

  Raises:
    Faults: if entries are unknown or malformed, with all of them.
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
  """Entries of a gin file, its bindings `Sweep.<entry> = ...`."""
  with errors.user_errors(), experiment_flags.own_gin([path]):
    return _entries()


@gin.configurable('Sweep', module='reincarnating_rl.launch')
def _entries(**entries: Any) -> dict[str, Any]:
  return entries


def parse(description: Mapping[str, Any]) -> Sweep:
  """Checks the form of a description; `check` looks up its names.

  Args:
    description: entries of `Sweep`, in the forms of YAML.

  Raises:
    Faults: all errors of the description.
  """
  faults: list[str] = []
  fields: dict[str, Any] = {}
  for name, value in description.items():
    if name not in _FIELDS:
      faults.append(
          f'a sweep has no entry {name!r}; there are {", ".join(_FIELDS)}'
      )
      continue
    try:
      fields[name] = _PARSERS[name](name, with_numbers(value))
      _check_duplicates(name, fields[name])
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


def _check_duplicates(name: str, value: Any) -> None:
  """Raises a ValueError if a list has an entry twice."""
  lists = (
      {f'{name} of {k}': v for k, v in value.items()} if name == 'grid' else {}
  )
  if isinstance(value, tuple) and name != 'bindings':
    lists = {name: value}
  for where, entries in lists.items():
    repeated = [e for i, e in enumerate(entries) if e in entries[:i]]
    if repeated:
      raise ValueError(f'{where} has {repeated[0]!r} twice')


def with_numbers(value: Any) -> Any:
  """Replaces texts such as '1e-4' by numbers, at any depth."""
  if isinstance(value, str) and _NUMBER.fullmatch(value):
    return float(value)
  if isinstance(value, (list, tuple)):
    return [with_numbers(v) for v in value]
  if isinstance(value, dict):
    return {k: with_numbers(v) for k, v in value.items()}
  return value


def parse_grid(entries: Sequence[str]) -> dict[str, Any]:
  """Reads the values of --grid, such as 'NAME=[1, 2]'.

  Raises:
    UserError: if an entry is malformed.
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
  """Reads the value of a flag as YAML.

  Raises:
    UserError: if the value is no YAML.
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
  """Raises a ValueError for a name that gin would read as a macro."""
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
