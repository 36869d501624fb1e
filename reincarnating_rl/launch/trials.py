"""Trials of a sweep: experiments with their seeds and directories."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import re
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from reincarnating_rl.app import api
from reincarnating_rl.app import experiment
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.launch.sweep import Method
from reincarnating_rl.launch.sweep import Sweep

_LONGEST_NAME = 200  # bytes of one folder; file systems take 255


@dataclasses.dataclass(frozen=True)
class Configuration:
  """One combination of a sweep, without its seeds.

  Attributes:
    name: its folder in the sweep's directory, such as 'Pong/qdagger_dqn'.
    experiment: experiment with the first seed.
  """

  name: str
  experiment: Experiment


@dataclasses.dataclass(frozen=True)
class Trial:
  """Work of one process: a configuration with one or more seeds.

  Attributes:
    configuration: the configuration.
    seeds: run numbers; several train side by side, on a member axis.
    packed: True if the process gets all seeds at once, by --num_seeds.
  """

  configuration: Configuration
  seeds: tuple[int, ...]
  packed: bool

  @property
  def name(self) -> str:
    """Name that is unique in its sweep."""
    first, last = self.seeds[0], self.seeds[-1]
    span = str(first) if first == last else f'{first}-{last}'
    return f'{self.configuration.name}/run_{span}'

  @property
  def experiment(self) -> Experiment:
    """Experiment for the command line."""
    return dataclasses.replace(
        self.configuration.experiment,
        run_number=self.seeds[0],
        num_seeds=len(self.seeds) if self.packed else None,
    )

  def directories(self, root: str) -> list[str]:
    """Directories of its runs, one per seed, in the sweep's directory."""
    folder = os.path.join(root, self.configuration.name)
    return [os.path.join(folder, f'run_{seed}') for seed in self.seeds]

  def base_dir(self, root: str) -> str:
    """--base_dir of the process; packed runs make their own folders in it."""
    if self.packed:
      return os.path.join(root, self.configuration.name)
    return self.directories(root)[0]


class _Choice(NamedTuple):
  """A value of one dimension of the sweep.

  Attributes:
    label: label in the name of the folder; '' if there is only one value.
    bindings: gin bindings of the value.
  """

  label: str
  bindings: tuple[str, ...]


def configurations(sweep: Sweep) -> list[Configuration]:
  """All combinations of a sweep, in the order of its description."""
  found = []
  for game, method in itertools.product(sweep.games, sweep.agents):
    for choices in itertools.product(
        _teachers(sweep, method, game), _networks(sweep), *_settings(sweep)
    ):
      found.append(_configuration(sweep, game, method, choices))
  return found


def make_trials(
    sweep: Sweep, found: Sequence[Configuration], pack: bool
) -> list[Trial]:
  """Trials of a sweep; the first seeds of all configurations come first.

  Args:
    sweep: the sweep, which has the seeds.
    found: its configurations.
    pack: True if consecutive seeds share a process.
  """
  alone = [(seed,) for seed in sweep.seeds]
  return [
      Trial(configuration, span, packed=pack)
      for span in (_consecutive(sweep.seeds) if pack else alone)
      for configuration in found
  ]


def _consecutive(seeds: Sequence[int]) -> Iterator[tuple[int, ...]]:
  """(0, 1, 2, 7) as (0, 1, 2), (7,)."""
  ordered = sorted(seeds)
  by_start = lambda pair: pair[1] - pair[0]
  for _, pairs in itertools.groupby(enumerate(ordered), by_start):
    yield tuple(seed for _, seed in pairs)


def _configuration(
    sweep: Sweep, game: str, method: Method, choices: Sequence[Any]
) -> Configuration:
  (teacher_label, teacher), *others = choices
  labels = [
      label for label in (teacher_label, *(o.label for o in others)) if label
  ]
  gin_files = method.gin_files
  if sweep.gin_files and not gin_files:
    gin_files = experiment.own_files(method.agent)
  bindings = sweep.bindings + method.bindings
  for other in others:
    bindings += other.bindings
  name = '/'.join(
      [
          game,
          folder(method.name),
          *([_short(','.join(labels))] if labels else []),
      ]
  )
  return Configuration(
      name,
      Experiment(
          agent=method.agent,
          gin_files=gin_files + sweep.gin_files,
          bindings=bindings,
          teacher=teacher,
          game=game,
          run_number=sweep.seeds[0],
      ),
  )


def _teachers(sweep: Sweep, method: Method, game: str) -> list[tuple[str, Any]]:
  """Pairs (label, address); agents that train from scratch have one None."""
  if not sweep.teachers or not experiment_flags.has_teacher(method.agent):
    return [('', None)]
  found: list[tuple[str, Any]] = []
  for entry in sweep.teachers:
    several = (entry,) if isinstance(entry, str) else entry
    addresses = tuple(a.replace('{game}', game) for a in several)
    label = folder('+'.join(addresses)) if len(sweep.teachers) > 1 else ''
    is_one = isinstance(entry, str)
    found.append((label, addresses[0] if is_one else addresses))
  return found


def _networks(sweep: Sweep) -> list[_Choice]:
  if not sweep.networks:
    return [_Choice('', ())]
  several = len(sweep.networks) > 1
  return [
      _Choice(
          folder(name.rpartition('.')[2]) if several else '',
          ('@' + name.lstrip('@'),),
      )
      for name in sweep.networks
  ]


def _settings(sweep: Sweep) -> Iterator[list[_Choice]]:
  """A list per dimension: those of the grid, and the samples as one more."""
  for name, values in sweep.grid.items():
    several = len(values) > 1
    yield [
        _Choice(
            _label(name, v) if several else '', api.binding_lines({name: v})
        )
        for v in values
    ]
  if sweep.population is not None:
    # For checks of a configuration; each member's bindings come after these.
    first = sweep.population.first_settings(0, sweep.seeds[0])
    yield [_Choice('', api.binding_lines(first))]
  if sweep.sample:
    rng = np.random.default_rng(sweep.sample_seed)
    yield [_draw(sweep, i, rng) for i in range(sweep.num_samples)]


def _draw(sweep: Sweep, index: int, rng: np.random.Generator) -> _Choice:
  drawn = {name: d.draw(rng) for name, d in sweep.sample.items()}
  labels = [_label(name, value) for name, value in drawn.items()]
  # Numbered, since labels are rounded.
  return _Choice(
      ','.join([f'sample_{index}', *labels]), api.binding_lines(drawn)
  )


def _label(name: str, value: Any) -> str:
  """'learning_rate=0.0003' of 'create_optimizer.learning_rate'."""
  short = name.rpartition('.')[2]
  text = f'{value:.4g}' if isinstance(value, float) else str(value)
  return folder(f'{short}={text}')


def folder(text: str) -> str:
  """Name of a folder for a text."""
  return _short(re.sub(r'[^\w.=+-]+', '_', text).strip('_'))


def _short(name: str) -> str:
  """The name, or its end with a digest in front if it is too long."""
  encoded = name.encode()
  if len(encoded) <= _LONGEST_NAME:
    return name
  digest = hashlib.sha256(encoded).hexdigest()[:10]
  end = encoded[len(digest) + 1 - _LONGEST_NAME :]
  return f'{digest}_{end.decode(errors="ignore")}'
