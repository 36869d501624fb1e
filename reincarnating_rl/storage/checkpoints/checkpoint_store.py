"""Numbered checkpoints; each is complete, and verified before it is used.

  FOLDER/00000012/{manifest,document}.json, arrays/
  FOLDER/rows/NAME/<first slot>-<slot after the last>.{a,b}/

A manifest lists size and checksum of each file of its checkpoint and of the
segments that the checkpoint needs. It has a checksum of its own.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import Any, Mapping, NamedTuple, Optional, Sequence

import google_crc32c
import numpy as np

from reincarnating_rl.base import files
from reincarnating_rl.storage.checkpoints import arrays as arrays_lib
from reincarnating_rl.storage.checkpoints import row_segments
from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.storage.checkpoints.errors import DamagedError
from reincarnating_rl.storage.checkpoints.row_segments import RowLog
from reincarnating_rl.storage.checkpoints.row_segments import Segment

_ARRAYS = 'arrays'
_DOCUMENT = 'document.json'
_MANIFEST = 'manifest.json'
_ROWS = 'rows'
_LOGGER = logging.getLogger(__name__)


class Saved(NamedTuple):
  """A verified checkpoint.

  Attributes:
    number: number of the checkpoint.
    document: everything but arrays, as JSON returns it.
    arrays: arrays by name.
    segments: segments by name of the ring.
  """

  number: int
  document: Any
  arrays: dict[str, np.ndarray]
  segments: dict[str, list[Segment]]


class Vault:
  """Checkpoints of one folder."""

  def __init__(self, folder: str, keep: int = 2):
    """Opens a folder, which need not exist yet.

    Args:
      folder: folder of the checkpoints.
      keep: number of checkpoints that `prune` keeps.

    Raises:
      ValueError: if `keep` is less than 1.
    """
    if keep < 1:
      raise ValueError(f'At least one checkpoint must be kept, got {keep}.')
    self._folder = os.path.abspath(os.path.expanduser(folder))
    self._keep = keep
    self._damaged: set[int] = set()

  @property
  def folder(self) -> str:
    return self._folder

  def rows_folder(self, name: str) -> str:
    """Folder of a ring's segments."""
    return os.path.join(self._folder, _ROWS, name)

  def numbers(self) -> list[int]:
    """Numbers of the checkpoints, ascending, without those known as damaged."""
    if not os.path.isdir(self._folder):
      return []
    found = (int(n) for n in os.listdir(self._folder) if n.isdigit())
    return sorted(set(found) - self._damaged)

  def write(
      self,
      number: int,
      document: Any,
      arrays: Mapping[str, np.ndarray],
      segments: Mapping[str, Sequence[Segment]],
  ) -> None:
    """Writes a checkpoint.

    Args:
      number: number of the new checkpoint.
      document: everything but arrays, ready for JSON.
      arrays: arrays by name.
      segments: written segments by name of the ring.

    Raises:
      ArchiveError: if it cannot be written; nothing changes then.
    """
    try:
      with files.whole_folder(self._path(number)) as unfinished:
        os.makedirs(os.path.join(unfinished, _ARRAYS))
        arrays_lib.write(os.path.join(unfinished, _ARRAYS), arrays)
        _write_json(os.path.join(unfinished, _DOCUMENT), document)
        content = {'files': files.listing(unfinished), 'segments': segments}
        _write_json(
            os.path.join(unfinished, _MANIFEST),
            {'checksum': _checksum(content), 'content': content},
        )
    except (ArchiveError, OSError) as e:
      reason = e.strerror if isinstance(e, OSError) else None
      raise ArchiveError(reason or str(e)) from e

  def prune(self, logs: Mapping[str, RowLog]) -> None:
    """Removes old checkpoints, damaged ones, and rows that only they need.

    Args:
      logs: logs of the rings of the next checkpoint, by name.
    """
    for number in self.numbers()[: -self._keep]:
      files.remove_folder(self._path(number))
    for number in self._damaged:
      files.remove_folder(self._path(number))
    self._damaged.clear()
    needed: dict[str, set[str]] = {name: set() for name in logs}
    for number in self.numbers():
      try:
        segments_of = self._manifest(number)['segments']
      except DamagedError:
        continue  # Such a checkpoint cannot be read at all.
      for name, segments in segments_of.items():
        found = {Segment(*s).name for s in segments}
        needed[name] = needed.get(name, set()) | found
    folder = os.path.join(self._folder, _ROWS)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
      if name in logs:
        logs[name].remove_all_but(needed[name])
      elif name not in needed:
        files.remove_folder(os.path.join(folder, name))

  def copy_newest_of(self, other: Vault) -> None:
    """Copies the newest undamaged checkpoint of another store.

    Raises:
      ArchiveError: if there is none, or it cannot be written.
    """
    saved = other.newest()
    if saved is None:
      raise ArchiveError(f'There is no checkpoint in {other.folder}.')
    try:
      for name, segments in saved.segments.items():
        row_segments.copy(
            other.rows_folder(name), self.rows_folder(name), segments
        )
      with files.whole_folder(self._path(saved.number)) as unfinished:
        shutil.copytree(other._path(saved.number), unfinished)
    except OSError as e:
      raise ArchiveError(f'{self._folder} cannot be written: {e}') from e

  def newest(self, mend: bool = True) -> Optional[Saved]:
    """Reads the newest undamaged checkpoint; None if there is none at all.

    Args:
      mend: True to restore damaged copies of rows from their second copies.

    Raises:
      ArchiveError: if all checkpoints are damaged.
    """
    problems = []
    for number in reversed(self.numbers()):
      try:
        saved = self.read(number, mend)
      except DamagedError as e:
        problems.append(f'checkpoint {number}: {e}')
        self._damaged.add(number)
        continue
      for problem in problems:
        _LOGGER.warning(
            'Damaged %s. Going back to checkpoint %d.', problem, number
        )
      return saved
    if problems:
      raise ArchiveError(
          f'No checkpoint in {self._folder} is whole ({"; ".join(problems)}): '
          'bring the files back, or choose another directory.'
      )
    return None

  def read(self, number: int, mend: bool = True) -> Saved:
    """Reads one checkpoint.

    Args:
      number: number of the checkpoint.
      mend: as in `newest`.

    Raises:
      DamagedError: if it is missing or damaged.
    """
    manifest, path = self._manifest(number), self._path(number)
    problem = files.problem(path, manifest['files'])
    segments = {
        name: [Segment(*s) for s in found]
        for name, found in manifest['segments'].items()
    }
    for name, found in segments.items():
      for segment in found:
        folder = self.rows_folder(name)
        problem = problem or row_segments.check(folder, segment, mend)
    if problem:
      raise DamagedError(problem)
    try:
      with open(os.path.join(path, _DOCUMENT), encoding='utf-8') as f:
        document = json.load(f)
    except OSError as e:  # The run may have removed it just now.
      raise DamagedError(f'{path} cannot be read ({e.strerror})') from e
    arrays = arrays_lib.read(os.path.join(path, _ARRAYS))
    return Saved(number, document, arrays, segments)

  def is_listed(self, number: int) -> bool:
    """Returns True if a checkpoint's manifest is undamaged."""
    try:
      self._manifest(number)
    except DamagedError:
      return False
    return True

  def read_rows(self, name: str, segment: Segment) -> dict[str, np.ndarray]:
    """Reads the columns of a segment.

    Args:
      name: name of the ring.
      segment: one of its segments, from `Saved.segments`.

    Raises:
      DamagedError: if it has been removed or damaged.
    """
    return row_segments.read(self.rows_folder(name), segment)

  def _path(self, number: int) -> str:
    return os.path.join(self._folder, f'{number:08d}')

  def _manifest(self, number: int) -> dict[str, Any]:
    """Content of a manifest.

    Raises:
      DamagedError: if it is missing or damaged.
    """
    path = os.path.join(self._path(number), _MANIFEST)
    try:
      with open(path, encoding='utf-8') as f:
        manifest = json.load(f)
      if manifest['checksum'] == _checksum(manifest['content']):
        return manifest['content']
    except OSError as e:
      raise DamagedError(f'{path} cannot be read ({e.strerror})') from e
    except (ValueError, KeyError, TypeError):
      pass
    raise DamagedError(f'{path} is not what was written')


def _checksum(content: Any) -> str:
  text = json.dumps(content, sort_keys=True)
  return google_crc32c.Checksum(text.encode()).hexdigest().decode()


def _write_json(path: str, content: Any) -> None:
  files.write_whole(path, json.dumps(content).encode())
