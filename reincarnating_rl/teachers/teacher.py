"""A teacher in memory: network, parameters, score and replay data."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base import progress
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

# Rows for which one dispatch computes Q-values.
_Q_VALUES_CHUNK = 256


class OptimizerMoments(NamedTuple):
  """Moments of an optimizer, each in the shape of the parameters.

  Attributes:
    kind: 'adam' or 'rmsprop' (centered).
    count: number of updates; 0 if the optimizer does not count.
    mu: first moments.
    nu: second moments.
  """

  kind: str
  count: int  # type: ignore[assignment]
  mu: Any
  nu: Any


@dataclasses.dataclass(frozen=True)
class LoadedTeacher:
  """A teacher.

  Attributes:
    path: its path, as the user gave it.
    network: its network.
    params: parameters of the online network, float32.
    checkpoint_number: number of the checkpoint; None for several teachers.
    game: game in Dopamine's spelling; None if unknown.
    score: recorded mean return; None if there is none.
    training_steps: counter of its agent, None if unknown. It counts agent
      steps; in a run of this package, also pretraining steps.
    replay: replay data; None if there are none.
    agent: kind of agent: 'dqn', 'rainbow' or 'iqn'.
    format: description of the file format.
    target_params: parameters of the target network; None if not stored.
    optimizer: moments of the optimizer; None if not stored.
    agent_steps: number of agent steps, if training_steps counts others, too.
    sticky_actions: probability that the game repeated an action; None if
      unknown.
    acts_with_target: True if the target network acts.
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
    """Describes the teacher in one line."""
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
    """Number of agent steps of its training; None if unknown."""
    if self.agent_steps is not None:
      return self.agent_steps
    return self.training_steps

  @property
  def acting_params(self) -> Any:
    """Parameters of the network that acts, to which the score belongs."""
    return self.target_params if self.acts_with_target else self.params

  def q_values(self, states: np.ndarray) -> np.ndarray:
    """[B, ...] states to [B, A] float32 values."""
    return np.asarray(
        _q_values(self.network, self.acting_params, jnp.asarray(states))
    )

  def replay_with_q_values(
      self, update_horizon: int, gamma: Optional[float] = None
  ) -> tuple[frame_replay.ReplaySpec, frame_replay.ReplayState]:
    """Returns the data for training, with Q-values of the teacher in each row.

    The Q-values are computed once, here; training looks them up.

    Args:
      update_horizon: n of the transitions.
      gamma: discount of one agent step; None = that of the recorded data.

    Raises:
      TeacherError: if there are no data, or none for these arguments.
    """
    if self.replay is None:
      raise TeacherError(f'{self.path} has no replay.')
    spec, state = self.replay.for_training(update_horizon, gamma)
    table = jnp.zeros((spec.capacity, self.num_actions), jnp.float32)
    chunk = min(_Q_VALUES_CHUNK, spec.capacity)
    with progress.bar(
        "Teacher's Q-values",
        spec.capacity,
        'rows',
        delay=progress.SHORT_DELAY,
    ) as bar:
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
        # Limits memory to the activations of one chunk.
        jax.block_until_ready(table)
        bar.update(start + chunk - bar.n)
    extras = dict(state.storage.extras) | {frame_replay.Q_TEACHER: table}
    storage = state.storage._replace(extras=extras)
    return spec.with_q_teacher(self.num_actions), state._replace(
        storage=storage
    )


@jax.jit(static_argnums=0)
def _q_values(network: nn.Module, params: Any, states: jax.Array) -> jax.Array:
  output: Any = network.apply({'params': params}, states)
  return output.q_values


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
  """Writes the Q-values of `chunk` rows from `start` on into the table."""
  states = frame_replay.states(spec, storage, start + jnp.arange(chunk))
  output: Any = network.apply({'params': params}, states)
  q_values = output.q_values
  return jax.lax.dynamic_update_slice(table, q_values, (start, 0))
