"""A trial's process: started, watched, ended with whoever started it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from typing import Any, Callable, Optional, Sequence

from reincarnating_rl.app.api import Result
from reincarnating_rl.launch import cores
from reincarnating_rl.launch import exec_pinned
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch.progress_on_disk import Reached
from reincarnating_rl.rundir import summary

# That a trial is an execution of.
PROGRAM = (sys.executable, '-um', 'reincarnating_rl.train')
# Before each command in a log.
_PROMPT = b'\n$ '
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_FOR_OTHERS = 120.0
# Share of a device's memory that XLA takes beforehand, as when it is alone.
_MEMORY_SHARE = 0.75


class TrialFailed(Exception):
  """A process ended with an error; the text is its last words."""


def carry_out(
    command: Sequence[str],
    directories: Sequence[str],
    log_path: str,
    *,
    num_cores: Optional[int] = None,
    gpus: float = 0.0,
    cwd: Optional[str] = None,
    report: Callable[[Reached], None] = lambda reached: None,
) -> int:
  """Runs a trial to its end; one that is half done goes on.

  Args:
    command: PROGRAM and its flags.
    directories: of its runs, which say how far it is.
    log_path: of a file that its output is added to.
    num_cores: that it is kept on; None = anywhere.
    gpus: share of an accelerator that is its.
    cwd: folder that its relative paths are below, if this machine has it.
    report: called whenever it is further.

  Returns:
    The most memory that it has taken, in bytes.

  Raises:
    TrialFailed: if it ends with an error.
  """
  environment = dict(os.environ)
  if 0.0 < gpus < 1.0:
    share = f'{gpus * _MEMORY_SHARE:.3f}'
    environment.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', share)
  os.makedirs(os.path.dirname(log_path), exist_ok=True)
  _await_others(directories)
  with cores.held(num_cores or 0) as own, open(log_path, 'ab') as log:
    log.write(_PROMPT + f'{shlex.join(command)}\n'.encode())
    log.flush()
    process = subprocess.Popen(
        exec_pinned.command(own, command),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=cwd if cwd is not None and os.path.isdir(cwd) else None,
    )
    try:
      status, usage = _watch(process.pid, directories, report)
    except BaseException:
      process.terminate()  # It saves.
      process.wait()
      raise
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    words = last_words(log_path)
    raise TrialFailed(f'exit {process.returncode}: {words}')
  report(progress_on_disk.reached(directories))
  return usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def _await_others(directories: Sequence[str]) -> None:
  """Waits for a process of an earlier launch, which may be saving yet."""
  patience = time.monotonic() + _SECONDS_FOR_OTHERS
  while any(Result(directory).in_use for directory in directories):
    if time.monotonic() > patience:
      return  # `train` says who has it.
    time.sleep(_SECONDS_BETWEEN_LOOKS)


def _watch(
    pid: int,
    directories: Sequence[str],
    report: Callable[[Reached], None],
) -> tuple[int, Any]:
  """Waits for a process; returns its status, and what it has used."""
  seen = None
  while True:
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    if ended:
      return status, usage
    time.sleep(_SECONDS_BETWEEN_LOOKS)
    stamps = [_stamp(directory) for directory in directories]
    if stamps != seen:
      seen = stamps
      report(progress_on_disk.reached(directories))


def _stamp(directory: str) -> Optional[int]:
  try:
    return os.stat(os.path.join(directory, summary.FILE_NAME)).st_mtime_ns
  except OSError:
    return None


def last_words(path: str) -> str:
  """The last line that a process wrote to its log, preferably its error.

  Args:
    path: of the log; of the processes that wrote there, the last one's.
  """
  try:
    with open(path, 'rb') as f:
      _, _, own = f.read().rpartition(_PROMPT)
      text = own.partition(b'\n')[2][-20000:].decode(errors='replace')
  except OSError:
    text = ''
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith('Error: ')]
  last = (errors or lines or ['it said nothing'])[-1].removeprefix('Error: ')
  return f'{last} (its log is {path})'
