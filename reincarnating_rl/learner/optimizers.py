"""Directions of a step: optimizers without a learning rate.

The rate is a coefficient of ours, which may decay and differ between members;
the learner multiplies a direction by it. Equal calls return one object, so
that equal learners are equal and share compiled code.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import optax


def adam_direction(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1.5e-4,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Adam, or with a weight decay AdamW (Loshchilov and Hutter, 2019).

  Args:
    b1: decay of the mean of gradients.
    b2: decay of the mean of their squares.
    eps: added to the root of that.
    weight_decay: share of a parameter that is added to its direction, beside
      Adam and not through its moments; biases, scales and all else of fewer
      than two dimensions do not decay. Needs the parameters at each update.

  Raises:
    ValueError: if the weight decay is negative.
  """
  if weight_decay < 0.0:
    raise ValueError(
        f'The weight decay must not be negative, got {weight_decay}.'
    )
  return _adam_direction(b1, b2, eps, weight_decay)


@functools.cache
def _adam_direction(
    b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
  adam = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
  if not weight_decay:
    return adam
  return optax.chain(
      adam, optax.add_decayed_weights(weight_decay, mask=_is_matrix)
  )


def _is_matrix(params: Any) -> Any:
  """Which parameters have two dimensions or more."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


@functools.cache
def rmsprop_direction(
    decay: float = 0.95, eps: float = 1e-5, centered: bool = True
) -> optax.GradientTransformation:
  """RMSProp (centered: Graves, 2013)."""
  scale = optax.scale_by_stddev if centered else optax.scale_by_rms
  return scale(decay=decay, eps=eps)
