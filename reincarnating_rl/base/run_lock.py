"""The directory of a run: made and taken, or refused with a reason."""

from __future__ import annotations

import fcntl
import os
import socket

_LOCK = '.lock'
# Directories that this process has taken, with what holds them.
_TAKEN: dict[str, int] = {}


def make(path: str) -> str:
  """Makes the directory of a run.

  Args:
    path: of the directory; '~' is the home.

  Returns:
    Its absolute path.

  Raises:
    ValueError: one sentence, if it cannot be made or written to.
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
  """Takes a directory for this process, until it ends or gives it back.

  The system gives back what a process held when it died. Where the file
  system knows no locks, there is none.

  Args:
    path: absolute, of a directory that is there.

  Raises:
    ValueError: if another process has it.
  """
  if path in _TAKEN:
    return
  lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT, 0o644)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as e:
    holder = os.read(lock, 200).decode(errors='replace').strip()
    os.close(lock)
    raise ValueError(
        f'base_dir {path} is in use ({holder or "by another process"}): wait '
        'for that run, stop it, or choose another directory.'
    ) from e
  except OSError:
    os.close(lock)
    return
  os.ftruncate(lock, 0)
  os.write(lock, f'by process {os.getpid()} on {socket.gethostname()}'.encode())
  _TAKEN[path] = lock


def is_taken(path: str) -> bool:
  """Whether another process has a directory.

  Args:
    path: of a directory, which need not be there.
  """
  try:
    lock = os.open(os.path.join(path, _LOCK), os.O_RDWR)
  except OSError:
    return False
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:
    pass
  finally:
    os.close(lock)
  return False


def give_back(path: str) -> None:
  """Ends `take`; without effect if it was not taken."""
  lock = _TAKEN.pop(path, None)
  if lock is not None:
    os.close(lock)
