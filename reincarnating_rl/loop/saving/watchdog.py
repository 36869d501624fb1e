"""Notices that nothing moves any more."""

from __future__ import annotations

import threading
from typing import Callable

# Looks that find nothing new before somebody is told.
_LOOKS = 60


class Watchdog:
  """Calls for help when there was no beat for long.

  It counts its own looks instead of reading a clock: a process that was
  stopped, or a clock that was set, is no stall.
  """

  def __init__(self, seconds: float, on_stall: Callable[[], None]):
    """Starts looking.

    Args:
      seconds: without a beat.
      on_stall: called once, on the watchdog's own thread.
    """
    self._pause = seconds / _LOOKS
    self._on_stall = on_stall
    self._beats = 0
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def beat(self) -> None:
    """Something has moved."""
    self._beats += 1

  def close(self) -> None:
    """Stops looking."""
    self._ended.set()
    self._thread.join()

  def _watch(self) -> None:
    seen, looks = self._beats, 0
    while not self._ended.wait(self._pause):
      if self._beats != seen:
        seen, looks = self._beats, 0
        continue
      looks += 1
      if looks == _LOOKS:
        self._on_stall()
        return
