"""Trials with a stand-in for `train`, and ways to run and to kill them."""

from __future__ import annotations

from concurrent import futures
import contextlib
import functools
import pathlib
import subprocess
import sys
import textwrap
import time

from paths import HELPERS
from paths import ROOT
import stand_in_train
import written_runs

from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch.status_display import StatusDisplay
from reincarnating_rl.launch.trials import Configuration
from reincarnating_rl.launch.trials import Trial

NUM_ITERATIONS = stand_in_train.NUM_ITERATIONS
# After so long a test takes what it waits for to hang.
_SECONDS_UNTIL_HANG = 1800.0


def stand_in(scratch: pathlib.Path) -> tuple[str, ...]:
  """The program in place of `train`; writes its template to a new folder."""
  run = written_runs.write_run(
      scratch / 'template',
      [0.0] * NUM_ITERATIONS,
      settings={'num_iterations': NUM_ITERATIONS},
  )
  template = f'--template={run}/summary.json'
  return (sys.executable, stand_in_train.__file__, template)


def trial(name, *bindings, seeds=(0,), packed=False) -> Trial:
  experiment = Experiment(agent='dqn', game='Pong', bindings=bindings)
  return Trial(Configuration(f'Pong/{name}', experiment), seeds, packed)


def unfinished(root, trials) -> list[Trial]:
  return [
      t
      for t in trials
      if progress_on_disk.read(t.directories(root)).iterations
      < NUM_ITERATIONS * len(t.seeds)
  ]


@contextlib.contextmanager
def displayed(root, trials, output=None):
  """A display, and what runs trials on Ray for `launch`."""
  progress = {
      t.name: progress_on_disk.read(t.directories(root)) for t in trials
  }
  iterations = {t.name: NUM_ITERATIONS * len(t.seeds) for t in trials}
  resources = engine.Resources(num_parallel=2)
  with StatusDisplay(iterations, progress, 2, output) as display:
    yield display, functools.partial(
        engine.run_trials, str(root), resources, display
    )


def run_in_threads(root, trials, is_final=True) -> set[str]:
  """In place of `engine.run_trials`: the same processes, without Ray."""
  del is_final

  def attempt(trial: Trial) -> bool:
    job = engine.job_of(str(root), trial, engine.Resources())
    for _ in range(engine.ATTEMPTS):
      with contextlib.suppress(process.TrialFailed):
        process.run(job)
        return True
    return False

  with futures.ThreadPoolExecutor(2) as threads:
    outcomes = list(threads.map(attempt, trials))
  return {t.name for t, is_done in zip(trials, outcomes) if not is_done}


def run_here(root, trials, is_final=True) -> set[str]:
  """In place of `engine.run_trials`: the stand-in, in this process."""
  del is_final
  failed = set()
  for one in trials:
    job = engine.job_of(str(root), one, engine.Resources())
    arguments = job.command[len(process.PROGRAM) - 1 :]
    if any(stand_in_train.main(arguments) for _ in range(engine.ATTEMPTS)):
      failed.add(one.name)
  return failed


def kill_when(is_time, code: str, scratch: pathlib.Path) -> None:
  """Runs code in a process, and kills it.

  Args:
    is_time: called again and again; True = now.
    code: Python, in which `launched_trials` is imported and PROGRAM is set.
    scratch: where the code is put.
  """
  script = scratch / 'killed.py'
  before = f"""
      import sys
      sys.path[:0] = {[str(HELPERS), str(ROOT)]}
      import launched_trials
      from reincarnating_rl.launch import process
      process.PROGRAM = {process.PROGRAM}
  """
  script.write_text(textwrap.dedent(before) + textwrap.dedent(code))
  with subprocess.Popen([sys.executable, str(script)]) as driver:
    deadline = time.monotonic() + _SECONDS_UNTIL_HANG
    while not is_time():
      assert driver.poll() is None, 'it ended by itself'
      assert time.monotonic() < deadline
      time.sleep(0.05)
    driver.kill()
