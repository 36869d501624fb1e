"""The rows of a ring, written once each as they come.

A segment is a folder with the rows of some successive slots, named by the
slots' numbers since the ring was empty; it is never changed. A checkpoint
names the segments that hold what is in the ring, so what it costs grows with
what is new. As all checkpoints share them, each segment has two copies: one
damaged file costs nothing.
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
_UNFINISHED = '.part'
_LOGGER = logging.getLogger(__name__)


class Segment(NamedTuple):
  """Some slots on the disk.

  Attributes:
    start: the first, counted since the ring was empty.
    stop: the one after the last.
    files: of each copy, as `files.listing` lists them.
  """

  start: int
  stop: int
  files: dict[str, list]

  @property
  def name(self) -> str:
    return f'{self.start:012d}-{self.stop:012d}'


class Ring(Protocol):
  """Where rows come from.

  Attributes:
    written: slots written since it was empty.
    slots: that it holds, the newest.
    segment_slots: how many make a segment.
  """

  written: int
  slots: int
  segment_slots: int

  def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
    """Copies of the columns of some slots that it holds, oldest first."""


class RowLog:
  """Follows one ring, and keeps it in one folder."""

  def __init__(
      self,
      folder: str,
      background: Background,
      segments: Sequence[Segment] = (),
  ):
    """Begins a log, or goes on with one.

    Args:
      folder: of the segments.
      background: writes them.
      segments: that are there already, successive.
    """
    self._folder = os.path.abspath(folder)
    self._background = background
    self._lock = threading.Lock()
    self._segments = list(segments)
    self._handed = segments[-1].stop if segments else 0
    self._failed: Optional[int] = None

  def follow(self, ring: Ring) -> None:
    """Hands on what makes whole segments; cheap where nothing does."""
    while ring.written - self._next(ring) >= ring.segment_slots:
      start = self._next(ring)
      self._hand_on(ring, start, start + ring.segment_slots)

  def seal(self, ring: Ring) -> None:
    """Hands on everything that is there."""
    self.follow(ring)
    start = self._next(ring)
    if start < ring.written:
      self._hand_on(ring, start, ring.written)

  def _next(self, ring: Ring) -> int:
    """The oldest slot of the ring that nobody has taken."""
    with self._lock:
      if self._failed is not None:
        # What stood behind it is written anew with it.
        self._handed, self._failed = self._failed, None
        kept = [s for s in self._segments if s.stop <= self._handed]
        self._segments = kept
    return max(self._handed, ring.written - ring.slots, 0)

  def _hand_on(self, ring: Ring, start: int, stop: int) -> None:
    columns = ring.read(start, stop)
    self._handed = stop
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
    """The segments that hold some slots; asked by a job of the background.

    Args:
      oldest: the first slot.
      written: the one after the last.

    Raises:
      ArchiveError: if not all were written.
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
    """Removes segments that no checkpoint needs, nor a coming one."""
    with self._lock:
      names = names | {s.name for s in self._segments}
    for entry in sorted(os.listdir(self._folder)):
      if entry.split('.')[0] not in names:
        files.remove_folder(os.path.join(self._folder, entry))


def _write_copies(
    folder: str, start: int, stop: int, columns: dict[str, np.ndarray]
) -> Segment:
  """Writes a segment twice; there is none, or a whole one of each."""
  segment = Segment(start, stop, {})
  original = None
  for copy in COPIES:
    path = _path(folder, segment, copy)
    unfinished = path + _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    files.remove_folder(path)
    try:
      if original is None:
        os.makedirs(unfinished)
        arrays.write(unfinished, columns)
        segment.files.update(files.listing(unfinished))
      else:
        shutil.copytree(original, unfinished)
        if files.listing(unfinished) != segment.files:
          raise ArchiveError(f'{unfinished} is not what was written')
      files.publish(unfinished, path)
    except (ArchiveError, OSError):
      shutil.rmtree(unfinished, ignore_errors=True)
      raise
    original = path
  return segment


def check(folder: str, segment: Segment, mend: bool = True) -> Optional[str]:
  """Mends a segment of which one copy is damaged.

  Args:
    folder: of the segments.
    segment: which.
    mend: False to leave it as it is, in a folder that is another's.

  Returns:
    What is wrong if both are, else None.
  """
  problems = {
      copy: files.problem(_path(folder, segment, copy), segment.files)
      for copy in COPIES
  }
  whole = [copy for copy, problem in problems.items() if problem is None]
  if not whole:
    return ' and '.join(problems.values())
  for copy, problem in problems.items() if mend else ():
    if problem is not None:
      _LOGGER.warning('%s: its second copy is taken.', problem)
      path = _path(folder, segment, copy)
      unfinished = path + _UNFINISHED
      shutil.rmtree(unfinished, ignore_errors=True)
      try:
        shutil.copytree(_path(folder, segment, whole[0]), unfinished)
        files.remove_folder(path)
        files.publish(unfinished, path)
      except OSError as e:
        shutil.rmtree(unfinished, ignore_errors=True)
        _LOGGER.warning('%s could not be mended (%s).', path, e)
  return None


def copy(source: str, target: str, segments: Sequence[Segment]) -> None:
  """Copies segments that were checked from one folder to another."""
  for segment in segments:
    for which in COPIES:
      path = _path(target, segment, which)
      shutil.rmtree(path + _UNFINISHED, ignore_errors=True)
      files.remove_folder(path)
      shutil.copytree(_path(source, segment, which), path + _UNFINISHED)
      files.publish(path + _UNFINISHED, path)


def read(folder: str, segment: Segment) -> dict[str, np.ndarray]:
  """The columns of a segment that was checked.

  Raises:
    DamagedError: if it changed meanwhile.
  """
  for copy in COPIES:
    if files.problem(_path(folder, segment, copy), segment.files) is None:
      return arrays.read(_path(folder, segment, copy))
  raise DamagedError(f'{folder}: segment {segment.name} is damaged')


def _path(folder: str, segment: Segment, copy: str) -> str:
  return os.path.join(folder, f'{segment.name}.{copy}')
