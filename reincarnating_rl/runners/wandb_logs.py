"""What a run tells, for Weights & Biases (layer 5; an optional extra)."""

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
  """Raises a ValueError if there is no wandb."""
  if importlib.util.find_spec('wandb') is None:
    raise ValueError(
        'RunnerWithTeacher.wandb_project is bound, but wandb is not installed: '
        "pip install 'reincarnating_rl[wandb]', or remove the binding."
    )


class WandbLogs(Listener):
  """A run at wandb, under the tags of TensorBoard.

  wandb itself says where things go: `wandb login`, or WANDB_MODE=offline and
  `wandb sync` later. A run that goes on after a restart goes on there, and what
  it does once more is not told once more.
  """

  def __init__(
      self, directory: str, project: str, name: str, config: dict[str, Any]
  ):
    """Tells wandb nothing yet.

    Args:
      directory: of the run; what wandb writes goes below it.
      project: of wandb.
      name: of the run.
      config: what distinguishes it from others.
    """
    self._path = os.path.join(directory, _STATE_FILE)
    self._directory = directory
    self._options = {'project': project, 'name': name, 'config': config}
    self._run: Optional[Any] = None
    self._records = 0
    self._told = {'updates': -1, 'phases': 0}

  def begin(self) -> None:
    """Begins a run there, or goes on with it.

    Raises:
      ValueError: if wandb does not take it.
    """
    import wandb

    state = self._read()
    identity = state.get('id') or secrets.token_hex(8)
    self._told = {name: state.get(name, n) for name, n in self._told.items()}
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
          f'wandb does not take the run ({reason}): `wandb login`, or set '
          'WANDB_MODE=offline, or remove RunnerWithTeacher.wandb_project.'
      ) from e

  def _read(self) -> dict[str, Any]:
    """What processes before this one have told; empty at first."""
    try:
      with open(self._path, encoding='utf-8') as f:
        state = json.load(f)
      counts = [state.get(name, 0) for name in self._told]
      if not all(isinstance(count, int) for count in counts):
        raise ValueError('it holds no counts')
      return state
    except FileNotFoundError:
      return {}
    except (OSError, ValueError, AttributeError) as e:
      raise ValueError(
          f'{self._path} cannot be read ({e}): remove it, and the run begins '
          'anew at wandb.'
      ) from e

  def _write(self) -> None:
    document = {'id': self._identity} | self._told
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
    """Tells what was not told yet, by a count of its kind."""
    if self._run is None or count <= self._told[kind]:
      return
    counts = {
        'agent_steps': where.agent_steps,
        'frames': FRAMES_PER_AGENT_STEP * where.agent_steps,
        'updates': where.updates,
    }
    self._told[kind] = count
    with _tolerating_all():
      self._run.log(values | counts)
      self._write()

  def close(self) -> None:
    """Waits until wandb has everything."""
    if self._run is not None:
      with _tolerating_all():
        self._run.finish()
      self._run = None


@contextlib.contextmanager
def _tolerating_all() -> Iterator[None]:
  """Whatever happens, it costs what is told there and not the run."""
  try:
    yield
  except Exception as e:  # pylint: disable=broad-exception-caught
    logging.warning('wandb was not told (%s).', ' '.join(str(e).split()))
