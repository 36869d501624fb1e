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


BOARD = np.dtype(
    [
        ('beats', np.int64),  # steps that the process has begun
        ('first', np.int64, 3),  # its place at the first of them
        ('last', np.int64, 3),  # its place at the latest of them
        ('wrong_seconds', np.int64),  # by which its wall clock is fast
    ]
)


def open_board(path: str, anew: bool = False) -> np.memmap:
  """One record of BOARD that two processes share; `anew` makes the file."""
  return np.memmap(path, BOARD, 'w+' if anew else 'r+', shape=())


def beat(board: np.ndarray, place: Place) -> None:
  """Reports the place of the process."""
  board['last'] = place
  if not board['beats']:
    board['first'] = place
  board['beats'] += 1


def main(path: str, args: list[str]) -> None:
  """Becomes the entry point `train`.

  Args:
    path: path of the board.
    args: flags of the entry point.
  """
  board = open_board(path)
  wrong = lambda: int(board['wrong_seconds'])
  right, right_ns = time.time, time.time_ns
  time.time = lambda: right() + wrong()
  time.time_ns = lambda: right_ns() + wrong() * 10**9
  from reincarnating_rl.loop.saving.supervisor import Keeper

  at_step_of_all = Keeper.at_step_of_all

  def reporting(self: Any, runs: Any, *more: Any, **named: Any) -> Any:
    agent_steps = runs[0].trainer.counters.agent_steps
    beat(board, Place(runs[0].next_phase, runs[0].steps_done, agent_steps))
    return at_step_of_all(self, runs, *more, **named)

  Keeper.at_step_of_all = reporting  # type: ignore[method-assign]
  sys.argv = ['train', *args]
  runpy.run_module(
      'reincarnating_rl.train', run_name='__main__', alter_sys=True
  )


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2:])
