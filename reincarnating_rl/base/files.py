"""Files: whole-file writing, checksums, syncing, folders published at once."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import shutil
from typing import Any, Iterator

import google_crc32c

_CHUNK = 4 << 20  # bytes read at a time
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: str, content: bytes) -> None:
  """Writes a file such that nobody ever sees half of it."""
  part = path + '.part'
  try:
    with open(part, 'wb') as f:
      f.write(content)
      f.flush()
      os.fsync(f.fileno())
    os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(part)
    raise


def write_json(path: str, document: Any) -> None:
  """Writes a JSON file that is never half there."""
  write_whole(path, (json.dumps(document, indent=2) + '\n').encode())


def sync(path: str) -> None:
  """Waits until a file is on the disk itself."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def crc32c(path: str) -> str:
  """Checksum of a file, in base64 as buckets list it."""
  checksum = google_crc32c.Checksum()
  with open(path, 'rb') as f:
    while chunk := f.read(_CHUNK):
      checksum.update(chunk)
  return base64.b64encode(checksum.digest()).decode()


def free_bytes(path: str) -> int:
  """What the disk of a folder has left, whether or not the folder exists."""
  path = os.path.abspath(path)
  while not os.path.isdir(path):
    path = os.path.dirname(path)
  return shutil.disk_usage(path).free


def size_text(size: float) -> str:
  """'1.3 GB'; steps of 1000, as disks are sold."""
  for unit in ('bytes', 'kB', 'MB', 'GB'):
    if size < 1000:
      return f'{size:.0f} {unit}' if unit == 'bytes' else f'{size:.1f} {unit}'
    size /= 1000
  return f'{size:.1f} TB'


def is_full(error: OSError) -> bool:
  """Whether a disk or a quota is used up."""
  return error.errno in _FULL


def listing(folder: str) -> dict[str, list]:
  """Size and crc32c of every file below a folder, by relative path."""
  found = {}
  for name in sorted(_names(folder)):
    path = os.path.join(folder, name)
    found[name] = [os.path.getsize(path), crc32c(path)]
  return found


def problem(folder: str, files: dict[str, list]) -> str | None:
  """What is wrong with the files of a folder, in words; None if nothing is.

  Args:
    folder: their folder.
    files: as `listing` returned them once.
  """
  for name, (size, checksum) in files.items():
    path = os.path.join(folder, name)
    try:
      actual = os.path.getsize(path)
      if actual != size:
        return f'{path} has {actual} bytes, not {size}'
      if crc32c(path) != checksum:
        return f'{path} is not what was written (its checksum differs)'
    except OSError as e:
      return f'{path} cannot be read ({e.strerror})'
  return None


def sync_folder(folder: str) -> None:
  """Waits until everything below a folder is on the disk itself."""
  for root, _, names in os.walk(folder):
    for name in names:
      sync(os.path.join(root, name))
    sync(root)


def publish(unfinished: str, path: str) -> None:
  """Gives a finished folder its name, which nothing has yet."""
  sync_folder(unfinished)
  os.rename(unfinished, path)
  sync(os.path.dirname(path))


def remove_folder(path: str) -> None:
  """Removes a folder that nobody shall take for a whole one meanwhile."""
  trash = f'{path}.removed'
  shutil.rmtree(trash, ignore_errors=True)
  if os.path.isdir(path):
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _names(folder: str) -> Iterator[str]:
  for root, _, names in os.walk(folder):
    for name in names:
      yield os.path.relpath(os.path.join(root, name), folder)
