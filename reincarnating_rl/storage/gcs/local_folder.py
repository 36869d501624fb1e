"""Safe paths within the folder that files are copied into."""

from __future__ import annotations

import os

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs.errors import BucketError


def path_within(root: str, name: str) -> str:
  """Returns the path of a file that cannot lie outside of a folder.

  Args:
    root: the folder; its own path may contain links.
    name: path of the file below it, with slashes.

  Raises:
    BucketError: if the name is no plain path, or a link or a file is in its
      way.
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
  """Removes a folder and its parents below a root, as far as they are empty."""
  while directory != root:
    try:
      os.rmdir(directory)
    except OSError:
      return
    directory = os.path.dirname(directory)
