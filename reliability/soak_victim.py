"""A training run that is stopped again and again, in processes of its own.

  python reliability/soak_victim.py BOARD FLAGS...

is such a process: the entry point `reincarnating_rl.train`, with a board (a
small file that it shares with soak.py) on which it says how far it is, and
which says how wrong its wall clock goes. Not here: what it suffers, and whether
what comes out is right.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from typing import Callable, NamedTuple, Optional

import numpy as np

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DISK_BYTES = 96 << 20  # several times what a run needs
POLL_SECONDS = 0.02
_LOG_END = 1500  # characters that are shown
# After so many steps a process has left its checkpoint behind.
UNDER_WAY = 3


class LostError(Exception):
  """A run did not survive; the text says how."""


class Place(NamedTuple):
  """Where a run is, as checkpoints and boards say it."""

  next_phase: int
  steps_done: int
  agent_steps: int


class Board:
  """A few numbers that two processes see."""

  def __init__(self, path: str, anew: bool = False):
    """Opens a board.

    Args:
      path: of its file.
      anew: whether it is made, all zeros.
    """
    self._cells = np.memmap(path, np.int64, 'w+' if anew else 'r+', shape=(8,))

  @property
  def beats(self) -> int:
    """How often this process stood between two steps."""
    return int(self._cells[0])

  @property
  def first(self) -> Place:
    """Where it was when it first did."""
    return Place(*map(int, self._cells[1:4]))

  @property
  def last(self) -> Place:
    """Where it was when it last did."""
    return Place(*map(int, self._cells[4:7]))

  @property
  def wrong_seconds(self) -> int:
    """How much its wall clock is fast."""
    return int(self._cells[7])

  @wrong_seconds.setter
  def wrong_seconds(self, seconds: int) -> None:
    self._cells[7] = seconds

  def beat(self, *place: int) -> None:
    """Says where the process is."""
    self._cells[4:7] = place
    if not self._cells[0]:
      self._cells[1:4] = place
    self._cells[0] += 1

  def begin(self) -> None:
    """A process is about to start, on a clock that is right."""
    self._cells[0] = self._cells[7] = 0


def run_child(path: str, args: list[str]) -> None:
  """Becomes the entry point.

  Args:
    path: of the board.
    args: the entry point's flags.
  """
  board = Board(path)
  right, right_ns = time.time, time.time_ns
  time.time = lambda: right() + board.wrong_seconds
  time.time_ns = lambda: right_ns() + board.wrong_seconds * 10**9
  # As `python -m` has it, and not this file's folder.
  sys.path[0] = REPOSITORY
  from reincarnating_rl.loop.saving.supervisor import Keeper

  at_step_of_all = Keeper.at_step_of_all

  def told(self, runs, *more, **named):
    counters = runs[0].trainer.counters
    board.beat(runs[0].next_phase, runs[0].steps_done, counters.agent_steps)
    return at_step_of_all(self, runs, *more, **named)

  Keeper.at_step_of_all = told
  sys.argv = ['train', *args]
  runpy.run_module(
      'reincarnating_rl.train', run_name='__main__', alter_sys=True
  )


class Victim:
  """A run that is stopped again and again, and started again.

  Attributes:
    folder: of everything.
    base_dir: of the run.
    has_own_disk: whether that is a small disk of its own.
    rng: chooses moments and bytes.
    faults: kinds that it has suffered, in their order.
    lost: agent steps that each of them has cost.
    complaints: what was not as it should be, in sentences.
    board: of the process.
  """

  def __init__(
      self,
      folder: str,
      flags: list[str],
      num_phases: int,
      seconds: float,
      timeout: float,
      rng: np.random.Generator,
      has_own_disk: bool,
  ):
    """Starts nothing yet.

    Args:
      folder: of everything.
      flags: of the entry point, but --base_dir.
      num_phases: of its plan.
      seconds: that its steps take when nothing happens to them.
      timeout: seconds that one process may take.
      rng: chooses moments and bytes.
      has_own_disk: whether the run gets a small disk of its own.
    """
    self.folder = folder
    self.disk = os.path.join(folder, 'disk')
    os.makedirs(self.disk)
    self.has_own_disk = has_own_disk and mount(self.disk)
    self.base_dir = os.path.join(self.disk, 'run')
    self.rng = rng
    self.faults: list[str] = []
    self.lost: list[int] = []
    self.complaints: list[str] = []
    self.board = Board(os.path.join(folder, 'board'), anew=True)
    self._log = os.path.join(folder, 'log.txt')
    self._flags = flags
    self._num_phases = num_phases
    self._seconds = seconds
    self._timeout = timeout
    self._process: Optional[subprocess.Popen] = None
    self._deadline = 0.0
    self._log_begin = 0
    self._damaged: set[int] = set()
    self._old_parts: set[tuple] = set()  # that an earlier process has left
    self._reached = self._expected = Place(0, 0, 0)
    self._is_new = False  # nobody has seen yet where the process began
    self._words: Optional[str] = None  # that the log must have by then
    self._loses_nothing = False

  # -- the process -----------------------------------------------------------

  def start(self) -> None:
    """Starts the run, or goes on with it."""
    self._expected = self._place_of(self.newest())
    self._old_parts = self._parts()
    self.board.begin()
    self._is_new = True
    self._deadline = time.monotonic() + self._timeout
    command = [
        *(sys.executable, '-u', os.path.abspath(__file__)),
        *(os.path.join(self.folder, 'board'), '--base_dir', self.base_dir),
        *self._flags,
    ]
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
    """Of the process that was started last; None while it runs."""
    return self._process.poll()

  def wait_until(
      self, condition: Callable[[], bool], pause: float = POLL_SECONDS
  ) -> bool:
    """Waits for something, but no longer than the process runs.

    Returns:
      Whether it came.

    Raises:
      LostError: if the process takes too long.
    """
    while not condition():
      if self.exit_code is not None:
        return condition()
      if time.monotonic() > self._deadline:
        self.end()
        raise LostError(
            f'a process took more than {self._timeout:g} seconds\n{self._end()}'
        )
      time.sleep(pause)
    return True

  def pause(self) -> bool:
    """Waits until the run is under way, and then for a random while.

    Returns:
      Whether the process runs.
    """
    self.went_on()
    self.wait_until(lambda: self.board.beats >= UNDER_WAY)
    until = time.monotonic() + self.rng.uniform(0.0, 0.25) * self._seconds
    self.wait_until(lambda: time.monotonic() >= until)
    return self.exit_code is None

  def went_on(self) -> None:
    """Waits until the process is where it began, and looks if that is right.

    Raises:
      LostError: if it does not go on.
    """
    if not self._is_new:
      return
    begun = self.wait_until(lambda: self.board.beats > 0)
    if not begun and self.exit_code:
      raise LostError(f'exit code {self.exit_code}\n{self._end()}')
    self._is_new = False
    # Of a run that was complete there is nothing left to go on with.
    place = self.board.first if begun else self._expected
    if place != self._expected:
      self.complaints.append(
          f'it went on from {place}, its newest whole checkpoint was at '
          f'{self._expected}'
      )
    lost = self._reached.agent_steps - place.agent_steps
    if self._loses_nothing and place < self._reached:
      self.complaints.append(
          f'it was stopped at {self._reached} and went on from {place}'
      )
    if self._words is not None and not re.search(self._words, self.said()):
      self.complaints.append(f'it did not say {self._words!r}')
    if self.lost:
      self.lost[-1] += lost
    self._reached, self._words, self._loses_nothing = place, None, False

  def send(self, number: int) -> None:
    """Sends a signal to the process."""
    self._process.send_signal(number)

  def ended(self, loses_nothing: bool = False) -> int:
    """Waits for the end of the process; returns its exit code.

    Args:
      loses_nothing: whether it has saved everything that it had.
    """
    self.wait_until(lambda: self.exit_code is not None)
    if self.board.beats:
      self.went_on()
      self._reached = self.board.last
    self._loses_nothing = loses_nothing
    return self.exit_code

  def kill(self) -> None:
    """Kills the process, which must not have ended by itself.

    Raises:
      LostError: if it has, with an error.
    """
    self.send(signal.SIGKILL)
    if self.ended() not in (0, -signal.SIGKILL):
      raise LostError(f'exit code {self.exit_code}\n{self._end()}')

  def finish(self) -> None:
    """Lets the run come to its end.

    Raises:
      LostError: if it does not.
    """
    self.went_on()
    if self.ended() != 0:
      raise LostError(f'exit code {self.exit_code}\n{self._end()}')

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

  # -- what it says ----------------------------------------------------------

  def forget_log(self) -> None:
    """What is said from now on counts."""
    self._log_begin = os.path.getsize(self._log)

  def said(self) -> str:
    """What the processes have said since `forget_log`."""
    with open(self._log, 'rb') as f:
      f.seek(self._log_begin)
      return f.read().decode(errors='replace')

  def expect(self, words: str) -> None:
    """The next process must say this: a regular expression."""
    self._words = words

  def _end(self) -> str:
    with open(self._log, 'rb') as f:
      return f.read().decode(errors='replace')[-_LOG_END:]

  # -- its checkpoints -------------------------------------------------------

  @property
  def checkpoints(self) -> str:
    return os.path.join(self.base_dir, 'checkpoints')

  def whole(self) -> list[int]:
    """Numbers of the checkpoints that were not damaged on purpose."""
    if not os.path.isdir(self.checkpoints):
      return []
    numbers = {int(n) for n in os.listdir(self.checkpoints) if n.isdigit()}
    return sorted(numbers - self._damaged)

  def newest(self) -> Optional[int]:
    return max(self.whole(), default=None)

  def damage(self, number: int) -> None:
    """A checkpoint is not whole any more."""
    self._damaged.add(number)

  def path_of(self, number: int) -> str:
    return os.path.join(self.checkpoints, f'{number:08d}')

  def _place_of(self, number: Optional[int]) -> Place:
    if number is None:
      return Place(0, 0, 0)
    path = os.path.join(self.path_of(number), 'document.json')
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
    return Place(
        document['next_phase'],
        document['steps_done'],
        document['counters']['agent_steps'],
    )

  @property
  def is_complete(self) -> bool:
    """Whether the newest checkpoint is that of the last phase's end."""
    return self._place_of(self.newest()).next_phase == self._num_phases

  def unfinished(self) -> set[tuple]:
    """What this process is writing below the checkpoints, or has begun to."""
    return self._parts() - self._old_parts

  def _parts(self) -> set[tuple]:
    found = set()
    for folder in (self.checkpoints, *self._rows_folders()):
      for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.endswith('.part'):
          with contextlib.suppress(FileNotFoundError):
            stat = os.stat(os.path.join(folder, name))
            # Whatever is written in a folder changes its time.
            found.add((folder, name, stat.st_ino, stat.st_ctime_ns))
    return found

  def _rows_folders(self) -> list[str]:
    rows = os.path.join(self.checkpoints, 'rows')
    names = os.listdir(rows) if os.path.isdir(rows) else ()
    return [os.path.join(rows, name) for name in names]


def mount(folder: str) -> bool:
  """Puts a small disk into the memory; returns whether that is permitted."""
  command = [
      'mount',
      '-t',
      'tmpfs',
      '-o',
      f'size={DISK_BYTES}',
      'tmpfs',
      folder,
  ]
  try:
    return subprocess.run(command, capture_output=True).returncode == 0
  except OSError:
    return False


def can_mount(folder: str) -> bool:
  """Whether there can be small disks; `folder` is an empty one."""
  if not mount(folder):
    return False
  return subprocess.run(['umount', folder], check=False).returncode == 0


if __name__ == '__main__':
  run_child(sys.argv[1], sys.argv[2:])
