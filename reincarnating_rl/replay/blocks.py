"""Some successive slots of a ring, from the device to the host and back."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.replay import ring
from reincarnating_rl.replay.ring import ReplaySpec
from reincarnating_rl.replay.ring import Storage


def read(
    spec: ReplaySpec, storage: Storage, start: int, stop: int, at_once: int
) -> dict[str, np.ndarray]:
  """Copies of the columns of some slots.

  Args:
    spec: static description.
    storage: the columns.
    start: the first slot; slots count on where the ring begins anew.
    stop: the one after the last.
    at_once: slots that are fetched together, always as many, so that nothing
      is compiled for another number; at most S.

  Returns:
    [(stop - start) * E, ...] by the name of the column.
  """
  pieces = []
  for first in range(start, stop, at_once):
    rows = min(at_once, stop - first) * spec.num_streams
    taken = jax.device_get(_take(spec, at_once, storage, jnp.int32(first)))
    columns = {k: v for k, v in taken._asdict().items() if v is not None}
    # A copy where it is a view of the device's own memory.
    pieces.append({k: np.array(v[:rows]) for k, v in columns.items()})
  if len(pieces) == 1:
    return pieces[0]
  return {k: np.concatenate([p[k] for p in pieces]) for k in pieces[0]}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _take(
    spec: ReplaySpec, count: int, storage: Storage, start: jax.Array
) -> Storage:
  rows = ring.row_index(spec, start + jnp.arange(count)).reshape(-1)
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), storage)


def write(
    spec: ReplaySpec,
    storage: Storage,
    start: int,
    columns: dict[str, np.ndarray],
) -> Storage:
  """Puts the columns of some slots where they were; `storage` is consumed.

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
    part = Storage(**{k: v[rows] for k, v in columns.items()})
    if len(part.action):
      storage = _put(storage, part, jnp.int32(at * num_streams))
  return storage


@functools.partial(jax.jit, donate_argnums=0)
def _put(storage: Storage, part: Storage, at: jax.Array) -> Storage:
  put = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, at, axis=0)
  return jax.tree.map(put, storage, part)
