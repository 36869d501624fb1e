"""Cores of a machine, each for one trial at a time.

XLA makes as many threads as the process has cores: trials that share all
cores get into each other's way. A lock per core is held by who uses it, and is
given back by the system whatever becomes of them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Iterator

from reincarnating_rl.base import locks


@contextlib.contextmanager
def held(count: int) -> Iterator[tuple[int, ...]]:
  """Holds so many cores, or none if not so many are free or known.

  Args:
    count: of cores.

  Yields:
    Their numbers; () = the process may run anywhere.
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


def _lock(core: int) -> int | None:
  name = f'reincarnating_rl.{os.getuid()}.core_{core}'
  lock = os.open(
      os.path.join(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT, 0o600
  )
  if locks.lock(lock) is not locks.State.OURS:
    os.close(lock)
    return None
  return lock
