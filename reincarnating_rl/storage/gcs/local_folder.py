"""The folder that files are copied into: safe paths and locks."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from typing import Iterator

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs.errors import BucketError

_LOGGER = logging.getLogger(__name__)


def path_within(root: str, name: str) -> str:
  """The path of a file below a folder, which it cannot leave.

  Args:
    root: the folder; it may itself be reached through links.
    name: path of the file below it, with slashes.

  Raises:
    BucketError: if the name is no plain path, or a link or a file stands in
      its way.
  """
  fault = addresses.fault_of(name)
  if fault is not None:
    raise BucketError(
        f'{name!r} cannot become a file below {root} ({fault}): nothing was '
        'written.'
    )
  path = root
  parts = name.split('/')
  for i, part in enumerate(parts):
    path = os.path.join(path, part)
    if os.path.islink(path):
      raise BucketError(
          f'{path} is a symbolic link, and files from a bucket are not written '
          'through links: remove it, or choose another folder.'
      )
    is_last = i == len(parts) - 1
    if os.path.lexists(path) and os.path.isdir(path) == is_last:
      wanted = 'a file' if is_last else 'a folder'
      raise BucketError(
          f'{path} should be {wanted}, and is not: remove it, or choose '
          'another folder.'
      )
  return path


def remove_empty(root: str, directory: str) -> None:
  """Removes a folder and those above it, up to a root, that hold nothing."""
  while directory != root:
    try:
      os.rmdir(directory)
    except OSError:
      return
    directory = os.path.dirname(directory)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[int]:
  """Keeps other processes from copying into a folder; waits for them.

  Where the file system knows no locks, there is none.

  Yields:
    The descriptor that holds the lock, for programs that write there.
  """
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      _LOGGER.warning(
          'Another process copies into %s: waiting until it has ended.',
          directory,
      )
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
      pass
    yield descriptor
  finally:
    os.close(descriptor)
