"""The runs of a sweep, as a list: which experiment, with which seeds, where."""

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
    name: of its folder below that of the sweep, such as 'Pong/qdagger_dqn'.
    experiment: with the first seed there is.
  """

  name: str
  experiment: Experiment


@dataclasses.dataclass(frozen=True)
class Trial:
  """What one process does: a configuration with one or more seeds.

  Attributes:
    configuration: what is run.
    seeds: run numbers; several go side by side, on a member axis.
    packed: whether the process is told of all seeds at once.
  """

  configuration: Configuration
  seeds: tuple[int, ...]
  packed: bool

  @property
  def name(self) -> str:
    """Unique in its sweep."""
    first, last = self.seeds[0], self.seeds[-1]
    span = str(first) if first == last else f'{first}-{last}'
    return f'{self.configuration.name}/run_{span}'

  @property
  def experiment(self) -> Experiment:
    """For the command line."""
    return dataclasses.replace(
        self.configuration.experiment,
        run_number=self.seeds[0],
        num_seeds=len(self.seeds) if self.packed else None,
    )

  def directories(self, root: str) -> list[str]:
    """Of its runs, one a seed, below that of the sweep."""
    folder = os.path.join(root, self.configuration.name)
    return [os.path.join(folder, f'run_{seed}') for seed in self.seeds]

  def base_dir(self, root: str) -> str:
    """As the process is told: a group makes its runs' folders itself."""
    if self.packed:
      return os.path.join(root, self.configuration.name)
    return self.directories(root)[0]


class _Choice(NamedTuple):
  """A value of one dimension.

  Attributes:
    label: in the name of the folder; '' where there is one value only.
    bindings: that it comes to.
  """

  label: str
  bindings: tuple[str, ...]


def configurations(sweep: Sweep) -> list[Configuration]:
  """All combinations, in the order of the description.

  Args:
    sweep: what is wanted.
  """
  found = []
  for game, method in itertools.product(sweep.games, sweep.agents):
    for choices in itertools.product(
        _teachers(sweep, method, game), _networks(sweep), *_settings(sweep)
    ):
      found.append(_configuration(sweep, game, method, choices))
  return found


def make(
    sweep: Sweep, found: Sequence[Configuration], pack: bool
) -> list[Trial]:
  """What processes do; the first seeds of all configurations come first.

  Args:
    sweep: whose seeds.
    found: its configurations.
    pack: whether seeds that follow each other go into one process.
  """
  spans = [(seed,) for seed in sweep.seeds]
  if pack:
    spans = list(_consecutive(sweep.seeds))
  return [
      Trial(configuration, span, packed=pack)
      for span in spans
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
  """(label, address) of each; agents that learn from nothing have one None."""
  if not sweep.teachers or not experiment_flags.has_teacher(method.agent):
    return [('', None)]
  fill = lambda address: address.replace('{game}', game)
  found = []
  for entry in sweep.teachers:
    together = isinstance(entry, tuple)
    address = tuple(map(fill, entry)) if together else fill(entry)
    label = folder('+'.join(address) if together else address)
    found.append((label if len(sweep.teachers) > 1 else '', address))
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
  """A list a dimension: those of the grid, and the samples as one more."""
  for name, values in sweep.grid.items():
    several = len(values) > 1
    yield [
        _Choice(
            _label(name, v) if several else '', api.binding_lines({name: v})
        )
        for v in values
    ]
  if sweep.population is not None:
    # For what looks at a configuration; members have their own over these.
    first = sweep.population.first_settings(0, sweep.seeds[0])
    yield [_Choice('', api.binding_lines(first))]
  if sweep.sample:
    rng = np.random.default_rng(sweep.sample_seed)
    yield [_draw(sweep, i, rng) for i in range(sweep.num_samples)]


def _draw(sweep: Sweep, index: int, rng: np.random.Generator) -> _Choice:
  drawn = {name: d.draw(rng) for name, d in sweep.sample.items()}
  labels = [_label(name, value) for name, value in drawn.items()]
  # Numbered, since labels round.
  return _Choice(
      ','.join([f'sample_{index}', *labels]), api.binding_lines(drawn)
  )


def _label(name: str, value: Any) -> str:
  """'learning_rate=0.0003' of 'create_optimizer.learning_rate'."""
  short = name.rpartition('.')[2]
  text = f'{value:.4g}' if isinstance(value, float) else str(value)
  return folder(f'{short}={text}')


def folder(text: str) -> str:
  """Text as the name of a folder."""
  return _short(re.sub(r'[^\w.=+-]+', '_', text).strip('_'))


def _short(name: str) -> str:
  """The same, or what is left of it with a digest of all in front."""
  encoded = name.encode()
  if len(encoded) <= _LONGEST_NAME:
    return name
  digest = hashlib.sha256(encoded).hexdigest()[:10]
  end = encoded[len(digest) + 1 - _LONGEST_NAME :]
  return f'{digest}_{end.decode(errors="ignore")}'
