"""Value learner: the gradient step of all value-based methods.

`update` is a pure function. Not here: the loss (`objective`, `td`), the
sampling of batches (`sampling`), many updates per call (`many_updates`), the
schedule of updates and the logging of metrics (`loop.training`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Mapping, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from reincarnating_rl.base.schedules import Annealing
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner import augmentation
from reincarnating_rl.learner.diagnostics import diagnostics
from reincarnating_rl.learner.objective import Coefficients
from reincarnating_rl.learner.objective import Objective
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.learner.protocol import UpdateExtra
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.learner.resets import shrink_and_perturb
from reincarnating_rl.learner.td import Outputs
from reincarnating_rl.replay import frame_replay

ATARI_STATE = ArraySpec((84, 84, 4), 'uint8')


class LearnerState(NamedTuple):
  """State of a learner: everything that one update reads and changes."""

  online_params: Any
  target_params: Any
  opt_state: Any
  rng_key: jax.Array
  coefficients: Coefficients
  updates: jax.Array  # [] int32, gradient steps made
  since_reset: jax.Array  # [] int32, gradient steps since the last reset


@dataclasses.dataclass(frozen=True)
class ValueLearner:
  """Pure functions of one network, objective and optimizer.

  Instances are hashable and compared by value, so that equal learners share
  compiled code.

  Attributes:
    network: module that returns a `NetworkOutput`.
    objective: terms of the loss.
    optimizer: transformation of gradients to a step, without learning rate.
    annealing: schedule of n and gamma over the updates since a reset; None =
      constants of the replay.
    target_ema: tau; each update moves the target by this share of its distance
      to the online parameters (Schwarzer et al., 2023: 0.005). 0 = the target
      changes in `sync_target` only.
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

  # -- `protocol.Learner` ------------------------------------------------------

  @property
  def needs_teacher(self) -> bool:
    """True if batches must hold the teacher's Q-values."""
    return self.objective.needs_teacher

  def init(
      self,
      rng_key: jax.Array,
      observation: ArraySpec = ATARI_STATE,
      coefficients: Coefficients = Coefficients(),
  ) -> LearnerState:
    """Returns fresh parameters, an equal target and a zero optimizer state.

    Args:
      rng_key: consumed.
      observation: shape and dtype of one state, (H, W, C) for stacked frames.
      coefficients: initial values.
    """
    rng_key, params_key, noise_key = jax.random.split(rng_key, 3)
    zeros = jnp.zeros((1,) + observation.shape, observation.dtype)
    params = _init_params(self.network, params_key, zeros, noise_key)
    return self.from_params(rng_key, params, coefficients)

  def policy(self, state: LearnerState, use_target: bool = False) -> Policy:
    """Returns the policy of the online network, or of the target network."""
    params = state.target_params if use_target else state.online_params
    return value_policy(self.network, params)

  def sync_target(self, state: LearnerState) -> LearnerState:
    """Copies the online parameters into the target; donates `state`.

    Without effect if `target_ema` moves the target in each update.
    """
    return state if self.target_ema else _copy_to_target(state)

  def restart_optimizer(self, state: LearnerState) -> LearnerState:
    """Returns the state with a fresh optimizer state."""
    return state._replace(opt_state=self.optimizer.init(state.online_params))

  def reset(
      self,
      state: LearnerState,
      schedule: ResetSchedule,
      rng_key: jax.Array,
      observation: ArraySpec,
  ) -> LearnerState:
    """Resets the networks and, by the schedule, the optimizer.

    Key, coefficients and the update count stay.

    Args:
      state: state before the reset, not donated.
      schedule: share of its weights that each part keeps.
      rng_key: key of the fresh weights; each reset needs another one.
      observation: see `init`.

    Raises:
      ValueError: if the schedule names a part that the network does not have.
    """
    online_key, target_key = jax.random.split(rng_key)
    shares = schedule.shares(state.online_params)
    fresh = lambda key: self.init(key, observation).online_params
    online = shrink_and_perturb(state.online_params, fresh(online_key), shares)
    if schedule.target == 'copy':
      target = jax.tree.map(jnp.copy, online)
    else:
      target = shrink_and_perturb(
          state.target_params, fresh(target_key), shares
      )
    state = state._replace(
        online_params=online, target_params=target, since_reset=jnp.int32(0)
    )
    return state if schedule.keep_optimizer else self.restart_optimizer(state)

  def check_resets(
      self, schedule: ResetSchedule, observation: ArraySpec
  ) -> None:
    """Raises a ValueError if the schedule names a part that does not exist."""
    init = functools.partial(self.init, observation=observation)
    schedule.shares(jax.eval_shape(init, jax.random.PRNGKey(0)).online_params)

  def identity(self) -> dict[str, str]:
    """Settings that must be equal for a run to resume from a checkpoint."""
    optional = {'annealing': self.annealing, 'target_ema': self.target_ema}
    return {
        'objective': str(self.objective),
        'network': ' '.join(str(self.network).split()),
    } | {name: str(value) for name, value in optional.items() if value}

  # -- one update --------------------------------------------------------------

  def from_params(
      self,
      rng_key: jax.Array,
      params: Any,
      coefficients: Coefficients = Coefficients(),
  ) -> LearnerState:
    """Returns a fresh state with copies of these parameters.

    Copies, because updates donate the state and would delete the originals.
    """
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
    """Applies the network to [..., H, W, C] uint8 states."""
    out: Any = self.network.apply(
        {'params': params}, states, rng_key, **options
    )
    return out

  def update(
      self, state: LearnerState, batch: TransitionBatch
  ) -> tuple[LearnerState, UpdateExtra]:
    """Makes one gradient step.

    Args:
      state: current state.
      batch: B transitions, with `q_teacher` if the objective needs it.

    Returns:
      The next state, and the metrics and new priorities of the batch.
    """
    rng_key, update_key = jax.random.split(state.rng_key)
    grads, extra = jax.grad(self._loss, has_aux=True)(
        state.online_params,
        state.target_params,
        state.coefficients,
        batch,
        update_key,
    )
    # Without the barrier the CPU compiler fuses the norm into the computation
    # of the gradients, and the update takes 1.5 times as long.
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
    """Objective, averaged over the batch with its importance weights."""
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

    These are two forward passes on purpose. One pass over the concatenated
    states would carry s_t, which needs no gradient, through the backward pass
    too: the whole update then takes twice the time (measured).
    """
    online_key, online_t_key = jax.random.split(rng_key)
    td = self.objective.td_loss
    options: Mapping[str, Any] = {} if td is None else td.online_options
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
    td = self.objective.td_loss
    if td is None:
      return jnp.zeros_like(batch.r_t)
    target = self.apply(target_params, batch.s_t, rng_key, **td.target_options)
    return td.losses(Outputs(online, target, online_t), batch, self.network)


@functools.partial(jax.jit, static_argnums=0)
def _init_params(
    network: nn.Module, rng_key: jax.Array, states: jax.Array, noise_key: Any
) -> Any:
  return network.init(rng_key, states, noise_key)['params']


@functools.partial(jax.jit, donate_argnums=0)
def _copy_to_target(state: LearnerState) -> LearnerState:
  return state._replace(
      target_params=jax.tree.map(jnp.copy, state.online_params)
  )
