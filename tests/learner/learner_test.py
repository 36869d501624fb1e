"""Tests of the learner: reference updates, and hand-computed ones.

Where numbers are worked out by hand, the network is a table that the newest
pixel of a state indexes; there a gradient step can be followed on paper.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import losses
from reincarnating_rl import networks
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner import augmentation
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.replay import frame_replay

ADAM = learner_lib.adam_direction()
SGD = optax.identity()


# -- reference updates ---------------------------------------------------------

REFERENCES = (
    'small_dqn_base',
    'small_dqn_3steps',
    'small_rainbow_base',
    'small_rainbow_3steps',
    'small_rainbow_double',
    'small_rainbow_mult0',
)
each_reference = pytest.mark.parametrize('name', REFERENCES)

check_loss = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
check_gradient = functools.partial(
    np.testing.assert_allclose, rtol=0, atol=5e-6
)
check_params = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6)


def params_from(data: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
  """The reference's parameters under our names."""
  layer = lambda name: {
      k: jnp.asarray(data[f'{prefix}/{name}/{k}']) for k in ('kernel', 'bias')
  }
  return {
      'encoder': {f'Conv_{i}': layer(f'Conv_{i}') for i in range(3)},
      'hidden': {'dense': layer('Dense_0')},
      'head': {'advantage': {'dense': layer('Dense_1')}},
  }


@functools.cache
def reference_learner(rainbow: bool, double: bool) -> ValueLearner:
  atoms = {'num_atoms': 51, 'distributional': True} if rainbow else {}
  network = networks.make_network(
      6, features=(4, 8, 8), hidden_size=16, **atoms
  )
  objective = Objective(
      'categorical' if rainbow else 'huber', double=double, distill='policy'
  )
  return ValueLearner(network, objective, ADAM)


@functools.cache
def jitted_update(learner: ValueLearner):
  return jax.jit(learner.update)


def reference_case(golden, name):
  """Learner, first state, batch and expected numbers of one reference."""
  data = golden(name)
  images = golden('batch_small')
  learner = reference_learner(
      'rainbow' in name, bool(data.get('cfg_double_dqn', False))
  )
  lambda_ = data.get(
      'cfg_distill_loss_multiplier', data.get('cfg_loss_decay_multiplier')
  )
  coefficients = Coefficients(
      learning_rate=data['lr'],
      distill=data['cfg_distill_loss_coefficient'],
      lambda_=lambda_,
      temperature=data['cfg_distill_temperature'],
  )
  state = learner.from_params(
      jax.random.PRNGKey(0), params_from(data, 'online_before'), coefficients
  )
  state = state._replace(target_params=params_from(data, 'target'))
  batch = TransitionBatch(
      s_tm1=images['states'],
      a_tm1=data['actions'],
      r_t=data['rewards'],
      discount_t=np.float32(data['cumulative_gamma'])
      * (1.0 - data['terminals'].astype(np.float32)),
      s_t=images['next_states'],
      weight=data.get('loss_weights', np.ones(8, np.float32)),
      q_teacher=data['teacher_q'],
  )
  return learner, state, jax.tree.map(jnp.asarray, batch), data


def reference_td_losses(data) -> np.ndarray:
  """[B] unweighted TD losses of the first step."""
  if 'td_loss_per_example' in data:
    return data['td_loss_per_example']
  chosen = data['q_before'][np.arange(8), data['actions']]
  error = np.abs(data['td_target'] - chosen)
  return np.where(error <= 1, error**2 / 2, error - 0.5)


@each_reference
def test_updates_equal_the_reference(golden, name):
  learner, state, batch, data = reference_case(golden, name)
  target_before = jax.tree.map(np.array, state.target_params)
  update = jitted_update(learner)
  for step in range(int(data['steps'])):
    state, extra = update(state, batch)
    if step == 0:
      _check_first_step(state, extra, data)
    else:
      check_loss(extra.metrics['loss'], data[f'overall_loss_step{step}'])
  assert state.updates == state.opt_state.count == data['adam_count']
  for ours, prefix, tolerance in (
      (state.online_params, 'online_after', 1e-6),
      (state.opt_state.mu, 'mu_after', 1e-6),
      (state.opt_state.nu, 'nu_after', 1e-6),
  ):
    jax.tree.map(
        lambda a, b, tolerance=tolerance: np.testing.assert_allclose(
            a, b, rtol=1e-5, atol=tolerance
        ),
        ours,
        params_from(data, prefix),
    )
  jax.tree.map(
      np.testing.assert_array_equal, state.target_params, target_before
  )


def _check_first_step(state, extra, data):
  check_loss(extra.metrics['loss'], data['overall_loss'])
  check_loss(extra.metrics['td_loss'], data['mean_td_loss'])
  if data.get('cfg_distill_loss_multiplier', 1.0):
    check_loss(extra.metrics['distill_loss'], data['mean_distill_loss'])
  check_loss(extra.priorities, np.sqrt(reference_td_losses(data) + 1e-10))
  chosen = data['q_before'][np.arange(8), data['actions']]
  check_loss(extra.metrics['q'], chosen.mean())
  check_loss(extra.metrics['max_q'], data['q_before'].max(axis=1).mean())
  gradient = jax.tree.map(lambda mu: mu / 0.1, state.opt_state.mu)
  jax.tree.map(check_gradient, gradient, params_from(data, 'grad_from_mu'))


@each_reference
def test_values_and_targets_equal_the_reference(golden, name):
  learner, state, batch, data = reference_case(golden, name)
  apply = jax.jit(learner.apply)
  online_t = apply(state.online_params, batch.s_t)
  target_t = apply(state.target_params, batch.s_t)
  q_tm1 = apply(state.online_params, batch.s_tm1).q_values
  check_loss(q_tm1, data['q_before'])
  selector = online_t if learner.objective.double else target_t
  if 'td_target' in data:
    targets = jax.vmap(losses.q_learning_target)(
        batch.r_t, batch.discount_t, target_t.q_values, selector.q_values
    )
    check_loss(targets, data['td_target'])
  else:
    np.testing.assert_array_equal(learner.network.atoms, data['support'])
    targets = jax.vmap(losses.categorical_target, (0, 0, None, 0, 0))(
        batch.r_t,
        batch.discount_t,
        jnp.asarray(learner.network.atoms),
        target_t.logits,
        selector.q_values,
    )
    check_loss(targets, data['c51_target'])


@pytest.mark.parametrize('name', ['small_dqn_base', 'small_rainbow_base'])
def test_batch_of_one(golden, name):
  learner, state, batch, data = reference_case(golden, name)
  for row in (0, 5):
    one = jax.tree.map(lambda x, row=row: x[row : row + 1], batch)
    after, extra = jitted_update(learner)(state, one)
    td_loss = reference_td_losses(data)[row]
    assert extra.priorities.shape == (1,)
    check_loss(extra.priorities[0], np.sqrt(td_loss + 1e-10))
    check_loss(extra.metrics['td_loss'], batch.weight[row] * td_loss)
    for leaf in jax.tree.leaves((after.online_params, extra)):
      assert np.isfinite(leaf).all()


# -- updates by hand -----------------------------------------------------------

STATES = 4
ACTIONS = 3
FRAME = (2, 2, 1)
STATE = ArraySpec(FRAME, 'uint8')


class Table(nn.Module):
  """Values looked up by a state's newest pixel; `kind` says of what."""

  kind: str = 'q_values'
  num_atoms: int = 5
  num_actions: int = ACTIONS

  @property
  def atoms(self) -> np.ndarray:
    return np.linspace(-2.0, 2.0, self.num_atoms).astype(np.float32)

  @nn.compact
  def __call__(self, x, rng_key=None, num_quantiles=None):
    index = x[..., 0, 0, -1].astype(jnp.int32)
    shape = {
        'q_values': (STATES, self.num_actions),
        'logits': (STATES, self.num_actions, self.num_atoms),
        'quantiles': (STATES, self.num_atoms, self.num_actions),
    }[self.kind]
    values = self.param('table', nn.initializers.normal(1.0), shape)[index]
    if self.kind == 'q_values':
      return NetworkOutput(values, values)
    if self.kind == 'logits':
      q_values = jnp.einsum('...n,n->...', jax.nn.softmax(values), self.atoms)
      return NetworkOutput(q_values, q_values, logits=values)
    quantiles = (jnp.arange(self.num_atoms) + 0.5) / self.num_atoms
    return NetworkOutput(
        values.mean(axis=-2),
        index,
        quantile_values=values,
        quantiles=jnp.broadcast_to(quantiles, index.shape + quantiles.shape),
    )


def table_batch(seed=0, size=6, num_actions=ACTIONS) -> TransitionBatch:
  rng = np.random.default_rng(seed)
  images = lambda: np.broadcast_to(
      rng.integers(0, STATES, (size, 1, 1, 1)), (size,) + FRAME
  ).astype(np.uint8)
  return TransitionBatch(
      s_tm1=jnp.asarray(images()),
      a_tm1=jnp.asarray(rng.integers(0, num_actions, size), jnp.int32),
      r_t=jnp.asarray(rng.normal(size=size), jnp.float32),
      discount_t=jnp.asarray(rng.choice([0.0, 0.5, 0.9], size), jnp.float32),
      s_t=jnp.asarray(images()),
      weight=jnp.asarray(rng.uniform(0.1, 1.0, size), jnp.float32),
      q_teacher=jnp.asarray(rng.normal(size=(size, num_actions)), jnp.float32),
  )


def table_state(learner: ValueLearner, coefficients=Coefficients(), seed=0):
  """Online and target tables of random numbers that differ."""
  rng = np.random.default_rng(seed)
  shape = jax.eval_shape(
      learner.network.init,
      jax.random.PRNGKey(0),
      jax.ShapeDtypeStruct((1,) + FRAME, jnp.uint8),
  )['params']['table'].shape
  table = lambda: {'table': jnp.asarray(rng.normal(size=shape), jnp.float32)}
  state = learner.from_params(jax.random.PRNGKey(seed), table(), coefficients)
  return state._replace(target_params=table())


def look_up(params, states) -> np.ndarray:
  return np.asarray(params['table'], np.float64)[
      np.asarray(states)[:, 0, 0, -1]
  ]


@pytest.mark.parametrize('double', [False, True])
@pytest.mark.parametrize('td', ['huber', 'mse'])
def test_a_q_learning_step_by_hand(td, double):
  learner = ValueLearner(Table(), Objective(td, double=double), SGD)
  rate = 0.3
  state = table_state(learner, Coefficients(learning_rate=rate))
  batch = table_batch()
  after, extra = jitted_update(learner)(state, batch)
  q_tm1 = look_up(state.online_params, batch.s_tm1)
  q_t = look_up(state.target_params, batch.s_t)
  selector = look_up(state.online_params, batch.s_t) if double else q_t
  expected = np.asarray(state.online_params['table'], np.float64).copy()
  td_losses = []
  for i, action in enumerate(np.asarray(batch.a_tm1)):
    best = selector[i].argmax()
    target = float(batch.r_t[i]) + float(batch.discount_t[i]) * q_t[i, best]
    error = target - q_tm1[i, action]
    if td == 'mse':
      td_losses.append(error**2)
      slope = 2 * error
    else:
      inside = abs(error) <= 1
      td_losses.append(error**2 / 2 if inside else abs(error) - 0.5)
      slope = np.clip(error, -1, 1)
    state_index = int(batch.s_tm1[i, 0, 0, -1])
    step = rate * float(batch.weight[i]) * slope / len(q_tm1)
    expected[state_index, action] += step
  np.testing.assert_allclose(
      after.online_params['table'], expected, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_array_equal(
      after.target_params['table'], state.target_params['table']
  )
  np.testing.assert_allclose(
      extra.priorities, np.sqrt(np.array(td_losses) + 1e-10), rtol=1e-5
  )
  np.testing.assert_allclose(
      extra.metrics['td_loss'],
      np.mean(np.asarray(batch.weight) * td_losses),
      rtol=1e-5,
  )


@pytest.mark.parametrize('double', [False, True])
def test_a_quantile_loss_by_hand(double):
  objective = Objective('quantile', double=double)
  learner = ValueLearner(Table('quantiles'), objective, SGD)
  state, batch = table_state(learner), table_batch()
  _, extra = jitted_update(learner)(state, batch)
  values = look_up(state.online_params, batch.s_tm1)  # [B, N, A]
  values_t = look_up(state.target_params, batch.s_t)
  selector = look_up(state.online_params, batch.s_t) if double else values_t
  expected = []
  for i, action in enumerate(np.asarray(batch.a_tm1)):
    best = selector[i].mean(axis=0).argmax()
    total = 0.0
    for k, value in enumerate(values[i, :, action]):
      for sample in values_t[i, :, best]:
        error = float(batch.r_t[i]) + float(batch.discount_t[i]) * sample
        error -= value
        huber = error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5
        total += abs((k + 0.5) / 5 - (error < 0)) * huber / 5
    expected.append(total)
  np.testing.assert_allclose(
      extra.priorities, np.sqrt(expected), rtol=1e-5, atol=1e-5
  )


def test_every_term_with_its_coefficient():
  """loss = td + lambda (distill + margin) + cql, by their coefficients."""
  objective = Objective(
      distill='both', cql=True, margin='dqfd', use_teacher_actions=True
  )
  learner = ValueLearner(Table(), objective, SGD)
  c = Coefficients(
      td=0.7,
      distill=3.0,
      lambda_=0.4,
      temperature=0.5,
      cql=0.2,
      margin=1.5,
      margin_size=0.8,
  )
  state, batch = table_state(learner, c), table_batch()
  _, extra = jitted_update(learner)(state, batch)
  q_tm1 = look_up(state.online_params, batch.s_tm1).astype(np.float32)
  weight = np.asarray(batch.weight)
  mean = lambda fn, *args: np.mean(
      weight * np.array([fn(*example) for example in zip(*args)])
  )
  distill = mean(
      lambda t, s: losses.policy_distillation_kl(t, s, c.temperature)
      + losses.value_distillation_loss(t, s),
      batch.q_teacher,
      q_tm1,
  )
  cql = mean(
      lambda s, a: losses.cql_loss(s, a, c.temperature), q_tm1, batch.a_tm1
  )
  expert = np.asarray(batch.q_teacher).argmax(axis=1)
  margin = mean(
      lambda s, a: losses.large_margin_loss(jnp.asarray(s), a, c.margin_size),
      q_tm1,
      expert,
  )
  metrics = {k: float(v) for k, v in extra.metrics.items()}
  td_loss = np.mean(weight * (np.asarray(extra.priorities) ** 2 - 1e-10))
  expected = {
      'td_loss': td_loss,
      'distill_loss': distill,
      'cql_loss': cql,
      'margin_loss': margin,
      'loss': c.td * td_loss
      + c.lambda_ * (c.distill * distill + c.margin * margin)
      + c.cql * cql,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize('use_teacher_actions', [False, True])
@pytest.mark.parametrize(
    'kind, loss',
    [
        ('dqfd', losses.large_margin_loss),
        ('elementwise', losses.elementwise_margin_loss),
    ],
)
def test_the_expert_of_the_margin(kind, loss, use_teacher_actions):
  objective = Objective(margin=kind, use_teacher_actions=use_teacher_actions)
  learner = ValueLearner(Table(), objective, SGD)
  state, batch = table_state(learner), table_batch(seed=1)
  _, extra = jitted_update(learner)(state, batch)
  expert = np.asarray(batch.a_tm1)
  if use_teacher_actions:
    teachers = np.asarray(batch.q_teacher).argmax(axis=1)
    assert (expert != teachers).any()
    expert = teachers
  q_tm1 = look_up(state.online_params, batch.s_tm1).astype(np.float32)
  expected = [
      weight * loss(jnp.asarray(q), action, 1.0)
      for q, action, weight in zip(q_tm1, expert, batch.weight)
  ]
  np.testing.assert_allclose(
      extra.metrics['margin_loss'], np.mean(expected), rtol=1e-5
  )


@pytest.mark.parametrize('distill', ['policy', 'value', 'both'])
@pytest.mark.parametrize('best', [False, True])
def test_types_of_distillation(distill, best):
  objective = Objective(None, distill=distill, distill_best_action_only=best)
  learner = ValueLearner(Table(), objective, SGD)
  state = table_state(learner, Coefficients(lambda_=1.0, temperature=0.3))
  batch = table_batch()
  _, extra = jitted_update(learner)(state, batch)
  policy_loss = (
      losses.best_action_cross_entropy
      if best
      else losses.policy_distillation_kl
  )
  expected = 0.0
  q_tm1 = look_up(state.online_params, batch.s_tm1).astype(np.float32)
  for q, q_teacher, weight in zip(q_tm1, batch.q_teacher, batch.weight):
    if distill in ('policy', 'both'):
      expected += weight * policy_loss(q_teacher, q, 0.3) / len(q_tm1)
    if distill in ('value', 'both'):
      expected += weight * np.mean((q_teacher - q) ** 2) / len(q_tm1)
  np.testing.assert_allclose(extra.metrics['loss'], expected, rtol=1e-5)
  assert extra.metrics['td_loss'] == 0.0


def test_a_coefficient_of_zero_removes_its_term():
  plain = ValueLearner(Table(), Objective(), SGD)
  full = ValueLearner(
      Table(), Objective(distill='policy', cql=True, margin='dqfd'), SGD
  )
  batch = table_batch()
  off = Coefficients(lambda_=0.0, cql=0.0, learning_rate=0.5)
  without, _ = jitted_update(plain)(
      table_state(plain, Coefficients(learning_rate=0.5)), batch
  )
  weaned, _ = jitted_update(full)(table_state(full, off), batch)
  np.testing.assert_allclose(
      weaned.online_params['table'], without.online_params['table'], rtol=1e-6
  )
  on, _ = jitted_update(full)(
      table_state(full, off._replace(lambda_=1.0)), batch
  )
  assert (on.online_params['table'] != without.online_params['table']).any()


def test_a_learning_rate_of_zero_moves_nothing():
  learner = ValueLearner(Table(), Objective(), ADAM)
  state = table_state(learner, Coefficients(learning_rate=0.0))
  after, _ = jitted_update(learner)(state, table_batch())
  np.testing.assert_array_equal(
      after.online_params['table'], state.online_params['table']
  )
  assert after.opt_state.count == after.updates == 1


def test_one_action():
  """Nothing to choose and nothing to imitate, but values to learn."""
  learner = ValueLearner(
      Table(num_actions=1), Objective(distill='policy', cql=True), ADAM
  )
  state = table_state(learner, Coefficients(lambda_=1.0))
  after, extra = jitted_update(learner)(state, table_batch(num_actions=1))
  assert extra.metrics['distill_loss'] == extra.metrics['cql_loss'] == 0.0
  assert extra.metrics['td_loss'] > 0.0
  assert 'action_gap' not in extra.metrics
  for leaf in jax.tree.leaves((after.online_params, extra)):
    assert np.isfinite(leaf).all()


def test_cold_and_huge_values_stay_finite():
  """Temperature 0.1 and values of a thousand, in opposite orders."""
  objective = Objective(distill='policy', cql=True, margin='dqfd')
  learner = ValueLearner(Table(), objective, ADAM)
  state = table_state(learner, Coefficients(lambda_=1.0, temperature=0.1))
  huge = jax.tree.map(lambda x: 1e3 * jnp.sign(x), state.online_params)
  batch = table_batch()
  batch = batch._replace(q_teacher=-1e3 * jnp.sign(batch.q_teacher))
  after, extra = jitted_update(learner)(
      state._replace(online_params=huge), batch
  )
  for leaf in jax.tree.leaves((after, extra)):
    assert np.isfinite(leaf).all()


def test_augmentation_uses_another_key_for_each_state(monkeypatch):
  seen = []

  def spy(rng_key, states):
    seen.append((np.asarray(rng_key).tolist(), states))
    return states.astype(jnp.float32)

  monkeypatch.setattr(augmentation, 'augment', spy)
  learner = ValueLearner(Table(), Objective(augment=True, double=True), SGD)
  state, batch = table_state(learner), table_batch()
  for _ in range(2):
    state, _ = learner.update(state, batch)
  assert len({str(key) for key, _ in seen}) == 4
  for (_, states), expected in zip(seen, [batch.s_tm1, batch.s_t] * 2):
    np.testing.assert_array_equal(states, expected)


def test_without_augmentation_states_are_untouched(monkeypatch):
  monkeypatch.setattr(augmentation, 'augment', None)
  learner = ValueLearner(Table(), Objective(), SGD)
  learner.update(table_state(learner), table_batch())


# -- diagnostics ---------------------------------------------------------------


def test_diagnostics_by_hand():
  q_tm1 = jnp.array([[1.0, 5.0, 3.0], [-1.0, -4.0, -1.5], [2.0, 2.0, 0.0]])
  batch = table_batch(size=3)._replace(
      a_tm1=jnp.array([0, 1, 2]),
      q_teacher=jnp.array([[0.0, 9.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
  )
  metrics = learner_lib.diagnostics(q_tm1, batch, 0.5)
  expected = {
      'q': (1.0 - 4.0 + 0.0) / 3,
      'max_q': (5.0 - 1.0 + 2.0) / 3,
      'action_gap': (2.0 + 0.5 + 0.0) / 3,
      'teacher_agreement': 2 / 3,
      'teacher_kl': np.mean(
          [_slow_kl(t, q, 0.5) for t, q in zip(batch.q_teacher, q_tm1)]
      ),
  }
  assert metrics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)
  without = learner_lib.diagnostics(q_tm1, batch._replace(q_teacher=None), 0.5)
  assert without.keys() == {'q', 'max_q', 'action_gap'}


def _slow_kl(q_teacher, q_student, temperature):
  def softmax(q):
    q = np.asarray(q, np.float64) / temperature
    return np.exp(q) / np.exp(q).sum()

  p, q = softmax(q_teacher), softmax(q_student)
  return sum(a * np.log(a / b) for a, b in zip(p, q))


def test_norm_and_priority_by_hand():
  """One transition; its TD error of 0.5 is the gradient of one table entry."""
  learner = ValueLearner(Table(), Objective(), SGD)
  state = table_state(learner)
  batch = table_batch(size=1)
  q = look_up(state.online_params, batch.s_tm1)[0, batch.a_tm1[0]]
  batch = batch._replace(
      r_t=jnp.array([q + 0.5]), discount_t=jnp.zeros(1), weight=jnp.ones(1)
  )
  _, extra = jitted_update(learner)(state, batch)
  np.testing.assert_allclose(extra.metrics['gradient_norm'], 0.5, rtol=1e-5)
  np.testing.assert_allclose(
      extra.metrics['priority'], np.sqrt(0.125), rtol=1e-5
  )


def test_diagnostics_equal_the_reference(golden):
  data = golden('losses')
  batch = table_batch(size=16)._replace(
      a_tm1=jnp.asarray(data['actions']), q_teacher=None
  )
  metrics = learner_lib.diagnostics(jnp.asarray(data['student_q']), batch, 0.1)
  ours = [metrics[name] for name in ('q', 'action_gap', 'max_q')]
  np.testing.assert_allclose(
      ours, data['intended_stats_avgq_gap_maxq'], rtol=1e-5
  )


# -- states --------------------------------------------------------------------


def test_init_makes_equal_networks_and_a_zero_optimizer():
  learner = ValueLearner(Table(), Objective(), ADAM)
  coefficients = Coefficients(learning_rate=0.5, lambda_=0.25)
  state = learner.init(jax.random.PRNGKey(0), STATE, coefficients)
  jax.tree.map(
      np.testing.assert_array_equal, state.online_params, state.target_params
  )
  for moment in (state.opt_state.mu, state.opt_state.nu):
    assert not np.any(moment['table'])
  assert state.updates == state.since_reset == 0
  assert state.coefficients.learning_rate == 0.5
  assert state.coefficients.lambda_ == 0.25
  for leaf in jax.tree.leaves(state.coefficients):
    assert leaf.dtype == jnp.float32 and leaf.shape == ()
  other = learner.init(jax.random.PRNGKey(1), STATE)
  assert (other.online_params['table'] != state.online_params['table']).any()


def test_coefficients_of_any_type_become_the_same_type():
  """Or an int here and a float there would compile the update twice."""
  given = Coefficients(
      td=1, distill=np.float64(3), lambda_=jnp.int32(0), gamma=0.5
  )
  for value, leaf in zip(given, given.as_arrays()):
    assert leaf.dtype == jnp.float32 and leaf.shape == ()
    assert not leaf.weak_type
    assert float(leaf) == np.float32(value)


def test_coefficients_without_a_gamma_have_no_leaf_for_it():
  arrays = Coefficients().as_arrays()
  assert arrays.gamma is None
  assert len(jax.tree.leaves(arrays)) == len(Coefficients._fields) - 1


def test_sync_target_copies():
  learner = ValueLearner(Table(), Objective(), ADAM)
  state = table_state(learner)
  online = np.array(state.online_params['table'])
  synced = learner.sync_target(state)
  assert state.online_params['table'].is_deleted()
  np.testing.assert_array_equal(synced.online_params['table'], online)
  np.testing.assert_array_equal(synced.target_params['table'], online)
  after, _ = jitted_update(learner)(synced, table_batch())
  assert (after.online_params['table'] != online).any()
  np.testing.assert_array_equal(after.target_params['table'], online)


def test_members_are_one_more_axis():
  """A population with different coefficients equals its members alone."""
  learner = ValueLearner(Table(), Objective(distill='policy'), ADAM)
  members = [
      table_state(
          learner,
          Coefficients(learning_rate=rate, lambda_=lambda_, temperature=tau),
          seed,
      )
      for seed, (rate, lambda_, tau) in enumerate(
          [(0.1, 1.0, 0.1), (0.2, 0.0, 1.0), (0.05, 0.5, 2.0)]
      )
  ]
  batches = [table_batch(seed) for seed in range(3)]
  stack = lambda *trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
  together, extra = jax.jit(jax.vmap(learner.update))(
      stack(*members), stack(*batches)
  )
  for i, (member, batch) in enumerate(zip(members, batches)):
    alone = jitted_update(learner)(member, batch)
    jax.tree.map(
        lambda a, b, i=i: np.testing.assert_allclose(
            a[i], b, rtol=1e-5, atol=1e-6
        ),
        (together, extra),
        alone,
    )


@pytest.mark.parametrize(
    'changes, needs',
    [
        ({}, False),
        ({'distill': 'policy'}, True),
        ({'distill': 'value'}, True),
        ({'margin': 'dqfd'}, True),
        ({'margin': 'dqfd', 'use_teacher_actions': False}, False),
        ({'cql': True}, False),
    ],
)
def test_which_objectives_need_a_teacher(changes, needs):
  assert Objective(**changes).needs_teacher is needs


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'td': 'l1'}, "Objective.td is 'l1'.*huber.*quantile"),
        ({'distill': 'q'}, "Objective.distill is 'q'.*policy.*both"),
        ({'margin': 'max'}, "Objective.margin is 'max'.*dqfd.*elementwise"),
    ],
)
def test_an_unknown_term_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    Objective(**changes)


def test_equal_learners_share_compiled_code():
  make = lambda: ValueLearner(
      networks.make_network(ACTIONS), Objective(distill='policy'), ADAM
  )
  assert make() == make()
  spec = frame_replay.ReplaySpec(100)
  make_one = lambda scan: learner_lib.make_updater(
      learner_lib.Sampler(make(), spec, 4, True), scan=scan
  )
  assert make_one(False) is make_one(False)
  assert make_one(False) is not make_one(True)


@pytest.mark.parametrize('td', learner_lib.TD_LOSSES)
def test_learning_lowers_the_loss(td):
  """Every TD loss, on one batch whose rewards say everything."""
  kind = {'categorical': 'logits', 'quantile': 'quantiles'}.get(td, 'q_values')
  learner = ValueLearner(Table(kind), Objective(td), ADAM)
  state = table_state(learner, Coefficients(learning_rate=0.05))
  rng = np.random.default_rng(0)
  batch = table_batch(size=STATES)._replace(
      s_tm1=jnp.broadcast_to(
          jnp.arange(STATES, dtype=jnp.uint8).reshape(-1, 1, 1, 1),
          (STATES,) + FRAME,
      ),
      r_t=jnp.asarray(rng.choice([-1.0, 0.0, 1.0], STATES), jnp.float32),
      discount_t=jnp.zeros(STATES),
      weight=jnp.ones(STATES),
  )
  for _ in range(300):
    state, _ = jitted_update(learner)(state, batch)
  q_values = np.asarray(
      learner.apply(state.online_params, batch.s_tm1).q_values
  )
  chosen = q_values[np.arange(STATES), np.asarray(batch.a_tm1)]
  np.testing.assert_allclose(chosen, batch.r_t, atol=0.1)
