"""Display of a running sweep: a line per trial, and one progress bar.

In a terminal the lines of the running trials are updated in place. Elsewhere
(a log file, a pipe) a line says when a trial starts and ends, and the bar is
printed once a minute. Ray Tune's own reporter prints its whole table each time.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Mapping, Optional, Sequence, TextIO

import tqdm

from reincarnating_rl.base import progress as progress_lib
from reincarnating_rl.base import tables
from reincarnating_rl.launch.progress_on_disk import Progress
from reincarnating_rl.report import formatting

WAITING, RUNNING, DONE, FAILED = 'waiting', 'running', 'done', 'FAILED'
_MOST_LINES = 16


@dataclasses.dataclass
class Row:
  """State of a trial.

  Attributes:
    iterations: iterations of its plan, summed over seeds.
    state: WAITING, RUNNING, DONE or FAILED.
    progress: its progress.
    attempts: number of starts, first one included.
    since: time of the last start in seconds; None unless it is running.
    seconds: time spent on all attempts of this launch.
    error: reason of the last failure; '' if there was none.
  """

  iterations: int
  state: str = WAITING
  progress: Progress = Progress()
  attempts: int = 0
  since: Optional[float] = None
  seconds: float = 0.0
  error: str = ''


class StatusDisplay:
  """Shows what it is told about trials; a context that ends the display.

  Attributes:
    rows: state of each trial, by name.
  """

  def __init__(
      self,
      iterations: Mapping[str, int],
      progress: Mapping[str, Progress],
      num_lines: int,
      file: Optional[TextIO] = None,
  ):
    """Shows the state at the start.

    Args:
      iterations: iterations of the plan of each trial, by its name.
      progress: progress before this launch.
      num_lines: number of trials that run at a time.
      file: where to print; None = stderr.
    """
    self.rows = {
        name: Row(
            count,
            DONE if progress[name].iterations >= count else WAITING,
            progress[name],
        )
        for name, count in iterations.items()
    }
    self._file, self._moves = progress_lib.drawable(file)
    self._bar = progress_lib.bar(
        None,
        sum(iterations.values()),
        'iterations',
        initial=self._iterations_done(),
        file=file,
    )
    self._lines = [
        tqdm.tqdm(
            total=0,
            bar_format='{desc}',
            position=1 + i,
            file=self._file,
            leave=False,
        )
        for i in range(min(num_lines, _MOST_LINES) * self._moves)
    ]
    self._update()

  def __enter__(self) -> StatusDisplay:
    return self

  def __exit__(self, *error: object) -> None:
    for line in reversed(self._lines):
      line.close()
    self._bar.close()

  def started(self, name: str) -> None:
    """A trial starts, for the first time or again."""
    row = self.rows[name]
    if row.state == RUNNING:
      return  # A member of a population that waited for the others.
    row.state, row.since = RUNNING, time.monotonic()
    row.attempts += 1
    if row.attempts == 1:
      self._print(f'{name} starts')
    self._update()

  def progressed(self, name: str, progress: Progress) -> None:
    """A trial has made progress."""
    self.rows[name].progress = progress
    self._update()

  def finished(self, name: str) -> None:
    """A trial has come to its end."""
    row = self.rows[name]
    self._stop(row, DONE)
    self._print(f'{name} is done, {_score(row)}')

  def failed(self, name: str, error: str, gives_up: bool) -> None:
    """The process of a trial failed.

    Args:
      name: name of the trial.
      error: reason, in a sentence.
      gives_up: True if the trial does not start again.
    """
    row = self.rows[name]
    self._stop(row, FAILED if gives_up else WAITING)
    row.error = error
    then = 'it is given up' if gives_up else 'it goes on from its checkpoint'
    self._print(f'{name} failed ({error}); {then}')

  def table(self) -> str:
    """Table of all trials: state, iterations, score, attempts, time."""
    rows = [('', 'state', 'iterations', 'score', 'normalized', 'time')]
    for name, row in self.rows.items():
      rows.append(
          (
              name,
              row.state + (f' x{row.attempts}' if row.attempts > 1 else ''),
              f'{row.progress.iterations}/{row.iterations}',
              _number(row.progress.score),
              _number(row.progress.normalized),
              formatting.duration(row.seconds) if row.attempts else '',
          )
      )
    return tables.table(rows)

  def names(self, state: str) -> Sequence[str]:
    """Names of the trials in a state."""
    return [name for name, row in self.rows.items() if row.state == state]

  def _stop(self, row: Row, state: str) -> None:
    row.state = state
    if row.since is not None:
      row.seconds += time.monotonic() - row.since
      row.since = None
    self._update()

  def _print(self, text: str) -> None:
    if self._moves:
      tqdm.tqdm.write(text, file=self._file)
    else:
      self._file.write(text)

  def _iterations_done(self) -> int:
    return sum(row.progress.iterations for row in self.rows.values())

  def _update(self) -> None:
    counts = {
        state: len(self.names(state)) for state in (RUNNING, DONE, FAILED)
    }
    self._bar.set_postfix_str(
        ', '.join(f'{n} {s}' for s, n in counts.items() if n), refresh=False
    )
    self._bar.update(self._iterations_done() - self._bar.n)
    running = self.names(RUNNING)
    for i, line in enumerate(self._lines):
      text = ''
      if i < len(running):
        name, row = running[i], self.rows[running[i]]
        done = f'{row.progress.iterations}/{row.iterations}'
        text = f'{name}: {done}, {_score(row)}'
      line.set_description_str(text)


def _number(value: Optional[float]) -> str:
  return '' if value is None else f'{value:.2f}'


def _score(row: Row) -> str:
  score = _number(row.progress.score)
  return f'score {score}' if score else 'no score yet'
