"""Checksums of files and folders, and names that are never half there."""

from __future__ import annotations

import os
import shutil
from typing import Iterator

from reincarnating_rl.buckets import local


def listing(folder: str) -> dict[str, list]:
  """Size and crc32c of every file below a folder, by relative path."""
  found = {}
  for name in sorted(_names(folder)):
    path = os.path.join(folder, name)
    found[name] = [os.path.getsize(path), local.crc32c(path)]
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
      if local.crc32c(path) != checksum:
        return f'{path} is not what was written (its checksum differs)'
    except OSError as e:
      return f'{path} cannot be read ({e.strerror})'
  return None


def sync_folder(folder: str) -> None:
  """Waits until everything below a folder is on the disk itself."""
  for root, _, names in os.walk(folder):
    for name in names:
      local.sync(os.path.join(root, name))
    local.sync(root)


def publish(unfinished: str, path: str) -> None:
  """Gives a finished folder its name, which nothing has yet."""
  sync_folder(unfinished)
  os.rename(unfinished, path)
  local.sync(os.path.dirname(path))


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
