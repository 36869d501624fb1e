"""Replay data of a teacher: rows of its ring, and their transitions.

There can be millions of frames: they are read at their first use, and go to
the device chunk by chunk. Not here: file formats (`formats`).

Shape letters: K rows asked for, T rows of a chunk, R rows of the ring. `...` is
the shape of one observation, state or action.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Callable, Iterable, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base import progress
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState
from reincarnating_rl.replay.frame_replay import Storage
from reincarnating_rl.replay.ring import row_bytes
from reincarnating_rl.teachers.errors import TeacherError


class Transitions(NamedTuple):
  """Transitions of a teacher's replay, on the host."""

  state: np.ndarray  # [K, ...]; [K, H, W, C] uint8 for frames
  action: np.ndarray  # [K] int32, or [K, ...] float32
  reward: np.ndarray  # [K] float32, n-step return
  # [K, ...], n rows on, or the row after a terminal before that
  next_state: np.ndarray
  terminal: np.ndarray  # [K] uint8, 1 where the n steps hold a terminal


class TeacherReplay:
  """Rows of a teacher's replay ring; frames are read at first use.

  A row's index is its place in the ring of the file.

  Attributes:
    spec: static description. Its capacity counts the rows that were ever
      written, which are the first ones; its update_horizon is the teacher's.
    head: the oldest slot.
    num_rows: R; rows from spec.capacity on were never written.
    only_horizon: n, if only n-step transitions are possible; None = any n.
  """

  def __init__(
      self,
      spec: ReplaySpec,
      source: Storage | Callable[[], Storage],
      *,
      head: int = 0,
      num_rows: Optional[int] = None,
      only_horizon: Optional[int] = None,
  ):
    """Describes the data.

    Args:
      spec: see above.
      source: the columns, or a function that reads them.
      head: see above.
      num_rows: see above, default spec.capacity.
      only_horizon: see above.

    Raises:
      ValueError: if the numbers contradict each other.
    """
    self.spec = spec
    self.head = head
    self.num_rows = spec.capacity if num_rows is None else num_rows
    if not 0 <= head < spec.slots or self.num_rows < spec.capacity:
      raise ValueError(
          f'A ring of {self.num_rows} rows, of which {spec.capacity} were '
          f'written, has no head {head}.'
      )
    self.only_horizon = only_horizon
    self._reader = source if callable(source) else None
    self._storage = None if callable(source) else source
    self._flags: Optional[np.ndarray] = None

  def __len__(self) -> int:
    return self.spec.capacity

  @property
  def storage(self) -> Storage:
    """Columns on the device.

    Raises:
      TeacherError: if their files are damaged.
    """
    if self._storage is None:
      assert self._reader is not None  # Either of them is there.
      self._storage = self._reader()
    return self._storage

  def read(self) -> None:
    """Reads the columns if they have not been read yet."""
    self._flags = np.asarray(self.storage.flags)

  def transitions(self, indices: np.ndarray, n_step: int) -> Transitions:
    """Returns the n-step transitions that start at some rows, as stored.

    Args:
      indices: [K] rows, valid for training or not.
      n_step: n.

    Raises:
      ValueError: if a row was never written.
    """
    spec = self._with_horizon(n_step)
    rows = self._checked(indices)
    batch, s_t = _transitions(spec, self.storage, jnp.asarray(rows))
    return Transitions(
        np.asarray(batch.s_tm1),
        np.asarray(batch.a_tm1),
        np.asarray(batch.r_t),
        np.asarray(s_t),
        (np.asarray(batch.discount_t) == 0.0).astype(np.uint8),
    )

  def valid(self, n_step: int) -> np.ndarray:
    """[R] bool, True for rows that training may use with n-step returns."""
    spec = self._with_horizon(n_step)
    if self._flags is None:
      self.read()
    result = np.zeros(self.num_rows, bool)
    result[: spec.capacity] = frame_replay.eligible_rows(
        spec, jnp.asarray(self._flags), self.head
    )
    return result

  @property
  def only_gamma(self) -> Optional[float]:
    """Discount, if the returns of only one are possible; None = any."""
    return None if self.only_horizon in (None, 1) else self.spec.gamma

  def for_training(
      self, update_horizon: int, gamma: Optional[float] = None
  ) -> tuple[ReplaySpec, ReplayState]:
    """Makes a replay of the rows that draws exactly the valid ones.

    Columns that can be read again are handed over: they are freed with the
    state, and read anew if this object is asked for them.

    Args:
      update_horizon: n of the transitions.
      gamma: discount of one agent step; None = as recorded.

    Raises:
      TeacherError: if there are no such transitions.
    """
    spec = self._with_horizon(update_horizon)
    if gamma is not None:
      self.check_gamma(gamma)
      spec = dataclasses.replace(spec, gamma=gamma)
    self.read()
    state = frame_replay.from_storage(spec, self.storage, self.head)
    if self._reader is not None:
      self._storage = None
    return spec, state

  def _with_horizon(self, n_step: int) -> ReplaySpec:
    if self.only_horizon not in (None, n_step):
      raise TeacherError(
          f'This replay holds {self.only_horizon}-step returns that cannot be '
          f'taken apart, so it has no {n_step}-step transitions: set '
          f'update_horizon to {self.only_horizon}.'
      )
    return dataclasses.replace(self.spec, update_horizon=n_step)

  def check_gamma(self, gamma: float) -> None:
    """Raises a TeacherError if returns of that discount are impossible."""
    only = self.only_gamma
    if only is not None and not math.isclose(only, gamma):
      raise TeacherError(
          f'This replay holds {self.only_horizon}-step returns that cannot be '
          f'taken apart, discounted by {only:g} a step, but the student '
          f'discounts by {gamma:g}: set gamma to {only:g}, or teacher_steps to '
          'let the teacher collect other data.'
      )

  def _checked(self, indices: np.ndarray) -> np.ndarray:
    """Rows as [K] int32.

    Raises:
      ValueError: if one of them was never written.
    """
    rows = np.asarray(indices)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in 'iu'):
      raise ValueError(
          'Rows are asked for by a list of integers, not by an array of '
          f'{rows.dtype} of shape {rows.shape}.'
      )
    outside = (rows < 0) | (rows >= self.spec.capacity)
    if outside.any():
      raise ValueError(
          f'Row {rows[outside][0]} was never written: this replay holds rows 0 '
          f'to {self.spec.capacity - 1}.'
      )
    return rows.astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _transitions(
    spec: ReplaySpec, storage: Storage, indices: jax.Array
) -> tuple[TransitionBatch, jax.Array]:
  """Returns the batch, and next states that stay within the episode."""
  rows = frame_replay.successors(spec, storage.flags, indices)
  batch = frame_replay.transitions(spec, storage, indices)
  return batch, frame_replay.states(spec, storage, rows)


# -- reading -------------------------------------------------------------------


def observations_on_device(
    spec: ReplaySpec, chunks: Iterable[np.ndarray], title: str
) -> jax.Array:
  """Puts observations on the device as they come; none is there twice.

  Args:
    spec: description of the replay that they fill.
    chunks: [T, ...] each, together all observations in order.
    title: of the progress bar.

  Returns:
    [R, ...].

  Raises:
    TeacherError: if the device has no room for them.
  """
  shape = (spec.capacity,) + spec.observation.shape
  try:
    ring = jax.block_until_ready(jnp.zeros(shape, spec.observation.dtype))
  except jax.errors.JaxRuntimeError as e:
    raise TeacherError(
        f'The {spec.capacity} observations of the teacher take '
        f'{spec.capacity * row_bytes(spec.observation) / 1e9:.1f} GB, for '
        'which the device has no room.'
    ) from e
  start = 0
  with progress.bar(
      title, spec.capacity, 'rows', delay=progress.SHORT_DELAY
  ) as bar:
    for chunk in chunks:
      # The device copies one chunk while the host makes the next one. More
      # chunks at a time would need memory beside the ring.
      jax.block_until_ready(ring)
      ring = _put(ring, chunk, start)
      start += len(chunk)
      bar.update(len(chunk))
  return jax.block_until_ready(ring)


@functools.partial(jax.jit, donate_argnums=0)
def _put(ring: jax.Array, chunk: jax.Array, start: jax.Array) -> jax.Array:
  return jax.lax.dynamic_update_slice_in_dim(ring, chunk, start, axis=0)
