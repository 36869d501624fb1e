"""A clock for code that waits: a test moves it, and nothing takes time."""

from __future__ import annotations

import threading

from reincarnating_rl.loop.saving.watchdog import Clock


class HandSetClock(Clock):
  """Stands still until it is moved; one thread at a time may wait for it."""

  def __init__(self):
    self._now = 1000.0
    self._until: float | None = None  # when the thread that waits goes on
    self._wakes = 0
    self._runs_on = False
    self._changed = threading.Condition()

  def now(self) -> float:
    return self._now

  def wait(self, event: threading.Event, seconds: float) -> bool:
    with self._changed:
      self._until = self._now + seconds
      self._changed.notify_all()
      while not event.is_set() and self._now < self._until:
        if self._runs_on:
          self._now = max(self._now, self._until)
        else:
          self._changed.wait(0.01)  # An event does not tell a condition.
      self._until = None
      self._wakes += 1
      self._changed.notify_all()
      return event.is_set()

  def jump(self, seconds: float) -> None:
    """Moves at once, as after a suspension of the machine."""
    with self._changed:
      self._now += seconds
      self._changed.notify_all()

  def advance(self, seconds: float, patience: float = 10.0) -> None:
    """Moves on from one moment that a thread waits for to the next.

    Args:
      seconds: how far.
      patience: real seconds until it is taken that no thread waits.
    """
    with self._changed:
      end = self._now + seconds
      is_waited_for = lambda: self._until is not None
      while self._changed.wait_for(is_waited_for, patience):
        if self._until > end:
          break
        wakes = self._wakes
        self._now = max(self._now, self._until)
        self._changed.notify_all()
        self._changed.wait_for(lambda n=wakes: self._wakes > n, patience)
      self._now = end

  def run_on(self) -> None:
    """From now on, passes as fast as a thread waits."""
    with self._changed:
      self._runs_on = True
      self._changed.notify_all()
