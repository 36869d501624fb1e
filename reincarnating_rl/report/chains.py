"""Chains of teachers: who learned from whom, and what all of it has cost."""

from __future__ import annotations

import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.report import formatting


class Link(NamedTuple):
  """A teacher, or one of its own.

  Attributes:
    path: where it lay.
    checkpoint_number: which of those there; None if there was one only.
    agent: what kind it was.
    frames: that it has played; None if nobody knows.
    score: that was recorded; None if none was.
  """

  path: str
  checkpoint_number: Optional[int]
  agent: Optional[str]
  frames: Optional[int]
  score: Optional[float]

  def __str__(self) -> str:
    facts = [self.agent or 'unknown agent', f'{_frames(self.frames)} frames']
    if self.score is not None:
      facts.append(f'score {formatting.number(self.score)}')
    path = os.path.normpath(self.path) if os.sep in self.path else self.path
    return f'{path} ({", ".join(facts)})'


class Chain(NamedTuple):
  """Who taught, and who taught them.

  Attributes:
    links: the nearest first.
    together: how many of the first taught side by side.
  """

  links: tuple[Link, ...] = ()
  together: int = 1

  def __str__(self) -> str:
    names = list(map(str, self.links))
    nearest = ' and '.join(names[: self.together])
    return ' ← '.join([nearest, *names[self.together :]]) or 'nobody'


def read(teacher: Mapping[str, Any]) -> Chain:
  """A chain as a summary describes it: its teacher and the ancestors."""
  several = teacher.get('teachers') or ()
  links = (*([] if several else [teacher]), *(teacher.get('ancestors') or ()))
  return Chain(
      tuple(
          Link(
              str(link.get('path')),
              link.get('checkpoint_number'),
              link.get('agent'),
              link.get('frames'),
              link.get('recorded_score'),
          )
          for link in links
      ),
      len(several) or 1,
  )


def table(runs: Sequence[Any]) -> list[list[str]]:
  """Each chain once, with the frames of a run and of all before it.

  Args:
    runs: of a report, with `game`, `teacher`, `frames`.
  """
  rows = {}
  for run in runs:
    line = [
        run.game,
        run.agent,
        str(run.teacher.chain if run.teacher else Chain()),
        _frames(run.frames.get('online')),
        _frames(run.frames.get('collected')),
        _frames(run.frames.get('chain')),
    ]
    rows.setdefault(tuple(line), line)
  header = ['game', 'agent', 'taught by', 'frames', 'collected', 'of the chain']
  return [header, *sorted(rows.values())]


def _frames(count: Optional[int]) -> str:
  return formatting.MISSING if count is None else f'{count:,}'
