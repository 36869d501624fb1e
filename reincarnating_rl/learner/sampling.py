"""Sampling for one update: batches, rehearsal, priorities.

Generic over learners (`protocol.Learner`). Everything runs inside jit, so no
data leaves the device.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner.protocol import Learner
from reincarnating_rl.replay import frame_replay

# Index beyond all replays: writes there are dropped.
_NO_ROW = np.iinfo(np.int32).max


class Draw(NamedTuple):
  """A batch and the rows that it comes from.

  Attributes:
    batch: B transitions.
    indices: [B] rows in the replay; out of range for the teacher's data.
    metrics: n and gamma, if they are annealed.
  """

  batch: TransitionBatch
  indices: jax.Array
  metrics: dict[str, jax.Array]

  def write_back(
      self, priorities: frame_replay.Priorities, values: jax.Array
  ) -> frame_replay.Priorities:
    """Writes [B] new priorities to the rows of the batch."""
    values = jnp.where(self.indices == _NO_ROW, 0.0, values)
    return frame_replay.update_priorities(priorities, self.indices, values)


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Static description of the data that updates sample.

  Attributes:
    learner: learner to update.
    spec: spec of the replay.
    batch_size: B.
    prioritized: True if new priorities are written back.
    teacher_spec: spec of the teacher's data; None without rehearsal.
    teacher_data_ratio: probability that a sample comes from the teacher's data.
  """

  learner: Learner
  spec: frame_replay.ReplaySpec
  batch_size: int
  prioritized: bool = False
  teacher_spec: Optional[frame_replay.ReplaySpec] = None
  teacher_data_ratio: float = 0.0

  def __post_init__(self):
    if not 0.0 <= self.teacher_data_ratio <= 1.0:
      raise ValueError(
          'teacher_data_ratio must be between 0 and 1, got '
          f'{self.teacher_data_ratio}.'
      )
    if self.rehearses and self.teacher_spec is None:
      raise ValueError(
          f"teacher_data_ratio {self.teacher_data_ratio} needs a teacher's "
          'data.'
      )

  @property
  def rehearses(self) -> bool:
    """True if some samples come from the teacher's data."""
    return self.teacher_data_ratio > 0

  def update(
      self,
      state: Any,
      storage: frame_replay.Storage,
      priorities: frame_replay.Priorities,
      teacher: Optional[frame_replay.ReplayState] = None,
  ) -> tuple[Any, frame_replay.Priorities, dict[str, jax.Array]]:
    """Samples a batch, makes an update, and writes priorities back.

    Args:
      state: state of the learner.
      storage: columns of the replay, only read.
      priorities: priorities of the replay.
      teacher: teacher's data to rehearse.

    Returns:
      The next state, the next priorities, and the metrics. With annealing the
      metrics include 'update_horizon' and 'gamma'.

    Raises:
      ValueError: if the learner anneals gamma and the coefficients set it.
    """
    rng_key, draw = self.draw(state, storage, priorities, teacher)
    state, extra = self.learner.update(
        state._replace(rng_key=rng_key), draw.batch
    )
    if self.prioritized:
      priorities = draw.write_back(priorities, extra.priorities)
    return state, priorities, extra.metrics | draw.metrics

  def draw(
      self,
      state: Any,
      storage: frame_replay.Storage,
      priorities: frame_replay.Priorities,
      teacher: Optional[frame_replay.ReplayState] = None,
  ) -> tuple[jax.Array, Draw]:
    """Samples the batch of the next update; see `update`.

    Returns:
      The key of the update, and the batch with its rows.
    """
    horizon = horizon_of(self.learner, self.spec, state)
    rng_key, sample_key = jax.random.split(state.rng_key)
    batch, indices = frame_replay.sample(
        self.spec, storage, priorities, sample_key, self.batch_size, horizon
    )
    if self.rehearses:
      rng_key, mix_key = jax.random.split(rng_key)
      batch, own = self._mix_in(teacher, state, mix_key, batch)
      indices = jnp.where(own, indices, _NO_ROW)
    metrics = {}
    if self.learner.annealing is not None:
      metrics['update_horizon'] = jnp.float32(horizon.update_horizon)
      metrics['gamma'] = horizon.gamma
    return rng_key, Draw(batch, indices, metrics)

  def _mix_in(
      self,
      teacher: frame_replay.ReplayState,
      state: Any,
      rng_key: jax.Array,
      batch: TransitionBatch,
  ) -> tuple[TransitionBatch, jax.Array]:
    """Replaces some of the student's transitions by the teacher's.

    B transitions of each kind are sampled, which costs little compared with an
    update. Both kinds have the same discount per step. The n of the teacher's
    transitions is at most the n of its data.

    Args:
      teacher: teacher's data.
      state: state of the learner.
      rng_key: consumed.
      batch: B transitions of the student, with importance weights.

    Returns:
      The mixed batch, and [B] bool, True for the student's transitions. In the
      batch `demonstration` is 1 for the teacher's transitions. Their weight is
      1; the student's weights are divided by the largest that remains.

    Raises:
      ValueError: if the learner needs the teacher's Q-values, and the batch or
        the teacher's data lacks them.
    """
    sample_key, place_key = jax.random.split(rng_key)
    size = batch.r_t.shape[0]
    taught, _ = frame_replay.sample(
        self.teacher_spec,
        teacher.storage,
        teacher.priorities,
        sample_key,
        size,
        horizon_of(self.learner, self.teacher_spec, state),
    )
    own = ~jax.random.bernoulli(place_key, self.teacher_data_ratio, (size,))
    largest = jnp.where(own, batch.weight, 0.0).max()
    weight = batch.weight / jnp.where(own.any(), largest, 1.0)
    batch = batch._replace(weight=weight)
    taught = taught._replace(weight=jnp.ones_like(weight))
    if not self.learner.needs_teacher:
      batch, taught = (x._replace(q_teacher=None) for x in (batch, taught))
    elif batch.q_teacher is None or taught.q_teacher is None:
      raise ValueError(
          "The objective needs the teacher's Q-values: they must stand beside "
          "the teacher's data and beside the student's."
      )

    def choose(student: jax.Array, teacher: jax.Array) -> jax.Array:
      mask = own.reshape((size,) + (1,) * (student.ndim - 1))
      return jnp.where(mask, student, teacher)

    mixed = jax.tree.map(choose, batch, taught)
    demonstration = 1.0 - own.astype(jnp.float32)
    return mixed._replace(demonstration=demonstration), own


def horizon_of(
    learner: Learner, spec: frame_replay.ReplaySpec, state: Any
) -> Optional[frame_replay.Horizon]:
  """Returns n and gamma of the next update; None = constants of the replay.

  Args:
    learner: learner to update.
    spec: spec of the replay; its n is an upper limit.
    state: state of the learner.

  Raises:
    ValueError: if the learner anneals gamma and the coefficients set it.
  """
  gamma = state.coefficients.gamma
  if learner.annealing is None:
    if gamma is None:
      return None
    return frame_replay.Horizon(jnp.int32(spec.update_horizon), gamma)
  if gamma is not None:
    raise ValueError(
        'Learner.annealing sets gamma: Coefficients.gamma must be None.'
    )
  update_horizon, gamma = learner.annealing.at(state.since_reset)
  # A replay with a smaller n, such as a teacher's, keeps it.
  shorter = jnp.minimum(update_horizon, spec.update_horizon)
  return frame_replay.Horizon(shorter, gamma)
