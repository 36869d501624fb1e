"""Numbered checkpoints: whole or not there, verified before they are used.

  FOLDER/00000012/{manifest,document}.json, arrays/
  FOLDER/rows/NAME/<first slot>-<slot after the last>.{a,b}/

A manifest lists size and checksum of every file of its checkpoint and of the
segments that it needs, and carries a checksum of its own.
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
_UNFINISHED = '.part'
_LOGGER = logging.getLogger(__name__)


class Saved(NamedTuple):
  """A checkpoint that was found whole.

  Attributes:
    number: which.
    document: what is no array, as JSON gives it back.
    arrays: by name.
    segments: of each ring.
  """

  number: int
  document: Any
  arrays: dict[str, np.ndarray]
  segments: dict[str, list[Segment]]


class Vault:
  """The checkpoints of one folder."""

  def __init__(self, folder: str, keep: int = 2):
    """Opens a folder, which need not be there yet.

    Args:
      folder: of the checkpoints.
      keep: how many of them stay when another one is written.

    Raises:
      ValueError: if it is to keep none.
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
    """Where the segments of a ring are."""
    return os.path.join(self._folder, _ROWS, name)

  def numbers(self) -> list[int]:
    """Of all checkpoints, ascending; those known to be damaged excepted."""
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
    """Writes a checkpoint, then removes those that are not kept.

    Args:
      number: of none that is there.
      document: JSON-ready.
      arrays: by name.
      segments: which are written, of each ring.

    Raises:
      ArchiveError: if the disk does not take it; nothing is changed then.
    """
    path = self._path(number)
    unfinished = path + _UNFINISHED
    try:
      shutil.rmtree(unfinished, ignore_errors=True)
      os.makedirs(os.path.join(unfinished, _ARRAYS))
      arrays_lib.write(os.path.join(unfinished, _ARRAYS), arrays)
      _write_json(os.path.join(unfinished, _DOCUMENT), document)
      content = {'files': files.listing(unfinished), 'segments': segments}
      _write_json(
          os.path.join(unfinished, _MANIFEST),
          {'checksum': _checksum(content), 'content': content},
      )
      files.publish(unfinished, path)
    except (ArchiveError, OSError) as e:
      shutil.rmtree(unfinished, ignore_errors=True)
      reason = e.strerror if isinstance(e, OSError) else str(e)
      raise ArchiveError(reason) from e

  def prune(self, logs: Mapping[str, RowLog]) -> None:
    """Removes checkpoints that are not kept, damaged ones, and their rows.

    Args:
      logs: of the rings that a coming checkpoint will hold, by name.
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
        continue  # Nothing can be had from it anyway.
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
    """Brings another vault's newest checkpoint into this one.

    Raises:
      ArchiveError: if there is none that is whole.
    """
    saved = other.newest()
    if saved is None:
      raise ArchiveError(f'There is no checkpoint in {other.folder}.')
    try:
      for name, segments in saved.segments.items():
        row_segments.copy(
            other.rows_folder(name), self.rows_folder(name), segments
        )
      unfinished = self._path(saved.number) + _UNFINISHED
      shutil.rmtree(unfinished, ignore_errors=True)
      shutil.copytree(other._path(saved.number), unfinished)
      files.publish(unfinished, self._path(saved.number))
    except OSError as e:
      raise ArchiveError(f'{self._folder} cannot be written: {e}') from e

  def newest(self, mend: bool = True) -> Optional[Saved]:
    """The newest checkpoint that is whole; None if there is none at all.

    Args:
      mend: whether to mend rows of which one copy is damaged.

    Raises:
      ArchiveError: if there are some, but all are damaged.
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
    """One checkpoint.

    Args:
      number: of it.
      mend: as in `newest`.

    Raises:
      DamagedError: if it is not there as it was written.
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
    except OSError as e:  # A run that goes on removes what is too old.
      raise DamagedError(f'{path} cannot be read ({e.strerror})') from e
    arrays = arrays_lib.read(os.path.join(path, _ARRAYS))
    return Saved(number, document, arrays, segments)

  def is_listed(self, number: int) -> bool:
    """Whether the list of a checkpoint's files is as it was written."""
    try:
      self._manifest(number)
    except DamagedError:
      return False
    return True

  def read_rows(self, name: str, segment: Segment) -> dict[str, np.ndarray]:
    """The columns of a segment of a checkpoint that was read.

    Raises:
      DamagedError: if it changed meanwhile.
    """
    return row_segments.read(self.rows_folder(name), segment)

  def _path(self, number: int) -> str:
    return os.path.join(self._folder, f'{number:08d}')

  def _manifest(self, number: int) -> dict[str, Any]:
    """The content of a manifest.

    Raises:
      DamagedError: if it is not as it was written.
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
