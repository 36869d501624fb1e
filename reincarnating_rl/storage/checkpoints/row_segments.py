"""Rows of a replay ring on disk; each row is written once.

A segment is a folder with the rows of successive slots. Its name is the range
of slots, counted since the ring was empty; it never changes. A checkpoint lists
the segments that hold the rows of the ring, so saving costs as much as is new.
Checkpoints share segments, so each segment has two copies: one damaged file
loses nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from typing import NamedTuple, Optional, Protocol, Sequence

import numpy as np

from reincarnating_rl.base import files
from reincarnating_rl.storage.checkpoints import arrays
from reincarnating_rl.storage.checkpoints.background import Background
from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.storage.checkpoints.errors import DamagedError

COPIES = ('a', 'b')
_LOGGER = logging.getLogger(__name__)


class Segment(NamedTuple):
  """A range of slots on disk.

  Attributes:
    start: first slot, counted since the ring was empty.
    stop: slot after the last.
    files: listing of each copy's files, from `files.listing`.
  """

  start: int
  stop: int
  files: dict[str, list]

  @property
  def name(self) -> str:
    return f'{self.start:012d}-{self.stop:012d}'


class Ring(Protocol):
  """Source of rows.

  Attributes:
    written: number of slots written since it was empty.
    slots: capacity; the ring holds the newest slots.
    segment_slots: slots of a segment.
  """

  @property
  def written(self) -> int:
    ...

  @property
  def slots(self) -> int:
    ...

  @property
  def segment_slots(self) -> int:
    ...

  def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
    """Copies the columns of slots that the ring holds, oldest slot first."""
    ...


class RowLog:
  """Writes the rows of one ring into one folder."""

  def __init__(
      self,
      folder: str,
      background: Background,
      segments: Sequence[Segment] = (),
  ):
    """Starts a log, or continues one.

    Args:
      folder: folder of the segments.
      background: thread that writes them.
      segments: successive segments that the folder holds already.
    """
    self._folder = os.path.abspath(folder)
    self._background = background
    self._lock = threading.Lock()
    self._segments = list(segments)
    self._queued = segments[-1].stop if segments else 0
    self._failed: Optional[int] = None

  def follow(self, ring: Ring) -> None:
    """Queues all complete segments; cheap if there is none."""
    while ring.written - self._next(ring) >= ring.segment_slots:
      start = self._next(ring)
      self._queue(ring, start, start + ring.segment_slots)

  def seal(self, ring: Ring) -> None:
    """Queues all rows, those of an incomplete segment included."""
    self.follow(ring)
    start = self._next(ring)
    if start < ring.written:
      self._queue(ring, start, ring.written)

  def _next(self, ring: Ring) -> int:
    """Oldest slot of the ring that is not queued yet."""
    with self._lock:
      if self._failed is not None:
        # Later segments are written again, too: segments are successive.
        self._queued, self._failed = self._failed, None
        kept = [s for s in self._segments if s.stop <= self._queued]
        self._segments = kept
    return max(self._queued, ring.written - ring.slots, 0)

  def _queue(self, ring: Ring, start: int, stop: int) -> None:
    columns = ring.read(start, stop)
    self._queued = stop
    self._background.submit(lambda: self._write(start, stop, columns))

  def _write(
      self, start: int, stop: int, columns: dict[str, np.ndarray]
  ) -> None:
    try:
      segment = _write_copies(self._folder, start, stop, columns)
    except (ArchiveError, OSError) as e:
      _LOGGER.warning('The replay was not written: %s', e)
      with self._lock:
        failed = start if self._failed is None else min(start, self._failed)
        self._failed = failed
      return
    with self._lock:
      others = [s for s in self._segments if s.name != segment.name]
      self._segments = sorted(
          others + [segment], key=lambda s: (s.start, s.stop)
      )

  def covering(self, oldest: int, written: int) -> list[Segment]:
    """Returns the segments that hold a range of slots.

    To be called by a job of the background thread, when the segments are
    written.

    Args:
      oldest: first slot.
      written: slot after the last.

    Raises:
      ArchiveError: if some slots could not be written.
    """
    with self._lock:
      found = [
          s for s in self._segments if oldest < s.stop and s.start < written
      ]
      self._segments = [s for s in self._segments if s.stop > oldest]
    at = oldest
    for segment in found:
      if segment.start > at:
        break
      at = max(at, segment.stop)
    if at < written:
      raise ArchiveError('a part of the replay could not be written')
    return found

  def remove_all_but(self, names: set[str]) -> None:
    """Removes segments that no checkpoint needs, now or next.

    Args:
      names: names of the segments that existing checkpoints need.
    """
    with self._lock:
      names = names | {s.name for s in self._segments}
    for entry in sorted(os.listdir(self._folder)):
      if entry.split('.')[0] not in names:
        files.remove_folder(os.path.join(self._folder, entry))


def _write_copies(
    folder: str, start: int, stop: int, columns: dict[str, np.ndarray]
) -> Segment:
  """Writes both copies of a segment; each appears whole or not at all."""
  segment = Segment(start, stop, {})
  original, second = (_path(folder, segment, copy) for copy in COPIES)
  with files.whole_folder(original) as unfinished:
    os.makedirs(unfinished)
    arrays.write(unfinished, columns)
    segment.files.update(files.listing(unfinished))
  with files.whole_folder(second) as unfinished:
    shutil.copytree(original, unfinished)
    if files.listing(unfinished) != segment.files:
      raise ArchiveError(f'{unfinished} is not what was written')
  return segment


def check(folder: str, segment: Segment, mend: bool = True) -> Optional[str]:
  """Verifies a segment, and restores a damaged copy from the other one.

  Args:
    folder: folder of the segments.
    segment: the segment.
    mend: False to change no file, in a folder of somebody else's.

  Returns:
    A description of the damage if both copies are damaged, else None.
  """
  problems = {
      copy: files.problem(_path(folder, segment, copy), segment.files)
      for copy in COPIES
  }
  whole = [copy for copy, problem in problems.items() if problem is None]
  if not whole:
    return ' and '.join(filter(None, problems.values()))
  for copy, problem in problems.items() if mend else ():
    if problem is not None:
      _LOGGER.warning('%s: its second copy is taken.', problem)
      path = _path(folder, segment, copy)
      try:
        with files.whole_folder(path) as unfinished:
          shutil.copytree(_path(folder, segment, whole[0]), unfinished)
      except OSError as e:
        _LOGGER.warning('%s could not be mended (%s).', path, e)
  return None


def copy(source: str, target: str, segments: Sequence[Segment]) -> None:
  """Copies verified segments from one folder to another."""
  for segment in segments:
    for which in COPIES:
      with files.whole_folder(_path(target, segment, which)) as unfinished:
        shutil.copytree(_path(source, segment, which), unfinished)


def read(folder: str, segment: Segment) -> dict[str, np.ndarray]:
  """Reads the columns of a segment.

  Raises:
    DamagedError: if both copies are damaged.
  """
  for copy in COPIES:
    if files.problem(_path(folder, segment, copy), segment.files) is None:
      return arrays.read(_path(folder, segment, copy))
  raise DamagedError(f'{folder}: segment {segment.name} is damaged')


def _path(folder: str, segment: Segment, copy: str) -> str:
  return os.path.join(folder, f'{segment.name}.{copy}')
