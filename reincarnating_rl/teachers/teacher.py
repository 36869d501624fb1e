"""A teacher in memory: its network, its record, its replay."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.replay import frame_replay

# Rows whose Q-values are computed in one dispatch.
_Q_VALUES_CHUNK = 256


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


@dataclasses.dataclass(frozen=True)
class LoadedTeacher:
  """A teacher, ready to be asked.

  Attributes:
    path: where it came from, as given.
    network: its network.
    params: their values, float32.
    checkpoint_number: which checkpoint was read.
    game: in Dopamine's spelling, None where nothing tells.
    score: recorded mean return, None where there is none.
    training_steps: agent steps it was trained for, None if unknown.
    replay: its data, None if it left none.
  """

  path: str
  network: nn.Module
  params: Any
  checkpoint_number: int
  game: Optional[str] = None
  score: Optional[float] = None
  training_steps: Optional[int] = None
  replay: Optional[TeacherReplay] = None

  @property
  def num_actions(self) -> int:
    return self.network.num_actions

  def q_values(self, states: np.ndarray) -> np.ndarray:
    """[B, H, W, C] uint8 states to [B, A] float32 values."""
    return np.asarray(_q_values(self.network, self.params, jnp.asarray(states)))

  def replay_with_q_values(
      self, update_horizon: int
  ) -> tuple[frame_replay.ReplaySpec, frame_replay.ReplayState]:
    """The data for training: each row with the Q-values at its state.

    Computed once, here, and looked up ever after.

    Args:
      update_horizon: n of the transitions.

    Raises:
      TeacherError: if there is no data.
    """
    spec = dataclasses.replace(self.replay.spec, update_horizon=update_horizon)
    storage = self.replay.storage
    q_values = [
        _q_values_at(spec, self.network, self.params, storage, start)
        for start in range(0, spec.capacity, _Q_VALUES_CHUNK)
    ]
    table = jnp.concatenate(q_values)[: spec.capacity]
    state = frame_replay.from_storage(spec, storage._replace(q_teacher=table))
    return spec, state


@jax.jit(static_argnums=0)
def _q_values(network: nn.Module, params: Any, states: jax.Array) -> jax.Array:
  return network.apply({'params': params}, states).q_values


@jax.jit(static_argnums=(0, 1))
def _q_values_at(
    spec: frame_replay.ReplaySpec,
    network: nn.Module,
    params: Any,
    storage: frame_replay.Storage,
    start: jax.Array,
) -> jax.Array:
  rows = (start + jnp.arange(_Q_VALUES_CHUNK)) % spec.capacity
  states = frame_replay.stacks(spec, storage, rows)
  return network.apply({'params': params}, states).q_values
