"""All listeners of a run, in one place (layer 5)."""

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
    listeners: all of them; they write nothing before the run starts.
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
    """Builds the listeners.

    Args:
      directory: directory of the run.
      game: name of the game.
      log_experiment: writes the statistics of an iteration as Dopamine's
        pickle.
      bar: progress bar.
      teacher: teacher whose score is checked; None without a teacher.
      wandb: log at Weights & Biases; None without one.
      others: further listeners.
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
    """Opens the logs, before the run starts.

    Raises:
      ValueError: if a log cannot be opened.
    """
    if self._wandb is not None:
      self._wandb.begin()

  def close(self) -> None:
    """Closes their files."""
    self._dopamine.close()
    if self._wandb is not None:
      self._wandb.close()
