"""One objective, one update: every value-based method of the package.

objective = td_coefficient * TD
          + distill_coefficient * lambda * distillation
          + cql_coefficient * CQL + margin_coefficient * lambda * margin

Which terms exist is static (`Objective`); every coefficient is an array leaf
(`Coefficients`), so a decaying lambda never recompiles. `update` is pure;
`update_from_replay` samples, updates and writes priorities back in one
dispatch; `update_many` makes K of those, as the backend does it best. Not
here: when to update, and where the numbers go.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from reincarnating_rl import augmentation
from reincarnating_rl import losses
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.types import NetworkOutput
from reincarnating_rl.types import TransitionBatch

TD_LOSSES = ('huber', 'mse', 'categorical', 'quantile')
DISTILL_TYPES = ('none', 'policy', 'value', 'both')
MARGIN_TYPES = ('none', 'dqfd', 'elementwise')


@dataclasses.dataclass(frozen=True)
class Objective:
  """Which terms the loss has; static, so absent terms cost nothing.

  Attributes:
    td: TD loss, one of TD_LOSSES, or 'none' (pure distillation).
    double: bootstrap from the action that the online network prefers.
    distill: one of DISTILL_TYPES.
    distill_best_action_only: cross-entropy with the teacher's greedy action
      instead of the KL divergence.
    cql: whether there is a CQL term.
    margin: one of MARGIN_TYPES.
    use_teacher_actions: the margin's expert action is the teacher's greedy
      one instead of the data's.
    augment: shift and intensity augmentation of the images.
    num_target_quantiles: target samples of the quantile loss.
  """

  td: str = 'huber'
  double: bool = False
  distill: str = 'none'
  distill_best_action_only: bool = False
  cql: bool = False
  margin: str = 'none'
  use_teacher_actions: bool = True
  augment: bool = False
  num_target_quantiles: int = 64

  def __post_init__(self):
    _check_choice('td', self.td, TD_LOSSES + ('none',))
    _check_choice('distill', self.distill, DISTILL_TYPES)
    _check_choice('margin', self.margin, MARGIN_TYPES)

  @property
  def needs_teacher(self) -> bool:
    """Whether a batch must hold the teacher's Q-values."""
    by_margin = self.margin != 'none' and self.use_teacher_actions
    return self.distill != 'none' or by_margin


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise ValueError(f'Objective.{name} is {value!r}; choose from {choices}.')


class Coefficients(NamedTuple):
  """Numbers that may decay, or differ between members; all [] float32."""

  learning_rate: Any = 6.25e-5
  td: Any = 1.0
  distill: Any = 1.0  # c, multiplied by lambda
  lambda_: Any = 0.0  # distillation weight, 1 at first, 0 when weaned
  temperature: Any = 1.0  # tau
  cql: Any = 1.0
  margin: Any = 1.0  # coefficient of the margin term, multiplied by lambda
  margin_size: Any = 1.0  # m

  def as_arrays(self) -> Coefficients:
    """New float32 leaves: other values never recompile anything."""
    return Coefficients(*(jnp.array(x, jnp.float32) for x in self))


class LearnerState(NamedTuple):
  """Everything that one update changes or needs."""

  online_params: Any
  target_params: Any
  opt_state: Any
  rng_key: jax.Array
  coefficients: Coefficients
  updates: jax.Array  # [] int32, gradient steps made


class UpdateExtra(NamedTuple):
  """By-products of an update."""

  metrics: dict[str, jax.Array]  # [] float32 each
  priorities: jax.Array  # [B] float32


@functools.cache  # one object, so that equal learners are equal
def adam_direction(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1.5e-4
) -> optax.GradientTransformation:
  """Adam without its learning rate, which is a coefficient of ours."""
  return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


@functools.cache
def rmsprop_direction(
    decay: float = 0.95, eps: float = 1e-5, centered: bool = True
) -> optax.GradientTransformation:
  """RMSProp without its learning rate (centered: Graves, 2013)."""
  scale = optax.scale_by_stddev if centered else optax.scale_by_rms
  return scale(decay=decay, eps=eps)


@dataclasses.dataclass(frozen=True)
class Learner:
  """Pure functions of one network, objective and optimizer.

  Hashable and compared by value, so that equal learners share compiled code.

  Attributes:
    network: module returning a `NetworkOutput`.
    objective: the terms of the loss.
    optimizer: direction of the step, before the learning rate.
  """

  network: nn.Module
  objective: Objective
  optimizer: optax.GradientTransformation

  def init(
      self,
      rng_key: jax.Array,
      observation_shape: tuple[int, ...] = (84, 84, 4),
      coefficients: Coefficients = Coefficients(),
  ) -> LearnerState:
    """Fresh parameters, equal target, zero optimizer state.

    Args:
      rng_key: consumed.
      observation_shape: (H, W, C).
      coefficients: their initial values.
    """
    rng_key, params_key, noise_key = jax.random.split(rng_key, 3)
    zeros = jnp.zeros((1,) + tuple(observation_shape), jnp.uint8)
    params = _init_params(self.network, params_key, zeros, noise_key)
    return self.from_params(rng_key, params, coefficients)

  def from_params(
      self,
      rng_key: jax.Array,
      params: Any,
      coefficients: Coefficients = Coefficients(),
  ) -> LearnerState:
    """A fresh state around copies of what is given: states are donated."""
    copy = functools.partial(jax.tree.map, jnp.array)
    return LearnerState(
        online_params=copy(params),
        target_params=copy(params),
        opt_state=self.optimizer.init(params),
        rng_key=jnp.copy(rng_key),
        coefficients=coefficients.as_arrays(),
        updates=jnp.int32(0),
    )

  def apply(
      self,
      params: Any,
      states: jax.Array,
      rng_key: Optional[jax.Array] = None,
      **options: Any,
  ) -> NetworkOutput:
    """The network on [..., H, W, C] uint8 states."""
    return self.network.apply({'params': params}, states, rng_key, **options)

  def update(
      self, state: LearnerState, batch: TransitionBatch
  ) -> tuple[LearnerState, UpdateExtra]:
    """One gradient step.

    Args:
      state: current state.
      batch: B transitions, `q_teacher` included if the objective needs it.

    Returns:
      The next state; the metrics and new priorities of the batch.
    """
    rng_key, update_key = jax.random.split(state.rng_key)
    grads, extra = jax.grad(self._loss, has_aux=True)(
        state.online_params,
        state.target_params,
        state.coefficients,
        batch,
        update_key,
    )
    direction, opt_state = self.optimizer.update(
        grads, state.opt_state, state.online_params
    )
    rate = state.coefficients.learning_rate
    online_params = jax.tree.map(
        lambda p, d: p - rate * d, state.online_params, direction
    )
    state = state._replace(
        online_params=online_params,
        opt_state=opt_state,
        rng_key=rng_key,
        updates=state.updates + 1,
    )
    return state, extra

  def _loss(
      self,
      params: Any,
      target_params: Any,
      coefficients: Coefficients,
      batch: TransitionBatch,
      rng_key: jax.Array,
  ) -> tuple[jax.Array, UpdateExtra]:
    """The objective, averaged over the batch with its weights."""
    keys = jax.random.split(rng_key, 5)
    s_tm1, s_t = batch.s_tm1, batch.s_t
    if self.objective.augment:
      s_tm1 = augmentation.augment(keys[0], s_tm1)
      s_t = augmentation.augment(keys[1], s_t)
    batch = batch._replace(s_tm1=s_tm1, s_t=s_t)
    online, online_t = self._online_outputs(params, batch, keys[2])
    td_loss = self._td_loss(online, online_t, target_params, batch, keys[3:])
    terms = {'td_loss': td_loss}
    weights = {'td_loss': coefficients.td}
    _add_auxiliary_terms(
        self.objective, coefficients, batch, online.q_values, terms, weights
    )
    means = {k: jnp.mean(batch.weight * v) for k, v in terms.items()}
    loss = sum(weights[k] * v for k, v in means.items())
    metrics = {'loss': loss} | means
    metrics |= diagnostics(online.q_values, batch)
    priorities = jnp.sqrt(td_loss + frame_replay.PRIORITY_EPSILON)
    extra = UpdateExtra(metrics, priorities)
    return loss, jax.lax.stop_gradient(extra)

  def _online_outputs(
      self, params: Any, batch: TransitionBatch, rng_key: jax.Array
  ) -> tuple[NetworkOutput, Optional[NetworkOutput]]:
    """Online outputs at s_tm1 and, for double learning only, at s_t.

    Two passes: one over the concatenated states would carry the second half,
    which needs no gradient, through the backward pass too (measured: twice
    the time of the whole update).
    """
    online_key, online_t_key = jax.random.split(rng_key)
    online = self.apply(params, batch.s_tm1, online_key)
    if not self.objective.double:
      return online, None
    frozen = jax.lax.stop_gradient(params)
    return online, self.apply(frozen, batch.s_t, online_t_key)

  def _td_loss(
      self,
      online: NetworkOutput,
      online_t: Optional[NetworkOutput],
      target_params: Any,
      batch: TransitionBatch,
      keys: jax.Array,
  ) -> jax.Array:
    """[B] TD losses, unweighted."""
    kind = self.objective.td
    if kind == 'none':
      return jnp.zeros_like(batch.r_t)
    options = {}
    if kind == 'quantile':
      options['num_quantiles'] = self.objective.num_target_quantiles
    rng_key = keys[0]
    target = self.apply(target_params, batch.s_t, rng_key, **options)
    selector = (online_t or target).q_values
    if kind == 'categorical':
      target_probs = jax.vmap(
          losses.categorical_target, in_axes=(0, 0, None, 0, 0)
      )(
          batch.r_t,
          batch.discount_t,
          jnp.asarray(self.network.atoms),
          target.logits,
          selector,
      )
      logits = _select_action(online.logits, batch.a_tm1)
      return jax.vmap(losses.categorical_cross_entropy)(target_probs, logits)
    if kind == 'quantile':
      return _quantile_td_loss(online, target, selector, batch)
    targets = jax.vmap(losses.q_learning_target)(
        batch.r_t, batch.discount_t, target.q_values, selector
    )
    errors = targets - _select_action(online.q_values, batch.a_tm1)
    return errors**2 if kind == 'mse' else losses.huber_loss(errors)

  def update_from_replay(
      self,
      spec: frame_replay.ReplaySpec,
      batch_size: int,
      state: LearnerState,
      storage: frame_replay.Storage,
      priorities: frame_replay.Priorities,
      prioritized: bool = False,
  ) -> tuple[LearnerState, frame_replay.Priorities, dict[str, jax.Array]]:
    """Samples, updates, writes priorities back: nothing leaves the device.

    Args:
      spec: static description of the replay.
      batch_size: B.
      state: current state.
      storage: the replay's columns, only read.
      priorities: the replay's weights.
      prioritized: whether priorities are written back.

    Returns:
      The next state, the next weights, and the metrics.
    """
    rng_key, sample_key = jax.random.split(state.rng_key)
    batch, indices = frame_replay.sample(
        spec, storage, priorities, sample_key, batch_size
    )
    state, extra = self.update(state._replace(rng_key=rng_key), batch)
    if prioritized:
      priorities = frame_replay.update_priorities(
          priorities, indices, extra.priorities
      )
    return state, priorities, extra.metrics


@functools.partial(jax.jit, static_argnums=0)
def _init_params(
    network: nn.Module, rng_key: jax.Array, states: jax.Array, noise_key: Any
) -> Any:
  return network.init(rng_key, states, noise_key)['params']


def _quantile_td_loss(
    online: NetworkOutput,
    target: NetworkOutput,
    selector: jax.Array,
    batch: TransitionBatch,
) -> jax.Array:
  best = jnp.argmax(selector, axis=-1)
  take = jax.vmap(lambda values, action: values[:, action])
  samples = take(target.quantile_values, best)  # [B, M]
  targets = batch.r_t[:, None] + batch.discount_t[:, None] * samples
  values = take(online.quantile_values, batch.a_tm1)
  return jax.vmap(losses.quantile_huber_loss)(
      values, online.quantiles, jax.lax.stop_gradient(targets)
  )


def _add_auxiliary_terms(
    objective: Objective,
    coefficients: Coefficients,
    batch: TransitionBatch,
    q_tm1: jax.Array,
    terms: dict[str, jax.Array],
    weights: dict[str, jax.Array],
) -> None:
  """Adds the [B] losses that exist beside TD, and their weights."""
  if objective.distill != 'none':
    loss = _distillation(objective, coefficients, batch.q_teacher, q_tm1)
    terms['distill_loss'] = loss
    weights['distill_loss'] = coefficients.lambda_ * coefficients.distill
  if objective.cql:
    terms['cql_loss'] = jax.vmap(losses.cql_loss, in_axes=(0, 0, None))(
        q_tm1, batch.a_tm1, coefficients.temperature
    )
    weights['cql_loss'] = coefficients.cql
  if objective.margin != 'none':
    expert = batch.a_tm1
    if objective.use_teacher_actions:
      expert = jnp.argmax(batch.q_teacher, axis=-1)
    loss_fn = {
        'dqfd': losses.large_margin_loss,
        'elementwise': losses.elementwise_margin_loss,
    }[objective.margin]
    terms['margin_loss'] = jax.vmap(loss_fn, in_axes=(0, 0, None))(
        q_tm1, expert, coefficients.margin_size
    )
    weights['margin_loss'] = coefficients.lambda_ * coefficients.margin


def _distillation(
    objective: Objective,
    coefficients: Coefficients,
    q_teacher: jax.Array,
    q_tm1: jax.Array,
) -> jax.Array:
  """[B] distillation losses."""
  policy_loss = (
      losses.best_action_cross_entropy
      if objective.distill_best_action_only
      else losses.policy_distillation_kl
  )
  total = jnp.zeros(q_tm1.shape[0])
  if objective.distill in ('policy', 'both'):
    total += jax.vmap(policy_loss, in_axes=(0, 0, None))(
        q_teacher, q_tm1, coefficients.temperature
    )
  if objective.distill in ('value', 'both'):
    total += jax.vmap(losses.value_distillation_loss)(q_teacher, q_tm1)
  return total


def _select_action(values: jax.Array, actions: jax.Array) -> jax.Array:
  return jax.vmap(lambda v, a: v[a])(values, actions)


def diagnostics(
    q_tm1: jax.Array, batch: TransitionBatch
) -> dict[str, jax.Array]:
  """Numbers that tell how a value function behaves, averaged over the batch.

  Args:
    q_tm1: [B, A] online Q-values.
    batch: the transitions.

  Returns:
    'q' of the data's action; 'max_q'; 'action_gap' between the two largest;
    'teacher_agreement', the share of states with the teacher's greedy action.
  """
  metrics = {
      'q': jnp.mean(_select_action(q_tm1, batch.a_tm1)),
      'max_q': jnp.mean(q_tm1.max(axis=-1)),
  }
  if q_tm1.shape[-1] > 1:
    top = jax.lax.top_k(q_tm1, 2)[0]
    metrics['action_gap'] = jnp.mean(top[:, 0] - top[:, 1])
  if batch.q_teacher is not None:
    same = q_tm1.argmax(axis=-1) == batch.q_teacher.argmax(axis=-1)
    metrics['teacher_agreement'] = jnp.mean(same.astype(jnp.float32))
  return metrics


@functools.lru_cache(maxsize=None)
def make_updater(
    learner: Learner,
    spec: frame_replay.ReplaySpec,
    batch_size: int,
    prioritized: bool,
    scan: bool,
) -> Callable[..., Any]:
  """Compiles the learner for one replay.

  Args:
    learner: pure functions.
    spec: static description of the replay.
    batch_size: B.
    prioritized: whether priorities are written back.
    scan: run K updates as one scan (right for a GPU) or as K dispatches
      (right for a CPU, where convolutions inside a scan are many times
      slower). The results are the same.

  Returns:
    `update_many(state, storage, priorities, num_updates)` which gives (state,
    priorities, metrics of [num_updates] each, on the device), donating state
    and priorities.
  """

  def one(state, priorities, storage):
    return learner.update_from_replay(
        spec, batch_size, state, storage, priorities, prioritized
    )

  one_jit = jax.jit(one, donate_argnums=(0, 1))

  def dispatches(state, priorities, storage, num_updates):
    collected = []
    for _ in range(num_updates):
      state, priorities, metrics = one_jit(state, priorities, storage)
      collected.append(metrics)
    return state, priorities, {k: [m[k] for m in collected] for k in metrics}

  @functools.partial(jax.jit, donate_argnums=(0, 1), static_argnums=3)
  def scanned(state, priorities, storage, num_updates):
    def body(carry, _):
      state, priorities, metrics = one(*carry, storage)
      return (state, priorities), metrics

    carry, metrics = jax.lax.scan(body, (state, priorities), length=num_updates)
    return *carry, metrics

  def update_many(state, storage, priorities, num_updates):
    if num_updates < 1:
      raise ValueError(f'num_updates must be positive, got {num_updates}.')
    run = scanned if scan else dispatches
    return run(state, priorities, storage, num_updates)

  return update_many


@functools.partial(jax.jit, donate_argnums=0)
def sync_target(state: LearnerState) -> LearnerState:
  """Copies the online parameters into the target; donates the state."""
  return state._replace(
      target_params=jax.tree.map(jnp.copy, state.online_params)
  )
