"""Tests of the probes, and of learning on them.

First that the probes are what they say: values, frames, episodes, seeds. Then
that plain Q-learning, C51, QDagger, rehearsal and JSRL find those values.
Networks and frames are tiny; learners are shared, because compiling takes
longer than learning.
"""

from __future__ import annotations

from fractions import Fraction
import functools
import json
from typing import NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import networks
from reincarnating_rl.envs import probe as probe_lib
from reincarnating_rl.envs.base import episode_seed
from reincarnating_rl.envs.probe import ConstantReward
from reincarnating_rl.envs.probe import ContextualBandit
from reincarnating_rl.envs.probe import DelayedReward
from reincarnating_rl.envs.probe import Gridworld
from reincarnating_rl.envs.probe import ObservedReward
from reincarnating_rl.envs.probe import ProbeVector
from reincarnating_rl.learner import adam_direction
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Learner
from reincarnating_rl.learner import LearnerState
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import sync_target
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.evaluation import evaluate
from reincarnating_rl.loop.guide import GuideConfig
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.run import Run
from reincarnating_rl.loop.run import Teacher
from reincarnating_rl.replay import frame_replay

NUM_ACTIONS = 4
PROBES = (
    ConstantReward(-0.5, NUM_ACTIONS),
    ObservedReward((1.0, -1.0, 0.25), NUM_ACTIONS),
    DelayedReward(4, num_actions=NUM_ACTIONS),
    DelayedReward(4, terminal=False, num_actions=NUM_ACTIONS),
    ContextualBandit(6, NUM_ACTIONS),
    Gridworld(3, 3),
)
TIME_LIMIT = 10  # agent steps; no multiple of a corridor's length
each_probe = pytest.mark.parametrize('probe', PROBES, ids=repr)


def small_vector(probe, num_envs=3, seed=0, **options):
  options = {'frame_shape': (8, 8), 'max_agent_steps': TIME_LIMIT} | options
  return ProbeVector(probe, num_envs, seed, **options)


def play(env, num_steps, seed=0):
  """Random steps, the same for the same seed: [T] lists of each field."""
  rng = np.random.default_rng(seed)
  size = (num_steps, env.num_envs)
  return [env.step(a) for a in rng.integers(env.num_actions, size=size)]


def assert_same_steps(ours, others):
  for one, other in zip(ours, others, strict=True):
    for name, x, y in zip(one._fields, one, other, strict=True):
      np.testing.assert_array_equal(x, y, err_msg=name)


# -- values --------------------------------------------------------------------


@each_probe
@pytest.mark.parametrize('gamma', [0.0, 0.5, 0.99])
def test_optimal_values_solve_the_bellman_equation(probe, gamma):
  q_values = probe.optimal_q_values(gamma)
  assert q_values.dtype == np.float32
  assert q_values.shape == (probe.num_states, probe.num_actions)
  for state in range(probe.num_states):
    for action in range(probe.num_actions):
      outcome = probe.step(state, action)
      value = outcome.reward
      if not outcome.terminal:
        value += gamma * q_values[outcome.state].max()
      assert q_values[state, action] == pytest.approx(value, rel=1e-6)


def test_values_by_hand():
  delayed = DelayedReward(3).optimal_q_values(0.5)
  np.testing.assert_array_equal(delayed[:, 0], [0.25, 0.5, 1.0])
  endless = DelayedReward(1, terminal=False).optimal_q_values(0.5)
  np.testing.assert_array_equal(endless, [[2.0, 2.0]])
  # Cells 0 1 / 2 goal; actions up, right, down, left.
  np.testing.assert_array_equal(
      Gridworld(2, 2).optimal_q_values(0.5),
      [
          [0.25, 0.5, 0.5, 0.25],
          [0.5, 0.5, 1.0, 0.25],
          [0.25, 1.0, 0.5, 0.5],
      ],
  )


def test_a_time_limit_and_a_terminal_mean_different_values():
  ends, returns = (
      DelayedReward(4, terminal).optimal_q_values(0.7)
      for terminal in (True, False)
  )
  assert (returns > 1.3 * ends).all()


# -- frames and episodes -------------------------------------------------------


@pytest.mark.parametrize('frame_shape', [(8, 8), (84, 84), (3, 7)])
def test_every_state_has_a_frame_of_its_own(frame_shape):
  frames = probe_lib.draw_states(8, frame_shape)
  assert frames.shape == (8,) + frame_shape and frames.dtype == np.uint8
  assert set(np.unique(frames)) == {0, probe_lib.WHITE}
  # Disjoint blocks of one size.
  assert ((frames > 0).sum(axis=0) <= 1).all()
  assert len(np.unique((frames > 0).sum(axis=(1, 2)))) == 1


def test_frames_too_small_for_the_states_are_refused():
  with pytest.raises(ValueError, match=r'\(2, 8\) have no room for 9 states'):
    ProbeVector(DelayedReward(9), 1, 0, frame_shape=(2, 8))


@pytest.mark.parametrize('stack_size', [1, 4])
def test_stacks_begin_with_zeros_and_end_with_the_state(stack_size):
  probe = DelayedReward(5)
  frames = probe_lib.draw_states(5, (84, 84))
  env = ProbeVector(probe, 2, 0, stack_size=stack_size)
  observation = env.reset()
  for state in range(5):
    np.testing.assert_array_equal(env.states, [state, state])
    seen = [np.zeros_like(frames[0])] * stack_size + list(frames[: state + 1])
    expected = np.stack(seen[-stack_size:])
    np.testing.assert_array_equal(observation, [expected, expected])
    step = env.step(np.zeros(2, np.int32))
    observation = step.observation
  assert step.terminal.all() and not step.truncated.any()
  np.testing.assert_array_equal(step.reward, np.ones(2, np.float32))
  np.testing.assert_array_equal(observation, env.restore(env.snapshot()))
  np.testing.assert_array_equal(observation[:, -1], frames[[0, 0]])
  assert not observation[:, :-1].any()


def test_a_time_limit_truncates_unless_the_episode_ended_by_itself():
  neither, terminal, truncated = (False, False), (True, False), (False, True)
  ends_of = {
      2: [neither, truncated, neither, truncated],
      3: [neither, neither, terminal, neither],
      4: [neither, neither, terminal, neither],
  }
  for limit, ends in ends_of.items():
    env = reset(small_vector(DelayedReward(3), max_agent_steps=limit))
    steps = play(env, 4)
    assert ends == [(s.terminal[0], s.truncated[0]) for s in steps]


def reset(env):
  env.reset()
  return env


def test_without_a_limit_an_episode_goes_on():
  env = reset(small_vector(Gridworld(), max_agent_steps=None))
  for _ in range(100):
    step = env.step(np.zeros(3, np.int32))  # Up, to the wall.
    assert not step.terminal.any() and not step.truncated.any()


@each_probe
def test_returned_arrays_are_not_written_to_later(probe):
  env = small_vector(probe)
  first = env.reset()
  steps = play(env, 1)
  kept = first.copy(), steps[0].observation.copy()
  play(env, 25)
  np.testing.assert_array_equal(first, kept[0])
  np.testing.assert_array_equal(steps[0].observation, kept[1])


# -- seeds and snapshots -------------------------------------------------------


def starts(env, num_episodes):
  """[episodes, E] the states in which each episode begins."""
  env.reset()
  states = [env.states]
  for _ in range(num_episodes - 1):
    env.step(np.zeros(env.num_envs, np.int32))
    states.append(env.states)
  return np.stack(states)


def test_episodes_are_seeded_by_rule():
  bandit = ContextualBandit(1000)
  vector = functools.partial(ProbeVector, bandit, frame_shape=(32, 32))
  drawn = starts(vector(3, 7, (2, 1)), 5)
  expected = [
      [
          bandit.start(np.random.default_rng(episode_seed(7, (2, 1, e), k)))
          for e in range(3)
      ]
      for k in range(5)
  ]
  np.testing.assert_array_equal(drawn, expected)
  assert len(np.unique(drawn)) == drawn.size
  assert not (drawn == starts(vector(3, 8, (2, 1)), 5)).any()
  assert not (drawn == starts(vector(3, 7, (2, 2)), 5)).any()
  np.testing.assert_array_equal(drawn[:, :1], starts(vector(1, 7, (2, 1)), 5))


def test_episode_seeds_are_positive_and_do_not_collide():
  seeds = [
      episode_seed(run, (purpose, env), episode)
      for run in range(4)
      for purpose in range(4)
      for env in range(4)
      for episode in range(16)
  ]
  assert len(set(seeds)) == len(seeds)
  assert min(seeds) >= 0 and max(seeds) < 2**31
  # Never to change: saved runs are played again by these.
  assert episode_seed(0, (), 0) == 821328062
  assert episode_seed(1, (3, 0), 2) == 1693359967


@each_probe
def test_a_used_environment_starts_a_stream_like_a_fresh_one(probe):
  used, fresh = small_vector(probe), small_vector(probe, stream=(4,))
  used.reset()
  play(used, 17, seed=1)
  np.testing.assert_array_equal(used.start_stream((4,)), fresh.reset())
  assert_same_steps(play(used, 30), play(fresh, 30))


@each_probe
@pytest.mark.parametrize('num_steps', [0, 1, 13])
def test_restored_goes_on_as_if_never_stopped(probe, num_steps):
  env = small_vector(probe, stream=(1, 2))
  env.reset()
  play(env, num_steps, seed=1)
  snapshot = json.loads(json.dumps(env.snapshot()))
  now = env.states
  other = small_vector(probe)
  observation = other.restore(snapshot)
  np.testing.assert_array_equal(other.states, now)
  assert other.snapshot() == snapshot
  np.testing.assert_array_equal(observation, env.restore(snapshot))
  assert_same_steps(play(env, 40), play(other, 40))


def test_a_snapshot_of_another_size_is_refused():
  snapshot = reset(small_vector(Gridworld(), num_envs=2)).snapshot()
  with pytest.raises(ValueError, match='holds 2 environments, this run has 3'):
    small_vector(Gridworld()).restore(snapshot)


# -- learning ------------------------------------------------------------------

FRAME_SHAPE = (8, 8)
STACK_SIZE = 2
NUM_ENVS = 4
CAPACITY = 512  # agent steps
CHUNK = 16  # agent steps
BATCH_SIZE = 32
GAMMA = 0.7
V_MAX = 2.0
NUM_ATOMS = 51
SYNC_PERIOD = 25  # updates
NUM_UPDATES = 1500
LEARNING_RATE = 3e-3
TEMPERATURE = 0.1
TOLERANCE = 0.05
REHEARSED = 0.25  # share of samples from the teacher's data
ADAM = adam_direction()


class Data(NamedTuple):
  """What random behaviour left behind."""

  spec: frame_replay.ReplaySpec
  replay: frame_replay.ReplayState
  stacks: jax.Array  # [R, H, W, C] uint8, every state seen, as seen
  states: np.ndarray  # [R] int64, their numbers


def collect(probe, update_horizon=1, q_teacher=None, num_tried=NUM_ACTIONS):
  """Fills a replay with random steps, the teacher's values beside them.

  Args:
    probe: what is played.
    update_horizon: n.
    q_teacher: [S, A] the teacher's values, if they are to be kept.
    num_tried: how many of the actions are ever taken, from the first on.
  """
  env = small_vector(
      probe, NUM_ENVS, frame_shape=FRAME_SHAPE, stack_size=STACK_SIZE
  )
  spec = frame_replay.ReplaySpec(
      CAPACITY, NUM_ENVS, update_horizon, GAMMA, STACK_SIZE, FRAME_SHAPE
  )
  replay = frame_replay.init(spec, None if q_teacher is None else NUM_ACTIONS)
  rng = np.random.default_rng(0)
  observation, first = env.reset(), np.ones(NUM_ENVS, np.bool_)
  stacks, states, rows = [], [], []
  for _ in range(spec.slots):
    stacks.append(observation)
    states.append(env.states)
    actions = rng.integers(num_tried, size=NUM_ENVS)
    step = env.step(actions)
    flags = (
        frame_replay.FIRST * first
        + frame_replay.TERMINAL * step.terminal
        + frame_replay.TRUNCATED * step.truncated
    ).astype(np.uint8)
    row = [observation[:, -1], actions, step.reward, flags]
    if q_teacher is not None:
      row.append(q_teacher[states[-1]])
    rows.append(row)
    if len(rows) == CHUNK:
      columns = (np.stack(column) for column in zip(*rows, strict=True))
      replay = add(spec, replay, frame_replay.Rows(*columns))
      rows = []
    observation, first = step.observation, step.terminal | step.truncated
  stacks = jnp.moveaxis(jnp.concatenate(stacks), 1, -1)
  return Data(spec, replay, stacks, np.concatenate(states))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def add(spec, replay, rows):
  return frame_replay.add(spec, replay, rows)


@functools.cache
def make_learner(td: str, distill: str = 'none') -> Learner:
  network = networks.make_network(
      NUM_ACTIONS,
      features=(8, 16, 32),
      hidden_size=32,
      distributional=td == 'categorical',
      num_atoms=NUM_ATOMS if td == 'categorical' else 1,
      v_max=V_MAX,
  )
  return Learner(network, Objective(td=td, distill=distill), ADAM)


@functools.cache
def initial_params(network):
  observation = jnp.zeros((1,) + FRAME_SHAPE + (STACK_SIZE,), jnp.uint8)
  return network.init(jax.random.PRNGKey(1), observation)['params']


def begin(learner: Learner, lambda_: float = 0.0) -> LearnerState:
  coefficients = Coefficients(
      LEARNING_RATE, lambda_=lambda_, temperature=TEMPERATURE
  )
  params = initial_params(learner.network)
  return learner.from_params(jax.random.PRNGKey(2), params, coefficients)


def learn(
    learner: Learner,
    state: LearnerState,
    data: Data,
    num_updates: int,
    sync_period: Optional[int] = SYNC_PERIOD,
    teacher: Optional[Data] = None,
) -> LearnerState:
  """Updates on the data; C51 as Rainbow does, by priority.

  With a teacher's data, some of the samples come from there.
  """
  prioritized = learner.objective.td == 'categorical'
  rehearsal = (teacher.spec, REHEARSED) if teacher else ()
  update_many = make_updater(
      learner, data.spec, BATCH_SIZE, prioritized, False, *rehearsal
  )
  priorities = jax.tree.map(jnp.copy, data.replay.priorities)
  period = sync_period or num_updates
  for _ in range(num_updates // period):
    state, priorities, _ = update_many(
        state,
        data.replay.storage,
        priorities,
        period,
        teacher and teacher.replay,
    )
    if sync_period:
      state = sync_target(state)
  return state


def q_values(learner: Learner, state: LearnerState, data: Data) -> np.ndarray:
  """[R, A] the student's values of everything seen."""
  policy = Policy(learner.network, state.online_params)
  return np.asarray(policy.q_values(data.stacks))


def prefers(
    q_student: np.ndarray, data: Data, q_judge: np.ndarray
) -> np.ndarray:
  """[R] whether the student's greedy action is a greedy one of the judge."""
  judged = q_judge[data.states]
  chosen = judged[np.arange(len(judged)), q_student.argmax(axis=1)]
  return chosen >= judged.max(axis=1) - 1e-6


@each_probe
@pytest.mark.parametrize('td', ['huber', 'categorical'])
def test_one_step_learning_finds_the_values(probe, td):
  learner, data = make_learner(td), collect(probe)
  state = learn(learner, begin(learner), data, NUM_UPDATES)
  expected = probe.optimal_q_values(GAMMA)[data.states]
  np.testing.assert_allclose(
      q_values(learner, state, data), expected, atol=TOLERANCE
  )


@pytest.mark.parametrize('length, terminal', [(4, True), (4, False), (2, True)])
def test_three_step_learning_finds_the_values(length, terminal):
  """In the shortest corridor three steps reach the next episode's reward."""
  probe = DelayedReward(length, terminal, num_actions=NUM_ACTIONS)
  learner, data = make_learner('huber'), collect(probe, update_horizon=3)
  state = learn(learner, begin(learner), data, NUM_UPDATES)
  expected = probe.optimal_q_values(GAMMA)[data.states]
  np.testing.assert_allclose(
      q_values(learner, state, data), expected, atol=TOLERANCE
  )


def test_n_steps_carry_a_reward_as_far_without_a_target():
  """With the target held at its first values, n steps reach n states."""
  probe = DelayedReward(6, num_actions=NUM_ACTIONS)
  expected = probe.optimal_q_values(GAMMA)
  learner = make_learner('huber')
  for n in (1, 3):
    data = collect(probe, update_horizon=n)
    state = learn(learner, begin(learner), data, 300, sync_period=None)
    error = np.abs(q_values(learner, state, data) - expected[data.states])
    right = error.max(axis=1) < TOLERANCE
    np.testing.assert_array_equal(right, data.states >= 6 - n)


# -- QDagger -------------------------------------------------------------------

GRID = Gridworld(3, 3)
Q_OPTIMAL = GRID.optimal_q_values(GAMMA)
NEAR = np.arange(GRID.num_states) >= 4  # the half of the states at the goal


def greedy_episodes(learner, state):
  """Plays the student, without exploration, from many starts."""
  env = small_vector(GRID, NUM_ENVS, stack_size=STACK_SIZE, seed=5)
  policy = Policy(learner.network, state.online_params)
  key = jax.random.PRNGKey(0)
  return evaluate(policy, env, env.reset(), 200, 0.0, key)


def test_a_perfect_teacher_shows_the_way_at_once():
  """Before a reward could have come that far: the target stays as it began."""
  data = collect(GRID, q_teacher=Q_OPTIMAL)
  learner = make_learner('huber', 'policy')
  alone, taught = (
      learn(learner, begin(learner, lambda_), data, 100, sync_period=None)
      for lambda_ in (0.0, 1.0)
  )
  q_alone = q_values(learner, alone, data)
  assert not prefers(q_alone, data, Q_OPTIMAL).all()
  assert prefers(q_values(learner, taught, data), data, Q_OPTIMAL).all()
  episodes = greedy_episodes(learner, taught)
  np.testing.assert_array_equal(episodes.returns, 1.0)
  assert episodes.lengths.max() <= 4


def test_a_wrong_teacher_is_followed_until_lambda_is_zero():
  q_wrong = -Q_OPTIMAL
  data = collect(GRID, q_teacher=q_wrong)
  learner = make_learner('huber', 'policy')
  state = learn(learner, begin(learner, lambda_=1.0), data, 300)
  assert prefers(q_values(learner, state, data), data, q_wrong).all()
  episodes = greedy_episodes(learner, state)
  np.testing.assert_array_equal(episodes.returns, 0.0)
  np.testing.assert_array_equal(episodes.lengths, TIME_LIMIT)

  state = learn(learner, weaned(state), data, NUM_UPDATES)
  assert prefers(q_values(learner, state, data), data, Q_OPTIMAL).all()
  np.testing.assert_array_equal(greedy_episodes(learner, state).returns, 1.0)


def test_a_teacher_of_half_the_states_is_outgrown():
  """It is right near the goal and wrong far from it."""
  q_half = np.where(NEAR[:, None], Q_OPTIMAL, -Q_OPTIMAL)
  data = collect(GRID, q_teacher=q_half)
  learner = make_learner('huber', 'policy')
  state = learn(learner, begin(learner, lambda_=1.0), data, 300)
  right = prefers(q_values(learner, state, data), data, Q_OPTIMAL)
  np.testing.assert_array_equal(right, NEAR[data.states])

  state = learn(learner, weaned(state), data, NUM_UPDATES)
  assert prefers(q_values(learner, state, data), data, Q_OPTIMAL).all()


def weaned(state: LearnerState) -> LearnerState:
  coefficients = state.coefficients._replace(lambda_=0.0).as_arrays()
  return state._replace(coefficients=coefficients)


# -- rehearsal -----------------------------------------------------------------


def test_rehearsal_finds_what_the_student_never_sees():
  """Who goes up and right only has not met a reward below."""
  seen, teacher = collect(GRID, num_tried=2), collect(GRID)
  learner = make_learner('huber')
  alone = learn(learner, begin(learner), seen, NUM_UPDATES)
  assert not prefers(
      q_values(learner, alone, teacher), teacher, Q_OPTIMAL
  ).all()
  assert greedy_episodes(learner, alone).mean_return < 0.5
  taught = learn(learner, begin(learner), seen, NUM_UPDATES, teacher=teacher)
  np.testing.assert_allclose(
      q_values(learner, taught, teacher),
      Q_OPTIMAL[teacher.states],
      atol=TOLERANCE,
  )
  np.testing.assert_array_equal(greedy_episodes(learner, taught).returns, 1.0)


# -- a guide -------------------------------------------------------------------


class FarCorner(Gridworld):
  """Begins where the way out is longest."""

  def start(self, rng: np.random.Generator) -> int:
    return 0


ROOM = FarCorner(3, 4)
SHORTEST_WAY = 5  # agent steps
ROOM_VALUES = ROOM.optimal_q_values(GAMMA)


class PerfectGuide(networks.nn.Module):
  """Reads the cell off the newest frame, and knows its values."""

  num_actions: int = NUM_ACTIONS

  def __call__(self, x, rng_key=None):
    frames = probe_lib.draw_states(ROOM.num_states, FRAME_SHAPE) > 0
    newest = x[..., -1] > 0  # [B, H, W]
    overlap = jnp.einsum('bhw,shw->bs', newest * 1.0, frames * 1.0)
    q_values = jnp.asarray(ROOM_VALUES)[overlap.argmax(axis=1)]
    return networks.NetworkOutput(q_values, q_values)


def room_vector(num_envs, stream=()):
  """Leaves one step to spare: chance does not find the way out."""
  return small_vector(
      ROOM,
      num_envs,
      stream=stream,
      stack_size=4,
      max_agent_steps=SHORTEST_WAY + 1,
  )


def jump_start(guide: Optional[GuideConfig], num_iterations: int = 6) -> Run:
  """A run in which the student itself hardly explores."""
  config = RunConfig(
      game='probe',
      num_iterations=num_iterations,
      training_steps=600,
      evaluation_steps=20,
      num_envs=NUM_ENVS,
      num_eval_envs=NUM_ENVS,
      batch_size=BATCH_SIZE,
      gamma=GAMMA,
      replay_capacity=4000,
      min_replay_history=100,
      replay_ratio=Fraction(1, 2),
      target_update_period=50,
      guide=guide,
      epsilon_train=0.02,
      epsilon_eval=0.0,
      epsilon_decay_period=0,
      learning_rate=LEARNING_RATE,
      frame_shape=FRAME_SHAPE,
  )
  run = Run(
      config,
      make_learner('huber'),
      room_vector,
      random_score=0.0,
      teacher=Teacher(Policy(PerfectGuide(), {}), score=1.0),
  )
  run.run()
  return run


@pytest.mark.parametrize(
    'guide',
    [
        GuideConfig(max_roll_in_steps=SHORTEST_WAY),
        GuideConfig(
            max_roll_in_steps=1,
            roll_in_guide=False,
            roll_out_guide_prob=1.0,
            roll_out_decay_period=3000,
        ),
    ],
    ids=['the guide rolls in', 'a mixture rolls out'],
)
def test_a_guided_student_gets_on_alone(guide):
  alone = jump_start(None, num_iterations=1).records[0].metrics
  assert alone['train_return_mean'] < 0.3  # It looks for the way itself.
  run = jump_start(guide)
  assert run.records[0].metrics['train_return_mean'] > 0.6
  shares = [record.metrics['guide_share'] for record in run.records]
  assert shares[0] > 0.4 and shares[-1] < 0.1
  assert run.records[-1].student_score == 1.0
  assert run.records[-1].metrics['eval_length_mean'] == SHORTEST_WAY
  # What it does then is worth what it thinks.
  env = room_vector(1)
  observation = env.reset()
  for left in range(SHORTEST_WAY, 0, -1):
    q_student = run.trainer.policy.q_values(np.moveaxis(observation, 1, -1))
    assert q_student.max() == pytest.approx(GAMMA ** (left - 1), abs=0.1)
    step = env.step(np.asarray(q_student.argmax(axis=1)))
    observation = step.observation
  assert step.terminal.all()
