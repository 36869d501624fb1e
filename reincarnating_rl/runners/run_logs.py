"""Everything that listens to a run, in one place (layer 5)."""

from __future__ import annotations

import functools
from typing import Callable, Optional, Sequence

from dopamine.metrics.collector_dispatcher import CollectorDispatcher

from reincarnating_rl.dopamine_bridge.logs import DopamineLogs
from reincarnating_rl.dopamine_bridge.logs import TeacherProof
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.rundir.metrics_file import MetricsFile
from reincarnating_rl.rundir.progress_bars import ProgressBar
from reincarnating_rl.runners.wandb_logs import WandbLogs
from reincarnating_rl.teachers import LoadedTeacher


class RunLogs:
  """The listeners of one run.

  Attributes:
    listeners: all of them; nothing is written before they are told something.
  """

  def __init__(
      self,
      directory: str,
      game: str,
      *,
      log_experiment: Callable[[int, dict[str, list[float]]], None],
      bar: ProgressBar,
      teacher: Optional[LoadedTeacher],
      wandb: Optional[WandbLogs] = None,
      others: Sequence[Listener] = (),
  ):
    """Puts them together.

    Args:
      directory: of the run.
      game: in Dopamine's spelling.
      log_experiment: keeps the statistics of an iteration as Dopamine's pickle.
      bar: shows progress.
      teacher: whose score is looked at; None if there is no teacher.
      wandb: None if it is not wanted.
      others: whoever else wants to know.
    """
    self._dopamine = DopamineLogs(
        directory,
        functools.partial(CollectorDispatcher, directory),
        log_experiment,
    )
    self._wandb = wandb
    self.listeners: list[Listener] = [
        bar,
        self._dopamine,
        MetricsFile(directory, game),
        TeacherProof(teacher, game),
        *([wandb] if wandb else []),
        *others,
    ]

  def begin(self) -> None:
    """Before the first is told something.

    Raises:
      ValueError: if one of them cannot begin.
    """
    if self._wandb is not None:
      self._wandb.begin()

  def close(self) -> None:
    """Closes their files."""
    self._dopamine.close()
    if self._wandb is not None:
      self._wandb.close()
