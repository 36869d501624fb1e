"""The work of this package that the benchmarks measure.

Every function here builds one work of `bench_lib`: a function that does some
units, waits for them and returns their number. Layers 0 to 4 only. Not here:
repetition, comparison, output.
"""

from __future__ import annotations

from fractions import Fraction
import functools
from typing import Any, Iterator, NamedTuple, Optional

import bench_lib
from bench_lib import Work
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.base import scores
from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.envs.base import VectorStep
from reincarnating_rl.envs.registry import make_factory
from reincarnating_rl.learner import adam_direction
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import LearnerState
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import Sampler
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.acting.evaluation import evaluate
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.frame_replay import ReplaySpec

GAME = 'Pong'
NUM_ACTIONS = 6  # of Pong
BATCH_SIZE = 32
UPDATE_HORIZON = 3
EPISODE_ROWS = 1000  # agent steps of the episodes in made-up data
UPDATE_PERIOD = 4
FRAME_SHAPE = (84, 84)
STACK_SIZE = 4

# Name -> (encoder, distributional, type of the arithmetic).
NETWORKS = {
    'nature_dqn': ('nature', False, jnp.float32),
    'nature_c51': ('nature', True, jnp.float32),
    'impala_c51': ('impala', True, jnp.float32),
    'nature_c51_bf16': ('nature', True, jnp.bfloat16),
    'impala_c51_bf16': ('impala', True, jnp.bfloat16),
}


@functools.cache
def make_learner(name: str, distill: bool) -> ValueLearner:
  """One of NETWORKS with its objective; equal calls share compiled code."""
  encoder, distributional, dtype = NETWORKS[name]
  network = networks.make_network(
      NUM_ACTIONS,
      encoder,
      num_atoms=networks.DEFAULT_NUM_ATOMS if distributional else 1,
      distributional=distributional,
      dtype=dtype,
  )
  objective = Objective(
      'categorical' if distributional else 'huber',
      distill='policy' if distill else 'none',
  )
  return ValueLearner(network, objective, adam_direction())


@functools.cache
def _init_params(learner: ValueLearner) -> Any:
  """Random weights; kept, because making them compiles for seconds."""
  return learner.init(jax.random.PRNGKey(0)).online_params


def init_state(learner: ValueLearner) -> LearnerState:
  """A fresh learner state, distillation at full weight."""
  return learner.from_params(
      jax.random.PRNGKey(0),
      _init_params(learner),
      Coefficients(lambda_=1.0, temperature=0.1),
  )


def init_policy(learner: ValueLearner) -> Policy:
  """The learner's network with random weights."""
  return value_policy(learner.network, _init_params(learner))


def student_spec(capacity: int, num_streams: int = 1) -> ReplaySpec:
  """A student's replay of Atari frames, without a teacher's Q-values."""
  return ReplaySpec(capacity, num_streams, UPDATE_HORIZON)


def taught_spec(capacity: int) -> ReplaySpec:
  """As `student_spec`, with the teacher's Q-values."""
  return student_spec(capacity).with_q_teacher(NUM_ACTIONS)


def filled_replay(spec: ReplaySpec) -> frame_replay.ReplayState:
  """A full replay of noise, with the teacher's Q-values if the spec has them.

  Only the shape of the observations and the extras may differ from Atari's.
  """
  rng = np.random.default_rng(0)
  rows = spec.capacity
  noise = rng.integers(0, 256, (256,) + FRAME_SHAPE, np.uint8)
  flags = np.zeros(rows, np.uint8)
  flags[::EPISODE_ROWS] = frame_replay.FIRST
  flags[EPISODE_ROWS - 1 :: EPISODE_ROWS] = frame_replay.TERMINAL
  extras = {
      name: jnp.asarray(rng.normal(size=(rows,) + array.shape), array.dtype)
      for name, array in spec.extras
  }
  storage = frame_replay.Storage(
      observation=_repeat_frames(jnp.asarray(noise), rows),
      action=jnp.asarray(rng.integers(0, NUM_ACTIONS, rows, np.uint8)),
      reward=jnp.asarray(rng.integers(-1, 2, rows).astype(np.float32)),
      flags=jnp.asarray(flags),
      extras=extras,
  )
  eligible = frame_replay.eligible_rows(spec, storage.flags)
  tree = sum_tree.from_leaves(eligible.astype(jnp.float32))
  priorities = frame_replay.Priorities(tree, jnp.float32(1.0))
  state = frame_replay.ReplayState(storage, priorities, jnp.int32(spec.slots))
  return jax.block_until_ready(state)


@functools.partial(jax.jit, static_argnums=1)
def _repeat_frames(frames: jax.Array, rows: int) -> jax.Array:
  return frames[jnp.arange(rows) % frames.shape[0]]


# -- learning -----------------------------------------------------------------


def update_work(
    learner: ValueLearner,
    spec: ReplaySpec,
    replay: frame_replay.ReplayState,
    *,
    prioritized: bool,
    updates: int,
    per_call: int,
    wait_each: bool = False,
) -> Work:
  """Updates from replay: sampling, gradients, priorities.

  Args:
    learner: whose updates.
    spec: of the replay.
    replay: only read; its priorities are copied.
    prioritized: whether priorities are written back.
    updates: units of the work.
    per_call: K of `update_many`.
    wait_each: wait for every call, instead of for the last one.
  """
  scan = jax.default_backend() != 'cpu'
  update_many = make_updater(
      Sampler(learner, spec, BATCH_SIZE, prioritized), scan=scan
  )
  alive = [init_state(learner), jax.tree.map(jnp.copy, replay.priorities)]

  def work() -> int:
    for _ in range(updates // per_call):
      state, priorities, metrics = update_many(
          alive[0], replay.storage, alive[1], per_call
      )
      alive[:] = state, priorities
      if wait_each:
        jax.block_until_ready((state, metrics))
    jax.block_until_ready(alive)
    return updates // per_call * per_call

  return work


def fixed_batch_work(
    learner: ValueLearner,
    spec: ReplaySpec,
    replay: frame_replay.ReplayState,
    updates: int,
) -> Work:
  """Updates on one batch: what the gradients cost without the replay."""
  batch, _ = frame_replay.sample(
      spec,
      replay.storage,
      replay.priorities,
      jax.random.PRNGKey(0),
      BATCH_SIZE,
  )
  update = jax.jit(learner.update, donate_argnums=0)
  alive = [init_state(learner)]

  def work() -> int:
    for _ in range(updates):
      alive[0], _ = update(alive[0], batch)
    jax.block_until_ready(alive)
    return updates

  return work


# -- playing ------------------------------------------------------------------


def act_work(learner: ValueLearner, num_states: int, calls: int) -> Work:
  """Choosing actions for some states at a time, one call after the other."""
  policy = init_policy(learner)
  rng = np.random.default_rng(0)
  observation = rng.integers(
      0, 256, (num_states, STACK_SIZE) + FRAME_SHAPE, np.uint8
  )
  first = np.zeros(num_states, np.bool_)
  epsilon = np.float32(0.001)
  alive = [jax.random.PRNGKey(1)]

  def work() -> int:
    for _ in range(calls):
      actions, _, alive[0] = act(
          *policy, observation, first, (), epsilon, alive[0]
      )
      np.asarray(actions)
    return calls * num_states

  return work


class _CutEnv:
  """Lets `evaluate` end after a fixed number of steps, and go on later."""

  def __init__(self, env: VectorEnv, steps: int):
    self._env = env
    self._steps = steps
    self._taken = 0
    self.num_envs = env.num_envs
    self.num_actions = env.num_actions
    self.observation = env.reset()

  def step(self, actions: np.ndarray) -> VectorStep:
    step = self._env.step(actions)
    self.observation = step.observation
    self._taken += 1
    if self._taken % self._steps == 0:
      step = step._replace(truncated=np.ones(self.num_envs, np.bool_))
    return step


def evaluation_work(
    learner: ValueLearner, num_envs: int, agent_steps: int
) -> Work:
  """The evaluation of a random network, resets of finished games included.

  Args:
    learner: whose network.
    num_envs: E.
    agent_steps: units of the work, a multiple of E.
  """
  policy = init_policy(learner)
  env = _CutEnv(make_factory(GAME)(num_envs, 0, (0,)), agent_steps // num_envs)
  key = jax.random.PRNGKey(2)

  def work() -> int:
    taken = []
    evaluate(
        policy, env, env.observation, agent_steps, 0.001, key, taken.append
    )
    return sum(taken)

  return work


class _InstantEnv:
  """Ends every episode at once: an evaluation that costs nothing."""

  def __init__(self, num_envs: int):
    self.num_envs = num_envs
    self.num_actions = NUM_ACTIONS
    self._observation = np.zeros((num_envs, STACK_SIZE) + FRAME_SHAPE, np.uint8)

  def start_stream(self, stream: tuple[int, ...]) -> np.ndarray:
    del stream
    return self._observation

  def reset(self) -> np.ndarray:
    return self._observation

  def step(self, actions: np.ndarray) -> VectorStep:
    del actions
    ended = np.ones(self.num_envs, np.bool_)
    reward = np.zeros(self.num_envs, np.float32)
    return VectorStep(self._observation, reward, ~ended, ended)


def online_work(
    learner: ValueLearner,
    num_envs: int,
    *,
    prioritized: bool,
    teacher: Optional[ValueLearner],
    capacity: int,
    agent_steps: int,
    overlap: bool = False,
) -> Work:
  """Online training through the real loop, an update every fourth step.

  All that the benchmarks know of `reincarnating_rl.loop.run.run` stands here.

  Args:
    learner: who learns.
    num_envs: E.
    prioritized: whether sampling follows priorities.
    teacher: whose Q-values are stored beside each step, or None.
    capacity: agent steps that the replay keeps.
    agent_steps: units of the work, a multiple of E.
    overlap: whether updates are made while the environments play.
  """
  from reincarnating_rl.loop.config.plan import RunConfig
  from reincarnating_rl.loop.run import run as run_lib
  from reincarnating_rl.loop.run.rollouts import ONLINE_STREAM

  config = RunConfig(
      game=GAME,
      num_iterations=1_000_000,
      training_steps=agent_steps,
      evaluation_steps=1,
      num_envs=num_envs,
      num_eval_envs=1,
      update_horizon=UPDATE_HORIZON,
      replay_capacity=capacity,
      min_replay_history=2 * UPDATE_HORIZON * num_envs,
      replay_ratio=Fraction(1, UPDATE_PERIOD),
      prioritized=prioritized,
      overlap=overlap,
  )

  def make_env(num: int, seed: int, stream: tuple[int, ...]):
    if stream == (ONLINE_STREAM,):
      return make_factory(GAME)(num, seed, stream)
    return _InstantEnv(num)

  random_score = scores.random_score(GAME)
  if teacher is not None:
    # Far from the 0 of the instant evaluation: lambda stays positive.
    teacher = run_lib.Teacher(init_policy(teacher), score=-random_score)
  run = run_lib.Run(config, learner, make_env, random_score, teacher=teacher)
  phases = iter(run.plan)

  def work() -> int:
    run.run_phase(next(phases))
    return agent_steps

  # The first updates compile.
  while run.run_phase(next(phases)).updates < 2:
    pass
  return work


# -- replay -------------------------------------------------------------------


def noise_steps(num_envs: int) -> Iterator[dict[str, np.ndarray]]:
  """Endless steps of E environments, as `ReplayWriter.append` takes them."""
  rng = np.random.default_rng(0)
  no = np.zeros(num_envs, np.bool_)
  shape = (num_envs, STACK_SIZE) + FRAME_SHAPE
  frames = [rng.integers(0, 256, shape, np.uint8) for _ in range(64)]
  while True:
    for observation in frames:
      yield dict(
          observation=observation,
          action=np.zeros(num_envs, np.int32),
          reward=np.zeros(num_envs, np.float32),
          first=no,
          terminal=no,
          truncated=no,
      )


def add_work(
    writer: ReplayWriter, steps: Iterator[dict[str, np.ndarray]], amount: int
) -> Work:
  """Appending steps; a unit is one agent step of one environment.

  Args:
    writer: of the replay, chunked as the loop chunks it.
    steps: endless.
    amount: appends of one work.
  """

  def work() -> int:
    rows = 0
    for _ in range(amount):
      step = next(steps)
      writer.append(**step)
      rows += len(step['action'])
    writer.flush()
    jax.block_until_ready(writer.state)
    return rows

  return work


def sample_work(spec: ReplaySpec, writer: ReplayWriter, samples: int) -> Work:
  """Sampling batches one after the other; a unit is one batch."""

  @jax.jit
  def sample(storage, priorities, key):
    key, sample_key = jax.random.split(key)
    batch, _ = frame_replay.sample(
        spec, storage, priorities, sample_key, BATCH_SIZE
    )
    return batch, key

  alive = [jax.random.PRNGKey(3)]

  def work() -> int:
    for _ in range(samples):
      batch, alive[0] = sample(
          writer.state.storage, writer.state.priorities, alive[0]
      )
      jax.block_until_ready(batch)
    return samples

  return work


# -- memory -------------------------------------------------------------------


class Footprint(NamedTuple):
  """Mebibytes."""

  total: float  # resident, of the whole process
  growth: float  # resident, by filling the replay
  device: Optional[float]  # in use on an accelerator; None on a CPU


def constant_work(value: float) -> Work:
  """A work for what is measured once, while it is built."""
  return lambda: value


def footprint(before: float) -> Footprint:
  """What is used now, given the resident mebibytes before the replay."""
  total = bench_lib.resident_mebibytes()
  stats = jax.devices()[0].memory_stats() or {}
  used = stats.get('bytes_in_use')
  on_cpu = jax.default_backend() == 'cpu'
  device = None if on_cpu or used is None else used / 2**20
  return Footprint(total, total - before, device)
