"""What is known of each row in the ring of Dopamine up to 4.0.

The ring says of a row whether a terminal followed it; time limits are named in
a file of their own since 4.0.6, and before that not at all. Before each episode
stand three blank rows (padding).
"""

from __future__ import annotations

from typing import Iterator

import numpy as np

from reincarnating_rl.replay.frame_replay import BARRIER
from reincarnating_rl.replay.frame_replay import EXCLUDED
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

STACK_SIZE = 4
# Rows of nothing before each episode.
PADDING = STACK_SIZE - 1


def row_flags(
    terminal: np.ndarray,
    blank: np.ndarray,
    ends: np.ndarray,
    head: int,
    num_rows: int,
) -> np.ndarray:
  """What is known of each row, for the replay on the device.

  Ends of episodes are terminals, the rows that the file names, and rows before
  three blank ones: a time limit that an older release did not record. Where
  more than three are blank, padding and black screens look alike, and none of
  them is used.

  Args:
    terminal: [W] bool, of the rows that were written.
    blank: [W] bool, frame, action, reward and terminal all zero.
    ends: [K] rows that the file names as ends.
    head: the oldest row.
    num_rows: of the ring; it is full if W is as many.

  Returns:
    [W] uint8.
  """
  # From here to the last line in order of age, oldest first.
  roll = lambda x: np.roll(x, -head)
  terminal, blank = roll(terminal), roll(blank)
  named = np.zeros(len(terminal), bool)
  named[(ends - head) % len(terminal)] = True
  flags = np.where(terminal, TERMINAL, 0).astype(np.uint8)
  # Dopamine's own rule for what may be sampled minds these wherever they lie.
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
  """Named rows that are ends without a terminal still.

  Padding that overwrites an end leaves its row in the set.
  """
  ends = []
  last = -STACK_SIZE
  for row in np.flatnonzero(named | terminal):
    is_padding = blank[row] and row - last <= PADDING
    if is_padding:
      continue
    last = row
    if not terminal[row]:
      ends.append(int(row))
  return ends


def _runs(mask: np.ndarray, least: int) -> Iterator[tuple[int, int]]:
  """(first, behind the last) of each run of True of at least that length."""
  edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
  for first, last in zip(edges[::2], edges[1::2]):
    if last - first >= least:
      yield int(first), int(last)
