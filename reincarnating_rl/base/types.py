"""Containers that all layers share.

Shape letters: B batch, A actions, N atoms or quantiles, D features. `...` is
the shape of one state: [H, W, C] for C stacked frames (oldest first), or [D]
for a vector. A continuous action is [D], a discrete one a single integer.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional

import jax


class TransitionBatch(NamedTuple):
  """n-step transitions for the learner.

  `discount_t` already holds gamma^n and termination, so a bootstrapped target
  is always `r_t + discount_t * value(s_t)`. Where `discount_t` is zero, `s_t`
  is undefined.
  """

  s_tm1: jax.Array  # [B, ...], uint8 for frames
  a_tm1: jax.Array  # [B] int32, or [B, D] float32
  r_t: jax.Array  # [B] float32, n-step return of the stored rewards
  discount_t: jax.Array  # [B] float32
  s_t: jax.Array  # [B, ...], as s_tm1
  weight: jax.Array  # [B] float32, importance weights (1 = plain mean)
  q_teacher: Optional[jax.Array] = None  # [B, A] float32, at s_tm1
  # [B] float32, 1 where the teacher made the data; None = unknown.
  demonstration: Optional[jax.Array] = None
  # [B, ...] by name: further columns of the replay, at s_tm1; None = none.
  extras: Optional[Mapping[str, jax.Array]] = None


class NetworkOutput(NamedTuple):
  """Output of a Q-network; fields that its head does not have are None."""

  q_values: jax.Array  # [..., A]
  representation: jax.Array  # [..., D], input of the head
  logits: Optional[jax.Array] = None  # [..., A, N], categorical heads
  quantile_values: Optional[jax.Array] = None  # [..., N, A], implicit quantiles
  quantiles: Optional[jax.Array] = None  # [..., N], in (0, 1)
