"""Losses and value targets of all methods, each on one example.

Callers vmap these functions over the batch and average the results. Shapes
describe one example: A actions, N atoms or quantiles. Not here: the weighted
sum of the losses (`learner.objective`), and networks.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def huber_loss(error: jax.Array, delta: float = 1.0) -> jax.Array:
  """Quadratic within `delta` of zero, linear outside (Huber, 1964).

  Args:
    error: any shape.
    delta: absolute error at which the loss becomes linear.

  Returns:
    The elementwise loss, shape of `error`.
  """
  chex.assert_type(error, float)
  abs_error = jnp.abs(error)
  quadratic = jnp.minimum(abs_error, delta)
  return 0.5 * quadratic**2 + delta * (abs_error - quadratic)


def q_learning_target(
    r_t: jax.Array,
    discount_t: jax.Array,
    q_t: jax.Array,
    q_t_selector: jax.Array,
) -> jax.Array:
  """r + discount * Q(s', argmax_a selector(a)) (Hasselt et al., 2016, eq. 4).

  The selector is the target network itself in DQN, the online network in
  double DQN. No gradient flows through the result.

  Args:
    r_t: [] n-step return.
    discount_t: [] gamma^n, zero after a terminal.
    q_t: [A] values to bootstrap from.
    q_t_selector: [A] values that choose the action.

  Returns:
    [] the target.
  """
  chex.assert_rank([r_t, discount_t, q_t, q_t_selector], [0, 0, 1, 1])
  chex.assert_type([r_t, discount_t, q_t, q_t_selector], float)
  return jax.lax.stop_gradient(r_t + discount_t * q_t[jnp.argmax(q_t_selector)])


def categorical_projection(
    z_p: jax.Array, probs: jax.Array, z_q: jax.Array
) -> jax.Array:
  """Projects a distribution on atoms z_p onto atoms z_q.

  Bellemare et al. (2017), eq. 7. Mass outside the range of z_q goes to the
  first or last atom.

  Args:
    z_p: [N] atoms of the distribution.
    probs: [N] probabilities of these atoms.
    z_q: [M] evenly spaced atoms of the result, ascending.

  Returns:
    [M] probabilities.
  """
  chex.assert_rank([z_p, probs, z_q], 1)
  chex.assert_equal_shape([z_p, probs])
  chex.assert_type([z_p, probs, z_q], float)
  delta_z = z_q[1] - z_q[0]
  clipped = jnp.clip(z_p, z_q[0], z_q[-1])
  distance = jnp.abs(clipped[None, :] - z_q[:, None]) / delta_z  # [M, N]
  return jnp.sum(jnp.clip(1.0 - distance, 0.0, 1.0) * probs[None, :], axis=1)


def categorical_target(
    r_t: jax.Array,
    discount_t: jax.Array,
    atoms: jax.Array,
    logits_t: jax.Array,
    q_t_selector: jax.Array,
) -> jax.Array:
  """The projected Bellman target distribution (Bellemare et al., 2017, alg. 1).

  Args:
    r_t: [] n-step return.
    discount_t: [] gamma^n, zero after a terminal.
    atoms: [N] the support.
    logits_t: [A, N] logits of the target network at s'.
    q_t_selector: [A] values that choose the action at s'.

  Returns:
    [N] target probabilities; no gradient flows through them.
  """
  chex.assert_rank([r_t, discount_t, atoms, logits_t], [0, 0, 1, 2])
  chex.assert_rank(q_t_selector, 1)
  probs = jax.nn.softmax(logits_t[jnp.argmax(q_t_selector)])
  target = categorical_projection(r_t + discount_t * atoms, probs, atoms)
  return jax.lax.stop_gradient(target)


def categorical_cross_entropy(
    target_probs: jax.Array, logits: jax.Array
) -> jax.Array:
  """-sum_i p_i log softmax(logits)_i, the C51 loss.

  Args:
    target_probs: [N] probabilities of the atoms.
    logits: [N] logits of the online network.

  Returns:
    [] the cross-entropy.
  """
  chex.assert_rank([target_probs, logits], 1)
  chex.assert_equal_shape([target_probs, logits])
  return -jnp.sum(target_probs * jax.nn.log_softmax(logits))


def quantile_huber_loss(
    values: jax.Array,
    quantiles: jax.Array,
    target_values: jax.Array,
    kappa: float = 1.0,
) -> jax.Array:
  """Implicit quantile regression loss (Dabney et al., 2018b, eq. 3).

  Args:
    values: [N] quantile values of the action taken.
    quantiles: [N] probabilities tau of these values.
    target_values: [M] samples of the Bellman target.
    kappa: absolute error at which the Huber part becomes linear.

  Returns:
    [] the loss, summed over the N quantiles and averaged over the M samples.
  """
  chex.assert_rank([values, quantiles, target_values], 1)
  chex.assert_equal_shape([values, quantiles])
  errors = target_values[:, None] - values[None, :]  # [M, N]
  below = (jax.lax.stop_gradient(errors) < 0.0).astype(values.dtype)
  weight = jnp.abs(quantiles[None, :] - below)
  return jnp.mean(jnp.sum(weight * huber_loss(errors, kappa) / kappa, axis=1))


def policy_distillation_kl(
    q_teacher: jax.Array, q_student: jax.Array, temperature: jax.Array
) -> jax.Array:
  """KL(softmax(Q_T / tau) || softmax(Q_S / tau)), without a tau^2 factor.

  The distillation term of QDagger and kickstarting (Agarwal et al., 2022,
  eq. 2).

  Args:
    q_teacher: [A] Q-values of the teacher.
    q_student: [A] Q-values of the student.
    temperature: [] tau, positive.

  Returns:
    [] the divergence, zero or more.
  """
  chex.assert_rank([q_teacher, q_student], 1)
  chex.assert_equal_shape([q_teacher, q_student])
  log_p = jax.nn.log_softmax(jax.lax.stop_gradient(q_teacher) / temperature)
  log_q = jax.nn.log_softmax(q_student / temperature)
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def best_action_cross_entropy(
    q_teacher: jax.Array, q_student: jax.Array, temperature: jax.Array
) -> jax.Array:
  """-log softmax(Q_S / tau) at the teacher's greedy action.

  Args:
    q_teacher: [A] Q-values of the teacher.
    q_student: [A] Q-values of the student.
    temperature: [] tau, positive.

  Returns:
    [] the cross-entropy with the teacher's greedy policy.
  """
  chex.assert_rank([q_teacher, q_student], 1)
  chex.assert_equal_shape([q_teacher, q_student])
  return -jax.nn.log_softmax(q_student / temperature)[jnp.argmax(q_teacher)]


def value_distillation_loss(
    q_teacher: jax.Array, q_student: jax.Array
) -> jax.Array:
  """Mean over actions of (Q_T - Q_S)^2; no temperature.

  Args:
    q_teacher: [A] Q-values of the teacher.
    q_student: [A] Q-values of the student.

  Returns:
    [] the mean squared difference.
  """
  chex.assert_rank([q_teacher, q_student], 1)
  chex.assert_equal_shape([q_teacher, q_student])
  return jnp.mean((jax.lax.stop_gradient(q_teacher) - q_student) ** 2)


def cql_loss(
    q_student: jax.Array, a_tm1: jax.Array, temperature: jax.Array
) -> jax.Array:
  """logsumexp(Q / tau) - Q(a) / tau (Kumar et al., 2020, eq. 4, H = entropy).

  Args:
    q_student: [A] Q-values of the student.
    a_tm1: [] action in the data.
    temperature: [] tau, positive.

  Returns:
    [] the negative log-likelihood of the data's action.
  """
  chex.assert_rank([q_student, a_tm1], [1, 0])
  return -jax.nn.log_softmax(q_student / temperature)[a_tm1]


def large_margin_loss(
    q_student: jax.Array, expert_action: jax.Array, margin: jax.Array
) -> jax.Array:
  """max_a [Q(a) + m 1(a != a_E)] - Q(a_E) (Hester et al., 2018, eq. 2).

  Args:
    q_student: [A] Q-values of the student.
    expert_action: [] a_E, action of the expert.
    margin: [] m, the lead that a_E should have.

  Returns:
    [] the loss, zero where a_E leads by the margin.
  """
  chex.assert_rank([q_student, expert_action], [1, 0])
  lead = _with_margin(q_student, expert_action, margin)
  # jnp.max would split the gradient between tied actions. With argmax the first
  # of them takes all of it.
  return lead[jnp.argmax(lead)] - q_student[expert_action]


def elementwise_margin_loss(
    q_student: jax.Array, expert_action: jax.Array, margin: jax.Array
) -> jax.Array:
  """Mean over actions of max(Q(a) + m 1(a != a_E) - Q(a_E), 0).

  Args:
    q_student: [A] Q-values of the student.
    expert_action: [] a_E, action of the expert.
    margin: [] m, the lead that a_E should have.

  Returns:
    [] the loss. Each action within the margin of a_E contributes; in
    `large_margin_loss` only the largest does.
  """
  chex.assert_rank([q_student, expert_action], [1, 0])
  lead = _with_margin(q_student, expert_action, margin)
  return jnp.mean(jnp.maximum(lead - q_student[expert_action], 0.0))


def _with_margin(
    q_student: jax.Array, expert_action: jax.Array, margin: jax.Array
) -> jax.Array:
  others = jnp.arange(q_student.shape[0]) != expert_action
  return q_student + margin * others
