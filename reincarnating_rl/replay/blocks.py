"""Copies of successive slots of a ring, to the host and back."""

from __future__ import annotations

import functools
from typing import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.replay import ring
from reincarnating_rl.replay.ring import ReplaySpec
from reincarnating_rl.replay.ring import Storage


def read(
    spec: ReplaySpec, storage: Storage, start: int, stop: int, at_once: int
) -> dict[str, np.ndarray]:
  """Copies the columns of some slots to the host.

  Args:
    spec: static description.
    storage: the columns.
    start: the first slot; slots count on where the ring begins anew.
    stop: the slot after the last.
    at_once: slots fetched together, at most S. It is always the same number,
      so that nothing is compiled for another one.

  Returns:
    [(stop - start) * E, ...] by the name of the column, extras among them.
  """
  pieces = []
  for first in range(start, stop, at_once):
    rows = min(at_once, stop - first) * spec.num_streams
    taken = jax.device_get(_take(spec, at_once, storage, jnp.int32(first)))
    # A copy, since a fetched array may be a view of the device's memory.
    pieces.append({k: np.array(v[:rows]) for k, v in taken.items()})
  if len(pieces) == 1:
    return pieces[0]
  return {k: np.concatenate([p[k] for p in pieces]) for k in pieces[0]}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _take(
    spec: ReplaySpec, count: int, storage: Storage, start: jax.Array
) -> dict[str, jax.Array]:
  rows = ring.row_index(spec, start + jnp.arange(count)).reshape(-1)
  take = lambda x: jnp.take(x, rows, axis=0)
  return jax.tree.map(take, ring.by_name(storage))


def write(
    spec: ReplaySpec,
    storage: Storage,
    start: int,
    columns: Mapping[str, np.ndarray],
) -> Storage:
  """Puts the columns of some slots back; `storage` is consumed.

  Args:
    spec: static description.
    storage: the columns.
    start: the first slot.
    columns: as `read` returned them.

  Returns:
    The storage with them.
  """
  num_streams = spec.num_streams
  num_slots = len(columns['action']) // num_streams
  first = start % spec.slots
  until_end = min(num_slots, spec.slots - first) * num_streams
  for rows, at in ((slice(0, until_end), first), (slice(until_end, None), 0)):
    part = ring.from_names({k: v[rows] for k, v in columns.items()})
    if len(part.action):
      storage = _put(storage, part, jnp.int32(at * num_streams))
  return storage


@functools.partial(jax.jit, donate_argnums=0)
def _put(storage: Storage, part: Storage, at: jax.Array) -> Storage:
  put = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, at, axis=0)
  return jax.tree.map(put, storage, part)
