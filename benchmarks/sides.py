"""The two sides of benchmark_peers.py, and what they share.

A side has tasks: functions that each build a work of the harness. Tasks with
one name are the same job on both sides, on the same steps of Pong. Here are
the shared tasks and those of this package; dopamine_side.py has Dopamine's.
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, NamedTuple

import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks import workloads
from benchmarks.harness import Builder
from benchmarks.harness import Work
from reincarnating_rl.envs.registry import make_factory

Step = dict[str, np.ndarray]


class Sizes(NamedTuple):
  """Amount of one work; equal on both sides."""

  rows: int = 100_000  # transitions in the replay
  dqn_rows: int = 20_000  # transitions in Dopamine's replay of DQN
  unique_rows: int = 5_000  # agent steps that are played to fill them
  updates: int = 32
  adds: int = 400  # transitions
  samples: int = 50  # batches
  online_steps: int = 128  # agent steps
  online_rows: int = 20_000
  evaluation_steps: int = 8_000  # agent steps


QUICK_SIZES = Sizes(600, 300, 200, 2, 8, 2, 16, 500, 16)


def make(side: str, sizes: Sizes) -> Side:
  """Builds 'ours' or 'dopamine'."""
  if side == 'ours':
    return Ours(sizes)
  from benchmarks import dopamine_side

  return dopamine_side.Dopamine(sizes)


@functools.cache
def pong_steps(num: int) -> Step:
  """Agent steps of a random player; the stream is cut at its end.

  Args:
    num: N, agent steps.

  Returns:
    'frame' [N, 84, 84], the newest one; 'action', 'reward', 'first',
    'terminal' and 'truncated' [N].
  """
  env = make_factory(workloads.GAME)(1, 0)
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
  """The same steps one by one, repeated, as `ReplayWriter.append` takes them.

  The observation repeats its newest frame, the only one that is stored. The
  game is played before the first step is asked for.
  """
  steps = pong_steps(num)
  shape = (1, workloads.STACK_SIZE) + workloads.FRAME_SHAPE

  def generate() -> Iterator[Step]:
    for i in itertools.cycle(range(num)):
      step = {k: v[i : i + 1] for k, v in steps.items()}
      yield {'observation': np.broadcast_to(step.pop('frame'), shape)} | step

  return generate()


class Side:
  """Tasks that both sides have; each side says how they are done.

  Attributes:
    name: name of the side.
    packages: packages whose versions are reported.
  """

  name: str
  packages: tuple[str, ...] = ()
  # (network, capacity) -> agent with an empty replay, or a learner state
  _agent: Callable[[str, int], Any]
  # (agent, steps, rows) -> owner of the filled replay
  _fill: Callable[[Any, Iterator[Step], int], Any]
  _add: Builder
  _sample: Builder
  _updates: Callable[[str], Work]  # by network
  _fixed_batch: Callable[[str], Work]  # by network

  def __init__(self, sizes: Sizes):
    self._sizes = sizes

  def tasks(self) -> dict[str, Builder]:
    """Builders by name."""
    constant = workloads.constant_work
    tasks: dict[str, Builder] = {
        'resident_total': lambda: constant(self._filled[1]['resident_total']),
        'replay_growth': lambda: constant(self._filled[1]['resident_growth']),
        'add': self._add,
        'sample': self._sample,
        'start': self._start,
    }
    for net in ('c51', 'dqn'):
      tasks[f'updates_{net}'] = functools.partial(self._updates, net)
      tasks[f'fixed_batch_{net}'] = functools.partial(self._fixed_batch, net)
    return tasks

  @functools.cached_property
  def _filled(self) -> tuple[Any, dict[str, float]]:
    """Owner of a full replay, and the memory of the replay."""
    steps = endless_steps(self._sizes.unique_rows)
    agent = self._agent('c51', self._sizes.rows)
    before = machine.resident_mebibytes()
    owner = self._fill(agent, steps, self._sizes.rows)
    return owner, workloads.footprint(before)

  def _start(self) -> Work:
    """Seconds of a process that runs first_update.py."""
    command = [sys.executable, '-m', 'benchmarks.first_update', self.name]

    def work() -> float:
      start = time.perf_counter()
      subprocess.run(command, check=True, stdout=sys.stderr)
      return time.perf_counter() - start

    return work


class Ours(Side):
  """This package; every update distills from stored Q-values."""

  name = 'ours'

  def __init__(self, sizes: Sizes):
    super().__init__(sizes)
    self._spec = workloads.student_spec(sizes.rows)
    self._taught = workloads.taught_spec(sizes.rows)
    self._replay = functools.cache(
        lambda: workloads.filled_replay(self._taught)
    )

  def tasks(self) -> dict[str, Builder]:
    tasks = super().tasks()
    for n, name in ((1, '1_env'), (8, '8_envs')):
      tasks[f'evaluate_{name}'] = functools.partial(
          workloads.evaluation_work,
          self._learner('c51'),
          n,
          self._sizes.evaluation_steps,
      )
      for suffix in ('', '_distilling'):
        distill = bool(suffix)
        tasks[f'online_{name}{suffix}'] = functools.partial(
            workloads.online_work,
            self._learner('c51', distill),
            n,
            prioritized=True,
            teacher=self._learner('dqn') if distill else None,
            capacity=self._sizes.online_rows,
            agent_steps=self._sizes.online_steps,
        )
    return tasks

  def _learner(self, net: str, distill: bool = True) -> workloads.ValueLearner:
    return workloads.make_learner(f'nature_{net}', distill)

  def _agent(self, net: str, capacity: int) -> Any:
    return workloads.init_state(self._learner(net))

  def _fill(self, agent: Any, steps: Iterator[Step], rows: int) -> Any:
    """The replay, filled by the loop's writer, with the teacher's Q-values."""
    writer = workloads.ReplayWriter(self._spec, chunk=workloads.UPDATE_PERIOD)
    workloads.add_work(writer, steps, rows)()
    self._q_teacher = jnp.zeros((rows, workloads.NUM_ACTIONS))
    return writer

  def _add(self) -> Work:
    steps = endless_steps(self._sizes.unique_rows)
    return workloads.add_work(self._filled[0], steps, self._sizes.adds)

  def _sample(self) -> Work:
    samples = self._sizes.samples
    return workloads.sample_work(self._spec, self._filled[0], samples)

  def _updates(self, net: str) -> Work:
    return workloads.update_work(
        self._learner(net),
        self._taught,
        self._replay,
        prioritized=net == 'c51',
        updates=self._sizes.updates,
        per_call=self._sizes.updates,
    )

  def _fixed_batch(self, net: str) -> Work:
    return workloads.fixed_batch_work(
        self._learner(net), self._spec, self._replay, self._sizes.updates
    )
