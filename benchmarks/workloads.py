"""Works of this package that the benchmarks measure.

Each function with a name in `_work` builds one work of the harness: a function
that does some units, waits for them and returns their number. Only layers up
to the loop are needed. Repetition and comparison are the harness's.
"""

from __future__ import annotations

from fractions import Fraction
import functools
from typing import Any, Callable, Iterator, Optional

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.harness import Work
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
NUM_ACTIONS = 6  # actions of Pong
BATCH_SIZE = 32
UPDATE_HORIZON = 3
EPISODE_ROWS = 1000  # agent steps of an episode in made-up data
UPDATE_PERIOD = 4
FRAME_SHAPE = (84, 84)
STACK_SIZE = 4

# Name -> (encoder, distributional, dtype of the arithmetic).
NETWORKS = {
    'nature_dqn': ('nature', False, jnp.float32),
    'nature_c51': ('nature', True, jnp.float32),
    'impala_c51': ('impala', True, jnp.float32),
    'nature_c51_bf16': ('nature', True, jnp.bfloat16),
    'impala_c51_bf16': ('impala', True, jnp.bfloat16),
}


@functools.cache
def make_learner(name: str, distill: bool) -> ValueLearner:
  """Learner of one of NETWORKS; equal calls share compiled code."""
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
  """Random weights; cached, since making them compiles for seconds."""
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
  """Layout of a student's replay."""
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


# -- making works -------------------------------------------------------------


def repeated(step: Callable[[], Any], calls: int, units: int = 1) -> Work:
  """A work of many calls that waits for the results of the last one.

  Args:
    step: called without arguments.
    calls: calls of one work.
    units: units of one call.
  """

  def work() -> int:
    for _ in range(calls):
      out = step()
    jax.block_until_ready(out)
    return calls * units

  return work


def carried(step: Callable[[Any], Any], carry: Any) -> Callable[[], Any]:
  """Calls `carry = step(carry)`, and returns the new carry each time.

  Args:
    step: may donate its argument.
    carry: the first one.
  """
  alive = [carry]

  def call() -> Any:
    alive[0] = step(alive[0])
    return alive[0]

  return call


def constant_work(value: float) -> Work:
  """A work for a value that is measured once, when the work is built."""
  return lambda: value


# -- learning -----------------------------------------------------------------


def update_work(
    learner: ValueLearner,
    spec: ReplaySpec,
    make_replay: Callable[[], frame_replay.ReplayState],
    *,
    prioritized: bool,
    updates: int,
    per_call: int,
    wait_each: bool = False,
) -> Work:
  """Updates from replay: sampling, gradients, priorities.

  Args:
    learner: learner that is updated.
    spec: layout of the replay.
    make_replay: its result is only read; its priorities are copied.
    prioritized: True to write priorities back.
    updates: units of the work.
    per_call: K of `update_many`.
    wait_each: True to wait for every call; else the last one is waited for.
  """
  replay = make_replay()
  scan = jax.default_backend() != 'cpu'
  update_many = make_updater(
      Sampler(learner, spec, BATCH_SIZE, prioritized), scan=scan
  )

  def step(carry: Any) -> Any:
    state, priorities = carry
    carry = update_many(state, replay.storage, priorities, per_call)[:2]
    return jax.block_until_ready(carry) if wait_each else carry

  carry = init_state(learner), jax.tree.map(jnp.copy, replay.priorities)
  return repeated(carried(step, carry), updates // per_call, per_call)


def fixed_batch_work(
    learner: ValueLearner,
    spec: ReplaySpec,
    make_replay: Callable[[], frame_replay.ReplayState],
    updates: int,
) -> Work:
  """Updates on one batch: the cost of the gradients without the replay."""
  replay = make_replay()
  batch, _ = frame_replay.sample(
      spec, replay.storage, replay.priorities, jax.random.PRNGKey(0), BATCH_SIZE
  )
  update = jax.jit(learner.update, donate_argnums=0)
  step = carried(lambda state: update(state, batch)[0], init_state(learner))
  return repeated(step, updates)


# -- playing ------------------------------------------------------------------


def act_work(learner: ValueLearner, num_states: int, calls: int) -> Work:
  """Choice of actions for some states at a time, one call after the other."""
  policy = init_policy(learner)
  rng = np.random.default_rng(0)
  shape = (num_states, STACK_SIZE) + FRAME_SHAPE
  observation = rng.integers(0, 256, shape, np.uint8)
  first = np.zeros(num_states, np.bool_)
  epsilon = np.float32(0.001)

  def step(key: jax.Array) -> jax.Array:
    actions, _, key = act(*policy, observation, first, (), epsilon, key)
    np.asarray(actions)
    return key

  return repeated(carried(step, jax.random.PRNGKey(1)), calls, num_states)


class _CutEnv:
  """Ends `evaluate` after a fixed number of steps; the games continue."""

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
  """Evaluation of a random network, resets of finished games included.

  Args:
    learner: its network is evaluated.
    num_envs: E.
    agent_steps: units of the work, a multiple of E.
  """
  policy = init_policy(learner)
  games = make_factory(GAME)(num_envs, 0, (0,))
  env: Any = _CutEnv(games, agent_steps // num_envs)
  key = jax.random.PRNGKey(2)

  def work() -> int:
    taken: list[int] = []
    evaluate(
        policy, env, env.observation, agent_steps, 0.001, key, taken.append
    )
    return sum(taken)

  return work


class _InstantEnv:
  """Ends every episode at once: an evaluation without cost."""

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
  """Online training by the real loop, an update at every fourth step.

  Args:
    learner: the student.
    num_envs: E.
    prioritized: True to sample by priorities.
    teacher: its Q-values are stored with each step; None = no teacher.
    capacity: agent steps in the replay.
    agent_steps: units of the work, a multiple of E.
    overlap: True to make updates while the environments play.
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

  def make_env(num: int, seed: int, stream: tuple[int, ...]) -> Any:
    if stream == (ONLINE_STREAM,):
      return make_factory(GAME)(num, seed, stream)
    return _InstantEnv(num)

  random_score = scores.random_score(GAME)
  assert random_score is not None
  given = None
  if teacher is not None:
    # Far from the 0 of the instant evaluation: lambda stays positive.
    given = run_lib.Teacher(init_policy(teacher), score=-random_score)
  run = run_lib.Run(config, learner, make_env, random_score, teacher=given)
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
  """Additions to a replay; a unit is one agent step of one environment.

  Args:
    writer: writer of the replay, in chunks of the loop's size.
    steps: endless.
    amount: calls of `append` in one work.
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
  """Samples of a batch, one after the other; a unit is one batch."""

  @jax.jit
  def sample(storage: Any, priorities: Any, key: jax.Array) -> Any:
    key, sample_key = jax.random.split(key)
    batch, _ = frame_replay.sample(
        spec, storage, priorities, sample_key, BATCH_SIZE
    )
    return batch, key

  def step(carry: Any) -> Any:
    state = writer.state
    return jax.block_until_ready(
        sample(state.storage, state.priorities, carry[1])
    )

  return repeated(carried(step, (None, jax.random.PRNGKey(3))), samples)


# -- memory -------------------------------------------------------------------


def footprint(before: float) -> dict[str, float]:
  """Memory in use now, in mebibytes; `device` only on an accelerator.

  Args:
    before: resident mebibytes before the replay was filled.
  """
  total = machine.resident_mebibytes()
  found = {'resident_total': total, 'resident_growth': total - before}
  if jax.default_backend() != 'cpu':
    stats = jax.devices()[0].memory_stats() or {}
    found['device'] = stats.get('bytes_in_use', 0) / 2**20
  return found
