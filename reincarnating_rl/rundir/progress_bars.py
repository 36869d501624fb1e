"""Progress bars of a run: one for each piece of work."""

from __future__ import annotations

from typing import Any, Optional, Sequence, TextIO

from reincarnating_rl.base import progress
from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.events import PhaseRecord


class ProgressBar(Listener):
  """Shows rate, remaining time, and the student's last score."""

  def __init__(
      self,
      num_iterations: int,
      label: str = '',
      file: Optional[TextIO] = None,
  ):
    """Shows nothing until the first piece of work.

    Args:
      num_iterations: iterations of the whole plan, for the title.
      label: text before the title, where several runs have bars.
      file: stream to write to; None = stderr.
    """
    self._num_iterations = num_iterations
    self._label = f'{label} ' if label else ''
    self._file = file
    self._bar: Optional[Any] = None
    self._postfix: dict[str, str] = {}

  def on_work(self, kind: str, phase: Phase, total: int, unit: str) -> None:
    self.close()
    title = self._label + kind.replace('_', ' ')
    if phase.iteration:
      title += f' {phase.iteration}/{self._num_iterations}'
    self._bar = progress.bar(
        f'{title:24}', total, unit, postfix=self._postfix, file=self._file
    )

  def on_progress(self, amount: int) -> None:
    bar = self._bar
    if bar is not None:
      # An evaluation exceeds its steps to finish the last episodes.
      bar.total = max(bar.total, bar.n + amount)
      bar.update(amount)

  def on_resumed(self, amount: int) -> None:
    bar = self._bar
    if bar is not None:
      # Resumed steps do not count for the rate.
      bar.initial = bar.n = amount
      bar.refresh()

  def on_record(self, record: PhaseRecord) -> None:
    self.close()
    self._remember(record)

  def on_restored(self, records: Sequence[PhaseRecord]) -> None:
    for record in records:
      self._remember(record)

  def _remember(self, record: PhaseRecord) -> None:
    """Keeps values for the next bars."""
    if record.student_score is not None:
      self._postfix['score'] = f'{record.student_score:.1f}'
    # Without a teacher, lambda is always 0 and not shown.
    if record.lambda_ or (record.lambda_ == 0 and 'lambda' in self._postfix):
      self._postfix['lambda'] = f'{record.lambda_:.2f}'

  def close(self) -> None:
    """Closes the current bar."""
    if self._bar is not None:
      self._bar.close()
      self._bar = None
