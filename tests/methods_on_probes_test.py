"""Each method on probes: it finds the values that theory gives it.

Plain Q-learning and C51 find the optimal ones; a perfect, a wrong and a half
right teacher, a guide, demonstrations and an earlier learner show in the rest.
Values are linear in the pixels, and many updates are one dispatch, because a
convolution learns ten times as slowly here; two tests have one all the same.
"""

from __future__ import annotations

from fractions import Fraction
import functools
from typing import NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from probes import each_probe
from probes import NUM_ACTIONS
from probes import small_vector
from probes import table_policy
from probes import TIME_LIMIT
import pytest

from reincarnating_rl import networks
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.envs.probe import ConstantReward
from reincarnating_rl.envs.probe import ContextualBandit
from reincarnating_rl.envs.probe import DelayedReward
from reincarnating_rl.envs.probe import Gridworld
from reincarnating_rl.envs.probe import ObservedReward
from reincarnating_rl.learner import adam_direction
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import LearnerState
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import Sampler
from reincarnating_rl.learner import TD_LOSSES
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.acting.evaluation import evaluate
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.training.initial_state import Beginning
from reincarnating_rl.replay import frame_replay

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
NUM_UPDATES = 2000
LEARNING_RATE = 1e-3
FAST_RATE = 3e-3  # of convolutions, and of runs that are short
LOGIT_RATE = 1e-2  # of logits, which move further than values
TEMPERATURE = 0.1
TOLERANCE = 0.05
REHEARSED = 0.25  # share of samples from the teacher's data
ADAM = adam_direction()
each_td = pytest.mark.parametrize('td', ['huber', 'categorical'])


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
      CAPACITY,
      NUM_ENVS,
      update_horizon,
      GAMMA,
      STACK_SIZE,
      ArraySpec(FRAME_SHAPE, 'uint8'),
  )
  if q_teacher is not None:
    spec = spec.with_q_teacher(NUM_ACTIONS)
  replay = frame_replay.init(spec)
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
    row = frame_replay.Rows(observation[:, -1], actions, step.reward, flags)
    if q_teacher is not None:
      values = q_teacher[states[-1]].astype(np.float32)
      row = row._replace(extras={'q_teacher': values})
    rows.append(row)
    if len(rows) == CHUNK:
      columns = jax.tree.map(lambda *column: np.stack(column), *rows)
      replay = add(spec, replay, columns)
      rows = []
    observation, first = step.observation, step.terminal | step.truncated
  stacks = jnp.moveaxis(jnp.concatenate(stacks), 1, -1)
  return Data(spec, replay, stacks, np.concatenate(states))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def add(spec, replay, rows):
  return frame_replay.add(spec, replay, rows)


class Pixels(nn.Module):
  """A value head on the pixels themselves."""

  head: networks.ValueHead

  @property
  def num_actions(self):
    return self.head.num_actions

  @property
  def atoms(self):
    return self.head.atoms

  def __call__(self, x, rng_key=None):
    return self.head(x.reshape((x.shape[0], -1)) / 255.0, rng_key)


@functools.cache
def make_learner(td: str, convolution: bool = False, **terms) -> ValueLearner:
  options = {'num_atoms': 1}
  if td == 'categorical':
    options = {'num_atoms': NUM_ATOMS, 'distributional': True, 'v_max': V_MAX}
  if convolution:
    network = networks.make_network(
        NUM_ACTIONS, features=(8, 16, 32), hidden_size=32, **options
    )
  else:
    network = Pixels(networks.ValueHead(NUM_ACTIONS, **options))
  return ValueLearner(network, Objective(td=td, **terms), ADAM)


@functools.cache
def initial_params(network):
  """Small, so that first values say little."""
  observation = jnp.zeros((1,) + FRAME_SHAPE + (STACK_SIZE,), jnp.uint8)
  params = network.init(jax.random.PRNGKey(1), observation)['params']
  if isinstance(network, Pixels):
    params = jax.tree.map(lambda x: 0.1 * x, params)
  return params


def begin(
    learner: ValueLearner, lambda_: float = 0.0, **weights: float
) -> LearnerState:
  weights = {'temperature': TEMPERATURE} | weights
  coefficients = Coefficients(LEARNING_RATE, lambda_=lambda_, **weights)
  params = initial_params(learner.network)
  return learner.from_params(jax.random.PRNGKey(2), params, coefficients)


def learn(
    learner: ValueLearner,
    state: LearnerState,
    data: Data,
    num_updates: int,
    sync: bool = True,
    teacher: Optional[Data] = None,
) -> LearnerState:
  """Updates on the data; C51 as Rainbow does, by priority.

  With a teacher's data, some of the samples come from there. Without `sync`
  the target stays as it is.
  """
  prioritized = learner.objective.td == TD_LOSSES['categorical']
  scan = isinstance(learner.network, Pixels)
  rehearsal = (teacher.spec, REHEARSED) if teacher else ()
  update_many = make_updater(
      Sampler(learner, data.spec, BATCH_SIZE, prioritized, *rehearsal),
      scan=scan,
  )
  priorities = jax.tree.map(jnp.copy, data.replay.priorities)
  for _ in range(num_updates // SYNC_PERIOD):
    state, priorities, _ = update_many(
        state,
        data.replay.storage,
        priorities,
        SYNC_PERIOD,
        teacher and teacher.replay,
    )
    if sync:
      state = learner.sync_target(state)
  return state


def settle(
    learner: ValueLearner, state: LearnerState, data: Data
) -> LearnerState:
  """Some last updates, in small steps."""
  rate = state.coefficients.learning_rate / 10
  return learn(learner, changed(state, learning_rate=rate), data, 500)


def changed(state: LearnerState, **weights: float) -> LearnerState:
  coefficients = state.coefficients._replace(**weights).as_arrays()
  return state._replace(coefficients=coefficients)


def q_values(
    learner: ValueLearner, state: LearnerState, data: Data
) -> np.ndarray:
  """[R, A] the student's values of everything seen."""
  policy = value_policy(learner.network, state.online_params)
  return np.asarray(policy.q_values(data.stacks))


def prefers(
    q_student: np.ndarray, data: Data, q_judge: np.ndarray
) -> np.ndarray:
  """[R] whether the student's greedy action is a greedy one of the judge."""
  judged = q_judge[data.states]
  chosen = judged[np.arange(len(judged)), q_student.argmax(axis=1)]
  return chosen >= judged.max(axis=1) - 1e-6


def check_values(learner, state, data, expected):
  """The student's values of everything seen are [S, A] these."""
  np.testing.assert_allclose(
      q_values(learner, state, data), expected[data.states], atol=TOLERANCE
  )


@each_probe
@each_td
def test_one_step_learning_finds_the_values(probe, td):
  learner, data = make_learner(td), collect(probe)
  rate = LOGIT_RATE if td == 'categorical' else FAST_RATE
  start = changed(begin(learner), learning_rate=rate)
  state = settle(learner, learn(learner, start, data, 1000), data)
  check_values(learner, state, data, probe.optimal_q_values(GAMMA))


@each_td
def test_convolutions_find_the_values(td):
  learner, data = make_learner(td, convolution=True), collect(GRID)
  start = changed(begin(learner), learning_rate=FAST_RATE)
  state = learn(learner, start, data, 1500)
  check_values(learner, state, data, Q_OPTIMAL)


@pytest.mark.parametrize('length, terminal', [(4, True), (4, False), (2, True)])
def test_three_step_learning_finds_the_values(length, terminal):
  """In the shortest corridor three steps reach the next episode's reward."""
  probe = DelayedReward(length, terminal, num_actions=NUM_ACTIONS)
  learner, data = make_learner('huber'), collect(probe, update_horizon=3)
  state = learn(learner, begin(learner), data, NUM_UPDATES)
  check_values(learner, state, data, probe.optimal_q_values(GAMMA))


def test_n_steps_carry_a_reward_as_far_without_a_target():
  """With the target held at its first values, n steps reach n states."""
  probe = DelayedReward(6, num_actions=NUM_ACTIONS)
  expected = probe.optimal_q_values(GAMMA)
  learner = make_learner('huber')
  for n in (1, 3):
    data = collect(probe, update_horizon=n)
    state = learn(learner, begin(learner), data, 300, sync=False)
    error = np.abs(q_values(learner, state, data) - expected[data.states])
    right = error.max(axis=1) < TOLERANCE
    np.testing.assert_array_equal(right, data.states >= 6 - n)


# -- QDagger -------------------------------------------------------------------

GRID = Gridworld(3, 3)
Q_OPTIMAL = GRID.optimal_q_values(GAMMA)
NEAR = np.arange(GRID.num_states) >= 4  # the half of the states at the goal
Q_HALF = np.where(NEAR[:, None], Q_OPTIMAL, -Q_OPTIMAL)


def greedy_episodes(learner, state):
  """Plays the student, without exploration, from many starts."""
  env = small_vector(GRID, NUM_ENVS, stack_size=STACK_SIZE, seed=5)
  policy = value_policy(learner.network, state.online_params)
  key = jax.random.PRNGKey(0)
  return evaluate(policy, env, env.reset(), 200, 0.0, key)


def test_a_perfect_teacher_shows_the_way_at_once():
  """Before a reward could have come that far: the target stays as it began."""
  data = collect(GRID, q_teacher=Q_OPTIMAL)
  learner = make_learner('huber', distill='policy')
  alone, taught = (
      learn(learner, begin(learner, lambda_), data, 100, sync=False)
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
  learner = make_learner('huber', distill='policy')
  state = learn(learner, begin(learner, lambda_=1.0), data, 300)
  assert prefers(q_values(learner, state, data), data, q_wrong).all()
  episodes = greedy_episodes(learner, state)
  np.testing.assert_array_equal(episodes.returns, 0.0)
  np.testing.assert_array_equal(episodes.lengths, TIME_LIMIT)

  state = learn(learner, changed(state, lambda_=0.0), data, NUM_UPDATES)
  assert prefers(q_values(learner, state, data), data, Q_OPTIMAL).all()
  np.testing.assert_array_equal(greedy_episodes(learner, state).returns, 1.0)


def test_a_teacher_of_half_the_states_is_outgrown():
  """It is right near the goal and wrong far from it."""
  data = collect(GRID, q_teacher=Q_HALF)
  learner = make_learner('huber', distill='policy')
  state = learn(learner, begin(learner, lambda_=1.0), data, 300)
  right = prefers(q_values(learner, state, data), data, Q_OPTIMAL)
  np.testing.assert_array_equal(right, NEAR[data.states])

  state = learn(learner, changed(state, lambda_=0.0), data, NUM_UPDATES)
  assert prefers(q_values(learner, state, data), data, Q_OPTIMAL).all()


# -- distillation that does not end --------------------------------------------


def test_dagger_has_no_opinion_of_its_own():
  """Its policy becomes the teacher's, right or wrong, and no value matters."""
  data = collect(GRID, q_teacher=Q_HALF)
  learner = make_learner(None, distill='policy')
  state = learn(learner, begin(learner, lambda_=1.0), data, NUM_UPDATES)
  policy = lambda q: jax.nn.softmax(q / TEMPERATURE, axis=-1)
  np.testing.assert_allclose(
      policy(q_values(learner, state, data)),
      policy(Q_HALF[data.states]),
      atol=TOLERANCE,
  )


def test_q_learning_with_dagger_never_outgrows_its_teacher():
  """The same learner as QDagger's, as long, but lambda stays."""
  q_wrong = -Q_OPTIMAL
  data = collect(GRID, q_teacher=q_wrong)
  learner = make_learner('huber', distill='policy')
  state = learn(learner, begin(learner, lambda_=1.0), data, 300 + NUM_UPDATES)
  assert prefers(q_values(learner, state, data), data, q_wrong).all()
  np.testing.assert_array_equal(greedy_episodes(learner, state).returns, 0.0)
  # Rewards pull at the values all the same.
  assert q_values(learner, state, data).max() > 0.5


# -- demonstrations ------------------------------------------------------------

REWARD = 0.5
MARGIN_WEIGHT = 0.05
EXPERT = 2
# Every action pays the same and is tried as often, p = 1/4, in one state. With
# d = Q - REWARD, d TD / d Q(a) = p d(a). The large margin pulls at the expert's
# action and, in turn, at the best of the three others (1/3 of the weight each);
# the elementwise one at each action with 1/4 of it.
MARGIN_SHIFTS = {
    'dqfd': (4 * MARGIN_WEIGHT, -4 * MARGIN_WEIGHT / 3),
    'elementwise': (3 * MARGIN_WEIGHT, -MARGIN_WEIGHT),
}


@pytest.mark.parametrize('margin', list(MARGIN_SHIFTS))
def test_demonstrations_lift_the_expert_by_what_the_weights_say(margin):
  q_teacher = np.zeros((1, NUM_ACTIONS), np.float32)
  q_teacher[0, EXPERT] = 1.0
  data = collect(ConstantReward(REWARD, NUM_ACTIONS), q_teacher=q_teacher)
  learner = make_learner('huber', margin=margin)
  start = begin(learner, lambda_=1.0, margin=MARGIN_WEIGHT)
  state = settle(learner, learn(learner, start, data, NUM_UPDATES), data)
  of_expert, of_others = MARGIN_SHIFTS[margin]
  expected = np.full(NUM_ACTIONS, REWARD + of_others)
  expected[EXPERT] = REWARD + of_expert
  # The best of the others changes from update to update.
  q_student = q_values(learner, state, data)
  np.testing.assert_allclose(q_student.mean(axis=0), expected, atol=0.04)

  state = learn(learner, changed(state, lambda_=0.0), data, NUM_UPDATES)
  np.testing.assert_allclose(
      q_values(learner, state, data), REWARD, atol=TOLERANCE
  )


@pytest.mark.parametrize('margin', list(MARGIN_SHIFTS))
def test_a_wrong_demonstrator_is_outgrown(margin):
  q_wrong = -Q_OPTIMAL
  data = collect(GRID, q_teacher=q_wrong)
  learner = make_learner('huber', margin=margin)
  state = learn(learner, begin(learner, lambda_=1.0), data, 300)
  # An expert has one action a state, the first of the greedy ones.
  follows = q_values(learner, state, data).argmax(axis=1)
  np.testing.assert_array_equal(follows, q_wrong.argmax(axis=1)[data.states])
  state = learn(learner, changed(state, lambda_=0.0), data, NUM_UPDATES)
  assert prefers(q_values(learner, state, data), data, Q_OPTIMAL).all()


def test_without_a_teacher_the_data_demonstrates():
  """Data of which each action is taken: nobody leads; of one: that one."""
  probe = ConstantReward(REWARD, NUM_ACTIONS)
  learner = make_learner('huber', margin='dqfd', use_teacher_actions=False)
  for num_tried in (1, NUM_ACTIONS):
    data = collect(probe, num_tried=num_tried)
    state = learn(learner, begin(learner, lambda_=1.0), data, NUM_UPDATES)
    q_student = q_values(learner, state, data)[0]
    lead = q_student[0] - q_student[1:].max()
    if num_tried == 1:
      assert lead > 1.0 - TOLERANCE  # m
      assert q_student[0] == pytest.approx(REWARD, abs=TOLERANCE)
    else:
      assert abs(lead) < 0.2


# -- offline pretraining -------------------------------------------------------


def conservative_values(rewards, shares, weight, temperature):
  """[A] where the gradient of TD + weight * CQL is zero, by small steps.

  Args:
    rewards: [A] of the actions, after each of which the episode ends.
    shares: [A] how often the data takes each.
    weight: of the CQL term.
    temperature: tau.
  """
  q = np.zeros_like(rewards)
  for _ in range(20000):
    logits = np.exp(q / temperature - (q / temperature).max())
    td = shares * (q - rewards)
    q = q - 0.02 * td
    q -= 0.02 * weight * (logits / logits.sum() - shares) / temperature
  return q


@pytest.mark.parametrize('weight, temperature', [(0.1, 1.0), (0.02, 0.1)])
def test_conservative_values_are_those_of_the_data(weight, temperature):
  probe = ContextualBandit(6, NUM_ACTIONS)
  data = collect(probe)
  learner = make_learner('huber', cql=True)
  start = begin(learner, cql=weight, temperature=temperature)
  state = learn(learner, start, data, NUM_UPDATES)
  # The policy pulls to and fro at each sample: it settles in small steps.
  state = changed(state, learning_rate=LEARNING_RATE / 10)
  state = learn(learner, state, data, NUM_UPDATES)
  actions = np.asarray(data.replay.storage.action)
  assert actions.shape == data.states.shape
  rewards = probe.optimal_q_values(GAMMA)
  counts = np.zeros(rewards.shape)
  np.add.at(counts, (data.states, actions), 1)
  expected = np.array(
      [
          conservative_values(r, c / c.sum(), weight, temperature)
          for r, c in zip(rewards, counts)
      ]
  )
  assert np.abs(expected - rewards).max() > 2 * TOLERANCE
  check_values(learner, state, data, expected)


def test_what_the_data_never_did_is_not_done():
  """Where all that was tried is bad, an untried action looks good."""
  untried = 3
  hopeful, careful = (make_learner('huber', cql=cql) for cql in (False, True))
  for probe in (ObservedReward((-1.0, -0.5), NUM_ACTIONS), GRID):
    data = collect(probe, num_tried=3)
    start = begin(careful, cql=0.1, temperature=1.0)
    state = learn(careful, start, data, NUM_UPDATES)
    q_careful = q_values(careful, state, data)
    assert (q_careful[:, untried] < q_careful[:, :untried].min(axis=1)).all()
    if probe is GRID:
      episodes = greedy_episodes(careful, state)
      np.testing.assert_array_equal(episodes.returns, 1.0)
    else:
      state = learn(hopeful, begin(hopeful), data, NUM_UPDATES)
      q_hopeful = q_values(hopeful, state, data)
      assert (q_hopeful.argmax(axis=1) == untried).all()


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
  check_values(learner, taught, teacher, Q_OPTIMAL)
  np.testing.assert_array_equal(greedy_episodes(learner, taught).returns, 1.0)


# -- a guide -------------------------------------------------------------------


class FarCorner(Gridworld):
  """Begins where the way out is longest."""

  def start(self, rng: np.random.Generator) -> int:
    return 0


ROOM = FarCorner(3, 4)
SHORTEST_WAY = 5  # agent steps
ROOM_VALUES = ROOM.optimal_q_values(GAMMA)


def room_vector(num_envs, seed=0, stream=()):
  """Leaves one step to spare: chance does not find the way out."""
  return small_vector(
      ROOM,
      num_envs,
      seed,
      stream=stream,
      stack_size=4,
      max_agent_steps=SHORTEST_WAY + 1,
  )


def run_in_room(
    num_iterations: int,
    guide: Optional[GuideConfig] = None,
    beginning: Optional[Beginning] = None,
    distill: str = 'none',
) -> Run:
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
      learning_rate=FAST_RATE,
      frame_shape=FRAME_SHAPE,
  )
  run = Run(
      config,
      make_learner('huber', distill=distill),
      room_vector,
      random_score=0.0,
      teacher=Teacher(table_policy(ROOM_VALUES), score=1.0),
      beginning=beginning,
  )
  run.run()
  return run


@functools.cache
def alone() -> dict:
  """Metrics of the first iteration of a student that nobody helps."""
  return run_in_room(1).records[0].metrics


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
  assert alone()['train_return_mean'] < 0.3  # It looks for the way itself.
  run = run_in_room(6, guide)
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


# -- from the first step on ----------------------------------------------------


@functools.cache
def kickstarted():
  return run_in_room(4, distill='policy')


def test_a_kickstarted_student_is_shown_the_way_while_it_acts():
  """No pretraining: it follows the teacher soon, and then needs it no more."""
  run = kickstarted()
  first, last = run.records[0], run.records[-1]
  assert [record.phase for record in run.records] == ['online'] * 4
  assert first.metrics['train_return_mean'] > 2 * alone()['train_return_mean']
  assert last.lambda_ == 0.0
  assert last.student_score == 1.0
  assert last.metrics['eval_length_mean'] == SHORTEST_WAY


def test_a_reloaded_student_starts_where_the_earlier_one_was():
  """And stays there: fine-tuning on the same game loses nothing."""
  earlier = kickstarted().trainer.learner_state
  beginning = Beginning(
      params=earlier.online_params,
      target_params=earlier.target_params,
      opt_state=earlier.opt_state,
  )
  run = run_in_room(2, beginning=beginning)
  for record in run.records:
    assert record.metrics['train_return_mean'] > 0.8
    assert record.student_score == 1.0
