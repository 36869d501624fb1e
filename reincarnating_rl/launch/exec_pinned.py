"""Becomes another program, on cores of its own, that ends with its parent.

  python -m reincarnating_rl.launch.exec_pinned CORES COMMAND...

CORES are numbers with commas between, or '-' for all. A process of its own
does this because one with threads must not fork and go on as itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Sequence

_MODULE = 'reincarnating_rl.launch.exec_pinned'  # __main__ when it runs
_PR_SET_PDEATHSIG = 1


def command(cores: Sequence[int], wanted: Sequence[str]) -> list[str]:
  """What to start so that a command runs like that."""
  places = ','.join(map(str, cores)) or '-'
  return [sys.executable, '-m', _MODULE, places, *wanted]


def main(argv: Sequence[str]) -> None:
  places, *wanted = argv
  if places != '-':
    os.sched_setaffinity(0, map(int, places.split(',')))
  if sys.platform == 'linux':
    # Asks the system for a SIGTERM, upon which a run saves.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
  os.execv(wanted[0], wanted)


if __name__ == '__main__':
  main(sys.argv[1:])
