"""A progress bar for each piece of work of a run."""

from __future__ import annotations

import sys
from typing import Optional, Sequence, TextIO

from tqdm.auto import tqdm

from reincarnating_rl.loop.plan import Phase
from reincarnating_rl.loop.records import Listener
from reincarnating_rl.loop.records import PhaseRecord

# Seconds between lines where the output is no terminal.
_SECONDS_BETWEEN_LINES = 30.0


class ProgressBar(Listener):
  """Shows rate, time left, and the last score of the student."""

  def __init__(
      self,
      num_iterations: int,
      label: str = '',
      file: Optional[TextIO] = None,
  ):
    """Makes a bar that appears with the first piece of work.

    Args:
      num_iterations: of the whole plan, for the title.
      label: before the title, where several runs have bars.
      file: where it is drawn, default stderr.
    """
    self._num_iterations = num_iterations
    self._label = f'{label} ' if label else ''
    self._file = file or sys.stderr
    self._bar: Optional[tqdm] = None
    self._postfix: dict[str, str] = {}

  def on_work(self, kind: str, phase: Phase, total: int, unit: str) -> None:
    self.close()
    title = self._label + kind.replace('_', ' ')
    if phase.iteration:
      title += f' {phase.iteration}/{self._num_iterations}'
    terminal = self._file.isatty()
    self._bar = tqdm(
        total=total,
        desc=f'{title:24}',
        unit=f' {unit}',
        file=self._file,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else _SECONDS_BETWEEN_LINES,
        postfix=self._postfix or None,
    )

  def on_progress(self, amount: int) -> None:
    bar = self._bar
    if bar is not None:
      # An evaluation finishes its last episodes beyond its share of steps.
      bar.total = max(bar.total, bar.n + amount)
      bar.update(amount)

  def on_resumed(self, amount: int) -> None:
    bar = self._bar
    if bar is not None:
      # Not part of the rate.
      bar.initial = bar.n = amount
      bar.refresh()

  def on_record(self, record: PhaseRecord) -> None:
    self.close()
    self._remember(record)

  def on_restored(self, records: Sequence[PhaseRecord]) -> None:
    for record in records:
      self._remember(record)

  def _remember(self, record: PhaseRecord) -> None:
    """For the bars that come."""
    if record.student_score is not None:
      self._postfix['score'] = f'{record.student_score:.1f}'
    if record.lambda_:
      self._postfix['lambda'] = f'{record.lambda_:.2f}'

  def close(self) -> None:
    """Ends the present bar."""
    if self._bar is not None:
      self._bar.close()
      self._bar = None
