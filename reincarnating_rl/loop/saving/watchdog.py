"""Ends a run that makes no progress: a watchdog, and the clock it uses."""

from __future__ import annotations

import threading
import time
from typing import Callable

# Consecutive checks without a beat before a stall is reported.
_CHECKS = 60


class Clock:
  """The clock of the machine; tests pass one that they set by hand."""

  def now(self) -> float:
    """Seconds since some fixed moment; never runs backwards."""
    return time.monotonic()

  def wait(self, event: threading.Event, seconds: float) -> bool:
    """Waits for an event.

    Args:
      event: ends the wait as soon as it is set.
      seconds: longest wait.

    Returns:
      True if the event is set.
    """
    return event.wait(seconds)


class Watchdog:
  """Reports a stall: a time without any beat.

  It counts its own checks and compares no times: a process that was suspended,
  or a machine that slept, has not stalled.
  """

  def __init__(
      self, seconds: float, on_stall: Callable[[], None], clock: Clock = Clock()
  ):
    """Starts a thread that checks for beats.

    Args:
      seconds: time without a beat that counts as a stall.
      on_stall: called once, on the watchdog's own thread.
      clock: measures the time between two checks.
    """
    self._pause = seconds / _CHECKS
    self._on_stall = on_stall
    self._clock = clock
    self._beats = 0
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def beat(self) -> None:
    """Reports progress."""
    self._beats += 1

  def close(self) -> None:
    """Stops the thread."""
    self._ended.set()
    self._thread.join()

  def _watch(self) -> None:
    seen, checks = self._beats, 0
    while not self._clock.wait(self._ended, self._pause):
      if self._beats != seen:
        seen, checks = self._beats, 0
        continue
      checks += 1
      if checks == _CHECKS:
        self._on_stall()
        return
