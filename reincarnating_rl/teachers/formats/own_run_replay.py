"""The replay in a run's checkpoint, as a teacher's data.

A checkpoint names segments of slots, counted since the replay was empty
(`row_segments`); slot s of E environments is rows (s mod S) * E to
(s mod S) * E + E - 1 of a ring of S slots. Rows come back to their places, in
the order of the places, which begins anew within a segment if the ring did.
Steps that were not written yet are left out (a few at most). So are extra
columns, such as Q-values of the run's own teacher: the run is the teacher now.
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
from reincarnating_rl.teachers.teacher_replay import observations_on_device
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

_RING = 'student'


class Piece(NamedTuple):
  """Some slots of a segment that lie together in the ring.

  Attributes:
    segment: holds them.
    start: the first slot, counted since the ring was empty.
    stop: the slot after the last.
  """

  segment: Segment
  start: int
  stop: int


def open_replay(vault: Vault, saved: Saved) -> Optional[TeacherReplay]:
  """Describes the replay of a checkpoint; rows are read at their first use.

  Args:
    vault: where the checkpoint is.
    saved: the checkpoint.

  Returns:
    The replay, its update_horizon and gamma being the run's. None if the run
    had none yet, or, with a warning, too few steps for a single transition.
  """
  name = saved.document.get('student_rows') or _RING
  if name not in saved.segments:
    return None
  settings = saved.document['settings']
  num_streams = int(settings['num_envs'])
  num_rows = int(saved.document['student_capacity'])
  slots = num_rows // num_streams
  written = int(saved.arrays[f'{_RING}/add_count'])
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
  """Finds the parts of segments that are in a ring, in the order of its places.

  Args:
    segments: successive segments that hold at least these slots.
    oldest: the first slot that the ring holds.
    written: the slot after the last.
    slots: S, of the ring.

  Returns:
    Pieces that fill places 0 to written - oldest - 1 without a gap.
  """
  found, at = [], oldest
  for segment in segments:
    stop = min(segment.stop, written)
    while at < stop:
      # Not across the end of the ring.
      end = min(stop, (at // slots + 1) * slots)
      found.append(Piece(segment, at, end))
      at = end
  return sorted(found, key=lambda piece: piece.start % slots)


class _Place(NamedTuple):
  """Place of rows on disk.

  Attributes:
    vault: holds the checkpoint that names them.
    number: of that checkpoint.
    name: of the rows.
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
  """Rows of a piece, by the name of the column."""
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
