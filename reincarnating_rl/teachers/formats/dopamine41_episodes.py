"""Pieces of episodes, assembled from the elements of Dopamine 4.1's replay.

An element holds a whole stack. Two elements are successive steps of an episode
if the second stack is the first one, moved on by one frame. This module finds
the known frames, actions and returns of each piece; `dopamine41_replay` makes
rows of them, and its docstring lists the errors of Dopamine's accumulator.
"""

from __future__ import annotations

import collections
import itertools
from typing import Iterator, Optional
import zlib

import numpy as np

from reincarnating_rl.base import progress
from reincarnating_rl.teachers.formats.dopamine41_elements import Element
from reincarnating_rl.teachers.formats.dopamine41_elements import ElementReader
from reincarnating_rl.teachers.formats.dopamine41_elements import Stack

MAX_HORIZON = 20
# Number of changed screens that must agree with a horizon to accept it.
_ENOUGH_MOVES = 64
_PROBED_ELEMENTS = 4096
_BLOCK_FRAMES = 512


def _elements(path: str) -> Iterator[tuple[int, Element]]:
  """Yields (number of elements, element)."""
  with open(path, 'rb') as file:
    reader = ElementReader(file)
    for element in reader:
      yield reader.num_elements, element


def find_horizon(path: str) -> Optional[int]:
  """Finds n of the n-step elements: the distance to an element's next state.

  Returns:
    n, or None if no next state is that of a later element within MAX_HORIZON.

  Raises:
    Damage: if an element has another form.
  """
  horizons = np.arange(1, MAX_HORIZON + 1)
  agreed = np.zeros(MAX_HORIZON, np.int64)
  next_states: collections.deque[Stack] = collections.deque(maxlen=MAX_HORIZON)
  before = None
  for _, element in itertools.islice(_elements(path), _PROBED_ELEMENTS):
    stack = element.state.frames()
    if before is None or element.is_terminal or not _follows(before, stack):
      next_states.clear()
    elif not np.array_equal(before, stack):  # Still screens fit any n.
      for n in horizons[: len(next_states)]:
        agreed[n - 1] += next_states[-n].is_same(element.state)
    next_states.append(element.next_state)
    before = None if element.is_terminal else stack
    most = agreed.max()
    if most >= _ENOUGH_MOVES and np.sum(agreed > most / 4) == 1:
      break
  return int(horizons[agreed.argmax()]) if agreed.any() else None


def _follows(before: np.ndarray, after: np.ndarray) -> bool:
  """Returns True if a [C, H, W] stack is another one, moved on by a frame."""
  return np.array_equal(before[1:], after[:-1])


class Frames:
  """Frames in order, compressed while their number is unknown."""

  def __init__(self):
    self._blocks: list[bytes] = []
    self._open: list[np.ndarray] = []
    self.shape: tuple[int, int] = (0, 0)

  def __len__(self) -> int:
    return len(self._blocks) * _BLOCK_FRAMES + len(self._open)

  def append(self, frame: np.ndarray) -> None:
    """Adds one frame, [H, W] uint8."""
    self.shape = frame.shape
    self._open.append(frame)
    if len(self._open) == _BLOCK_FRAMES:
      self._blocks.append(zlib.compress(np.stack(self._open).tobytes(), 1))
      self._open = []

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields blocks of [T, H, W] uint8."""
    for block in self._blocks:
      content = np.frombuffer(zlib.decompress(block), np.uint8)
      yield content.reshape((-1,) + self.shape)
    if self._open:
      yield np.stack(self._open)


class Piece:
  """Successive elements of one episode.

  Attributes:
    horizon: n of the elements.
    stack_size: C, frames of a stack.
    num_context: number of frames before its first step; 0 if an episode begins.
    actions: actions of its M elements.
    returns: n-step returns of its M elements.
    tail: (action, return to the end) of the elements at T - n + 1 to T - 1.
  """

  def __init__(self, first: Element, horizon: int, frames: Frames):
    """Begins a piece.

    Args:
      first: its first element.
      horizon: n of the elements.
      frames: list that its frames are appended to.
    """
    stack = first.state.frames()
    self.horizon = horizon
    self._frames = frames
    begins_episode = not stack[:-1].any()
    self.num_context = 0 if begins_episode else len(stack) - 1
    for frame in stack[: self.num_context]:
      frames.append(frame)
    self.stack_size = len(stack)
    self.actions: list[int] = []
    self.returns: list[float] = []
    self.tail: list[tuple[int, float]] = []
    # The next states of the last elements differ from the elements that follow,
    # or do not follow one another.
    self._is_contradicted = False
    self._is_broken = False
    self._next_states: collections.deque[Stack] = collections.deque(
        maxlen=horizon
    )
    self._num_copies: Optional[int] = None
    self._key = first.key
    self._append(first, stack)

  @property
  def has_tail(self) -> bool:
    """True if the end of the episode is known, with its reward."""
    return self.horizon > 1 and len(self.tail) == self.horizon - 1

  @property
  def is_usable(self) -> bool:
    """True if the piece is long enough to know its steps."""
    if self._is_broken:
      return False
    least = 2 * self.horizon if self._is_contradicted else self.horizon + 1
    return self.horizon == 1 or len(self.actions) >= least

  def take(self, element: Element) -> bool:
    """Adds the next element, and returns True, if it belongs to this piece."""
    if element.key != self._key + 1:
      return False
    self._key += 1
    if self._num_copies is not None:
      return element.is_terminal and self._take_tail(element)
    stack = element.state.frames()
    if not _follows(self._stack, stack):
      return False
    is_due = len(self._next_states) == self.horizon
    if is_due and not self._next_states[0].is_same(element.state):
      self._is_contradicted = True
      return False
    self._append(element, stack)
    return True

  def close(self) -> None:
    """Adds the frames of the last n next states."""
    stack = self._stack
    for next_state in self._next_states:
      before, stack = stack, next_state.frames()
      self._is_broken |= not _follows(before, stack)
      self._frames.append(stack[-1])
    # A piece with fewer elements is not usable, but has all its rows.
    for _ in range(self.horizon - len(self._next_states)):
      self._frames.append(stack[-1])

  def _append(self, element: Element, stack: np.ndarray) -> None:
    self._stack = stack
    self._frames.append(stack[-1].copy())
    self.actions.append(element.action)
    self.returns.append(element.reward)
    self._next_states.append(element.next_state)
    if element.is_terminal:
      self._num_copies = self._expected_copies()

  def _expected_copies(self) -> int:
    """Number of times the accumulator repeats its terminal element."""
    most = len(self._stack) - 1
    # It repeats the element while its memory, which holds n steps and a stack,
    # holds more than n steps.
    return most if self.num_context else min(len(self.actions) - 1, most)

  def _take_tail(self, element: Element) -> bool:
    """Skips repeated elements, then adds the steps up to the end."""
    if self._num_copies:
      self._num_copies -= 1
      return (element.action, element.reward) == (
          self.actions[-1],
          self.returns[-1],
      )
    if not self.is_usable or len(self.tail) == self.horizon - 1:
      return False
    frame = self._next_states[len(self.tail)].frames()[-1]
    if not np.array_equal(element.state.frames()[-1], frame):
      return False
    self.tail.append((element.action, element.reward))
    return True


def read_pieces(path: str, horizon: int) -> tuple[list[Piece], Frames]:
  """Returns the pieces of a file in order, and the frames of their rows."""
  pieces: list[Piece] = []
  frames = Frames()
  piece = None
  with progress.bar(
      'Replay elements', None, 'elements', delay=progress.SHORT_DELAY
  ) as bar:
    for total, element in _elements(path):
      bar.total = total
      bar.update()
      if piece is not None:
        if piece.take(element):
          continue
        piece.close()
        piece = None
      # A terminal element begins no piece: its stack may be blanked.
      if not element.is_terminal:
        piece = Piece(element, horizon, frames)
        pieces.append(piece)
  if piece is not None:
    piece.close()
  return pieces, frames
