"""Tests of updates whose n, gamma and target move: annealing, gamma, EMA.

An annealed update must be a plain one on a replay that is described with the n
and gamma of the moment; rows, priorities and keys are the same in both.
"""

from __future__ import annotations

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner import Annealing
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay.frame_replay import FIRST
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

ACTIONS = 3
BATCH_SIZE = 6
SPEC = ReplaySpec(
    80, 2, update_horizon=5, gamma=0.9, observation=ArraySpec((3, 3), 'uint8')
)
# n: 5, 3, 2, 1, 1, ...
ANNEALING = Annealing(updates=4, update_horizon=(5, 1), gamma=(0.5, 0.95))
COEFFICIENTS = Coefficients(learning_rate=1e-2)


class Linear(nn.Module):
  """Values linear in the pixels: compiles in no time."""

  @nn.compact
  def __call__(self, x, rng_key=None):
    pixels = x.reshape((x.shape[0], -1)) / 255.0
    return NetworkOutput(nn.Dense(ACTIONS)(pixels), pixels)


class Weight(nn.Module):
  """One number, the value of one action everywhere."""

  @nn.compact
  def __call__(self, x, rng_key=None):
    w = self.param('w', nn.initializers.zeros, (1,))
    values = jnp.broadcast_to(w[None, :], (x.shape[0], 1))
    return NetworkOutput(values, values)


PLAIN = ValueLearner(Linear(), Objective(), learner_lib.adam_direction())
ANNEALED = dataclasses.replace(PLAIN, annealing=ANNEALING)
BBF = dataclasses.replace(
    ANNEALED,
    optimizer=learner_lib.adam_direction(weight_decay=0.1),
    target_ema=0.1,
)


@functools.cache
def make_rows(spec: ReplaySpec, seed: int = 0) -> frame_replay.Rows:
  rng = np.random.default_rng(seed)
  shape = (spec.slots, spec.num_streams)
  ends = rng.random(shape) < 0.1
  flags = np.where(ends, rng.choice([TERMINAL, TRUNCATED], shape), 0)
  flags[0] |= FIRST
  flags[1:][ends[:-1]] |= FIRST
  return frame_replay.Rows(
      rng.integers(0, 256, shape + spec.observation.shape).astype(np.uint8),
      rng.integers(0, ACTIONS, shape).astype(np.int32),
      rng.normal(size=shape).astype(np.float32),
      flags.astype(np.uint8),
  )


from_rows = jax.jit(frame_replay.from_rows, static_argnums=0)
sample = jax.jit(frame_replay.sample, static_argnums=(0, 4))


def make_replay(spec: ReplaySpec = SPEC, seed: int = 0):
  return from_rows(spec, make_rows(spec, seed))


@functools.cache
def initial_params():
  state = PLAIN.init(jax.random.PRNGKey(7), SPEC.state)
  return jax.tree.map(np.array, state.online_params)


def make_state(learner: ValueLearner, coefficients=COEFFICIENTS, since_reset=0):
  """Online parameters and a target that differ."""
  state = learner.from_params(
      jax.random.PRNGKey(0), initial_params(), coefficients
  )
  return state._replace(
      target_params=jax.tree.map(lambda x: 1.5 * x, state.online_params),
      since_reset=jnp.int32(since_reset),
  )


def updates(learner, state, num=1, spec=SPEC, scan=False, replay=None):
  """State, priorities and metrics after updates from the same replay."""
  update_many = learner_lib.make_updater(
      learner_lib.Sampler(learner, spec, BATCH_SIZE, True), scan=scan
  )
  replay = make_replay() if replay is None else replay
  state, priorities, metrics = update_many(
      state, replay.storage, replay.priorities, num
  )
  return state, priorities, {k: np.stack(v) for k, v in metrics.items()}


def assert_close(a, b):
  jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b
  )


# -- annealing -----------------------------------------------------------------


@pytest.mark.parametrize('since_reset', [0, 1, 2, 4, 1000])
def test_an_annealed_update_is_a_plain_one_of_that_horizon(since_reset):
  n, gamma = (x.item() for x in ANNEALING.at(since_reset))
  assert (n < SPEC.update_horizon) == (since_reset > 0)
  annealed = updates(ANNEALED, make_state(ANNEALED, since_reset=since_reset))
  spec = dataclasses.replace(SPEC, update_horizon=n, gamma=gamma)
  plain = updates(PLAIN, make_state(PLAIN, since_reset=since_reset), spec=spec)
  metrics = annealed[2]
  assert metrics.pop('update_horizon') == [n]
  np.testing.assert_allclose(metrics.pop('gamma'), [gamma], rtol=1e-6)
  assert_close(annealed, plain)


def test_n_and_gamma_follow_the_updates_since_the_reset(compilations):
  """And nothing is compiled for them, nor for a reset."""
  state, priorities, metrics = updates(ANNEALED, make_state(ANNEALED))
  replay = make_replay()
  start_anew = jnp.int32(0)
  update_many = learner_lib.make_updater(
      learner_lib.Sampler(ANNEALED, SPEC, BATCH_SIZE, True), scan=False
  )
  before = compilations.count
  collected = [metrics]
  for i in range(1, 9):
    if i == 6:
      state = state._replace(since_reset=start_anew)
    state, priorities, metrics = update_many(
        state, replay.storage, priorities, 1
    )
    collected.append(metrics)
  assert compilations.count == before
  n = [int(np.asarray(m['update_horizon'])[0]) for m in collected]
  assert n == [5, 3, 2, 1, 1, 1, 5, 3, 2]
  gamma = [np.asarray(m['gamma'])[0] for m in collected]
  expected = [ANNEALING.at(t)[1] for t in (0, 1, 2, 3, 4, 4, 0, 1, 2)]
  np.testing.assert_allclose(gamma, expected, rtol=1e-6)
  assert (int(state.updates), int(state.since_reset)) == (9, 3)


def test_updates_on_a_batch_count_too():
  state = make_state(PLAIN, since_reset=3)
  replay = make_replay()
  batch, _ = sample(SPEC, *replay[:2], jax.random.PRNGKey(0), BATCH_SIZE)
  state, _ = jax.jit(PLAIN.update)(state, batch)
  assert (int(state.updates), int(state.since_reset)) == (1, 4)


def test_a_replay_of_shorter_returns_keeps_its_n():
  spec = dataclasses.replace(SPEC, update_horizon=2)
  _, _, metrics = updates(
      ANNEALED, make_state(ANNEALED), 4, spec, replay=make_replay(spec)
  )
  np.testing.assert_array_equal(metrics['update_horizon'], [2, 2, 2, 1])


def test_without_an_annealing_it_is_not_reported():
  metrics = updates(PLAIN, make_state(PLAIN))[2]
  assert not {'update_horizon', 'gamma'} & metrics.keys()


@pytest.mark.parametrize('learner', [ANNEALED, BBF], ids=['annealed', 'bbf'])
def test_scanned_updates_equal_dispatched_ones(learner):
  """Annealing, then also a moving target and weight decay."""
  runs = [
      updates(learner, make_state(learner), 6, scan=scan)
      for scan in (True, False)
  ]
  assert_close(*runs)
  n = runs[0][2]['update_horizon']
  np.testing.assert_array_equal(n, [5, 3, 2, 1, 1, 1])


@pytest.mark.parametrize('since_reset', [0, 2, 50])
def test_rehearsed_transitions_are_discounted_as_the_others(since_reset):
  """Nothing but the teacher's data: as from a replay of that n and gamma."""
  teacher_spec = dataclasses.replace(SPEC, update_horizon=3, gamma=0.8)
  n, gamma = map(np.asarray, ANNEALING.at(jnp.int32(since_reset)))
  n = min(int(n), teacher_spec.update_horizon)  # It has no longer returns.
  alike = dataclasses.replace(SPEC, update_horizon=n, gamma=float(gamma))
  results = []
  for learner, spec in ((ANNEALED, teacher_spec), (PLAIN, alike)):
    update_many = learner_lib.make_updater(
        learner_lib.Sampler(learner, SPEC, BATCH_SIZE, True, spec, 1.0),
        scan=False,
    )
    # The same rows can be drawn, whatever is gathered from them.
    teacher = make_replay(teacher_spec, seed=1)
    state = make_state(learner)._replace(since_reset=jnp.int32(since_reset))
    results.append(update_many(state, *make_replay()[:2], 1, teacher))
  annealed, plain = results
  assert_close(annealed[0].online_params, plain[0].online_params)
  np.testing.assert_allclose(annealed[2]['td_loss'], plain[2]['td_loss'], 1e-5)


def test_a_members_gamma_is_that_of_rehearsed_transitions():
  state = make_state(PLAIN, COEFFICIENTS._replace(gamma=0.5))
  results = []
  for first, gamma in ((state, 0.99), (make_state(PLAIN), 0.5)):
    spec = dataclasses.replace(SPEC, gamma=gamma)
    update_many = learner_lib.make_updater(
        learner_lib.Sampler(PLAIN, spec, BATCH_SIZE, True, spec, 0.5),
        scan=False,
    )
    teacher = make_replay(spec, seed=1)
    results.append(update_many(first, *make_replay()[:2], 2, teacher))
  assert_close(results[0][0].online_params, results[1][0].online_params)


def test_learners_of_other_settings_are_others():
  same = ValueLearner(
      Linear(),
      Objective(),
      learner_lib.adam_direction(),
      Annealing(4, (5, 1), (0.5, 0.95)),
  )
  assert same == ANNEALED and hash(same) == hash(ANNEALED)
  assert len({PLAIN, ANNEALED, BBF}) == 3


# -- gamma of a member ---------------------------------------------------------


def test_a_gamma_among_the_coefficients_is_the_replays(compilations):
  """As a replay of that gamma, whatever it is, without compiling anew."""
  gammas = (0.3, 0.6, SPEC.gamma)
  states = [
      make_state(PLAIN, COEFFICIENTS._replace(gamma=gamma)) for gamma in gammas
  ]
  results = [updates(PLAIN, states[0], 3)]
  replays = [make_replay() for _ in gammas]
  before = compilations.count
  for state, replay in zip(states[1:], replays):
    results.append(updates(PLAIN, state, 3, replay=replay))
  assert compilations.count == before
  for gamma, found in zip(gammas, results):
    spec = dataclasses.replace(SPEC, gamma=gamma)
    expected = updates(PLAIN, make_state(PLAIN), 3, spec)
    assert found[0].coefficients.gamma == np.float32(gamma)
    state = found[0]._replace(coefficients=expected[0].coefficients)
    assert_close((state, *found[1:]), expected)
  assert (results[0][2]['td_loss'] != results[1][2]['td_loss']).all()


def test_members_may_differ_in_gamma():
  members = [
      make_state(PLAIN, COEFFICIENTS._replace(gamma=gamma))
      for gamma in (0.3, 0.6, 0.99)
  ]
  replay = make_replay()
  update = lambda state: learner_lib.Sampler(
      PLAIN, SPEC, BATCH_SIZE, True
  ).update(state, *replay[:2])
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
  together = jax.jit(jax.vmap(update))(stacked)
  update = jax.jit(update)
  for i, member in enumerate(members):
    mine = jax.tree.map(lambda x, i=i: x[i], together)
    assert_close(mine, update(member))


@pytest.mark.parametrize('scan', [False, True])
def test_two_gammas_are_refused(scan):
  state = make_state(ANNEALED, COEFFICIENTS._replace(gamma=0.9))
  with pytest.raises(ValueError, match='Coefficients.gamma must be None'):
    updates(ANNEALED, state, scan=scan)


# -- a target that follows -----------------------------------------------------


def to_float64(params):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


@pytest.mark.parametrize('tau', [0.005, 0.3, 1.0])
def test_the_target_moves_with_every_update(tau):
  learner = dataclasses.replace(PLAIN, target_ema=tau)
  state = make_state(learner)
  target = to_float64(state.target_params)
  for _ in range(2):
    state, _, _ = updates(learner, state)
    online = to_float64(state.online_params)
    target = jax.tree.map(lambda t, p: (1 - tau) * t + tau * p, target, online)
    assert_close(state.target_params, target)


def test_values_of_the_next_update_are_those_of_the_moved_target():
  """One weight by hand: q = w, target value v, reward 0, discount 1.

  Huber's slope is that of the square here, so w falls by the rate times
  (w - v), and v then moves by a quarter of its new distance to w.
  """
  learner = ValueLearner(
      Weight(), Objective(), optax.identity(), target_ema=0.25
  )
  state = learner.from_params(
      jax.random.PRNGKey(0),
      {'w': jnp.array([1.0])},
      Coefficients(learning_rate=0.5),
  )
  state = state._replace(target_params={'w': jnp.array([0.0])})
  image = jnp.zeros((1, 1, 1, 1), jnp.uint8)
  batch = TransitionBatch(
      s_tm1=image,
      a_tm1=jnp.array([0]),
      r_t=jnp.zeros(1),
      discount_t=jnp.ones(1),
      s_t=image,
      weight=jnp.ones(1),
  )
  update = jax.jit(learner.update)
  for w, v in ((0.5, 0.125), (0.3125, 0.171875)):
    state, _ = update(state, batch)
    np.testing.assert_allclose(state.online_params['w'], [w], rtol=1e-6)
    np.testing.assert_allclose(state.target_params['w'], [v], rtol=1e-6)


def test_without_ema_the_target_stays():
  before = to_float64(make_state(PLAIN).target_params)
  after, _, _ = updates(PLAIN, make_state(PLAIN), 3)
  jax.tree.map(np.testing.assert_array_equal, after.target_params, before)


@pytest.mark.parametrize('tau', [-0.1, 1.5, float('nan')])
def test_a_share_outside_of_zero_to_one_is_refused(tau):
  with pytest.raises(ValueError, match=f'between 0 and 1, got {tau}'):
    dataclasses.replace(PLAIN, target_ema=tau)
