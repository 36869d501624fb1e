"""Files and folders that appear whole or not at all; checksums; sizes."""

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
# Suffix of files and folders that are being written.
UNFINISHED = '.part'


def write_whole(path: str, content: bytes) -> None:
  """Writes a file; readers see the old content or the new, never a part."""
  with whole_file(path) as part:
    with open(part, 'wb') as f:
      f.write(content)


def write_json(path: str, document: Any) -> None:
  """Writes a JSON file as `write_whole` does."""
  write_whole(path, (json.dumps(document, indent=2) + '\n').encode())


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
  """Yields the path to write a file at; the file then moves to `path`.

  If the block raises, the unfinished file is removed and `path` is unchanged.
  """
  part = path + UNFINISHED
  try:
    yield part
    move_file(part, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(part)
    raise


def move_file(unfinished: str, path: str) -> None:
  """Moves a finished file to its name, once the disk itself holds it."""
  sync(unfinished)
  os.replace(unfinished, path)


@contextlib.contextmanager
def whole_folder(path: str) -> Iterator[str]:
  """Yields the path to make a folder at; the folder then moves to `path`.

  The block creates the folder; what an earlier attempt left there is gone. If
  the block raises, the unfinished folder is removed and `path` is unchanged.

  Args:
    path: path of the folder. An existing folder is replaced.
  """
  unfinished = path + UNFINISHED
  shutil.rmtree(unfinished, ignore_errors=True)
  try:
    yield unfinished
    sync_folder(unfinished)
    remove_folder(path)
    os.rename(unfinished, path)
    sync(os.path.dirname(path))
  except BaseException:
    shutil.rmtree(unfinished, ignore_errors=True)
    raise


def sync(path: str) -> None:
  """Waits until the disk itself holds a file or the list of a folder."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def crc32c(path: str) -> str:
  """Checksum of a file in base64, as Google Cloud Storage lists it."""
  checksum = google_crc32c.Checksum()
  with open(path, 'rb') as f:
    while chunk := f.read(_CHUNK):
      checksum.update(chunk)
  return base64.b64encode(checksum.digest()).decode()


def free_bytes(path: str) -> int:
  """Free bytes on the disk of a folder, which need not exist yet."""
  path = os.path.abspath(path)
  while not os.path.isdir(path):
    path = os.path.dirname(path)
  return shutil.disk_usage(path).free


def size_text(size: float) -> str:
  """A size in words such as '1.3 GB'; 1 GB is 1000 MB."""
  for unit in ('bytes', 'kB', 'MB', 'GB'):
    if size < 1000:
      return f'{size:.0f} {unit}' if unit == 'bytes' else f'{size:.1f} {unit}'
    size /= 1000
  return f'{size:.1f} TB'


def is_full(error: OSError) -> bool:
  """Returns True if a disk or a quota is used up."""
  return error.errno in _FULL


def listing(folder: str) -> dict[str, list]:
  """Size and crc32c of every file below a folder, by relative path."""
  found = {}
  for name in sorted(_names(folder)):
    path = os.path.join(folder, name)
    found[name] = [os.path.getsize(path), crc32c(path)]
  return found


def problem(folder: str, files: dict[str, list]) -> str | None:
  """Describes the first damaged file of a folder; None if all are whole.

  Args:
    folder: the folder.
    files: its listing at the time of writing, from `listing`.
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
  """Waits until the disk itself holds everything below a folder."""
  for root, _, names in os.walk(folder):
    for name in names:
      sync(os.path.join(root, name))
    sync(root)


def remove_folder(path: str) -> None:
  """Removes a folder; no reader sees a part of it under its name."""
  trash = f'{path}.removed'
  shutil.rmtree(trash, ignore_errors=True)
  if os.path.isdir(path):
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _names(folder: str) -> Iterator[str]:
  for root, _, names in os.walk(folder):
    for name in names:
      yield os.path.relpath(os.path.join(root, name), folder)
