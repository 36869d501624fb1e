"""TD losses: one class for each kind of value head.

All bootstrap from `r_t + discount_t * value(s_t)`. They differ in the form of a
value: a number, a categorical distribution or quantiles. A new kind of head
needs one more class here. Not here: the calls of the networks (`learner`), and
the other terms of the objective (`objective`).
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

  online: NetworkOutput  # online network at s_tm1
  target: NetworkOutput  # target network at s_t
  online_t: Optional[NetworkOutput]  # online network at s_t; None = not double

  @property
  def selector(self) -> jax.Array:
    """[B, A] values at s_t that choose the action to bootstrap from."""
    return (self.online_t or self.target).q_values


@dataclasses.dataclass(frozen=True)
class TDLoss:
  """Base class of the TD losses; static and compared by value."""

  @property
  def online_options(self) -> Mapping[str, Any]:
    """Extra arguments of the online network at s_tm1."""
    return {}

  @property
  def target_options(self) -> Mapping[str, Any]:
    """Extra arguments of the target network at s_t."""
    return {}

  def losses(
      self, outputs: Outputs, batch: TransitionBatch, network: nn.Module
  ) -> jax.Array:
    """Computes [B] unweighted TD losses.

    Args:
      outputs: outputs of the networks on the batch.
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
    num_quantiles: N, quantiles of the online network.
    num_target_quantiles: N', quantiles of the target network.
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


# TD losses by the names that configurations use.
TD_LOSSES = {
    'huber': QLearning('huber'),
    'mse': QLearning('mse'),
    'categorical': Categorical(),
    'quantile': Quantile(),
}


def select_action(values: jax.Array, actions: jax.Array) -> jax.Array:
  """Picks the [B, ...] entries of [B] actions from [B, A, ...] values."""
  return jax.vmap(lambda v, a: v[a])(values, actions)
