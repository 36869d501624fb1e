"""One download of files into one folder, each of them verified."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import NamedTuple, Optional

from reincarnating_rl.base import files
from reincarnating_rl.base import progress
from reincarnating_rl.storage.gcs import local_folder
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import WrongChecksum
from reincarnating_rl.storage.gcs.listing import STAGING
from reincarnating_rl.storage.gcs.manifest import Manifest
from reincarnating_rl.storage.gcs.manifest import Selection
from reincarnating_rl.storage.gcs.types import Client
from reincarnating_rl.storage.gcs.types import Job
from reincarnating_rl.storage.gcs.types import RemoteFile

_LOGGER = logging.getLogger(__name__)


class Outcome(NamedTuple):
  """Result of a download."""

  directory: str
  checkpoint: Optional[int]  # None for a whole run
  files: int  # number of selected files
  size: int  # bytes of all selected files
  copied_files: int  # number of selected files that this call copied
  copied_size: int


class Copy:
  """Copies files into a folder, which the caller has locked.

  A file gets its name once it is verified. Until then it lies in the staging
  folder, and the next download resumes from there.
  """

  def __init__(
      self,
      manifest: Manifest,
      directory: str,
      client: Client,
      wanted: dict[str, RemoteFile],
      verify: bool,
  ):
    """Prepares a download.

    Args:
      manifest: manifest of the folder; it is kept up to date.
      directory: the folder.
      client: the client that copies.
      wanted: the files, by their paths within the folder.
      verify: True to read files that are recorded as unchanged, too.
    """
    self._manifest = manifest
    self._directory = directory
    self._client = client
    self._wanted = wanted
    self._verify = verify
    self._names = {file.address: name for name, file in wanted.items()}

  def run(self, selection: Selection, lock: int) -> Outcome:
    """Copies missing files and records them.

    Args:
      selection: the selection that the files are.
      lock: descriptor of the folder's lock.

    Raises:
      BucketError: if a file cannot be copied or verified.
      OSError: if the disk is full.
    """
    try:
      missing = [n for n in self._wanted if not self._is_there(n)]
      self._adopt(missing)
      missing = [n for n in missing if n not in self._manifest.files]
      self._check_space(missing)
      self._copy(missing, lock)
    except BaseException:
      # Saves verifying these files again; a full disk may refuse even that.
      with contextlib.suppress(OSError):
        if self._manifest.files:
          self._manifest.write(self._directory)
      raise
    self._manifest.add_selection(selection)
    self._manifest.write(self._directory)
    self._clear_staging()
    return Outcome(
        directory=self._directory,
        checkpoint=selection.number,
        files=len(self._wanted),
        size=sum(file.size for file in self._wanted.values()),
        copied_files=len(missing),
        copied_size=sum(self._wanted[name].size for name in missing),
    )

  def _is_there(self, name: str) -> bool:
    """Returns True if a file is there as the bucket lists it.

    Raises:
      BucketError: if the name belongs to a file that no download brought.
    """
    path = local_folder.path_within(self._directory, name)
    file = self._wanted[name]
    entry = self._manifest.files.get(name)
    if not os.path.exists(path):
      self._manifest.files.pop(name, None)
      return False
    if os.path.getsize(path) == file.size:
      trusted = (
          not self._verify
          and entry is not None
          and entry.crc32c == file.crc32c
          and self._manifest.is_unchanged(name, path)
      )
      if trusted:
        return True
      if files.crc32c(path) == file.crc32c:
        self._manifest.add_file(name, path, file)
        return True
    if entry is None:
      raise BucketError(
          f'{path} is there already and is not {file.address} '
          f'({os.path.getsize(path)} bytes, {file.size} in the bucket): move '
          'it away, or choose another folder.'
      )
    _LOGGER.warning('%s is damaged or outdated: it is copied again.', path)
    del self._manifest.files[name]
    return False

  def _place(self, file: RemoteFile) -> str:
    name = f'{STAGING}/{self._names[file.address]}'
    return local_folder.path_within(self._directory, name)

  def _adopt(self, names: list[str]) -> None:
    """Takes over complete files that an interrupted download has left."""
    for name in names:
      if os.path.exists(self._place(self._wanted[name])):
        with contextlib.suppress(WrongChecksum):
          self._arrived(self._wanted[name])

  def _arrived(self, file: RemoteFile) -> None:
    """Verifies a file in the staging folder and gives it its name."""
    place = self._place(file)
    size = os.path.getsize(place)
    checksum = files.crc32c(place)
    if (size, checksum) != (file.size, file.crc32c):
      os.remove(place)
      raise WrongChecksum(
          f'{file.address} has arrived damaged and was thrown away ({size} '
          f'bytes with crc32c {checksum}, where the bucket lists {file.size} '
          f'with {file.crc32c}); everything else is kept: repeat the command, '
          'and tell the owner of the bucket if it happens again.'
      )
    name = self._names[file.address]
    path = local_folder.path_within(self._directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.move_file(place, path)
    self._manifest.add_file(name, path, file)

  def _there(self, name: str) -> int:
    """Bytes of a missing file that an interrupted download has left."""
    file = self._wanted[name]
    return self._client.bytes_there(file, self._place(file))

  def _check_space(self, missing: list[str]) -> None:
    needed = sum(self._wanted[n].size - self._there(n) for n in missing)
    free = files.free_bytes(self._directory)
    if needed > free:
      raise BucketError(
          f'{self._manifest.source} needs {files.size_text(needed)} more, but '
          f'only {files.size_text(free)} are free on the disk of '
          f'{self._directory}: make room, choose another folder, or leave out '
          'the replay or other checkpoints.'
      )

  def _copy(self, missing: list[str], lock: int) -> None:
    if not missing:
      return
    total = sum(self._wanted[name].size for name in missing)
    there = sum(self._there(name) for name in missing)
    title = '/'.join(self._directory.split(os.sep)[-2:])
    with progress.bar(
        title, total, progress.BYTES, initial=there, scale=True
    ) as bar:
      self._client.copy(
          Job(
              files=[self._wanted[name] for name in missing],
              place=self._place,
              arrived=self._arrived,
              advance=bar.update,
              lock=lock,
          )
      )

  def _clear_staging(self) -> None:
    """Removes parts of the wanted files, and empty folders."""
    staging = os.path.join(self._directory, STAGING)
    ours = {os.path.join(staging, name) for name in self._wanted}
    ours |= {self._client.part_of(place) for place in ours}
    for folder, _, names in os.walk(staging, topdown=False):
      for path in (os.path.join(folder, name) for name in names):
        if path in ours:
          os.remove(path)
      with contextlib.suppress(OSError):
        os.rmdir(folder)
