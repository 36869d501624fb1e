"""Looks after runs while they go on, so that none of them is lost.

Saves them in time, and once more before they end for a reason that is none of
theirs: a signal, an emulator that breaks down or does not answer.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import TracebackType
from typing import Any, Callable, Optional, Sequence

from absl import logging

from reincarnating_rl.base.errors import StoppedError
from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.saving.state import waits_for_emulator
from reincarnating_rl.loop.saving.watchdog import Clock
from reincarnating_rl.loop.saving.watchdog import Watchdog

MINUTES_BETWEEN_CHECKPOINTS = 10.0
MINUTES_UNTIL_STALL = 30.0
STALLED_EXIT_CODE = 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Keeper:
  """Keeps some runs, as a context around them."""

  def __init__(
      self,
      runs: Sequence[tuple[Run, RunCheckpointer]],
      *,
      checkpoint_every: Optional[float] = MINUTES_BETWEEN_CHECKPOINTS,
      stall_minutes: Optional[float] = MINUTES_UNTIL_STALL,
      how_to_resume: str = 'start it again with the same settings',
      on_saved: Callable[[Run], None] = lambda run: None,
      clock: Clock = Clock(),
  ):
    """Does nothing yet.

    Args:
      runs: with who saves them.
      checkpoint_every: minutes between checkpoints within a phase; None = only
        after phases.
      stall_minutes: without any step, after which the process ends; None =
        never.
      how_to_resume: what a user must do to go on with them, in words.
      on_saved: called after a run was handed to its checkpointer.

    Raises:
      ValueError: if a time is not positive.
    """
    for name, minutes in (
        ('checkpoint_every', checkpoint_every),
        ('stall_minutes', stall_minutes),
    ):
      if minutes is not None and not minutes > 0:
        raise ValueError(
            f'{name} must be a positive number of minutes, or None, got '
            f'{minutes}.'
        )
    self._runs = [run for run, _ in runs]
    self._checkpointers = {id(run): c for run, c in runs}
    self._seconds = checkpoint_every and 60.0 * checkpoint_every
    self._stall_minutes = stall_minutes
    self._how_to_resume = how_to_resume
    self._on_saved = on_saved
    self._clock = clock
    self._watchdog: Optional[Watchdog] = None
    self._handlers: dict[int, Any] = {}
    self._signal: Optional[int] = None
    self._last = self._clock.now()
    self._active: list[Run] = []
    self._part: Callable[[], None] = lambda: None
    for run, checkpointer in runs:
      run.at_step = self.at_step
      run.latest_checkpoint = checkpointer.wait

  # -- as a context ----------------------------------------------------------

  def __enter__(self) -> Keeper:
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        self._handlers[number] = signal.signal(number, self._on_signal)
    if self._stall_minutes is not None:
      seconds = 60.0 * self._stall_minutes
      self._watchdog = Watchdog(seconds, self._on_stall, self._clock)
    self._last = self._clock.now()
    return self

  def __exit__(
      self,
      kind: Optional[type[BaseException]],
      error: Optional[BaseException],
      traceback: Optional[TracebackType],
  ) -> None:
    del kind, traceback
    if self._watchdog is not None:
      self._watchdog.close()
    for number, handler in self._handlers.items():
      signal.signal(number, handler)
    if isinstance(error, EnvironmentFailedError):
      self._part()
      raise StoppedError(
          f'Error: {error} ({self._save_all()}). '
          f'To go on, {self._how_to_resume}.',
          1,
      ) from error

  # -- what the loop calls ---------------------------------------------------

  def at_step(self, run: Run) -> None:
    """A run stands between two steps."""
    self.at_step_of_all([run])

  def at_step_of_all(
      self,
      runs: list[Run],
      part: Callable[[], None] = lambda: None,
      join: Callable[[], None] = lambda: None,
  ) -> None:
    """Runs that share their steps stand between two of them.

    Args:
      runs: these.
      part: called before they are saved.
      join: called after it.

    Raises:
      StoppedError: if they were told to stop; they are saved.
    """
    self._beat()
    self._active, self._part = runs, part
    if any(run.stage.take_up is not None for run in runs):
      return  # Not yet where it was when it was saved.
    for run in runs:
      self._checkpointers[id(run)].follow(run)
    if self._signal is None:
      late = self._clock.now() - self._last
      if self._seconds is None or late < self._seconds:
        return
    part()
    if self._signal is not None:
      self._stop()
    for run in self._runs:
      self._save(run, wait=False)
    self._last = self._clock.now()
    join()

  def after_phase(self, run: Run) -> None:
    """A run has done one more phase.

    Raises:
      StoppedError: if there is more to do, and it was told to stop; all runs
        are saved.
    """
    self._beat()
    self._active, self._part = [run], lambda: None
    self._save(run, wait=False)
    self._last = self._clock.now()
    if self._signal is not None and not all(run.is_done for run in self._runs):
      self._stop()

  def finish(self) -> None:
    """All runs are done: makes sure that this is on the disk.

    Raises:
      StoppedError: if the disk does not take it.
    """
    self.make_sure('the end')
    for run in self._runs:
      self._on_saved(run)

  def make_sure(self, what: str) -> None:
    """Waits until all runs are on the disk as they are now.

    Args:
      what: of each they are at, in words.

    Raises:
      StoppedError: if the disk does not take it.
    """
    self._beat()
    for run in self._runs:
      if not self._save(run, wait=True):
        raise self.full_disk(f'{what} of the run with seed {run.config.seed}')
    self._last = self._clock.now()

  def full_disk(self, what: str) -> StoppedError:
    """The end of runs that cannot go on before something is on the disk."""
    return StoppedError(
        f'Error: {what} could not be saved. {self._last_numbers()}. Make room; '
        f'then, to go on, {self._how_to_resume}.',
        1,
    )

  # -- pieces ----------------------------------------------------------------

  def _beat(self) -> None:
    if self._watchdog is not None:
      self._watchdog.beat()

  def _save(self, run: Run, wait: bool) -> bool:
    """Saves a run, unless nothing has happened since; whether it is saved."""
    checkpointer = self._checkpointers[id(run)]
    if wait:
      checkpointer.wait()
    # One that was not taken up yet is where its checkpoint is.
    if run.stage.take_up is not None or checkpointer.has(run):
      return True
    done = checkpointer.save(run, wait)
    self._on_saved(run)
    return done

  def _save_all(self) -> str:
    """Saves every run before the end; says so, in words."""
    if all([self._save(run, wait=True) for run in self._runs]):
      return 'everything up to there is saved'
    return f'what is newer could not be saved. {self._last_numbers()}'

  def _last_numbers(self) -> str:
    """Which checkpoints there are, in words."""
    latest = [c.latest for c in self._checkpointers.values()]
    found = [str(number) for number in latest if number is not None]
    if not found:
      return 'There is no checkpoint yet'
    return f'The last checkpoint ({", ".join(found)}) is whole'

  def _stop(self) -> None:
    """Ends because of a signal."""
    run = self._active[0]
    name = signal.Signals(self._signal).name
    raise StoppedError(
        f'Stopped by {name} in {run.where()}, after '
        f'{run.trainer.counters.agent_steps} agent steps: {self._save_all()}. '
        f'To go on, {self._how_to_resume}.',
        128 + self._signal,
    )

  def _on_signal(self, number: int, frame: object) -> None:
    """The first is heard at the next step, a second one at once."""
    del frame
    if self._signal is not None and number == signal.SIGINT:
      _leave('Left at once: the last checkpoint is whole.', 128 + number)
    self._signal = number
    # Past all buffers: what was interrupted may be writing to one of them.
    name = signal.Signals(number).name
    text = f'Got {name}: saving at the next step (Ctrl-C leaves at once).'
    os.write(2, f'\n{text}\n'.encode())

  def _on_stall(self) -> None:
    """Nothing has moved for long; on the watchdog's thread."""
    since = f'Nothing has moved for {self._stall_minutes:g} minutes'
    waiting = [run for run in self._active if waits_for_emulator(run)]
    if not waiting:
      where = ''.join(f' in {run.where()}' for run in self._active[:1])
      _leave(
          f'Error: {since}{where}, where no emulator is waited for: the '
          f'device may hang. {self._last_numbers()}. '
          f'To go on, {self._how_to_resume}.',
          STALLED_EXIT_CODE,
      )
    # The other thread waits for the emulator; nobody else changes the runs.
    run = waiting[0]
    try:
      self._part()
      saved = self._save_all()
    except Exception as e:  # pylint: disable=broad-exception-caught
      saved = f'what is newer was not saved: {e}'
    _leave(
        f'Error: {since}: the emulators of {run.config.game} do not answer, '
        f'in {run.where()} after {run.trainer.counters.agent_steps} agent '
        f'steps ({saved}). To go on, {self._how_to_resume}.',
        STALLED_EXIT_CODE,
    )


def _leave(text: str, exit_code: int) -> None:
  """Ends the process without waiting for anything."""
  logging.flush()
  print(text, file=sys.stderr, flush=True)
  os._exit(exit_code)
