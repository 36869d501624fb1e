"""The folder that files are copied into: paths, checksums, locks, writing."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import logging
import os
import shutil
from typing import Iterator

from reincarnating_rl.buckets import address as addresses
from reincarnating_rl.buckets.errors import BucketError

_CHUNK = 4 << 20  # bytes read at a time
_FULL = (errno.ENOSPC, errno.EDQUOT)
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


def crc32c(path: str) -> str:
  """Checksum of a file, in base64 as buckets list it.

  Raises:
    BucketError: if google-crc32c is not installed.
  """
  try:
    import google_crc32c
  except ImportError as e:
    raise BucketError(
        'The Python package google-crc32c is not installed, and without it '
        'files cannot be verified: pip install google-crc32c.'
    ) from e
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


def remove_empty(root: str, directory: str) -> None:
  """Removes a folder and those above it, up to a root, that hold nothing."""
  while directory != root:
    try:
      os.rmdir(directory)
    except OSError:
      return
    directory = os.path.dirname(directory)


def sync(path: str) -> None:
  """Waits until a file is on the disk itself."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


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
