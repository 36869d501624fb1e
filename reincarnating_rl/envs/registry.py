"""Environments by name.

A family of environments knows what its names look like and makes the factory
of one of them. `make_factory` asks the families in order. A further module
adds its family by `register`:

  registry.register(registry.Family(
      claims=lambda name: name.startswith('catch/'),
      make=CatchFactory.by_name,
      settings=frozenset({'max_agent_steps'}),
  ))
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from reincarnating_rl.base.specs import DiscreteActions
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import probe
from reincarnating_rl.envs.base import EnvironmentFactory


class Family(NamedTuple):
  """Environments whose names one factory class understands.

  Attributes:
    claims: tells from a name, which need not exist, if it is of this family.
    make: (name, **settings) -> factory; raises a ValueError, with the nearest
      names, if there is no such environment.
    settings: names of the settings that `make` takes.
  """

  claims: Callable[[str], bool]
  make: Callable[..., EnvironmentFactory]
  settings: frozenset[str]


# Atari comes last: it claims every name that is left.
_FAMILIES: list[Family] = [
    Family(probe.is_probe, probe.make_factory, probe.SETTINGS),
    Family(lambda name: True, atari.AtariFactory, atari.SETTINGS),
]


def register(family: Family) -> None:
  """Adds a family; it is asked before all others."""
  _FAMILIES.insert(0, family)


def make_factory(name: str, **settings: Any) -> EnvironmentFactory:
  """The factory of the environment with that name.

  Args:
    name: a game of Atari in Dopamine's spelling ('MsPacman'), 'probe/Gridworld'
      or a name of a registered family.
    **settings: `max_agent_steps` (time limit of an episode), `sticky_actions`
      (probability that the last action is repeated), or others that some
      family knows. A family leaves out those that it does not know.

  Raises:
    ValueError: for an unknown name, with the nearest ones.
    TypeError: for a setting that no family knows.
  """
  known = frozenset().union(*(family.settings for family in _FAMILIES))
  unknown = sorted(settings.keys() - known)
  if unknown:
    raise TypeError(f'No environment has a setting {", ".join(unknown)}.')
  family = next(family for family in _FAMILIES if family.claims(name))
  taken = {k: v for k, v in settings.items() if k in family.settings}
  return family.make(name, **taken)


def num_actions(environment: EnvironmentFactory) -> int:
  """A of an environment with discrete actions.

  Raises:
    ValueError: if its actions are continuous.
  """
  spec = environment.action_spec
  if not isinstance(spec, DiscreteActions):
    raise ValueError(
        f'{environment.name} has continuous actions, but the agents here '
        'choose among discrete ones.'
    )
  return spec.num_actions


def check_num_actions(
    environment: EnvironmentFactory, found: int, whose: str
) -> None:
  """Refuses a network that was trained for another number of actions.

  Args:
    environment: environment that the network is to play.
    found: number of actions of the network.
    whose: subject of the sentence, such as 'The teacher'.

  Raises:
    ValueError: one sentence, with both numbers.
  """
  expected = num_actions(environment)
  if found != expected:
    raise ValueError(
        f'{whose} has {found} actions, {environment.name} has {expected}: it '
        'was trained on another game or action set.'
    )
