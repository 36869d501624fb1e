"""The process of a trial: started, awaited, and ended with its parent.

Workers of Ray import this module, so it imports neither jax nor gin.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import time
from typing import Optional, Sequence

from reincarnating_rl.base import run_lock
from reincarnating_rl.launch import cores
from reincarnating_rl.launch import exec_pinned

# Every trial is an execution of this program.
PROGRAM = (sys.executable, '-um', 'reincarnating_rl.train')
# Written before each command in a log.
_PROMPT = b'\n$ '
_SECONDS_FOR_OTHERS = 120.0
_SECONDS_BETWEEN_LOOKS = 0.2
# Share of a device's memory that XLA allocates when a process has it alone.
_MEMORY_SHARE = 0.75


class TrialFailed(Exception):
  """A process ended with an error; the text is the last line of its log."""


@dataclasses.dataclass(frozen=True)
class Job:
  """A process that trains one trial.

  Attributes:
    name: name of the trial.
    command: PROGRAM and its flags.
    directories: directories of the runs.
    log_path: file to which the process appends its output.
    num_cores: cores to which the process is pinned; 0 = no pinning.
    gpus: accelerators of the process, or a share of one.
    cwd: working directory, used if this machine has it.
  """

  name: str
  command: Sequence[str]
  directories: Sequence[str]
  log_path: str
  num_cores: int = 0
  gpus: float = 0.0
  cwd: Optional[str] = None


def run(job: Job) -> int:
  """Runs a job to its end; a trial with checkpoints resumes.

  Args:
    job: the process to run.

  Returns:
    The peak memory of the process in bytes.

  Raises:
    TrialFailed: if the process ends with an error.
  """
  environment = dict(os.environ)
  if 0.0 < job.gpus < 1.0:
    share = f'{job.gpus * _MEMORY_SHARE:.3f}'
    environment.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', share)
  os.makedirs(os.path.dirname(job.log_path), exist_ok=True)
  _await_others(job)
  with cores.held(job.num_cores) as own, open(job.log_path, 'ab') as log:
    log.write(_PROMPT + f'{shlex.join(job.command)}\n'.encode())
    log.flush()
    process = subprocess.Popen(
        exec_pinned.command(own, job.command),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=job.cwd if job.cwd is not None and os.path.isdir(job.cwd) else None,
    )
    try:
      _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
      process.terminate()  # It saves.
      process.wait()
      raise
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    words = last_words(job.log_path)
    raise TrialFailed(f'exit {process.returncode}: {words}')
  return usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def _await_others(job: Job) -> None:
  """Waits for a process of an earlier launch, which may still be saving."""
  patience = time.monotonic() + _SECONDS_FOR_OTHERS
  while any(map(run_lock.is_taken, job.directories)):
    if time.monotonic() > patience:
      return  # `train` names the process that has the directory.
    time.sleep(_SECONDS_BETWEEN_LOOKS)


def last_words(path: str) -> str:
  """Last line that a process wrote to its log, preferably its error.

  Args:
    path: path of the log; the last process that wrote to it counts.
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
