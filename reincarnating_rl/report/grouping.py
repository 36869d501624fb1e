"""Groups runs by method: their files say what they are, not their names."""

from __future__ import annotations

import collections
import os
from typing import Mapping, NamedTuple, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.report import method_identity
from reincarnating_rl.report.runs import Run

_UNSET = 'unset'


class Method(NamedTuple):
  """Runs with equal settings.

  Attributes:
    name: unique in a report.
    settings: that define it, as text.
    runs: by game, each in the order of the seeds.
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
    labels: Mapping[str, str] | None = None,
) -> list[Method]:
  """The methods, in the order of their names.

  Args:
    runs: at least one.
    split: conditions in which methods may differ.
    labels: other names for some of them.

  Raises:
    UserError: for a label of none of them.
  """
  by_settings = collections.defaultdict(list)
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
  """The name of its first configuration, else of its agent."""
  if not run.gin_files:
    return run.agent
  return os.path.splitext(os.path.basename(run.gin_files[0]))[0]


def _by_game(runs: Sequence[Run]) -> dict[str, tuple[Run, ...]]:
  found = collections.defaultdict(list)
  for run in sorted(runs, key=lambda run: (run.game, run.seed)):
    found[run.game].append(run)
  return {game: tuple(runs) for game, runs in found.items()}


def check_seeds(methods: Sequence[Method]) -> None:
  """Refuses a method that has a seed of a game twice.

  Raises:
    UserError: naming both runs.
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
  """Unique names: with the settings that tell equal ones apart, no more.

  Args:
    bases: [M] not unique.
    settings: [M] all different.
  """
  names = list(bases)
  while True:
    equal = collections.defaultdict(list)
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
  """The setting with the most values; the network, if there are several."""
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
