"""TD losses: Q-learning, categorical, quantile.

All bootstrap from `r_t + discount_t * value(s_t)`; they differ in what a value
is. Not here: how the networks are applied.
"""

from __future__ import annotations

from typing import Optional

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl import losses
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch


def td_losses(
    kind: str,
    online: NetworkOutput,
    target: NetworkOutput,
    online_t: Optional[NetworkOutput],
    batch: TransitionBatch,
    atoms: Optional[np.ndarray] = None,
) -> jax.Array:
  """[B] TD losses, unweighted.

  Args:
    kind: 'huber', 'mse', 'categorical' or 'quantile'.
    online: outputs at s_tm1.
    target: outputs of the target network at s_t.
    online_t: outputs of the online network at s_t, for double learning.
    batch: B transitions.
    atoms: [N] support of categorical values.
  """
  selector = (online_t or target).q_values
  if kind == 'categorical':
    target_probs = jax.vmap(
        losses.categorical_target, in_axes=(0, 0, None, 0, 0)
    )(batch.r_t, batch.discount_t, jnp.asarray(atoms), target.logits, selector)
    logits = select_action(online.logits, batch.a_tm1)
    return jax.vmap(losses.categorical_cross_entropy)(target_probs, logits)
  if kind == 'quantile':
    return _quantile_td_losses(online, target, selector, batch)
  targets = jax.vmap(losses.q_learning_target)(
      batch.r_t, batch.discount_t, target.q_values, selector
  )
  errors = targets - select_action(online.q_values, batch.a_tm1)
  return errors**2 if kind == 'mse' else losses.huber_loss(errors)


def _quantile_td_losses(
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


def select_action(values: jax.Array, actions: jax.Array) -> jax.Array:
  """[B, A, ...] values and [B] actions to [B, ...]."""
  return jax.vmap(lambda v, a: v[a])(values, actions)
