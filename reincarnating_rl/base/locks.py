"""Locks between processes: the system releases them when a process dies.

A lock lasts as long as a descriptor of its file or folder is open, in this
process or in a program that inherited it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import logging
import os
from typing import Iterator

_LOGGER = logging.getLogger(__name__)


class State(enum.Enum):
  """Outcome of an attempt to lock."""

  OURS = enum.auto()
  ANOTHERS = enum.auto()
  UNSUPPORTED = enum.auto()  # by the file system


def lock(descriptor: int, wait: bool = False) -> State:
  """Locks an open file or folder until its descriptor is closed.

  Args:
    descriptor: descriptor of the file or folder.
    wait: True to wait until other holders release it.
  """
  operation = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
  try:
    fcntl.flock(descriptor, operation)
  except BlockingIOError:
    return State.ANOTHERS
  except OSError:
    return State.UNSUPPORTED
  return State.OURS


@contextlib.contextmanager
def locked(directory: str, use: str) -> Iterator[int]:
  """Locks a folder; waits, with a warning, while another process holds it.

  Where the file system knows no locks, the folder is not locked.

  Args:
    directory: the folder, which must exist.
    use: verb phrase for the warning, such as 'copies into'.

  Yields:
    The descriptor that holds the lock, for programs that write there.
  """
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    if lock(descriptor) is State.ANOTHERS:
      _LOGGER.warning(
          'Another process %s %s: waiting until it has ended.', use, directory
      )
      lock(descriptor, wait=True)
    yield descriptor
  finally:
    os.close(descriptor)
