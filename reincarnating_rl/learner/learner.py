"""One update: every value-based method of the package.

`update` is pure; `update_from_replay` samples, updates and writes priorities
back in one dispatch. Not here: what is minimised (`objective`), how many
updates are made at once (`updater`), when, and where the numbers go.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reincarnating_rl.base.schedules import Annealing
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner import augmentation
from reincarnating_rl.learner.diagnostics import diagnostics
from reincarnating_rl.learner.objective import Coefficients
from reincarnating_rl.learner.objective import Objective
from reincarnating_rl.learner.temporal_difference import td_losses
from reincarnating_rl.replay import frame_replay

# (state, rng key, the replay's batch) -> a batch, and [B] bool: where it is the
# replay's.
Mix = Callable[
    ['LearnerState', jax.Array, TransitionBatch],
    tuple[TransitionBatch, jax.Array],
]

# Out of the range of every replay: nothing is written there.
_NO_ROW = np.iinfo(np.int32).max


class LearnerState(NamedTuple):
  """Everything that one update changes or needs."""

  online_params: Any
  target_params: Any
  opt_state: Any
  rng_key: jax.Array
  coefficients: Coefficients
  updates: jax.Array  # [] int32, gradient steps made
  since_reset: jax.Array  # [] int32, those since the beginning or last reset


class UpdateExtra(NamedTuple):
  """By-products of an update."""

  metrics: dict[str, jax.Array]  # [] float32 each
  priorities: jax.Array  # [B] float32


class Draw(NamedTuple):
  """What one update learns from.

  Attributes:
    batch: B transitions.
    indices: [B] their rows; out of range where they are of other data.
    metrics: of the drawing.
  """

  batch: TransitionBatch
  indices: jax.Array
  metrics: dict[str, jax.Array]

  def written_back(
      self, priorities: frame_replay.Priorities, values: jax.Array
  ) -> frame_replay.Priorities:
    """The weights with new ones, [B], of the rows that were drawn."""
    values = jnp.where(self.indices == _NO_ROW, 0.0, values)
    return frame_replay.update_priorities(priorities, self.indices, values)


@dataclasses.dataclass(frozen=True)
class Learner:
  """Pure functions of one network, objective and optimizer.

  Hashable and compared by value, so that equal learners share compiled code.

  Attributes:
    network: module returning a `NetworkOutput`.
    objective: the terms of the loss.
    optimizer: direction of the step, before the learning rate.
    annealing: how n and gamma change with the updates since a reset; None =
      the replay's.
    target_ema: tau; with each update the target moves that share of the way
      to the online parameters (Schwarzer et al., 2023: 0.005). 0 = it stays,
      until someone copies them.
  """

  network: nn.Module
  objective: Objective
  optimizer: optax.GradientTransformation
  annealing: Optional[Annealing] = None
  target_ema: float = 0.0

  def __post_init__(self):
    if not 0.0 <= self.target_ema <= 1.0:
      raise ValueError(
          f'Learner.target_ema must be between 0 and 1, got {self.target_ema}.'
      )

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
        since_reset=jnp.int32(0),
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
    # Without the barrier the CPU's compiler fuses the norm with what makes the
    # gradients, and the update takes half as long again.
    copies = jax.lax.optimization_barrier(grads)
    extra.metrics['gradient_norm'] = optax.tree.norm(copies)
    direction, opt_state = self.optimizer.update(
        grads, state.opt_state, state.online_params
    )
    rate = state.coefficients.learning_rate
    online_params = jax.tree.map(
        lambda p, d: p - rate * d, state.online_params, direction
    )
    state = state._replace(
        online_params=online_params,
        target_params=self._next_target(state.target_params, online_params),
        opt_state=opt_state,
        rng_key=rng_key,
        updates=state.updates + 1,
        since_reset=state.since_reset + 1,
    )
    return state, extra

  def _next_target(self, target_params: Any, online_params: Any) -> Any:
    tau = self.target_ema
    if not tau:
      return target_params
    return jax.tree.map(
        lambda t, p: (1.0 - tau) * t + tau * p, target_params, online_params
    )

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
    td_loss = self._td_loss(online, online_t, target_params, batch, keys[3])
    terms, weights = {'td_loss': td_loss}, {'td_loss': coefficients.td}
    for term in self.objective.terms:
      terms[term.name] = term.loss(online, batch, coefficients)
      weights[term.name] = term.weight(coefficients)
    means = {k: jnp.mean(batch.weight * v) for k, v in terms.items()}
    loss = sum(weights[k] * v for k, v in means.items())
    priorities = jnp.sqrt(td_loss + frame_replay.PRIORITY_EPSILON)
    metrics = {'loss': loss} | means | {'priority': jnp.mean(priorities)}
    metrics |= diagnostics(online.q_values, batch, coefficients.temperature)
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
    options = {}
    if self.objective.td == 'quantile':
      options['num_quantiles'] = self.objective.num_quantiles
    online = self.apply(params, batch.s_tm1, online_key, **options)
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
      rng_key: jax.Array,
  ) -> jax.Array:
    """[B] TD losses, unweighted; zeros without a TD term."""
    kind, options, atoms = self.objective.td, {}, None
    if kind == 'none':
      return jnp.zeros_like(batch.r_t)
    if kind == 'quantile':
      options['num_quantiles'] = self.objective.num_target_quantiles
    if kind == 'categorical':
      atoms = self.network.atoms
    target = self.apply(target_params, batch.s_t, rng_key, **options)
    return td_losses(kind, online, target, online_t, batch, atoms)

  def draw(
      self,
      spec: frame_replay.ReplaySpec,
      batch_size: int,
      state: LearnerState,
      storage: frame_replay.Storage,
      priorities: frame_replay.Priorities,
      mix: Optional[Mix] = None,
  ) -> tuple[jax.Array, Draw]:
    """Samples what the next update learns from.

    Args:
      spec: static description of the replay.
      batch_size: B.
      state: current state.
      storage: the replay's columns, only read.
      priorities: the replay's weights.
      mix: puts transitions of other data in the place of some; their
        priorities are nobody's.

    Returns:
      The key of the update, and what was drawn.

    Raises:
      ValueError: if there is an annealing and a gamma among the coefficients.
    """
    horizon = self.horizon(spec, state)
    rng_key, sample_key = jax.random.split(state.rng_key)
    batch, indices = frame_replay.sample(
        spec, storage, priorities, sample_key, batch_size, horizon
    )
    if mix is not None:
      rng_key, mix_key = jax.random.split(rng_key)
      batch, own = mix(state, mix_key, batch)
      indices = jnp.where(own, indices, _NO_ROW)
    metrics = {}
    if self.annealing is not None:
      metrics['update_horizon'] = jnp.float32(horizon.update_horizon)
      metrics['gamma'] = horizon.gamma
    return rng_key, Draw(batch, indices, metrics)

  def update_from_replay(
      self,
      spec: frame_replay.ReplaySpec,
      batch_size: int,
      state: LearnerState,
      storage: frame_replay.Storage,
      priorities: frame_replay.Priorities,
      prioritized: bool = False,
      mix: Optional[Mix] = None,
  ) -> tuple[LearnerState, frame_replay.Priorities, dict[str, jax.Array]]:
    """Samples, updates, writes priorities back: nothing leaves the device.

    Args:
      spec: static description of the replay.
      batch_size: B.
      state: current state.
      storage: the replay's columns, only read.
      priorities: the replay's weights.
      prioritized: whether priorities are written back.
      mix: see `draw`.

    Returns:
      The next state, the next weights, and the metrics, with an annealing
      its 'update_horizon' and 'gamma' among them.

    Raises:
      ValueError: if there is an annealing and a gamma among the coefficients.
    """
    rng_key, draw = self.draw(spec, batch_size, state, storage, priorities, mix)
    state, extra = self.update(state._replace(rng_key=rng_key), draw.batch)
    if prioritized:
      priorities = draw.written_back(priorities, extra.priorities)
    return state, priorities, extra.metrics | draw.metrics

  def horizon(
      self, spec: frame_replay.ReplaySpec, state: LearnerState
  ) -> Optional[frame_replay.Horizon]:
    """n and gamma of this update, by what it draws from; None = the replay's.

    Args:
      spec: of the replay, beyond whose n there is none.
      state: current state.

    Raises:
      ValueError: if there is an annealing and a gamma among the coefficients.
    """
    gamma = state.coefficients.gamma
    if self.annealing is None:
      if gamma is None:
        return None
      return frame_replay.Horizon(jnp.int32(spec.update_horizon), gamma)
    if gamma is not None:
      raise ValueError(
          'Learner.annealing sets gamma: Coefficients.gamma must be None.'
      )
    update_horizon, gamma = self.annealing.at(state.since_reset)
    # A replay of shorter returns, of a teacher say, keeps its own n.
    shorter = jnp.minimum(update_horizon, spec.update_horizon)
    return frame_replay.Horizon(shorter, gamma)


@functools.partial(jax.jit, static_argnums=0)
def _init_params(
    network: nn.Module, rng_key: jax.Array, states: jax.Array, noise_key: Any
) -> Any:
  return network.init(rng_key, states, noise_key)['params']
