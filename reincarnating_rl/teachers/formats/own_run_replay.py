"""Replay of a run of this package, as the data of a teacher.

A checkpoint lists segments of slots, counted since the replay was empty
(`storage.checkpoints.row_segments`). With E environments and a ring of S slots,
slot s holds rows (s mod S) * E to (s mod S) * E + E - 1. Rows are read back to
their places, in the order of the places. The last steps, which were not written
yet (a few at most), are left out. So are the Q-values of the run's own teacher:
the run itself is the teacher now.
"""

from __future__ import annotations

import ast
import functools
from typing import Iterator, NamedTuple, Optional

from absl import logging
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Storage
from reincarnating_rl.storage.checkpoints.checkpoint_store import Saved
from reincarnating_rl.storage.checkpoints.checkpoint_store import Vault
from reincarnating_rl.storage.checkpoints.errors import DamagedError
from reincarnating_rl.storage.checkpoints.row_segments import Segment
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats.own_run_layout import RunLayout
from reincarnating_rl.teachers.teacher_replay import observations_on_device
from reincarnating_rl.teachers.teacher_replay import TeacherReplay


class Piece(NamedTuple):
  """Slots of a segment that are adjacent in the ring.

  Attributes:
    segment: the segment.
    start: first slot, counted since the ring was empty.
    stop: slot after the last.
  """

  segment: Segment
  start: int
  stop: int


def open_replay(
    vault: Vault, saved: Saved, layout: RunLayout
) -> Optional[TeacherReplay]:
  """Describes the replay of a checkpoint; its rows are read at first use.

  Args:
    vault: store of the checkpoint.
    saved: the checkpoint.
    layout: places of its parts.

  Returns:
    The replay, with the run's update_horizon and gamma. None if the run had
    none yet, or, with a warning, too few steps for a single transition.
  """
  name = layout.rows
  if name is None or name not in saved.segments:
    return None
  settings = saved.document['settings']
  num_streams = int(settings['num_envs'])
  num_rows = int(layout.capacity or 0)
  slots = num_rows // num_streams
  written = int(saved.arrays[layout.add_count])
  try:
    spec = ReplaySpec(
        min(written, slots) * num_streams,
        num_streams,
        int(settings['update_horizon']),
        float(settings['gamma']),
        observation=ArraySpec(frame_shape(settings), 'uint8'),
    )
  except ValueError:
    logging.warning(
        'The replay of checkpoint %d in %s is left out: only %d steps of %d '
        'environments were written.',
        saved.number,
        vault.folder,
        written,
        num_streams,
    )
    return None
  head = written % slots if written >= slots else 0
  found = pieces(saved.segments[name], written - spec.slots, written, slots)
  place = _Place(vault, saved.number, name)
  read = functools.partial(_read_storage, place, spec, found)
  return TeacherReplay(spec, read, head=head, num_rows=num_rows)


def frame_shape(settings: dict[str, str]) -> tuple[int, int]:
  """(H, W) of a run's frames, from the settings in its checkpoint."""
  height, width = ast.literal_eval(settings['frame_shape'])
  return int(height), int(width)


def pieces(
    segments: list[Segment], oldest: int, written: int, slots: int
) -> list[Piece]:
  """Splits segments into pieces in the order of the ring's places.

  Args:
    segments: successive segments that hold at least these slots.
    oldest: first slot that the ring holds.
    written: slot after the last.
    slots: S of the ring.

  Returns:
    Pieces that fill places 0 to written - oldest - 1 without a gap.
  """
  found, at = [], oldest
  for segment in segments:
    stop = min(segment.stop, written)
    while at < stop:
      # A piece ends at the end of the ring.
      end = min(stop, (at // slots + 1) * slots)
      found.append(Piece(segment, at, end))
      at = end
  return sorted(found, key=lambda piece: piece.start % slots)


class _Place(NamedTuple):
  """Location of rows.

  Attributes:
    vault: store of the checkpoint that lists them.
    number: number of that checkpoint.
    name: name of the ring.
  """

  vault: Vault
  number: int
  name: str


def _read_storage(
    place: _Place, spec: ReplaySpec, found: list[Piece]
) -> Storage:
  """Streams observations to the device; small columns wait on the host.

  Raises:
    TeacherError: if a segment is missing or damaged.
  """
  small: dict[str, list[np.ndarray]] = {'action': [], 'reward': [], 'flags': []}

  def chunks() -> Iterator[np.ndarray]:
    for piece in found:
      columns = _read_piece(place, spec.num_streams, piece)
      for name, parts in small.items():
        parts.append(columns[name])
      # Its name in checkpoints of schema 2 was 'frames'.
      yield columns['frames' if 'frames' in columns else 'observation']

  observation = observations_on_device(
      spec, chunks(), f'Replay of checkpoint {place.number}'
  )
  column = lambda name: jnp.asarray(np.concatenate(small[name]))
  return Storage(
      observation, column('action'), column('reward'), column('flags')
  )


def _read_piece(
    place: _Place, num_streams: int, piece: Piece
) -> dict[str, np.ndarray]:
  """Reads the rows of a piece, by name of the column."""
  try:
    columns = place.vault.read_rows(place.name, piece.segment)
  except DamagedError as e:
    raise TeacherError(
        f'The replay cannot be read ({e}): a run that goes on removes what its '
        'ring has written over, so load its newest checkpoint; else copy the '
        'files again from where the run was made.'
    ) from e
  first = piece.start - piece.segment.start
  rows = slice(
      first * num_streams, (first + piece.stop - piece.start) * num_streams
  )
  return {name: column[rows] for name, column in columns.items()}
