"""Directory of a run: created, and used by one process at a time."""

from __future__ import annotations

import os
import socket

from reincarnating_rl.base import locks

_LOCK = '.lock'
# Descriptors of the locks that this process holds, by directory.
_TAKEN: dict[str, int] = {}


def make(path: str) -> str:
  """Creates the directory of a run.

  Args:
    path: the directory; '~' is the home directory.

  Returns:
    Its absolute path.

  Raises:
    ValueError: one sentence, if it cannot be created or written to.
  """
  path = os.path.abspath(os.path.expanduser(path))
  probe = os.path.join(path, '.writable')
  try:
    os.makedirs(path, exist_ok=True)
    with open(probe, 'w', encoding='utf-8'):
      pass
    os.remove(probe)
  except OSError as e:
    raise ValueError(
        f'base_dir {path} cannot be written to ({e.strerror}): choose another '
        'directory.'
    ) from e
  return path


def take(path: str) -> None:
  """Locks a directory for this process until it ends or calls `give_back`.

  Where the file system knows no locks, the directory is not locked.

  Args:
    path: absolute path of an existing directory.

  Raises:
    ValueError: if another process holds the lock.
  """
  if path in _TAKEN:
    return
  lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT, 0o644)
  state = locks.lock(lock)
  if state is locks.State.ANOTHERS:
    holder = os.read(lock, 200).decode(errors='replace').strip()
    os.close(lock)
    raise ValueError(
        f'base_dir {path} is in use ({holder or "by another process"}): wait '
        'for that run, stop it, or choose another directory.'
    )
  if state is locks.State.UNSUPPORTED:
    os.close(lock)
    return
  os.ftruncate(lock, 0)
  os.write(lock, f'by process {os.getpid()} on {socket.gethostname()}'.encode())
  _TAKEN[path] = lock


def is_taken(path: str) -> bool:
  """Returns True if another process has locked a directory.

  Args:
    path: the directory, which may be missing.
  """
  try:
    lock = os.open(os.path.join(path, _LOCK), os.O_RDWR)
  except OSError:
    return False
  try:
    return locks.lock(lock) is locks.State.ANOTHERS
  finally:
    os.close(lock)


def give_back(path: str) -> None:
  """Releases a directory; does nothing if this process has not locked it."""
  lock = _TAKEN.pop(path, None)
  if lock is not None:
    os.close(lock)
