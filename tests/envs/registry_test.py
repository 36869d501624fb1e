"""Environments by name: who makes them, and names that nobody knows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reincarnating_rl.base import specs
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import probe
from reincarnating_rl.envs import registry
from reincarnating_rl.envs.base import EnvironmentFactory


@pytest.mark.parametrize('name', ['Pong', *probe.PROBES])
def test_a_factory_tells_what_its_environments_give_and_take(name):
  make_env = registry.make_factory(name, max_agent_steps=20)
  assert make_env.name == name
  env = make_env(2, 3, (1,))
  observation = env.reset()
  spec = make_env.observation_spec
  assert observation.shape == (2, make_env.stack_size, *spec.shape)
  assert observation.dtype == spec.dtype
  assert make_env.action_spec == specs.DiscreteActions(env.num_actions)
  assert registry.num_actions(make_env) == env.num_actions


def test_factories_are_equal_by_what_they_make():
  make = registry.make_factory
  assert make('Pong') == atari.AtariFactory('Pong')
  assert make('Pong', sticky_actions=0.0) != make('Pong')
  assert len({make('Pong'), make('Pong'), make('Boxing')}) == 2
  assert make('probe/Gridworld') == probe.ProbeFactory(probe.Gridworld())


def test_a_factory_is_called_as_its_environments_are():
  """Same seed and stream, same episodes; the limit is the factory's."""
  make_env = registry.make_factory('Pong', max_agent_steps=5)
  direct = atari.AtariVector('Pong', 1, 7, (2,), max_agent_steps=5)
  env = make_env(1, 7, (2,))
  np.testing.assert_array_equal(env.reset(), direct.reset())
  steps = [(env.step([0]), direct.step([0])) for _ in range(5)]
  for ours, theirs in steps:
    np.testing.assert_array_equal(ours.observation, theirs.observation)
  assert steps[-1][0].truncated[0]


def test_a_probe_with_other_actions():
  make_env = registry.make_factory('probe/ContextualBandit-6')
  assert make_env.probe == probe.ContextualBandit(num_actions=6)
  assert make_env.name == 'probe/ContextualBandit-6'


@pytest.mark.parametrize(
    'name, sentence',
    [
        ('Pnog', "no Atari game called 'Pnog'. Did you mean .*Pong"),
        ('probe/Gridwrold', 'Did you mean probe/Gridworld'),
        ('probe/Gridworld-7', "no probe called 'probe/Gridworld-7'"),
        ('probe/', "no probe called 'probe/'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, sentence):
  with pytest.raises(ValueError, match=sentence):
    registry.make_factory(name)


def test_a_family_leaves_out_what_is_not_its_own():
  registry.make_factory('probe/Gridworld', sticky_actions=0.25)
  registry.make_factory('Pong', frame_shape=(84, 84))
  with pytest.raises(TypeError, match='no_such'):
    registry.make_factory('Pong', no_such=1)


def test_a_network_of_other_actions_is_refused():
  pong = registry.make_factory('Pong')
  registry.check_num_actions(pong, 6, 'The teacher')
  with pytest.raises(ValueError, match='The teacher has 4 actions, Pong has 6'):
    registry.check_num_actions(pong, 4, 'The teacher')


@dataclasses.dataclass(frozen=True)
class Mine(probe.ProbeFactory):
  """An environment of the user, under a name of its own."""

  name = 'mine/Corridor'


def _continuous() -> EnvironmentFactory:
  class Arm(Mine):
    action_spec = specs.ContinuousActions((-1.0,), (1.0,))

  return Arm(probe.DelayedReward())


def test_a_family_of_the_user_is_asked_first(monkeypatch):
  monkeypatch.setattr(registry, '_FAMILIES', list(registry._FAMILIES))
  registry.register(
      registry.Family(
          claims=lambda name: name.startswith('mine/'),
          make=lambda name, **settings: Mine(probe.DelayedReward(), **settings),
          settings=frozenset(('max_agent_steps',)),
      )
  )
  make_env = registry.make_factory('mine/Corridor', max_agent_steps=3)
  assert (make_env.name, make_env.max_agent_steps) == ('mine/Corridor', 3)
  assert registry.make_factory('Pong').name == 'Pong'


def test_continuous_actions_are_refused_where_they_are_counted():
  with pytest.raises(ValueError, match='has continuous actions'):
    registry.num_actions(_continuous())
  spec = specs.ContinuousActions((-1.0, 0.0), (1.0, 2.0)).spec
  assert spec == specs.ArraySpec((2,), 'float32')
