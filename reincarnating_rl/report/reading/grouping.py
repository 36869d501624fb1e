"""Groups runs by method: by their settings, not by directory names."""

from __future__ import annotations

import collections
import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.report.reading import method_identity
from reincarnating_rl.report.reading.runs import Run

_UNSET = 'unset'


class Method(NamedTuple):
  """Runs with equal settings.

  Attributes:
    name: name, unique in a report.
    settings: settings that define the method, as text.
    runs: runs by game, in the order of their seeds.
  """

  name: str
  settings: Mapping[str, str]
  runs: Mapping[str, tuple[Run, ...]]

  @property
  def all_runs(self) -> list[Run]:
    return [run for runs in self.runs.values() for run in runs]


def group(
    runs: Sequence[Run],
    split: Sequence[str] = (),
    labels: Optional[Mapping[str, str]] = None,
) -> list[Method]:
  """Groups runs into methods, sorted by name.

  Args:
    runs: at least one run.
    split: conditions whose values tell methods apart.
    labels: new names by old names, for some methods.

  Raises:
    UserError: if a label names no method.
  """
  by_settings: dict[Any, list[Run]] = collections.defaultdict(list)
  for run in runs:
    key = tuple(sorted(method_identity.method_settings(run, split).items()))
    by_settings[key].append(run)
  members = list(by_settings.values())
  settings = [
      method_identity.method_settings(group[0], split) for group in members
  ]
  bases = [_base(group[0]) for group in members]
  names = _relabel(_names(bases, settings), labels or {})
  methods = [
      Method(name, s, _by_game(group))
      for name, s, group in zip(names, settings, members)
  ]
  return sorted(methods, key=lambda method: method.name)


def _base(run: Run) -> str:
  """Name of the first configuration, else of the agent."""
  if not run.gin_files:
    return run.agent
  return os.path.splitext(os.path.basename(run.gin_files[0]))[0]


def _by_game(runs: Sequence[Run]) -> dict[str, tuple[Run, ...]]:
  found: dict[str, list[Run]] = collections.defaultdict(list)
  for run in sorted(runs, key=lambda run: (run.game, run.seed)):
    found[run.game].append(run)
  return {game: tuple(runs) for game, runs in found.items()}


def check_seeds(methods: Sequence[Method]) -> None:
  """Refuses two runs of a method with the same game and seed.

  Raises:
    UserError: with the paths of both runs.
  """
  for method in methods:
    for runs in method.runs.values():
      for a, b in zip(runs, runs[1:]):
        if a.seed == b.seed:
          raise errors.UserError(
              f'{a.path} and {b.path} are both seed {a.seed} of {method.name} '
              f'on {a.game}, with equal settings: leave one of them out.'
          )


# -- names ---------------------------------------------------------------------


def _names(
    bases: Sequence[str], settings: Sequence[Mapping[str, str]]
) -> list[str]:
  """Makes names unique with the fewest settings that tell methods apart.

  Args:
    bases: [M] names, not unique.
    settings: [M] settings, all different.
  """
  names = list(bases)
  while True:
    equal: dict[str, list[int]] = collections.defaultdict(list)
    for i, name in enumerate(names):
      equal[name].append(i)
    clashes = [indices for indices in equal.values() if len(indices) > 1]
    if not clashes:
      return names
    for indices in clashes:
      setting = _most_telling([settings[i] for i in indices])
      for i in indices:
        names[i] += _suffix(setting, settings[i].get(setting, _UNSET))


def _most_telling(settings: Sequence[Mapping[str, str]]) -> str:
  """The network if it differs, else the setting with the most values."""
  names = dict.fromkeys(name for s in settings for name in s)
  values = lambda name: len({s.get(name, _UNSET) for s in settings})
  return 'network' if values('network') > 1 else max(names, key=values)


def _suffix(setting: str, value: str) -> str:
  if setting in ('network', 'agent'):
    return f', {value}'
  return f', {setting.removeprefix("member.")}={value}'


def _relabel(names: Sequence[str], labels: Mapping[str, str]) -> list[str]:
  unknown = sorted(set(labels) - set(names))
  if unknown:
    raise errors.UserError(
        f'--label {unknown[0]}: there is no such method; there are '
        f'{"; ".join(sorted(names))}.'
    )
  found = [labels.get(name, name) for name in names]
  for name in found:
    if found.count(name) > 1:
      raise errors.UserError(f'--label calls two methods {name}.')
  return found
