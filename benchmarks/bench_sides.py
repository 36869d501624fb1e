"""The two sides of benchmark_peers.py: this package and Dopamine 4.1.2.

A side has tasks: functions that build a work of `bench_lib`. Tasks of one name
are the same job on both sides, on the same Pong steps. Dopamine is imported
when its side is built. Not here: processes, repetition, output.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional

import bench_lib
from bench_lib import Work
import bench_work
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.dopamine_bridge import compat
from reincarnating_rl.envs.registry import make_factory

Builder = Callable[[], Work]
Step = dict[str, np.ndarray]


class Sizes(NamedTuple):
  """How much one work does; equal on both sides."""

  rows: int = 100_000  # transitions in the replay
  dqn_rows: int = 20_000  # in Dopamine's replay of DQN
  unique_rows: int = 5_000  # agent steps that are played to fill them
  updates: int = 32
  adds: int = 400  # transitions
  samples: int = 50  # batches
  online_steps: int = 128  # agent steps
  online_rows: int = 20_000
  evaluation_steps: int = 8_000  # agent steps


QUICK_SIZES = Sizes(600, 300, 200, 2, 8, 2, 16, 500, 16)


@functools.cache
def pong_steps(num: int) -> Step:
  """Agent steps of a random player, as one stream whose end is cut.

  Args:
    num: N, agent steps.

  Returns:
    'frame' [N, 84, 84], the newest one; 'action', 'reward', 'first',
    'terminal' and 'truncated' [N].
  """
  env = make_factory(bench_work.GAME)(1, 0)
  rng = np.random.default_rng(0)
  observation, first, steps = env.reset(), np.ones(1, np.bool_), []
  for _ in range(num):
    action = rng.integers(0, env.num_actions, 1)
    step = env.step(action)
    ends = (step.terminal, step.truncated)
    # A copy: a view would keep the whole stack in memory.
    frame = observation[:, -1].copy()
    steps.append((frame, action, step.reward, first) + ends)
    observation, first = step.observation, ends[0] | ends[1]
  names = ('frame', 'action', 'reward', 'first', 'terminal', 'truncated')
  out = {k: np.concatenate(x) for k, x in zip(names, zip(*steps))}
  out['truncated'][-1] = not out['terminal'][-1]
  return out


def endless_steps(num: int) -> Iterator[Step]:
  """Those steps one by one, over and over, as `ReplayWriter.append` has them.

  The observation repeats its newest frame: no other is stored.
  """
  steps = pong_steps(num)
  shape = (1, bench_work.STACK_SIZE) + bench_work.FRAME_SHAPE
  for i in itertools.cycle(range(num)):
    step = {k: v[i : i + 1] for k, v in steps.items()}
    yield {'observation': np.broadcast_to(step.pop('frame'), shape)} | step


def start_work(side: str) -> Work:
  """Seconds that `bench_start.py` takes, in a process of its own."""
  script = os.path.join(os.path.dirname(__file__), 'bench_start.py')

  def work() -> float:
    start = time.perf_counter()
    command = [sys.executable, os.path.abspath(script), side]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - start

  return work


class Ours:
  """This package; every update distills from stored Q-values."""

  packages = ()

  def __init__(self, sizes: Sizes):
    self._sizes = sizes
    self._spec = bench_work.student_spec(sizes.rows)

  def tasks(self) -> dict[str, Builder]:
    """Name -> builder."""
    constant = bench_work.constant_work
    tasks: dict[str, Builder] = {
        'resident_total': lambda: constant(self._filled[1].total),
        'replay_growth': lambda: constant(self._filled[1].growth),
        'add': self._add,
        'sample': self._sample,
        'start': lambda: start_work('ours'),
    }
    for net in ('c51', 'dqn'):
      tasks[f'updates_{net}'] = functools.partial(self._updates, net)
      tasks[f'fixed_batch_{net}'] = functools.partial(self._fixed_batch, net)
    for n, name in ((1, '1_env'), (8, '8_envs')):
      tasks[f'evaluate_{name}'] = functools.partial(self._evaluate, n)
      tasks[f'online_{name}'] = functools.partial(self._online, n, False)
      tasks[f'online_{name}_distilling'] = functools.partial(
          self._online, n, True
      )
    return tasks

  @functools.cached_property
  def _filled(self):
    """The replay, filled by the loop's writer, and what it weighs."""
    sizes = self._sizes
    alive = [bench_work.init_state(self._learner('c51'))]
    steps = endless_steps(sizes.unique_rows)
    first = next(steps)
    before = bench_lib.resident_mebibytes()
    writer = bench_work.ReplayWriter(self._spec, chunk=bench_work.UPDATE_PERIOD)
    steps = itertools.chain([first], steps)
    bench_work.add_work(writer, steps, sizes.rows)()
    alive.append(jnp.zeros((sizes.rows, bench_work.NUM_ACTIONS)))
    return writer, bench_work.footprint(before)

  @functools.cached_property
  def _replay(self):
    """Spec and state of a full replay with the teacher's Q-values."""
    spec = bench_work.taught_spec(self._sizes.rows)
    return spec, bench_work.filled_replay(spec)

  def _learner(self, net: str, distill: bool = True):
    return bench_work.make_learner(f'nature_{net}', distill)

  def _add(self) -> Work:
    steps = endless_steps(self._sizes.unique_rows)
    return bench_work.add_work(self._filled[0], steps, self._sizes.adds)

  def _sample(self) -> Work:
    return bench_work.sample_work(
        self._spec, self._filled[0], self._sizes.samples
    )

  def _updates(self, net: str) -> Work:
    return bench_work.update_work(
        self._learner(net),
        *self._replay,
        prioritized=net == 'c51',
        updates=self._sizes.updates,
        per_call=self._sizes.updates,
    )

  def _fixed_batch(self, net: str) -> Work:
    return bench_work.fixed_batch_work(
        self._learner(net), *self._replay, self._sizes.updates
    )

  def _evaluate(self, num_envs: int) -> Work:
    return bench_work.evaluation_work(
        self._learner('c51'), num_envs, self._sizes.evaluation_steps
    )

  def _online(self, num_envs: int, distill: bool) -> Work:
    return bench_work.online_work(
        self._learner('c51', distill),
        num_envs,
        prioritized=True,
        teacher=self._learner('dqn') if distill else None,
        capacity=self._sizes.online_rows,
        agent_steps=self._sizes.online_steps,
    )


class Dopamine:
  """JaxFullRainbowAgent and JaxDQNAgent, as Dopamine's runner drives them."""

  packages = ('dopamine-rl', 'tensorflow')

  def __init__(self, sizes: Sizes):
    """Imports Dopamine.

    Raises:
      ImportError: where that fails.
    """
    # As whoever uses Dopamine alone has it; it runs without, too.
    with contextlib.suppress(ImportError):
      import tensorflow as _  # noqa: F401
    try:
      compat.prepare_dopamine()
      from dopamine.discrete_domains import atari_lib
      from dopamine.jax.agents.dqn import dqn_agent
      from dopamine.jax.agents.full_rainbow import full_rainbow_agent
      import gin
    except ImportError as error:
      raise ImportError(
          f'{sys.executable} cannot import Dopamine ({error}); '
          'dopamine-rl 4.1.2 must be installed beside this package'
      ) from error

    self._sizes = sizes
    self._atari_lib = atari_lib
    self._dqn = dqn_agent
    self._rainbow = full_rainbow_agent
    self._gin = gin

  def tasks(self) -> dict[str, Builder]:
    """Name -> builder."""
    constant = bench_work.constant_work
    tasks: dict[str, Builder] = {
        'resident_total': lambda: constant(self._filled[1].total),
        'replay_growth': lambda: constant(self._filled[1].growth),
        'add': self._add,
        'sample': self._sample,
        'evaluate': self._evaluate,
        'online': self._online,
        'updates_c51_asking': self._updates_asking,
        'start': lambda: start_work('dopamine'),
    }
    for net in ('c51', 'dqn'):
      tasks[f'updates_{net}'] = functools.partial(self._updates, net)
      tasks[f'fixed_batch_{net}'] = functools.partial(self._fixed_batch, net)
    return tasks

  def _agent(self, net: str, capacity: int) -> Any:
    """An agent with an empty replay."""
    replay = 'dopamine.jax.replay_memory'
    bindings = {
        f'{replay}.replay_buffer.ReplayBuffer.max_capacity': capacity,
        f'{replay}.replay_buffer.ReplayBuffer.batch_size': (
            bench_work.BATCH_SIZE
        ),
        f'{replay}.samplers.PrioritizedSamplingDistribution.max_capacity': (
            capacity
        ),
        'JaxDQNAgent.update_horizon': bench_work.UPDATE_HORIZON,
        'JaxDQNAgent.update_period': bench_work.UPDATE_PERIOD,
        'JaxDQNAgent.min_replay_history': bench_work.BATCH_SIZE,
    }
    for name, value in bindings.items():
      self._gin.bind_parameter(name, value)
    if net == 'dqn':
      return self._dqn.JaxDQNAgent(
          bench_work.NUM_ACTIONS, loss_type='huber', seed=0
      )
    return self._rainbow.JaxFullRainbowAgent(
        bench_work.NUM_ACTIONS,
        noisy=False,
        dueling=False,
        double_dqn=False,
        seed=0,
    )

  @functools.cached_property
  def _filled(self):
    """A Rainbow agent with a full replay, and what the replay weighs."""
    sizes = self._sizes
    agent = self._agent('c51', sizes.rows)
    steps = endless_steps(sizes.unique_rows)
    first = next(steps)
    before = bench_lib.resident_mebibytes()
    _store_many(agent, itertools.chain([first], steps), sizes.rows)
    return agent, bench_work.footprint(before)

  @functools.cached_property
  def _filled_dqn(self):
    """A DQN agent with a replay."""
    agent = self._agent('dqn', self._sizes.dqn_rows)
    steps = endless_steps(self._sizes.unique_rows)
    _store_many(agent, steps, self._sizes.dqn_rows)
    return agent

  def _trained(self, net: str) -> Any:
    return self._filled_dqn if net == 'dqn' else self._filled[0]

  def _add(self) -> Work:
    agent = self._filled[0]
    steps = endless_steps(self._sizes.unique_rows)
    return lambda: _store_many(agent, steps, self._sizes.adds)

  def _sample(self) -> Work:
    replay = self._filled[0]._replay

    def work() -> int:
      for _ in range(self._sizes.samples):
        replay.sample(with_sample_metadata=True)
      return self._sizes.samples

    return work

  def _updates(self, net: str) -> Work:
    """Its training step, made at every call: samples, trains, priorities."""
    agent = self._trained(net)
    agent.update_period = 1

    def work() -> int:
      for _ in range(self._sizes.updates):
        agent._train_step()
      jax.block_until_ready(agent.online_params)
      return self._sizes.updates

    return work

  def _updates_asking(self) -> Work:
    """As `_updates`, and a teacher is asked about every batch.

    So the earlier release of this package distilled, on Dopamine's agent.
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

    def work() -> int:
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
    if net == 'dqn':
      train, more = self._dqn.train, (agent.cumulative_gamma, 'huber')
    else:
      train = self._rainbow.train
      weights = jnp.ones(bench_work.BATCH_SIZE)
      flags = (agent.cumulative_gamma, False, True, False)
      more = (weights, agent._support) + flags + (agent._rng,)
    alive = [agent.optimizer_state, agent.online_params]

    def work() -> int:
      for _ in range(self._sizes.updates):
        alive[:] = train(
            agent.network_def,
            alive[1],
            agent.target_network_params,
            agent.optimizer,
            alive[0],
            *batch,
            *more,
        )[:2]
      jax.block_until_ready(alive)
      return self._sizes.updates

    return work

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
    """What the runner's loop does, for a number of agent steps."""
    env = self._atari_lib.create_atari_environment(bench_work.GAME)
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


def _store_many(agent: Any, steps: Iterator[Step], num: int) -> int:
  """Stores steps as the agent does when it plays; returns their number."""
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


SIDES = {'ours': Ours, 'dopamine': Dopamine}
