"""A stall is reported once; beats, a suspension and the end are no stalls."""

from __future__ import annotations

import threading
import time

from hand_set_clock import HandSetClock

from reincarnating_rl.loop.saving.watchdog import Clock
from reincarnating_rl.loop.saving.watchdog import Watchdog

SECONDS = 1800.0


class Stalls:
  """Counts the reports."""

  def __init__(self):
    self.count = 0
    self.threads = set()
    self.told = threading.Event()

  def __call__(self):
    self.count += 1
    self.threads.add(threading.current_thread())
    self.told.set()


def test_a_stall_is_reported_once_and_not_too_early():
  stalls, clock = Stalls(), HandSetClock()
  watchdog = Watchdog(SECONDS, stalls, clock)
  clock.advance(0.99 * SECONDS)
  assert not stalls.count
  clock.advance(0.02 * SECONDS)
  assert stalls.told.wait(60.0)
  clock.advance(2.0 * SECONDS, patience=0.1)
  watchdog.close()
  assert stalls.count == 1
  assert threading.current_thread() not in stalls.threads


def test_beats_keep_it_quiet_and_a_stall_after_them_is_reported():
  stalls, clock = Stalls(), HandSetClock()
  watchdog = Watchdog(SECONDS, stalls, clock)
  for _ in range(30):
    watchdog.beat()
    clock.advance(0.1 * SECONDS)
  clock.advance(0.8 * SECONDS)
  assert not stalls.count
  clock.advance(0.2 * SECONDS)
  assert stalls.told.wait(60.0)
  watchdog.close()
  assert stalls.count == 1


def test_a_process_that_was_suspended_has_not_stalled():
  stalls, clock = Stalls(), HandSetClock()
  watchdog = Watchdog(SECONDS, stalls, clock)
  for _ in range(3):
    clock.advance(0.1 * SECONDS)
    clock.jump(10.0 * SECONDS)
  clock.advance(0.5 * SECONDS)
  watchdog.close()
  assert not stalls.count


def test_nothing_is_reported_after_it_was_closed():
  stalls, clock = Stalls(), HandSetClock()
  watchdog = Watchdog(SECONDS, stalls, clock)
  clock.advance(0.9 * SECONDS)
  watchdog.close()
  clock.run_on()
  clock.advance(2.0 * SECONDS, patience=0.1)
  assert not stalls.count


def test_by_the_clock_of_the_machine_a_stall_takes_its_time():
  stalls, start = Stalls(), time.monotonic()
  watchdog = Watchdog(0.1, stalls)
  assert stalls.told.wait(60.0)
  assert time.monotonic() - start > 0.09
  watchdog.close()
  assert Clock().now() >= start


def test_closing_does_not_wait_for_the_time_to_pass():
  start = time.monotonic()
  Watchdog(3600.0, Stalls()).close()
  assert time.monotonic() - start < 30.0


def test_it_keeps_no_process_alive():
  before = set(threading.enumerate())
  watchdog = Watchdog(3600.0, Stalls())
  (added,) = set(threading.enumerate()) - before
  assert added.daemon
  watchdog.close()
