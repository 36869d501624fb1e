"""What a run tells, for Weights & Biases (layer 5; an optional extra)."""

from __future__ import annotations

import importlib.util
import os
import secrets
from typing import Any, Optional

from reincarnating_rl.buckets import local
from reincarnating_rl.dopamine_logs import phase_values
from reincarnating_rl.dopamine_logs import update_values
from reincarnating_rl.loop.metrics_file import FRAMES_PER_AGENT_STEP
from reincarnating_rl.loop.records import Listener
from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.records import Reached

_ID_FILE = 'wandb_run_id.txt'


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
  `wandb sync` later. A run that goes on after a restart goes on there.
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
    self._directory = directory
    self._options = {'project': project, 'name': name, 'config': config}
    self._run: Optional[Any] = None

  @property
  def _wandb_run(self) -> Any:
    if self._run is None:
      import wandb

      self._run = wandb.init(
          id=self._run_id(),
          resume='allow',
          dir=self._directory,
          reinit='create_new',
          **self._options,
      )
      self._run.define_metric('*', step_metric='updates')
    return self._run

  def _run_id(self) -> str:
    """The same in each process that goes on with a run."""
    path = os.path.join(self._directory, _ID_FILE)
    if not os.path.exists(path):
      local.write_whole(path, secrets.token_hex(8).encode())
    with open(path, encoding='ascii') as f:
      return f.read()

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    self._log(reached.agent_steps, reached.updates, update_values(metrics))

  def on_record(self, record: PhaseRecord) -> None:
    self._log(record.agent_steps, record.updates, phase_values(record))

  def _log(
      self, agent_steps: int, updates: int, values: dict[str, float]
  ) -> None:
    counts = {
        'agent_steps': agent_steps,
        'frames': FRAMES_PER_AGENT_STEP * agent_steps,
        'updates': updates,
    }
    self._wandb_run.log(values | counts)

  def close(self) -> None:
    """Waits until wandb has everything."""
    if self._run is not None:
      self._run.finish()
      self._run = None
