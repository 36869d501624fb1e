"""Dopamine 4.1.2 as a side of benchmark_peers.py."""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import Any, Iterator, Optional

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import sides
from benchmarks import workloads
from benchmarks.harness import Builder
from benchmarks.harness import Work
from reincarnating_rl.dopamine_bridge import compat

_REPLAY = 'dopamine.jax.replay_memory'


class Dopamine(sides.Side):
  """JaxFullRainbowAgent and JaxDQNAgent, driven as by Dopamine's runner."""

  name = 'dopamine'
  packages = ('dopamine-rl', 'tensorflow')

  def __init__(self, sizes: sides.Sizes):
    """Imports Dopamine."""
    super().__init__(sizes)
    # Users of Dopamine alone have it; Dopamine runs without it, too.
    with contextlib.suppress(ImportError):
      import tensorflow as _  # noqa: F401
    compat.prepare_dopamine()
    from dopamine.discrete_domains import atari_lib
    from dopamine.jax.agents.dqn import dqn_agent
    from dopamine.jax.agents.full_rainbow import full_rainbow_agent
    import gin

    self._atari_lib = atari_lib
    self._dqn = dqn_agent
    self._rainbow = full_rainbow_agent
    self._gin = gin

  def tasks(self) -> dict[str, Builder]:
    return super().tasks() | {
        'evaluate': self._evaluate,
        'online': self._online,
        'updates_c51_asking': self._updates_asking,
    }

  def _agent(self, net: str, capacity: int) -> Any:
    """An agent with an empty replay."""
    sampler = f'{_REPLAY}.samplers.PrioritizedSamplingDistribution'
    buffer = f'{_REPLAY}.replay_buffer.ReplayBuffer'
    bindings = {
        f'{buffer}.max_capacity': capacity,
        f'{buffer}.batch_size': workloads.BATCH_SIZE,
        f'{sampler}.max_capacity': capacity,
        'JaxDQNAgent.update_horizon': workloads.UPDATE_HORIZON,
        'JaxDQNAgent.update_period': workloads.UPDATE_PERIOD,
        'JaxDQNAgent.min_replay_history': workloads.BATCH_SIZE,
    }
    for name, value in bindings.items():
      self._gin.bind_parameter(name, value)
    if net == 'dqn':
      return self._dqn.JaxDQNAgent(
          workloads.NUM_ACTIONS, loss_type='huber', seed=0
      )
    return self._rainbow.JaxFullRainbowAgent(
        workloads.NUM_ACTIONS,
        noisy=False,
        dueling=False,
        double_dqn=False,
        seed=0,
    )

  def _fill(self, agent: Any, steps: Iterator[sides.Step], rows: int) -> Any:
    """The agent, with a full replay."""
    _store_many(agent, steps, rows)
    return agent

  @functools.cached_property
  def _filled_dqn(self) -> Any:
    """A DQN agent with a replay."""
    agent = self._agent('dqn', self._sizes.dqn_rows)
    steps = sides.endless_steps(self._sizes.unique_rows)
    _store_many(agent, steps, self._sizes.dqn_rows)
    return agent

  def _trained(self, net: str) -> Any:
    return self._filled_dqn if net == 'dqn' else self._filled[0]

  def _add(self) -> Work:
    agent = self._filled[0]
    steps = sides.endless_steps(self._sizes.unique_rows)
    return lambda: _store_many(agent, steps, self._sizes.adds)

  def _sample(self) -> Work:
    replay = self._filled[0]._replay

    def work() -> int:
      for _ in range(self._sizes.samples):
        replay.sample(with_sample_metadata=True)
      return self._sizes.samples

    return work

  def _updates(self, net: str) -> Work:
    """Its training step at every call: samples, trains, writes priorities."""
    agent = self._trained(net)
    agent.update_period = 1

    def step() -> Any:
      agent._train_step()
      return agent.online_params

    return workloads.repeated(step, self._sizes.updates)

  def _updates_asking(self) -> Work:
    """`_updates` with a teacher's forward pass on every batch.

    The earlier release of this package distilled so, on Dopamine's agent.
    """
    agent, update = self._trained('c51'), self._updates('c51')
    teacher = self._trained('dqn')
    sample = agent._sample_from_replay_buffer
    ask = jax.jit(
        jax.vmap(
            lambda params, state: teacher.network_def.apply(
                params, state
            ).q_values,
            in_axes=(None, 0),
        )
    )

    def sample_and_ask() -> None:
      sample()
      ask(teacher.online_params, agent.replay_elements['state'])

    def work() -> float:
      agent._sample_from_replay_buffer = sample_and_ask
      try:
        return update()
      finally:
        agent._sample_from_replay_buffer = sample

    return work

  def _fixed_batch(self, net: str) -> Work:
    """Its `train` alone, on one batch that is on the device already."""
    agent = self._trained(net)
    agent._sample_from_replay_buffer()
    names = ('state', 'action', 'next_state', 'reward', 'terminal')
    batch = tuple(jnp.asarray(agent.replay_elements[k]) for k in names)
    more: tuple[Any, ...] = (agent.cumulative_gamma, 'huber')
    train = self._dqn.train
    if net == 'c51':
      train = self._rainbow.train
      weights = jnp.ones(workloads.BATCH_SIZE)
      flags = (agent.cumulative_gamma, False, True, False)
      more = (weights, agent._support, *flags, agent._rng)

    def step(carry: Any) -> Any:
      opt_state, params = carry
      return train(
          agent.network_def,
          params,
          agent.target_network_params,
          agent.optimizer,
          opt_state,
          *batch,
          *more,
      )[:2]

    carry = agent.optimizer_state, agent.online_params
    return workloads.repeated(
        workloads.carried(step, carry), self._sizes.updates
    )

  def _evaluate(self) -> Work:
    agent = self._agent('c51', self._sizes.online_rows)
    agent.eval_mode = True
    return self._play(agent, self._sizes.evaluation_steps)

  def _online(self) -> Work:
    agent = self._agent('c51', self._sizes.online_rows)
    work = self._play(agent, self._sizes.online_steps)
    while agent._replay.add_count <= 2 * agent.min_replay_history:
      work()
    return work

  def _play(self, agent: Any, agent_steps: int) -> Work:
    """The runner's loop, for a number of agent steps."""
    env = self._atari_lib.create_atari_environment(workloads.GAME)
    action: Optional[int] = None

    def work() -> int:
      nonlocal action
      for _ in range(agent_steps):
        if action is None:
          action = agent.begin_episode(env.reset())
        observation, reward, terminal, _ = env.step(action)
        reward = np.clip(reward, -1, 1)
        if env.game_over:
          agent.end_episode(reward, terminal)
          action = None
        else:
          action = agent.step(reward, observation)
      return agent_steps

    return work


def _store_many(agent: Any, steps: Iterator[sides.Step], num: int) -> int:
  """Stores steps as a playing agent does; returns their number."""
  for step in itertools.islice(steps, num):
    terminal = bool(step['terminal'][0])
    agent._store_transition(
        step['observation'][0, -1],
        int(step['action'][0]),
        float(np.clip(step['reward'][0], -1.0, 1.0)),
        terminal,
        episode_end=terminal or bool(step['truncated'][0]),
    )
  return num
