"""The process of the soak test: `train` that reports its progress on a board.

  python -m reliability.watched_train BOARD FLAGS...

The board is a small file that the process shares with soak.py. The process
writes its place in the training to it, and reads from it by how much its wall
clock shall be wrong.
"""

from __future__ import annotations

import runpy
import sys
import time
from typing import Any, NamedTuple

import numpy as np


class Place(NamedTuple):
  """Place of a run in its training, as in checkpoints and on boards."""

  next_phase: int
  steps_done: int
  agent_steps: int


class Board:
  """A few numbers that two processes share."""

  def __init__(self, path: str, anew: bool = False):
    """Opens a board.

    Args:
      path: path of its file.
      anew: True to make the file, all zeros.
    """
    self._cells = np.memmap(path, np.int64, 'w+' if anew else 'r+', shape=(8,))

  @property
  def beats(self) -> int:
    """Steps that the process has begun."""
    return int(self._cells[0])

  @property
  def first(self) -> Place:
    """Place of the process at its first step."""
    return Place(*map(int, self._cells[1:4]))

  @property
  def last(self) -> Place:
    """Place of the process at its latest step."""
    return Place(*map(int, self._cells[4:7]))

  @property
  def wrong_seconds(self) -> int:
    """Seconds by which the wall clock of the process is fast."""
    return int(self._cells[7])

  @wrong_seconds.setter
  def wrong_seconds(self, seconds: int) -> None:
    self._cells[7] = seconds

  def beat(self, *place: int) -> None:
    """Reports the place of the process."""
    self._cells[4:7] = place
    if not self._cells[0]:
      self._cells[1:4] = place
    self._cells[0] += 1

  def reset(self) -> None:
    """Prepares for a new process with a right clock."""
    self._cells[0] = self._cells[7] = 0


def main(path: str, args: list[str]) -> None:
  """Becomes the entry point `train`.

  Args:
    path: path of the board.
    args: flags of the entry point.
  """
  board = Board(path)
  right, right_ns = time.time, time.time_ns
  time.time = lambda: right() + board.wrong_seconds
  time.time_ns = lambda: right_ns() + board.wrong_seconds * 10**9
  from reincarnating_rl.loop.saving.supervisor import Keeper

  at_step_of_all = Keeper.at_step_of_all

  def reporting(self: Any, runs: Any, *more: Any, **named: Any) -> Any:
    counters = runs[0].trainer.counters
    board.beat(runs[0].next_phase, runs[0].steps_done, counters.agent_steps)
    return at_step_of_all(self, runs, *more, **named)

  Keeper.at_step_of_all = reporting  # type: ignore[method-assign]
  sys.argv = ['train', *args]
  runpy.run_module(
      'reincarnating_rl.train', run_name='__main__', alter_sys=True
  )


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2:])
