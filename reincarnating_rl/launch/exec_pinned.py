"""Replaces itself by another program, pinned to cores.

  python -m reincarnating_rl.launch.exec_pinned CORES COMMAND...

CORES are numbers with commas between, or '-' for all. The program gets a
SIGTERM when its parent ends. This is a process of its own, because a process
with threads must not fork and continue in the child.
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
  """Command line that runs another command pinned to cores.

  Args:
    cores: numbers of the cores; () = all.
    wanted: the other command.
  """
  places = ','.join(map(str, cores)) or '-'
  return [sys.executable, '-m', _MODULE, places, *wanted]


def main(argv: Sequence[str]) -> None:
  places, *wanted = argv
  if places != '-':
    os.sched_setaffinity(0, map(int, places.split(',')))
  if sys.platform == 'linux':
    # A run that gets a SIGTERM saves.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
  os.execv(wanted[0], wanted)


if __name__ == '__main__':
  main(sys.argv[1:])
