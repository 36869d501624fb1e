"""A teacher's data: the rows of its ring, and transitions between them."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from reincarnating_rl.replay import frame_replay


class Transitions(NamedTuple):
  """Transitions of a teacher's replay, on the host."""

  state: np.ndarray  # [K, H, W, C] uint8, oldest frame first
  action: np.ndarray  # [K] int32
  reward: np.ndarray  # [K] float32, n-step return
  next_state: np.ndarray  # [K, H, W, C] uint8, undefined after a terminal
  terminal: np.ndarray  # [K] uint8, 1 where the n steps hold a terminal


class TeacherReplay:
  """Ring rows that a teacher left, oldest slot first.

  Attributes:
    spec: static description; its update_horizon is the teacher's own.
    storage: the columns, on the device.
  """

  def __init__(
      self, spec: frame_replay.ReplaySpec, storage: frame_replay.Storage
  ):
    self.spec = spec
    self.storage = storage

  def __len__(self) -> int:
    return self.spec.capacity

  def transitions(self, indices: np.ndarray, n_step: int) -> Transitions:
    """The n-step transitions that start at given rows.

    Args:
      indices: [K] rows.
      n_step: n.
    """
    spec = dataclasses.replace(self.spec, update_horizon=n_step)
    batch = frame_replay.transitions(
        spec, self.storage, jnp.asarray(indices, jnp.int32)
    )
    return Transitions(
        np.asarray(batch.s_tm1),
        np.asarray(batch.a_tm1),
        np.asarray(batch.r_t),
        np.asarray(batch.s_t),
        (np.asarray(batch.discount_t) == 0.0).astype(np.uint8),
    )

  def valid(self, n_step: int) -> np.ndarray:
    """[R] bool, rows that training may use with n-step returns."""
    spec = dataclasses.replace(self.spec, update_horizon=n_step)
    return np.asarray(frame_replay.eligible_rows(spec, self.storage.flags))
