"""Logs of a run at Weights & Biases (an optional extra)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
from typing import Any, Iterator, Optional, Sequence

from absl import logging

from reincarnating_rl.base import files
from reincarnating_rl.dopamine_bridge.logs import phase_values
from reincarnating_rl.dopamine_bridge.logs import update_values
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached
from reincarnating_rl.rundir.metrics_file import FRAMES_PER_AGENT_STEP

_STATE_FILE = 'wandb.json'


def check_installed() -> None:
  """Raises a ValueError if wandb is not installed."""
  if importlib.util.find_spec('wandb') is None:
    raise ValueError(
        'RunnerWithTeacher.wandb_project is bound, but wandb is not installed: '
        "pip install 'reincarnating_rl[wandb]', or remove the binding."
    )


class WandbLogs(Listener):
  """Logs a run to wandb, under TensorBoard's tags.

  wandb's own settings decide where the logs go: `wandb login`, or
  WANDB_MODE=offline and a later `wandb sync`. A resumed run continues the same
  wandb run; steps that it repeats are not logged twice.
  """

  def __init__(
      self, directory: str, project: str, name: str, config: dict[str, Any]
  ):
    """Does not contact wandb; `begin` does.

    Args:
      directory: run directory; wandb writes below it.
      project: name of the wandb project.
      name: name of the run.
      config: settings that distinguish this run from others.
    """
    self._path = os.path.join(directory, _STATE_FILE)
    self._directory = directory
    self._options: dict[str, Any] = {
        'project': project,
        'name': name,
        'config': config,
    }
    self._run: Optional[Any] = None
    self._records = 0
    # Counts up to which earlier processes, and this one, have logged.
    self._logged = {'updates': -1, 'phases': 0}

  def begin(self) -> None:
    """Starts the wandb run, or resumes it.

    Raises:
      ValueError: if wandb refuses.
    """
    import wandb

    state = self._read()
    identity = state.get('id') or secrets.token_hex(8)
    self._logged = {k: state.get(k, n) for k, n in self._logged.items()}
    try:
      self._run = wandb.init(
          id=identity,
          resume='allow',
          dir=self._directory,
          reinit='create_new',
          **self._options,
      )
      self._run.define_metric('*', step_metric='updates')
      self._identity = identity
      self._write()
    except (wandb.Error, OSError, ValueError) as e:
      reason = ' '.join(str(e).split()).rstrip('.')
      raise ValueError(
          f'wandb refuses the run ({reason}): `wandb login`, or set '
          'WANDB_MODE=offline, or remove RunnerWithTeacher.wandb_project.'
      ) from e

  def _read(self) -> dict[str, Any]:
    """State that earlier processes left; empty for a new run."""
    try:
      with open(self._path, encoding='utf-8') as f:
        state = json.load(f)
      counts = [state.get(name, 0) for name in self._logged]
      if not all(isinstance(count, int) for count in counts):
        raise ValueError('it holds no counts')
      return state
    except FileNotFoundError:
      return {}
    except (OSError, ValueError, AttributeError) as e:
      raise ValueError(
          f'{self._path} cannot be read ({e}): remove it to start a new run at '
          'wandb.'
      ) from e

  def _write(self) -> None:
    document = {'id': self._identity} | self._logged
    files.write_whole(self._path, json.dumps(document).encode())

  def on_restored(self, records: Sequence[PhaseRecord]) -> None:
    self._records = len(records)

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    values = update_values(metrics)
    self._log('updates', reached.updates, reached, values)

  def on_record(self, record: PhaseRecord) -> None:
    self._records += 1
    self._log('phases', self._records, record, phase_values(record))

  def _log(
      self,
      kind: str,
      count: int,
      where: Reached | PhaseRecord,
      values: dict[str, float],
  ) -> None:
    """Logs values unless `count` of this kind was logged before."""
    if self._run is None or count <= self._logged[kind]:
      return
    counts = {
        'agent_steps': where.agent_steps,
        'frames': FRAMES_PER_AGENT_STEP * where.agent_steps,
        'updates': where.updates,
    }
    self._logged[kind] = count
    with _only_warning():
      self._run.log(values | counts)
      self._write()

  def close(self) -> None:
    """Waits until wandb has received everything."""
    if self._run is not None:
      with _only_warning():
        self._run.finish()
      self._run = None


@contextlib.contextmanager
def _only_warning() -> Iterator[None]:
  """Turns any failure into a warning: wandb must not stop a run."""
  try:
    yield
  except Exception as e:  # pylint: disable=broad-exception-caught
    logging.warning('wandb did not log (%s).', ' '.join(str(e).split()))
