"""Chains of teachers: who taught whom, and the frames that all have played."""

from __future__ import annotations

import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.report import formatting


class Link(NamedTuple):
  """One teacher of a chain.

  Attributes:
    path: path that the teacher was loaded from.
    checkpoint_number: number of its checkpoint; None if there was only one.
    agent: kind of agent; None if not recorded.
    frames: emulator frames that it has played; None if not recorded.
    score: recorded mean return; None without one.
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
  """The teachers of a run, their teachers, and so on.

  Attributes:
    links: teachers, the nearest first.
    together: number of the first links that taught as one ensemble.
  """

  links: tuple[Link, ...] = ()
  together: int = 1

  def __str__(self) -> str:
    names = list(map(str, self.links))
    nearest = ' and '.join(names[: self.together])
    return ' ← '.join([nearest, *names[self.together :]]) or 'nobody'


def read(teacher: Mapping[str, Any]) -> Chain:
  """Reads the chain from the `config.teacher` of a summary."""
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
  """Tabulates each chain once, with the frames of the run and the chain.

  Args:
    runs: runs of a report (`runs.Run`).
  """
  rows: dict[tuple[str, ...], list[str]] = {}
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
