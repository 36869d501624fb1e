"""A training run that is stopped and restarted, one process after the other.

The faults are in faults.py, the comparison of the results in run_contents.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Callable, Optional

import numpy as np

from reliability import watched_train
from reliability.watched_train import Place

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DISK_BYTES = 96 << 20  # several times the need of a run
POLL_SECONDS = 0.02
_LOG_END = 1500  # characters of the log in an error
# After so many steps a process has left its checkpoint behind.
UNDER_WAY = 3


class LostError(Exception):
  """A run did not survive; the text says how."""


@dataclasses.dataclass
class Victim:
  """A run that is stopped and restarted again and again.

  Attributes:
    folder: folder of everything.
    flags: flags of the entry point without --base_dir.
    num_phases: phases of the plan.
    seconds: duration of the steps without a fault.
    timeout: limit for one process, in seconds.
    rng: chooses moments and bytes.
    has_own_disk: True to put the run on a small disk of its own; False if that
      is not permitted.
    faults: kinds of the faults so far, in their order.
    lost: agent steps that each of them cost.
    complaints: violated expectations, one sentence each.
  """

  folder: str
  flags: list[str]
  num_phases: int
  seconds: float
  timeout: float
  rng: np.random.Generator
  has_own_disk: bool
  faults: list[str] = dataclasses.field(default_factory=list)
  lost: list[int] = dataclasses.field(default_factory=list)
  complaints: list[str] = dataclasses.field(default_factory=list)

  _process: Optional[subprocess.Popen] = None
  _deadline: float = 0.0
  _log_begin: int = 0
  _damaged: set[int] = dataclasses.field(default_factory=set)
  # Files left by an earlier process.
  _old_parts: set[tuple] = dataclasses.field(default_factory=set)
  _reached: Place = Place(0, 0, 0)
  _expected: Place = Place(0, 0, 0)
  _is_new: bool = False  # the start of the process was not yet checked
  _words: Optional[str] = None  # expected in the log at that check
  _loses_nothing: bool = False

  def __post_init__(self):
    self.disk = os.path.join(self.folder, 'disk')
    os.makedirs(self.disk)
    self.has_own_disk = self.has_own_disk and mount(self.disk)
    self.base_dir = os.path.join(self.disk, 'run')
    self.checkpoints = os.path.join(self.base_dir, 'checkpoints')
    self._log = os.path.join(self.folder, 'log.txt')
    self._board_path = os.path.join(self.folder, 'board')
    self.board = watched_train.open_board(self._board_path, anew=True)

  # -- the process -----------------------------------------------------------

  def start(self) -> None:
    """Starts or resumes the run."""
    self._expected = self._place_of(self.newest())
    self._old_parts = self._parts()
    self.board['beats'] = self.board['wrong_seconds'] = 0
    self._is_new = True
    self._deadline = time.monotonic() + self.timeout
    command = [sys.executable, '-um', 'reliability.watched_train']
    command += [self._board_path, '--base_dir', self.base_dir, *self.flags]
    with open(self._log, 'ab') as log:
      self._process = subprocess.Popen(
          command,
          stdin=subprocess.DEVNULL,
          stdout=log,
          stderr=subprocess.STDOUT,
          cwd=REPOSITORY,
          start_new_session=True,
      )

  @property
  def exit_code(self) -> Optional[int]:
    """Exit code of the latest process; None while it runs."""
    assert self._process is not None
    return self._process.poll()

  def wait_until(
      self, condition: Callable[[], bool], pause: float = POLL_SECONDS
  ) -> bool:
    """Waits for a condition, but not longer than the process runs.

    Returns:
      True if the condition holds.

    Raises:
      LostError: if the process takes too long.
    """
    while not condition():
      if self.exit_code is not None:
        return condition()
      if time.monotonic() > self._deadline:
        self.end()
        raise self.loss(f'a process took more than {self.timeout:g} seconds')
      time.sleep(pause)
    return True

  def wait(self, seconds: float) -> None:
    """Waits for some time, but not longer than the process runs."""
    until = time.monotonic() + seconds
    self.wait_until(lambda: time.monotonic() >= until)

  def pause(self) -> bool:
    """Waits until the run is under way, and for a random time after that.

    Returns:
      True if the process still runs.
    """
    self.check_start()
    self.wait_until(lambda: self.beats >= UNDER_WAY)
    self.wait(self.rng.uniform(0.0, 0.25) * self.seconds)
    return self.exit_code is None

  def check_start(self) -> None:
    """Waits for the first step of the process, and checks its place.

    Raises:
      LostError: if the run does not resume.
    """
    if not self._is_new:
      return
    begun = self.wait_until(lambda: self.beats > 0)
    if not begun and self.exit_code:
      raise self.loss(f'exit code {self.exit_code}')
    self._is_new = False
    # A complete run takes no further step.
    place = self._place_at('first') if begun else self._expected
    if place != self._expected:
      self.complaints.append(
          f'it went on from {place}, its newest whole checkpoint was at '
          f'{self._expected}'
      )
    if self._loses_nothing and place < self._reached:
      self.complaints.append(
          f'it was stopped at {self._reached} and went on from {place}'
      )
    if self._words is not None and not re.search(self._words, self.said()):
      self.complaints.append(f'it did not say {self._words!r}')
    if self.lost:
      self.lost[-1] += self._reached.agent_steps - place.agent_steps
    self._reached, self._words, self._loses_nothing = place, None, False

  @property
  def beats(self) -> int:
    """Steps that the process has begun."""
    return int(self.board['beats'])

  def _place_at(self, step: str) -> Place:
    return Place(*self.board[step].tolist())

  def send(self, number: int) -> None:
    """Sends a signal to the process."""
    assert self._process is not None
    self._process.send_signal(number)

  def ended(self, loses_nothing: bool = False) -> Optional[int]:
    """Waits for the end of the process; returns its exit code.

    Args:
      loses_nothing: True if the process saves everything before it ends.
    """
    self.wait_until(lambda: self.exit_code is not None)
    if self.beats:
      self.check_start()
      self._reached = self._place_at('last')
    self._loses_nothing = loses_nothing
    return self.exit_code

  def kill(self) -> bool:
    """Kills the process; returns False if the run was complete before.

    Raises:
      LostError: if the process had ended with an error.
    """
    self.send(signal.SIGKILL)
    if self.ended() not in (0, -signal.SIGKILL):
      raise self.loss(f'exit code {self.exit_code}')
    return self.exit_code != 0

  def finish(self) -> None:
    """Lets the run come to its end.

    Raises:
      LostError: if it does not.
    """
    self.check_start()
    if self.ended() != 0:
      raise self.loss(f'exit code {self.exit_code}')

  def end(self) -> None:
    """Leaves no process behind."""
    if self._process is not None and self.exit_code is None:
      self._process.kill()
      self._process.wait()

  def close(self) -> None:
    """Leaves no process and no disk behind."""
    self.end()
    if self.has_own_disk:
      subprocess.run(['umount', '-l', self.disk], check=False)

  # -- the log ---------------------------------------------------------------

  def forget_log(self) -> None:
    """Lets `said` begin at the current end of the log."""
    self._log_begin = os.path.getsize(self._log)

  def said(self) -> str:
    """Output of the processes since `forget_log`."""
    return self._read_log(self._log_begin)

  def expect(self, words: str) -> None:
    """The next process must say this, a regular expression."""
    self._words = words

  def loss(self, what: str) -> LostError:
    """An error with the end of the log."""
    return LostError(f'{what}\n{self._read_log(0)[-_LOG_END:]}')

  def _read_log(self, begin: int) -> str:
    with open(self._log, 'rb') as f:
      f.seek(begin)
      return f.read().decode(errors='replace')

  # -- the checkpoints -------------------------------------------------------

  def whole(self) -> list[int]:
    """Numbers of the checkpoints that were not damaged on purpose."""
    numbers = {int(n) for n in _names_in(self.checkpoints) if n.isdigit()}
    return sorted(numbers - self._damaged)

  def newest(self) -> Optional[int]:
    return max(self.whole(), default=None)

  def wait_for_checkpoint(self) -> None:
    """Waits for a checkpoint newer than the newest one."""
    number = self.newest()
    self.wait_until(lambda: self.newest() != number)

  def damage(self, number: int) -> None:
    """Notes that a checkpoint is not whole any more."""
    self._damaged.add(number)

  def path_of(self, number: int) -> str:
    return os.path.join(self.checkpoints, f'{number:08d}')

  def _place_of(self, number: Optional[int]) -> Place:
    if number is None:
      return Place(0, 0, 0)
    path = os.path.join(self.path_of(number), 'document.json')
    with open(path, encoding='utf-8') as f:
      state = json.load(f)['state']
    counters = state['trainer']['duties']['counters']
    return Place(
        state['next_phase'], state['steps_done'], counters['agent_steps']
    )

  @property
  def is_complete(self) -> bool:
    """True if the newest checkpoint follows the last phase."""
    return self._place_of(self.newest()).next_phase == self.num_phases

  def unfinished(self) -> set[tuple]:
    """Unfinished files of this process below the checkpoints."""
    return self._parts() - self._old_parts

  def _parts(self) -> set[tuple]:
    rows = os.path.join(self.checkpoints, 'rows')
    folders = [os.path.join(rows, name) for name in _names_in(rows)]
    found = set()
    for folder in (self.checkpoints, *folders):
      for name in _names_in(folder):
        if name.endswith('.part'):
          with contextlib.suppress(FileNotFoundError):
            stat = os.stat(os.path.join(folder, name))
            # Every write in a folder changes its time.
            found.add((folder, name, stat.st_ino, stat.st_ctime_ns))
    return found


def _names_in(folder: str) -> list[str]:
  return os.listdir(folder) if os.path.isdir(folder) else []


def mount(folder: str) -> bool:
  """Mounts a small disk in memory; returns True if that is permitted."""
  command = ['mount', '-t', 'tmpfs', '-o', f'size={DISK_BYTES}', 'tmpfs']
  try:
    done = subprocess.run([*command, folder], capture_output=True)
  except OSError:
    return False
  return done.returncode == 0


def can_mount(folder: str) -> bool:
  """True if small disks can be mounted; `folder` is an empty one."""
  if not mount(folder):
    return False
  return subprocess.run(['umount', folder], check=False).returncode == 0
