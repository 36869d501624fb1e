"""Silence is told, once; beats are not."""

from __future__ import annotations

import threading
import time

from reincarnating_rl.loop.saving.watchdog import Watchdog

SECONDS = 0.5


class Stalls:
  """Counts the calls for help."""

  def __init__(self):
    self.count = 0
    self.threads = set()
    self.told = threading.Event()

  def __call__(self):
    self.count += 1
    self.threads.add(threading.current_thread())
    self.told.set()


def test_silence_is_told_once_and_not_too_early():
  stalls, start = Stalls(), time.monotonic()
  watchdog = Watchdog(SECONDS, stalls)
  assert stalls.told.wait(60.0)
  assert time.monotonic() - start > 0.9 * SECONDS
  time.sleep(1.5 * SECONDS)
  watchdog.close()
  assert stalls.count == 1
  assert threading.current_thread() not in stalls.threads


def test_beats_keep_it_quiet_and_silence_after_them_is_told():
  stalls = Stalls()
  watchdog = Watchdog(SECONDS, stalls)
  end = time.monotonic() + 3.0 * SECONDS
  while time.monotonic() < end:
    watchdog.beat()
    time.sleep(SECONDS / 100)
  assert not stalls.count
  assert stalls.told.wait(60.0)
  watchdog.close()
  assert stalls.count == 1


def test_nothing_is_told_after_it_was_closed():
  stalls = Stalls()
  Watchdog(SECONDS, stalls).close()
  time.sleep(1.5 * SECONDS)
  assert not stalls.count


def test_closing_does_not_wait_for_the_time_to_pass():
  start = time.monotonic()
  Watchdog(3600.0, Stalls()).close()
  assert time.monotonic() - start < 30.0


def test_it_keeps_no_process_alive():
  watchdog = Watchdog(3600.0, Stalls())
  others = [t for t in threading.enumerate() if not t.daemon]
  assert others == [threading.main_thread()] or all(
      t.name.startswith('archive') for t in others[1:]
  )
  watchdog.close()
