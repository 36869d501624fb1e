"""Trials on Ray Tune: on this machine, or on a cluster."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import signal
import time
from typing import Any, Iterator, NamedTuple, Optional, Sequence
import warnings

from reincarnating_rl.app import experiment_flags
from reincarnating_rl.base import errors
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch.process import Job
from reincarnating_rl.launch.status_display import StatusDisplay
from reincarnating_rl.launch.trials import Trial

ATTEMPTS = 3
_STATE = '.ray'
_SECONDS_BETWEEN_LOOKS = 1.0
# Ray reads these variables when it is imported.
_ENVIRONMENT = {
    'RAY_AIR_NEW_OUTPUT': '0',
    'RAY_USAGE_STATS_ENABLED': '0',
    'TUNE_DISABLE_AUTO_CALLBACK_LOGGERS': '1',
    # A trial that is stopped gets time to save.
    'TUNE_FORCE_TRIAL_CLEANUP_S': '60',
}


class Resources(NamedTuple):
  """Resources of a trial, and the number of trials at a time.

  Attributes:
    cpus: cores of a trial.
    gpus: accelerators of a trial, or a share of one.
    num_parallel: trials at a time; None = as many as fit.
    address: address of a Ray cluster; None = this machine.
  """

  cpus: int = 1
  gpus: float = 0.0
  num_parallel: Optional[int] = None
  address: Optional[str] = None


def import_ray() -> Any:
  """Imports Ray, which only sweeps need.

  Raises:
    UserError: if Ray is not installed.
  """
  os.environ.update(_ENVIRONMENT)
  try:
    import ray
    from ray import tune  # noqa: F401
  except ImportError as e:
    raise errors.UserError(
        'Ray is not installed, which carries out sweeps: pip install '
        "'reincarnating_rl[launch]' (--dry_run works without it)."
    ) from e
  for name in ('ray', 'ray.tune'):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  return ray


@contextlib.contextmanager
def connected(resources: Resources) -> Iterator[int]:
  """Connects to Ray while the context lasts.

  Args:
    resources: where Ray runs, and the resources of a trial.

  Yields:
    The number of trials that run at a time.

  Raises:
    UserError: if Ray does not start or answer, or a trial does not fit.
  """
  ray = import_ray()
  options: dict[str, Any] = {
      'logging_level': logging.CRITICAL,
      'log_to_driver': False,
  }
  if resources.address is None:
    options |= {'include_dashboard': False, 'num_cpus': os.cpu_count()}
  try:
    ray.init(address=resources.address or 'local', **options)
  except Exception as e:  # Ray raises no more specific one if it is slow.
    ray.shutdown()
    reason = str(e).strip().split('\n')[0].rstrip('.')
    if resources.address is None:
      raise errors.UserError(
          f'Ray does not start on this machine: {reason}. If it is busy, run '
          'the same command again later.'
      ) from e
    raise errors.UserError(
        f'The cluster {resources.address} does not answer: {reason}. Look at '
        '`ray status` there, or leave out --address.'
    ) from e
  try:
    yield _num_parallel(ray.cluster_resources(), resources)
  finally:
    ray.shutdown()


def fit_here(resources: Resources) -> int:
  """Number of trials that fit on this machine, without asking Ray."""
  fits = [(os.cpu_count() or 1) // resources.cpus]
  if resources.gpus:
    fits.append(int(len(glob.glob('/dev/nvidia[0-9]*')) / resources.gpus))
  return max(min(fits), 1)


def _num_parallel(available: dict[str, float], resources: Resources) -> int:
  """Number of trials at a time.

  Args:
    available: resources of the cluster, by Ray's names.
    resources: resources of a trial.
  """
  fits = []
  for flag, kind, needed in (
      ('cpus', 'CPU', resources.cpus),
      ('gpus', 'GPU', resources.gpus),
  ):
    have = available.get(kind, 0)
    if needed > have:
      raise errors.UserError(
          f'A trial wants {needed:g} {kind}s, and there are {have:g}: lower '
          f'--{flag}.'
      )
    if needed:
      fits.append(int(have // needed))
  return min([*fits, resources.num_parallel or min(fits)])


def job_of(root: str, trial: Trial, resources: Resources) -> Job:
  """The process of a trial.

  Args:
    root: directory of the sweep.
    trial: the trial.
    resources: resources of the trial.
  """
  directories = trial.directories(root)
  flags = experiment_flags.flags_of(trial.experiment, trial.base_dir(root))
  return Job(
      trial.name,
      [*process.PROGRAM, *flags],
      directories,
      os.path.join(directories[0], progress_on_disk.LOG),
      num_cores=resources.cpus,
      gpus=resources.gpus,
      # Relative paths were checked from here; a worker starts elsewhere.
      cwd=os.getcwd(),
  )


def run_trials(
    root: str,
    resources: Resources,
    display: StatusDisplay,
    trials: Sequence[Trial],
    is_final: bool = True,
) -> set[str]:
  """Runs trials; one that fails resumes from its checkpoint.

  Args:
    root: directory of the sweep; all nodes of a cluster see it.
    resources: resources of each trial.
    display: shows the state of the trials.
    trials: trials that are not finished.
    is_final: False if trials that end well have more to do, in a later call.

  Returns:
    The names of the trials that failed ATTEMPTS times.

  Raises:
    KeyboardInterrupt: if trials are left since the process got a signal.
  """
  from ray import tune

  # Pickled by value, so that workers import nothing else.
  def train(config: dict[str, Any]) -> None:
    process.run(config['job'])
    tune.report({'ended': True})  # Tune prints a line for who reports nothing.

  callback = _callback(display, is_final)
  jobs = [job_of(root, trial, resources) for trial in trials]
  state = os.path.join(root, _STATE)
  tuner = tune.Tuner(
      tune.with_resources(
          train, {'cpu': resources.cpus, 'gpu': resources.gpus}
      ),
      param_space={'job': tune.grid_search(jobs)},
      tune_config=tune.TuneConfig(
          max_concurrent_trials=resources.num_parallel,
          # A worker starts slowly, and otherwise only waits.
          reuse_actors=True,
      ),
      run_config=tune.RunConfig(
          name='trials',
          storage_path=state,
          verbose=0,
          callbacks=[callback],
          failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
      ),
  )
  with _sigterm_as_interrupt(), warnings.catch_warnings():
    warnings.simplefilter('ignore')  # advice on Tune's speed
    tuner.fit()
  shutil.rmtree(state, ignore_errors=True)
  if len(callback.completed | callback.failed) < len(trials):
    raise KeyboardInterrupt  # Tune keeps it to itself.
  return callback.failed


def _callback(display: StatusDisplay, is_final: bool) -> Any:
  """Callback of Tune that updates a display and notes which trials ended."""
  from ray import tune

  name_of = lambda trial: trial.config['job'].name
  # Tune does not always know why a trial failed.
  reason = lambda trial: process.last_words(trial.config['job'].log_path)

  def show_progress(trial):
    directories = trial.config['job'].directories
    display.progressed(name_of(trial), progress_on_disk.read(directories))

  class Callback(tune.Callback):

    def __init__(self):
      self.completed, self.failed = set(), set()
      self._next_look = 0.0

    def __reduce__(self):  # In Tune's own record, which nobody reads.
      return tune.Callback, ()

    def on_trial_start(self, iteration, trials, trial, **info):
      display.started(name_of(trial))

    def on_step_end(self, iteration, trials, **info):
      if time.monotonic() >= self._next_look:
        for trial in trials:
          if trial.status == trial.RUNNING:
            show_progress(trial)
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS

    def on_trial_complete(self, iteration, trials, trial, **info):
      self.completed.add(name_of(trial))
      show_progress(trial)
      if is_final:
        display.finished(name_of(trial))

    def on_trial_recover(self, iteration, trials, trial, **info):
      display.failed(name_of(trial), reason(trial), gives_up=False)

    def on_trial_error(self, iteration, trials, trial, **info):
      self.failed.add(name_of(trial))
      display.failed(name_of(trial), reason(trial), gives_up=True)

  return Callback()


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
  """Lets SIGTERM end a sweep as Ctrl-C does."""
  before = signal.signal(
      signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
  )
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
