"""Flags of the rows in the replay ring of Dopamine up to 4.0.

The ring marks the rows before a terminal. A separate file lists time limits
since 4.0.6; older releases do not record them. Three blank rows (padding) come
before each episode.
"""

from __future__ import annotations

from typing import Iterator

import numpy as np

from reincarnating_rl.replay.frame_replay import BARRIER
from reincarnating_rl.replay.frame_replay import EXCLUDED
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

STACK_SIZE = 4
# Number of blank rows before each episode.
PADDING = STACK_SIZE - 1


def row_flags(
    terminal: np.ndarray,
    blank: np.ndarray,
    ends: np.ndarray,
    head: int,
    num_rows: int,
) -> np.ndarray:
  """Computes the flags of each row for the replay on the device.

  Episodes end at terminals, at the rows that the file lists, and at rows before
  three blank ones: a time limit that an older release did not record. In longer
  runs of blank rows, padding and black screens look alike: all are excluded.

  Args:
    terminal: [W] bool for the W rows that were written.
    blank: [W] bool; True if frame, action, reward and terminal are all zero.
    ends: [K] rows that the file lists as ends.
    head: oldest row.
    num_rows: capacity of the ring, which is full if W equals it.

  Returns:
    [W] uint8 flags of `frame_replay`.
  """
  # All arrays below are in order of age, oldest first.
  roll = lambda x: np.roll(x, -head)
  terminal, blank = roll(terminal), roll(blank)
  named = np.zeros(len(terminal), bool)
  named[(ends - head) % len(terminal)] = True
  flags = np.where(terminal, TERMINAL, 0).astype(np.uint8)
  # Dopamine samples no transition across these rows, wherever they lie.
  flags[named & ~terminal] |= BARRIER
  flags[_without_stale(named, terminal, blank)] |= TRUNCATED
  for first, last in _runs(blank, PADDING):
    flags[first:last] |= EXCLUDED
    if first and not terminal[first - 1]:
      flags[first - 1] |= TRUNCATED
  # The first stacks of a ring reach across its head; Dopamine leaves out one
  # row more. A ring that is not full begins with padding.
  is_full = len(terminal) == num_rows
  flags[: STACK_SIZE if is_full else PADDING] |= EXCLUDED
  return np.roll(flags, head)


def _without_stale(
    named: np.ndarray, terminal: np.ndarray, blank: np.ndarray
) -> list[int]:
  """Finds listed rows that still are ends without a terminal.

  A row stays in Dopamine's list when padding overwrites it.
  """
  ends = []
  last = -STACK_SIZE
  for row in np.flatnonzero(named | terminal).tolist():
    is_padding = blank[row] and row - last <= PADDING
    if is_padding:
      continue
    last = row
    if not terminal[row]:
      ends.append(row)
  return ends


def _runs(mask: np.ndarray, least: int) -> Iterator[tuple[int, int]]:
  """Yields (first, last + 1) of each run of True that is long enough."""
  edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
  for first, last in zip(edges[::2], edges[1::2]):
    if last - first >= least:
      yield int(first), int(last)
