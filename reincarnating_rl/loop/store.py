"""Writes agent steps into a device replay, some at a time."""

from __future__ import annotations

import functools
from typing import Optional

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Rows

REWARD_CLIP = 1.0


class ReplayWriter:
  """Buffers steps on the host and adds them in one dispatch.

  With a teacher, its Q-values are computed for the whole chunk at once and
  stored beside the rows: each state is looked at once, not once a sample.

  Attributes:
    spec: its static description.
    state: the replay on the device; owned here, donated at every write.
  """

  def __init__(
      self,
      spec: ReplaySpec,
      teacher: Optional[Policy] = None,
      chunk: int = 1,
  ):
    self.spec = spec
    self._teacher = teacher
    self._chunk = min(chunk, spec.slots - spec.update_horizon - spec.stack_size)
    self._pending: list[tuple[np.ndarray, ...]] = []
    num_actions = teacher.network.num_actions if teacher else None
    self.state = frame_replay.init(spec, num_actions)

  def append(
      self,
      observation: np.ndarray,
      action: np.ndarray,
      reward: np.ndarray,
      *,
      first: np.ndarray,
      terminal: np.ndarray,
      truncated: np.ndarray,
  ) -> None:
    """Keeps one step of every stream; rewards are clipped to [-1, 1] here.

    Args:
      observation: [E, C, H, W] uint8, the state acted in.
      action: [E] int.
      reward: [E] float, unclipped.
      first: [E] bool, whether the state began an episode.
      terminal: [E] bool.
      truncated: [E] bool.
    """
    flags = (
        frame_replay.FIRST * first
        + frame_replay.TERMINAL * terminal
        + frame_replay.TRUNCATED * truncated
    ).astype(np.uint8)
    clipped = np.clip(reward, -REWARD_CLIP, REWARD_CLIP).astype(np.float32)
    self._pending.append((observation, action, clipped, flags))
    if len(self._pending) >= self._chunk:
      self.flush()

  def grow(self, capacity: int) -> None:
    """Makes room for more rows, if that is more than there is."""
    if capacity > self.spec.capacity:
      self.spec, self.state = frame_replay.grow(self.spec, self.state, capacity)

  def flush(self) -> None:
    """Writes what is pending: whole chunks at once, the rest one by one.

    Two sizes only, so that nothing is compiled after the first of each.
    """
    while self._pending:
      whole = len(self._pending) >= self._chunk
      size = self._chunk if whole else 1
      head, self._pending = self._pending[:size], self._pending[size:]
      observation, action, reward, flags = (np.stack(x) for x in zip(*head))
      if self._teacher is None:
        self.state = _add(
            self.spec, self.state, observation[:, :, -1], action, reward, flags
        )
      else:
        self.state = _add_with_teacher(
            self.spec,
            self._teacher.network,
            self.state,
            self._teacher.params,
            observation,
            action,
            reward,
            flags,
        )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add(spec, state, frames, action, reward, flags):
  return frame_replay.add(spec, state, Rows(frames, action, reward, flags))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _add_with_teacher(
    spec, network, state, params, observation, action, reward, flags
):
  """Adds [T, E] steps and the teacher's Q-values at their states."""
  states = jnp.moveaxis(observation, 2, -1)  # [T, E, H, W, C]
  flat = states.reshape((-1,) + states.shape[2:])
  q_teacher = network.apply({'params': params}, flat).q_values
  q_teacher = q_teacher.reshape(action.shape + (-1,))
  rows = Rows(observation[:, :, -1], action, reward, flags, q_teacher)
  return frame_replay.add(spec, state, rows)
