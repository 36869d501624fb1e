"""Tests of the losses: the papers' equations, reference numbers, edge cases.

Each loss stands here once more as a slow float64 loop, written from the
equation that its docstring cites.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import losses

BATCH = 16
ACTIONS = 6
ATOMS = 11
QUANTILES = 5
TARGET_QUANTILES = 7

TAU = 0.7
MARGIN = 0.8


# -- slow forms, one example each, float64 -------------------------------------


def slow_huber(error, delta=1.0):
  result = np.empty(np.shape(error))
  for i, e in np.ndenumerate(error):
    inside = abs(e) <= delta
    result[i] = e * e / 2 if inside else delta * (abs(e) - delta / 2)
  return result


def slow_log_softmax(x):
  top = max(x)
  log_sum = top + math.log(sum(math.exp(v - top) for v in x))
  return [v - log_sum for v in x]


def slow_q_learning_target(r_t, discount_t, q_t, q_t_selector):
  best = 0
  for a in range(len(q_t)):
    if q_t_selector[a] > q_t_selector[best]:
      best = a
  return r_t + discount_t * q_t[best]


def slow_projection(z_p, probs, z_q):
  """Algorithm 1 of Bellemare et al. (2017): mass to the two neighbours."""
  delta_z = z_q[1] - z_q[0]
  result = np.zeros(len(z_q))
  for z, p in zip(z_p, probs):
    b = (min(max(z, z_q[0]), z_q[-1]) - z_q[0]) / delta_z
    lower, upper = math.floor(b), math.ceil(b)
    if lower == upper:
      result[lower] += p
    else:
      result[lower] += p * (upper - b)
      result[upper] += p * (b - lower)
  return result


def slow_categorical_target(r_t, discount_t, atoms, logits_t, q_t_selector):
  best = int(np.argmax(q_t_selector))
  probs = [math.exp(v) for v in slow_log_softmax(logits_t[best])]
  moved = [r_t + discount_t * z for z in atoms]
  return slow_projection(moved, probs, atoms)


def slow_cross_entropy(target_probs, logits):
  return -sum(p * v for p, v in zip(target_probs, slow_log_softmax(logits)))


def slow_quantile_huber(values, quantiles, target_values, kappa=1.0):
  total = 0.0
  for value, tau in zip(values, quantiles):
    for target in target_values:
      error = target - value
      weight = abs(tau - (1.0 if error < 0 else 0.0))
      total += weight * float(slow_huber(error, kappa)) / kappa
  return total / len(target_values)


def slow_kl(q_teacher, q_student, temperature):
  log_p = slow_log_softmax([q / temperature for q in q_teacher])
  log_q = slow_log_softmax([q / temperature for q in q_student])
  return sum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q))


def slow_best_action(q_teacher, q_student, temperature):
  best = int(np.argmax(q_teacher))
  return -slow_log_softmax([q / temperature for q in q_student])[best]


def slow_value_distillation(q_teacher, q_student):
  squares = [(t - s) ** 2 for t, s in zip(q_teacher, q_student)]
  return sum(squares) / len(squares)


def slow_cql(q_student, a_tm1, temperature):
  scaled = [q / temperature for q in q_student]
  return math.log(sum(math.exp(q) for q in scaled)) - scaled[a_tm1]


def slow_large_margin(q_student, expert_action, margin):
  raised = [
      q + (margin if a != expert_action else 0.0)
      for a, q in enumerate(q_student)
  ]
  return max(raised) - q_student[expert_action]


def slow_elementwise_margin(q_student, expert_action, margin):
  total = 0.0
  for a, q in enumerate(q_student):
    lead = q + (margin if a != expert_action else 0.0)
    total += max(lead - q_student[expert_action], 0.0)
  return total / len(q_student)


@functools.cache
def value_and_grad(loss, argnums=0):
  return jax.jit(jax.value_and_grad(loss, argnums))


# -- every loss with arguments of a batch --------------------------------------


def _arguments(seed=0):
  """Batched float64 arguments of every loss, by name."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: rng.normal(size=(BATCH,) + shape) * 2.0
  atoms = np.tile(np.linspace(-3.0, 3.0, ATOMS), (BATCH, 1))
  uniform = lambda n: rng.dirichlet(np.ones(n), size=BATCH)
  actions = rng.integers(0, ACTIONS, BATCH)
  tau = np.full(BATCH, TAU)
  margin = np.full(BATCH, MARGIN)
  discount = rng.uniform(0.0, 1.0, BATCH) * (rng.random(BATCH) > 0.3)
  return {
      'huber_loss': (normal(),),
      'q_learning_target': (
          normal(),
          discount,
          normal(ACTIONS),
          normal(ACTIONS),
      ),
      'categorical_projection': (
          normal(ATOMS) * 2.0,
          uniform(ATOMS),
          atoms,
      ),
      'categorical_target': (
          normal(),
          discount,
          atoms,
          normal(ACTIONS, ATOMS),
          normal(ACTIONS),
      ),
      'categorical_cross_entropy': (uniform(ATOMS), normal(ATOMS)),
      'quantile_huber_loss': (
          normal(QUANTILES),
          rng.uniform(0.0, 1.0, (BATCH, QUANTILES)),
          normal(TARGET_QUANTILES),
      ),
      'policy_distillation_kl': (normal(ACTIONS), normal(ACTIONS), tau),
      'best_action_cross_entropy': (normal(ACTIONS), normal(ACTIONS), tau),
      'value_distillation_loss': (normal(ACTIONS), normal(ACTIONS)),
      'cql_loss': (normal(ACTIONS), actions, tau),
      'large_margin_loss': (normal(ACTIONS), actions, margin),
      'elementwise_margin_loss': (normal(ACTIONS), actions, margin),
  }


SLOW = {
    'huber_loss': slow_huber,
    'q_learning_target': slow_q_learning_target,
    'categorical_projection': slow_projection,
    'categorical_target': slow_categorical_target,
    'categorical_cross_entropy': slow_cross_entropy,
    'quantile_huber_loss': slow_quantile_huber,
    'policy_distillation_kl': slow_kl,
    'best_action_cross_entropy': slow_best_action,
    'value_distillation_loss': slow_value_distillation,
    'cql_loss': slow_cql,
    'large_margin_loss': slow_large_margin,
    'elementwise_margin_loss': slow_elementwise_margin,
}

# The argument that a gradient must reach, and those that it must not.
TRAINED = {
    'huber_loss': (0, ()),
    'categorical_cross_entropy': (1, ()),
    'quantile_huber_loss': (0, ()),
    'policy_distillation_kl': (1, (0,)),
    'best_action_cross_entropy': (1, (0,)),
    'value_distillation_loss': (1, (0,)),
    'cql_loss': (0, ()),
    'large_margin_loss': (0, ()),
    'elementwise_margin_loss': (0, ()),
}

each_loss = pytest.mark.parametrize('name', sorted(SLOW))
each_trained_loss = pytest.mark.parametrize('name', sorted(TRAINED))


def _slow_batch(name, arguments):
  return np.stack([SLOW[name](*example) for example in zip(*arguments)])


def test_every_public_loss_is_tested():
  public = {
      name
      for name, value in vars(losses).items()
      if callable(value)
      if getattr(value, '__module__', '').startswith(losses.__name__)
      if not name.startswith('_')
  }
  assert public == set(SLOW)


@each_loss
def test_equals_the_slow_float64_form(name, x64):
  arguments = _arguments()[name]
  fast = jax.jit(jax.vmap(getattr(losses, name)))
  result = fast(*map(jnp.asarray, arguments))
  assert result.dtype == jnp.float64
  np.testing.assert_allclose(
      result, _slow_batch(name, arguments), rtol=1e-6, atol=1e-6
  )


@each_trained_loss
def test_gradient_equals_finite_differences_of_the_slow_form(name, x64):
  arguments = [np.array(x[0]) for x in _arguments(seed=1)[name]]
  position, _ = TRAINED[name]
  gradient = value_and_grad(getattr(losses, name), position)(
      *map(jnp.asarray, arguments)
  )[1]
  step = 1e-6
  for index in np.ndindex(arguments[position].shape):
    ends = []
    for sign in (1, -1):
      moved = [x.copy() for x in arguments]
      moved[position][index] += sign * step
      ends.append(float(SLOW[name](*moved)))
    slope = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(gradient[index], slope, rtol=1e-6, atol=1e-6)


@each_loss
def test_plain_jitted_and_vmapped_agree(name):
  arguments = [
      jnp.asarray(x, jnp.int32 if x.dtype.kind == 'i' else jnp.float32)
      for x in _arguments()[name]
  ]
  loss = getattr(losses, name)
  vmapped = jax.jit(jax.vmap(loss))(*arguments)
  jitted_loss = jax.jit(loss)
  for i in (0, 1):
    example = [x[i] for x in arguments]
    np.testing.assert_allclose(loss(*example), vmapped[i], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        jitted_loss(*example), vmapped[i], rtol=1e-5, atol=1e-5
    )


@each_trained_loss
def test_no_gradient_reaches_the_teacher(name):
  arguments = [jnp.asarray(x[0]) for x in _arguments()[name]]
  for position in TRAINED[name][1]:
    gradient = value_and_grad(getattr(losses, name), position)(*arguments)[1]
    np.testing.assert_array_equal(gradient, np.zeros(ACTIONS))


@pytest.mark.parametrize('name', ['q_learning_target', 'categorical_target'])
def test_no_gradient_flows_through_a_target(name):
  arguments = [jnp.asarray(x[0], jnp.float32) for x in _arguments()[name]]
  total = lambda *args: getattr(losses, name)(*args).sum()
  positions = tuple(range(len(arguments)))
  gradients = value_and_grad(total, positions)(*arguments)[1]
  for gradient in gradients:
    np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


# huber_loss is elementwise: any shape is an example to it.
@pytest.mark.parametrize('name', sorted(set(SLOW) - {'huber_loss'}))
def test_a_batch_where_an_example_belongs_is_refused(name):
  arguments = [jnp.asarray(x) for x in _arguments()[name]]
  with pytest.raises(AssertionError):
    getattr(losses, name)(*arguments)


def test_integer_errors_are_refused():
  with pytest.raises(AssertionError):
    losses.huber_loss(jnp.arange(3))


# -- reference numbers ---------------------------------------------------------

check_loss = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
check_gradient = functools.partial(
    np.testing.assert_allclose, rtol=0, atol=5e-6
)


def _distillation(mode, best, temperature):
  """The loss of one example for one of the reference's three modes."""

  def loss(q_teacher, q_student):
    policy_loss = (
        losses.best_action_cross_entropy
        if best
        else losses.policy_distillation_kl
    )
    total = 0.0
    if mode != 'VALUE_ONLY':
      total += policy_loss(q_teacher, q_student, temperature)
    if mode != 'POLICY_ONLY':
      total += losses.value_distillation_loss(q_teacher, q_student)
    return total

  return loss


def _per_example_and_gradient(loss, student_q, *others):
  """The [B] losses, and the gradient of their mean by student_q."""

  def mean(q):
    per_example = jax.vmap(loss)(q, *others)
    return per_example.mean(), per_example

  gradient, per_example = jax.jit(jax.grad(mean, has_aux=True))(student_q)
  return per_example, gradient


@pytest.mark.parametrize('temperature', [0.1, 1])
@pytest.mark.parametrize('kind', ['kl', 'best'])
@pytest.mark.parametrize(
    'mode', ['POLICY_ONLY', 'POLICY_AND_VALUE', 'VALUE_ONLY']
)
def test_distillation_equals_the_reference(golden, temperature, kind, mode):
  data = golden('losses')
  loss = _distillation(mode, kind == 'best', temperature)
  per_example, gradient = _per_example_and_gradient(
      lambda q_s, q_t: loss(q_t, q_s), data['student_q'], data['teacher_q']
  )
  name = f'distill_T{temperature}_{kind}_{mode}'
  check_loss(per_example, data[f'{name}_per_example'])
  check_loss(per_example.mean(), data[f'{name}_mean'])
  check_gradient(gradient, data[f'{name}_grad'])


@pytest.mark.parametrize('temperature', [0.1, 1])
def test_kl_equals_the_reference(golden, temperature):
  data = golden('losses')
  kl = jax.jit(jax.vmap(losses.policy_distillation_kl, in_axes=(0, 0, None)))(
      data['teacher_q'], data['student_q'], temperature
  )
  check_loss(kl, data[f'kl_T{temperature}'])
  assert kl[3] == 0.0  # There the student equals the teacher.


@pytest.mark.parametrize('temperature', [0.1, 1])
def test_cql_equals_the_reference(golden, temperature):
  data = golden('losses')
  per_example, gradient = _per_example_and_gradient(
      lambda q, a: losses.cql_loss(q, a, temperature),
      data['student_q'],
      data['actions'],
  )
  check_loss(per_example, data[f'cql_T{temperature}_per_example'])
  check_gradient(gradient, data[f'cql_T{temperature}_grad'])


@pytest.mark.parametrize('margin', [0.8, 0.1])
@pytest.mark.parametrize(
    'kind, loss',
    [
        ('dqfd', losses.large_margin_loss),
        ('elementwise', losses.elementwise_margin_loss),
    ],
)
def test_margin_equals_the_reference(golden, margin, kind, loss):
  data = golden('losses')
  per_example, gradient = _per_example_and_gradient(
      lambda q, a: loss(q, a, margin), data['student_q'], data['actions']
  )
  check_loss(per_example.mean(), data[f'margin_{margin}_{kind}'])
  check_gradient(gradient, data[f'margin_{margin}_{kind}_grad'])


@pytest.mark.parametrize(
    'kind, loss',
    [('huber', losses.huber_loss), ('mse', lambda error: error**2)],
)
def test_q_learning_equals_the_reference(golden, kind, loss):
  data = golden('losses')
  per_example, gradient = _per_example_and_gradient(
      lambda q, a, target: loss(target - q[a]),
      data['student_q'],
      data['actions'],
      data['td_target'],
  )
  check_loss(per_example, data[f'qlearning_{kind}_per_example'])
  check_loss(per_example.mean(), data[f'qlearning_{kind}_mean'])
  check_gradient(gradient, data[f'qlearning_{kind}_grad'])


# -- edge cases ----------------------------------------------------------------

HUGE = 1e3
COLD = 0.1
EDGES = {
    'huge_opposite': ([HUGE, -HUGE, 0.0], [-HUGE, HUGE, 0.0]),
    'huge_equal': ([HUGE, HUGE, HUGE], [HUGE, HUGE, HUGE]),
    'all_equal': ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    'one_action': ([2.0], [-1.0]),
    'two_best': ([1.0, 1.0, 0.0], [0.0, 1.0, 1.0]),
}
each_edge = pytest.mark.parametrize('edge', sorted(EDGES))


@each_edge
@pytest.mark.parametrize(
    'loss',
    [losses.policy_distillation_kl, losses.best_action_cross_entropy],
)
def test_cold_distillation_is_finite(loss, edge):
  q_teacher, q_student = map(jnp.asarray, EDGES[edge])
  value, gradient = value_and_grad(loss, 1)(q_teacher, q_student, COLD)
  assert np.isfinite(value) and value >= 0.0
  assert np.isfinite(gradient).all()


@each_edge
@pytest.mark.parametrize(
    'loss, size',
    [
        (losses.cql_loss, COLD),
        (losses.large_margin_loss, 1.0),
        (losses.elementwise_margin_loss, 1.0),
    ],
)
def test_losses_of_an_action_are_finite(loss, size, edge):
  q_student = jnp.asarray(EDGES[edge][1])
  value, gradient = value_and_grad(loss)(q_student, 0, size)
  assert np.isfinite(value) and value >= 0.0
  assert np.isfinite(gradient).all()


def test_cold_and_huge_has_the_right_value_and_gradient():
  """All of the teacher's mass is where the student has none."""
  q_teacher, q_student = map(jnp.asarray, EDGES['huge_opposite'])
  value, gradient = value_and_grad(losses.policy_distillation_kl, 1)(
      q_teacher, q_student, COLD
  )
  np.testing.assert_allclose(value, 2 * HUGE / COLD, rtol=1e-6)
  np.testing.assert_allclose(gradient, [-1 / COLD, 1 / COLD, 0.0], rtol=1e-6)


def test_all_equal_values_have_the_known_losses():
  zeros = jnp.zeros(4)
  kl = losses.policy_distillation_kl(zeros, zeros, COLD)
  assert kl == 0.0
  for loss in (
      losses.best_action_cross_entropy(zeros, zeros, COLD),
      losses.cql_loss(zeros, 2, COLD),
  ):
    np.testing.assert_allclose(loss, math.log(4), rtol=1e-6)
  assert losses.large_margin_loss(zeros, 2, 0.8) == np.float32(0.8)
  np.testing.assert_allclose(
      losses.elementwise_margin_loss(zeros, 2, 0.8), 0.8 * 3 / 4, rtol=1e-6
  )


def test_one_action_leaves_nothing_to_imitate():
  q_teacher, q_student = jnp.array([2.0]), jnp.array([-1.0])
  for loss in (
      losses.policy_distillation_kl(q_teacher, q_student, COLD),
      losses.best_action_cross_entropy(q_teacher, q_student, COLD),
      losses.cql_loss(q_student, 0, COLD),
      losses.large_margin_loss(q_student, 0, 1.0),
      losses.elementwise_margin_loss(q_student, 0, 1.0),
  ):
    assert loss == 0.0
  assert losses.value_distillation_loss(q_teacher, q_student) == 9.0
  target = losses.q_learning_target(
      jnp.float32(1.0), jnp.float32(0.5), q_teacher, q_teacher
  )
  assert target == 2.0


def test_atoms_of_zero_probability():
  logits = jnp.array([0.0, 200.0, -200.0])  # Only the second has any mass.
  loss = value_and_grad(losses.categorical_cross_entropy, 1)
  value, gradient = loss(jnp.array([0.0, 1.0, 0.0]), logits)
  assert value == 0.0
  np.testing.assert_array_equal(gradient, np.zeros(3))
  value, gradient = loss(jnp.array([1.0, 0.0, 0.0]), logits)
  np.testing.assert_allclose(value, 200.0, rtol=1e-6)
  np.testing.assert_allclose(gradient, [-1.0, 1.0, 0.0], atol=1e-6)


jitted_categorical_target = jax.jit(losses.categorical_target)


@pytest.mark.parametrize(
    'r_t, expected',
    [
        (0.0, [0.0, 0.0, 1.0, 0.0, 0.0]),
        (0.25, [0.0, 0.0, 0.75, 0.25, 0.0]),
        (-2.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
        (99.0, [0.0, 0.0, 0.0, 0.0, 1.0]),
        (-99.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_terminal_target_is_the_reward_alone(r_t, expected):
  atoms = jnp.linspace(-2.0, 2.0, 5)
  logits = jnp.arange(10.0).reshape(2, 5)
  target = jitted_categorical_target(
      jnp.float32(r_t), jnp.float32(0.0), atoms, logits, jnp.zeros(2)
  )
  np.testing.assert_allclose(target, expected, atol=1e-6)


def test_projection_keeps_all_mass():
  z_p, probs, atoms = _arguments()['categorical_projection']
  project = jax.jit(jax.vmap(losses.categorical_projection))
  projected = project(z_p, probs, atoms)
  np.testing.assert_allclose(projected.sum(axis=1), np.ones(BATCH), rtol=1e-6)


def test_double_learning_evaluates_the_selectors_choice():
  target = losses.q_learning_target(
      jnp.float32(1.0),
      jnp.float32(0.9),
      q_t=jnp.array([5.0, 2.0]),
      q_t_selector=jnp.array([0.0, 1.0]),
  )
  np.testing.assert_allclose(target, 1.0 + 0.9 * 2.0, rtol=1e-6)


def test_huber_turns_linear_at_delta():
  error = jnp.array([-3.0, -1.0, 0.0, 0.5, 1.0, 3.0])
  np.testing.assert_allclose(
      losses.huber_loss(error), [2.5, 0.5, 0.0, 0.125, 0.5, 2.5]
  )
  slopes = jax.jit(jax.vmap(jax.grad(losses.huber_loss)))(error)
  np.testing.assert_allclose(slopes, [-1.0, -1.0, 0.0, 0.5, 1.0, 1.0])
  np.testing.assert_allclose(losses.huber_loss(error, 2.0)[-1], 2.0 * 2.0)


def test_quantile_loss_weighs_over_and_underestimates():
  loss = lambda value, tau: losses.quantile_huber_loss(
      jnp.array([value]), jnp.array([tau]), jnp.array([0.0])
  )
  np.testing.assert_allclose(loss(-2.0, 0.9), 0.9 * 1.5, rtol=1e-6)
  np.testing.assert_allclose(loss(2.0, 0.9), 0.1 * 1.5, rtol=1e-5)


def test_the_expert_leading_by_the_margin_costs_nothing():
  q_student = jnp.array([0.0, 2.0, 1.0])
  for loss in (losses.large_margin_loss, losses.elementwise_margin_loss):
    value, gradient = value_and_grad(loss)(q_student, 1, 0.5)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(3))
