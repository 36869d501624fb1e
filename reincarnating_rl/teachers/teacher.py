"""A teacher in memory: its network, its record, its data."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.teacher_replay import progress_bar
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

# Rows whose Q-values are computed in one dispatch.
_Q_VALUES_CHUNK = 256


class OptimizerMoments(NamedTuple):
  """What an optimizer remembered, in the shape of the parameters.

  Attributes:
    kind: 'adam' or 'rmsprop' (centered).
    count: updates made; 0 where the optimizer does not count.
    mu: first moments.
    nu: second moments.
  """

  kind: str
  count: int
  mu: Any
  nu: Any


@dataclasses.dataclass(frozen=True)
class LoadedTeacher:
  """A teacher, ready to be asked.

  Attributes:
    path: where it came from, as given.
    network: its network.
    params: their values, float32.
    checkpoint_number: which checkpoint was read; None of several at once.
    game: in Dopamine's spelling, None where nothing tells.
    score: recorded mean return, None where there is none.
    training_steps: that its agent has counted, None if unknown: agent steps,
      and in a run of this package one per pretraining step, too.
    replay: its data, None if it left none.
    agent: what kind of agent it was: 'dqn', 'rainbow' or 'iqn'.
    format: of its files, in words.
    target_params: of its target network, None if it left none.
    optimizer: what its optimizer remembered, None if it left nothing.
    agent_steps: that it has taken, where training_steps counts others, too.
    sticky_actions: probability that its game repeated an action, None if
      unknown.
    acts_with_target: whether the target network is the one that acts.
  """

  path: str
  network: nn.Module
  params: Any
  checkpoint_number: Optional[int]
  game: Optional[str] = None
  score: Optional[float] = None
  training_steps: Optional[int] = None
  replay: Optional[TeacherReplay] = None
  agent: str = 'dqn'
  format: str = 'in memory'
  target_params: Optional[Any] = None
  optimizer: Optional[OptimizerMoments] = None
  agent_steps: Optional[int] = None
  sticky_actions: Optional[float] = None
  acts_with_target: bool = False

  def describe(self) -> str:
    """What was loaded, in one line."""
    words = [
        f'{self.agent} with {self.num_actions} actions',
        f'checkpoint {self.checkpoint_number} ({self.format})',
    ]
    if self.known_agent_steps is not None:
      words.append(f'{self.known_agent_steps} agent steps')
    if self.score is not None:
      words.append(f'recorded score {self.score:.2f}')
    words.append(f'{len(self.replay)} rows' if self.replay else 'no replay')
    return ', '.join(words)

  @property
  def num_actions(self) -> int:
    return self.network.num_actions

  @property
  def known_agent_steps(self) -> Optional[int]:
    """Agent steps it was trained for, None if unknown."""
    if self.agent_steps is not None:
      return self.agent_steps
    return self.training_steps

  @property
  def acting_params(self) -> Any:
    """Those of the parameters that its recorded score belongs to."""
    return self.target_params if self.acts_with_target else self.params

  def q_values(self, states: np.ndarray) -> np.ndarray:
    """[B, ...] states to [B, A] float32 values."""
    return np.asarray(
        _q_values(self.network, self.acting_params, jnp.asarray(states))
    )

  def replay_with_q_values(
      self, update_horizon: int, gamma: Optional[float] = None
  ) -> tuple[frame_replay.ReplaySpec, frame_replay.ReplayState]:
    """The data for training, with the Q-values at each row's state.

    They are computed once, here; training looks them up.

    Args:
      update_horizon: n of the transitions.
      gamma: discount of one agent step; None = as the data was recorded with.

    Raises:
      TeacherError: if there is no data, or none of that kind.
    """
    if self.replay is None:
      raise TeacherError(f'{self.path} has no replay.')
    spec, state = self.replay.for_training(update_horizon, gamma)
    table = jnp.zeros((spec.capacity, self.num_actions), jnp.float32)
    chunk = min(_Q_VALUES_CHUNK, spec.capacity)
    with progress_bar("Teacher's Q-values", spec.capacity, 'rows') as bar:
      for start in range(0, spec.capacity, chunk):
        start = min(start, spec.capacity - chunk)
        table = _put_q_values(
            spec,
            self.network,
            chunk,
            self.acting_params,
            state.storage,
            table,
            start,
        )
        # One chunk's activations at a time.
        jax.block_until_ready(table)
        bar.update(start + chunk - bar.n)
    extras = dict(state.storage.extras) | {frame_replay.Q_TEACHER: table}
    storage = state.storage._replace(extras=extras)
    return spec.with_q_teacher(self.num_actions), state._replace(
        storage=storage
    )


@jax.jit(static_argnums=0)
def _q_values(network: nn.Module, params: Any, states: jax.Array) -> jax.Array:
  return network.apply({'params': params}, states).q_values


@jax.jit(static_argnums=(0, 1, 2), donate_argnames='table')
def _put_q_values(
    spec: frame_replay.ReplaySpec,
    network: nn.Module,
    chunk: int,
    params: Any,
    storage: frame_replay.Storage,
    table: jax.Array,
    start: jax.Array,
) -> jax.Array:
  """Puts the values at `chunk` rows from `start` on into the table."""
  states = frame_replay.states(spec, storage, start + jnp.arange(chunk))
  q_values = network.apply({'params': params}, states).q_values
  return jax.lax.dynamic_update_slice(table, q_values, (start, 0))
