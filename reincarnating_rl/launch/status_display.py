"""What a sweep looks like while it runs: a line a trial, and one bar.

In a terminal the lines of those that run move; elsewhere (a log file, a pipe)
a line says when a trial starts and ends, and the bar is a line now and then.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Mapping, Optional, Sequence, TextIO

import tqdm

from reincarnating_rl.base import progress
from reincarnating_rl.base import tables
from reincarnating_rl.launch.progress_on_disk import Reached
from reincarnating_rl.report import formatting

WAITING, RUNNING, DONE, FAILED = 'waiting', 'running', 'done', 'FAILED'
ENDED = (DONE, FAILED)
# So many lines move at most; of the others there is a count.
_MOST_LINES = 16


@dataclasses.dataclass
class Row:
  """A trial as it stands.

  Attributes:
    iterations: that its plan has, of all its seeds.
    state: WAITING, RUNNING, DONE or FAILED.
    reached: how far it is.
    attempts: how often it was started.
    since: time of the last start, in seconds; None before.
    seconds: spent, over all attempts of this launch.
    error: why it failed last; '' if it did not.
  """

  iterations: int
  state: str = WAITING
  reached: Reached = Reached()
  attempts: int = 0
  since: Optional[float] = None
  seconds: float = 0.0
  error: str = ''


class Board:
  """Told what happens, shows it; a context that ends the display."""

  def __init__(
      self,
      iterations: Mapping[str, int],
      reached: Mapping[str, Reached],
      num_lines: int,
      file: Optional[TextIO] = None,
  ):
    """Shows where the sweep stands.

    Args:
      iterations: of each trial, by its name.
      reached: before this launch.
      num_lines: trials that run at once.
      file: default stderr.
    """
    self.rows = {
        name: Row(
            count,
            DONE if reached[name].iterations >= count else WAITING,
            reached[name],
        )
        for name, count in iterations.items()
    }
    self._file, self._moves = progress.drawable(file)
    self._bar = progress.bar(
        None,
        sum(iterations.values()),
        'iterations',
        initial=self._iterations_done(),
        file=file,
    )
    lines = min(num_lines, _MOST_LINES) if self._moves else 0
    self._lines = [
        tqdm.tqdm(
            total=0,
            bar_format='{desc}',
            position=1 + i,
            file=self._file,
            leave=False,
        )
        for i in range(lines)
    ]
    self._show()

  def __enter__(self) -> Board:
    return self

  def __exit__(self, *error: object) -> None:
    for line in reversed(self._lines):
      line.close()
    self._bar.close()

  def started(self, name: str) -> None:
    """A trial starts, or starts again after a failure."""
    row = self.rows[name]
    if row.state == RUNNING:
      return  # It waited for others.
    row.state, row.since = RUNNING, time.monotonic()
    row.attempts += 1
    if row.attempts == 1:
      self._say(f'{name} starts')
    self._show()

  def reached(self, name: str, reached: Reached) -> None:
    """It is further."""
    self.rows[name].reached = reached
    self._show()

  def done(self, name: str) -> None:
    """It has come to its end."""
    row = self._stop(name, DONE)
    self._say(f'{name} is done, {_score(row)}')

  def failed(self, name: str, error: str, for_good: bool) -> None:
    """It has failed.

    Args:
      name: of the trial.
      error: why, in a sentence.
      for_good: whether it is not tried again.
    """
    row = self._stop(name, FAILED if for_good else WAITING)
    row.error = error
    then = 'it is given up' if for_good else 'it goes on from its checkpoint'
    self._say(f'{name} failed ({error}); {then}')

  def table(self) -> str:
    """All trials: state, iterations, score, attempts, time."""
    header = ('', 'state', 'iterations', 'score', 'normalized', 'time')
    rows = [header]
    for name, row in self.rows.items():
      rows.append(
          (
              name,
              row.state + (f' x{row.attempts}' if row.attempts > 1 else ''),
              f'{row.reached.iterations}/{row.iterations}',
              _number(row.reached.score),
              _number(row.reached.normalized),
              formatting.duration(row.seconds) if row.attempts else '',
          )
      )
    return tables.table(rows)

  def names(self, state: str) -> Sequence[str]:
    """Of the trials in a state."""
    return [name for name, row in self.rows.items() if row.state == state]

  def _stop(self, name: str, state: str) -> Row:
    row = self.rows[name]
    row.state = state
    if row.since is not None:
      row.seconds += time.monotonic() - row.since
      row.since = None
    self._show()
    return row

  def _say(self, text: str) -> None:
    if self._moves:
      tqdm.tqdm.write(text, file=self._file)
    else:
      self._file.write(text)

  def _iterations_done(self) -> int:
    return sum(row.reached.iterations for row in self.rows.values())

  def _show(self) -> None:
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
        done = f'{row.reached.iterations}/{row.iterations}'
        text = f'{name}: {done}, {_score(row)}'
      line.set_description_str(text)


def _number(value: Optional[float]) -> str:
  return '' if value is None else f'{value:.2f}'


def _score(row: Row) -> str:
  score = _number(row.reached.score)
  return f'score {score}' if score else 'no score yet'
