"""Trials on Ray Tune: here, or on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import os
import shutil
import signal
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence
import warnings

from reincarnating_rl.app import experiment_flags
from reincarnating_rl.base import errors
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch.progress_on_disk import Reached
from reincarnating_rl.launch.status_display import Board
from reincarnating_rl.launch.trials import Trial

ATTEMPTS = 3
_STATE = '.ray'
# Read by Ray when it is imported.
_ENVIRONMENT = {
    'RAY_AIR_NEW_OUTPUT': '0',
    'RAY_USAGE_STATS_ENABLED': '0',
    'TUNE_DISABLE_AUTO_CALLBACK_LOGGERS': '1',
    # A trial is asked to end, and saves.
    'TUNE_FORCE_TRIAL_CLEANUP_S': '60',
}


class Scheduled(NamedTuple):
  """Trials that go on depending on each other.

  Attributes:
    scheduler: of Tune.
    work: what a worker does of a trial, in the place of all at once.
    told: of each trial, what the worker is told beside the usual.
  """

  scheduler: Any
  work: Callable[[dict[str, Any]], None]
  told: Sequence[dict[str, Any]]


class Resources(NamedTuple):
  """What a trial is given, and how many there are at once.

  Attributes:
    cpus: cores of a trial.
    gpus: accelerators of a trial, or a share of one.
    num_parallel: trials at once; None = as many as fit.
    address: of a cluster; None = this machine.
  """

  cpus: int = 1
  gpus: float = 0.0
  num_parallel: Optional[int] = None
  address: Optional[str] = None


def import_ray() -> Any:
  """Ray, which a single run never needs.

  Raises:
    UserError: if it is not installed.
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
  """Ray for a while.

  Args:
    resources: where, and what a trial needs.

  Yields:
    How many trials run at once.

  Raises:
    UserError: if a cluster does not answer, or no trial ever fits.
  """
  ray = import_ray()
  options = {'logging_level': logging.CRITICAL, 'log_to_driver': False}
  if resources.address is None:
    options |= {'include_dashboard': False, 'num_cpus': os.cpu_count()}
  try:
    ray.init(address=resources.address or 'local', **options)
  except (ConnectionError, RuntimeError, ValueError, TimeoutError) as e:
    reason = str(e).strip().split('\n')[0].rstrip('.')
    raise errors.UserError(
        f'The cluster {resources.address or "on this machine"} does not '
        f'answer: {reason}. Look at `ray status` there, or leave out '
        '--address.'
    ) from e
  try:
    yield _at_once(ray.cluster_resources(), resources)
  finally:
    ray.shutdown()


def fit_here(resources: Resources) -> int:
  """How many trials this machine has room for, without asking Ray."""
  fits = [(os.cpu_count() or 1) // resources.cpus]
  if resources.gpus:
    fits.append(int(len(glob.glob('/dev/nvidia[0-9]*')) / resources.gpus))
  return max(min(fits), 1)


def _at_once(there: dict[str, float], resources: Resources) -> int:
  """How many trials fit."""
  fits = []
  for name, kind, needed in (
      ('cpus', 'CPU', resources.cpus),
      ('gpus', 'GPU', resources.gpus),
  ):
    have = there.get(kind, 0)
    if needed > have:
      raise errors.UserError(
          f'A trial wants {needed:g} {kind}s, and there are {have:g}: lower '
          f'--{name}.'
      )
    if needed:
      fits.append(int(have // needed))
  return min([*fits, resources.num_parallel or min(fits)])


def carry_out(
    root: str,
    trials: Sequence[Trial],
    resources: Resources,
    board: Board,
    scheduled: Optional[Scheduled] = None,
) -> None:
  """Carries trials out; those that fail are tried again from their checkpoint.

  Args:
    root: directory of the sweep; on a cluster all nodes see it.
    trials: to be done.
    resources: of each.
    board: told what happens.
    scheduled: None = they are independent of each other.
  """
  from ray import tune

  configs = [_config(root, trial, resources) for trial in trials]
  work, scheduler = _carry_out_one, None
  if scheduled is not None:
    work, scheduler = scheduled.work, scheduled.scheduler
    configs = [c | told for c, told in zip(configs, scheduled.told)]
  state = os.path.join(root, _STATE)
  tuner = tune.Tuner(
      tune.with_resources(work, {'cpu': resources.cpus, 'gpu': resources.gpus}),
      param_space={'trial': tune.grid_search(configs)},
      tune_config=tune.TuneConfig(
          # A scheduler knows all that wait, and says itself who may start.
          max_concurrent_trials=(
              resources.num_parallel if scheduler is None else None
          ),
          scheduler=scheduler,
          # Starting a worker takes longer than what it does besides waiting.
          # One that was paused, though, has not ended its trial.
          reuse_actors=scheduler is None,
      ),
      run_config=tune.RunConfig(
          name='trials',
          storage_path=state,
          verbose=0,
          callbacks=[_callback(board)],
          failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
      ),
  )
  with _terminated_as_interrupted(), warnings.catch_warnings():
    warnings.simplefilter('ignore')  # what Tune could do faster
    tuner.fit()
  shutil.rmtree(state, ignore_errors=True)


def _config(root: str, trial: Trial, resources: Resources) -> dict[str, Any]:
  """What the worker is told; no more than text and numbers."""
  return {
      'name': trial.name,
      'command': [
          *process.PROGRAM,
          *experiment_flags.flags_of(trial.experiment, trial.base_dir(root)),
      ],
      'directories': trial.directories(root),
      'log': os.path.join(trial.directories(root)[0], progress_on_disk.LOG),
      # Workers are elsewhere; paths are meant as they were checked.
      'cwd': os.getcwd(),
      'cpus': resources.cpus,
      'gpus': resources.gpus,
  }


def _carry_out_one(config: dict[str, Any]) -> None:
  """On a worker: one trial."""
  from ray import tune

  trial = config['trial']
  process.carry_out(
      trial['command'],
      trial['directories'],
      trial['log'],
      num_cores=trial['cpus'],
      gpus=trial['gpus'],
      cwd=trial['cwd'],
      report=lambda reached: tune.report(dataclasses.asdict(reached)),
  )


def _callback(board: Board) -> Any:
  """What tells the board of Tune's events."""
  from ray import tune

  name_of = lambda trial: trial.config['trial']['name']
  # Tune does not always know.
  reason = lambda trial: process.last_words(trial.config['trial']['log'])

  class ToBoard(tune.Callback):

    def on_trial_start(self, iteration, trials, trial, **info):
      board.started(name_of(trial))

    def on_trial_result(self, iteration, trials, trial, result, **info):
      fields = dataclasses.fields(Reached)
      board.reached(
          name_of(trial), Reached(**{f.name: result[f.name] for f in fields})
      )

    def on_trial_complete(self, iteration, trials, trial, **info):
      board.done(name_of(trial))

    def on_trial_recover(self, iteration, trials, trial, **info):
      board.failed(name_of(trial), reason(trial), for_good=False)

    def on_trial_error(self, iteration, trials, trial, **info):
      board.failed(name_of(trial), reason(trial), for_good=True)

  return ToBoard()


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
  """A SIGTERM ends a sweep as Ctrl-C does."""
  before = signal.signal(
      signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
  )
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
