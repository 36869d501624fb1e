"""Cores of a machine, each reserved for one trial at a time.

XLA starts as many threads as the process has cores, so trials that share cores
slow each other down. A process reserves a core with a lock on a file. The
system releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Iterator, Optional

from reincarnating_rl.base import locks


@contextlib.contextmanager
def held(count: int) -> Iterator[tuple[int, ...]]:
  """Reserves cores while the context lasts.

  Args:
    count: number of cores.

  Yields:
    Numbers of the cores; () = too few are free, or the system does not tell:
    the process may run anywhere.
  """
  locks: dict[int, int] = {}
  try:
    if hasattr(os, 'sched_getaffinity'):
      for core in sorted(os.sched_getaffinity(0)):
        if len(locks) == count:
          break
        lock = _lock(core)
        if lock is not None:
          locks[core] = lock
    yield tuple(locks) if len(locks) == count else ()
  finally:
    for lock in locks.values():
      os.close(lock)


def _lock(core: int) -> Optional[int]:
  """File descriptor that holds the lock of a core; None if it is reserved."""
  name = f'reincarnating_rl.{os.getuid()}.core_{core}'
  lock = os.open(
      os.path.join(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT, 0o600
  )
  if locks.lock(lock) is not locks.State.OURS:
    os.close(lock)
    return None
  return lock
