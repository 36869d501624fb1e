"""TD losses: one class for each kind of value head.

All bootstrap from `r_t + discount_t * value(s_t)`; they differ in what a value
is. A new kind of head is one more class here. Not here: how networks are
applied, and the other terms of the objective.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp

from reincarnating_rl import losses
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch


class Outputs(NamedTuple):
  """Network outputs that a TD loss compares."""

  online: NetworkOutput  # of the online network, at s_tm1
  target: NetworkOutput  # of the target network, at s_t
  online_t: Optional[NetworkOutput]  # of the online network, at s_t; or None

  @property
  def selector(self) -> jax.Array:
    """[B, A] values at s_t that choose the action to bootstrap from."""
    return (self.online_t or self.target).q_values


@dataclasses.dataclass(frozen=True)
class TDLoss:
  """Base of the TD losses; static and compared by value."""

  @property
  def online_options(self) -> Mapping[str, Any]:
    """Arguments of the online network's call at s_tm1."""
    return {}

  @property
  def target_options(self) -> Mapping[str, Any]:
    """Arguments of the target network's call at s_t."""
    return {}

  def losses(
      self, outputs: Outputs, batch: TransitionBatch, network: nn.Module
  ) -> jax.Array:
    """[B] TD losses, unweighted.

    Args:
      outputs: of the networks.
      batch: B transitions.
      network: module that made the outputs.
    """
    raise TypeError(f'{type(self).__name__} defines no losses.')


@dataclasses.dataclass(frozen=True)
class QLearning(TDLoss):
  """Q-learning on scalar values (Watkins & Dayan, 1992).

  Attributes:
    error: 'huber' (Mnih et al., 2015) or 'mse'.
  """

  error: str = 'huber'

  def losses(
      self, outputs: Outputs, batch: TransitionBatch, network: nn.Module
  ) -> jax.Array:
    targets = jax.vmap(losses.q_learning_target)(
        batch.r_t, batch.discount_t, outputs.target.q_values, outputs.selector
    )
    errors = targets - select_action(outputs.online.q_values, batch.a_tm1)
    return errors**2 if self.error == 'mse' else losses.huber_loss(errors)


@dataclasses.dataclass(frozen=True)
class Categorical(TDLoss):
  """C51: cross-entropy of value distributions (Bellemare et al., 2017)."""

  def losses(
      self, outputs: Outputs, batch: TransitionBatch, network: nn.Module
  ) -> jax.Array:
    target_probs = jax.vmap(
        losses.categorical_target, in_axes=(0, 0, None, 0, 0)
    )(
        batch.r_t,
        batch.discount_t,
        jnp.asarray(network.atoms),
        outputs.target.logits,
        outputs.selector,
    )
    logits = select_action(outputs.online.logits, batch.a_tm1)
    return jax.vmap(losses.categorical_cross_entropy)(target_probs, logits)


@dataclasses.dataclass(frozen=True)
class Quantile(TDLoss):
  """IQN: quantile Huber loss on sampled quantiles (Dabney et al., 2018b).

  Attributes:
    num_quantiles: N, online samples.
    num_target_quantiles: N', target samples.
  """

  num_quantiles: int = 64
  num_target_quantiles: int = 64

  @property
  def online_options(self) -> Mapping[str, Any]:
    return {'num_quantiles': self.num_quantiles}

  @property
  def target_options(self) -> Mapping[str, Any]:
    return {'num_quantiles': self.num_target_quantiles}

  def losses(
      self, outputs: Outputs, batch: TransitionBatch, network: nn.Module
  ) -> jax.Array:
    best = jnp.argmax(outputs.selector, axis=-1)
    take = jax.vmap(lambda values, action: values[:, action])
    samples = take(outputs.target.quantile_values, best)  # [B, M]
    targets = batch.r_t[:, None] + batch.discount_t[:, None] * samples
    values = take(outputs.online.quantile_values, batch.a_tm1)
    return jax.vmap(losses.quantile_huber_loss)(
        values, outputs.online.quantiles, jax.lax.stop_gradient(targets)
    )


# Names for configurations.
TD_LOSSES = {
    'huber': QLearning('huber'),
    'mse': QLearning('mse'),
    'categorical': Categorical(),
    'quantile': Quantile(),
}


def select_action(values: jax.Array, actions: jax.Array) -> jax.Array:
  """[B, A, ...] values and [B] actions to [B, ...]."""
  return jax.vmap(lambda v, a: v[a])(values, actions)
