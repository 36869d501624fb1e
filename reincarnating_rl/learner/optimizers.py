"""Optimizers without a learning rate: they return the direction of a step.

The learning rate is a coefficient that may decay and differ between members;
the learner multiplies the direction by it. Equal calls return the same object,
so that equal learners compare equal and share compiled code.
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
  """Returns Adam, or AdamW (Loshchilov & Hutter, 2019) with a weight decay.

  Args:
    b1: decay rate of the mean gradient.
    b2: decay rate of the mean squared gradient.
    eps: constant added to the root of the mean squared gradient.
    weight_decay: share of a parameter that is added to its direction, outside
      of Adam's moments. Parameters with fewer than two dimensions (biases,
      scales) do not decay. A decay needs the parameters at each update.

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
  """Mask of the parameters with two or more dimensions."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


@functools.cache
def rmsprop_direction(
    decay: float = 0.95, eps: float = 1e-5, centered: bool = True
) -> optax.GradientTransformation:
  """Returns RMSProp, by default the centered form (Graves, 2013)."""
  scale = optax.scale_by_stddev if centered else optax.scale_by_rms
  return scale(decay=decay, eps=eps)
