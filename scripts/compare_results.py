"""Scores of a comparison of methods: kept in a file, as a table, as curves.

A run is kept under `GAME/METHOD/SEED`, and `/BINDING` for each further binding.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.base import files
from reincarnating_rl.base.scores import normalized_score


def load(path: str) -> dict[str, Any]:
  """Finished runs by key; none if there is no file yet."""
  if not os.path.exists(path):
    return {}
  with open(path, encoding='utf-8') as f:
    return json.load(f)


def save(path: str, results: dict[str, Any]) -> None:
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  document = json.dumps(results, indent=1, sort_keys=True) + '\n'
  files.write_whole(path, document.encode())


class Curve(NamedTuple):
  """Teacher-normalized scores of a method on a game.

  Attributes:
    agent_steps: [T] online agent steps at each evaluation, from 0 on if the
      method pretrains.
    scores: [S, T] one row a seed.
  """

  agent_steps: np.ndarray
  scores: np.ndarray

  @property
  def areas(self) -> np.ndarray:
    """[S] mean height of each seed's online curve."""
    return self.scores[:, self.agent_steps > 0].mean(axis=1)


def teacher_score(results: dict[str, Any], game: str) -> Optional[float]:
  """The teacher's score on a game, as recorded: the same in all runs."""
  for key, result in results.items():
    if key.startswith(f'{game}/') and result['teacher_score'] is not None:
      return result['teacher_score']
  return None


def curve(
    results: dict[str, Any], game: str, method: str, budget: tuple[str, ...]
) -> Optional[Curve]:
  """The curve of a method, None while it has no finished run."""
  teacher = teacher_score(results, game)
  further = ['/'.join(budget)] if budget else []
  runs = [
      results[key]
      for key in sorted(results)
      if key.startswith(f'{game}/{method}/')
      and key.split('/', 3)[3:] == further
  ]
  if not runs or teacher is None:
    return None
  rows, steps = [], None
  for r in runs:
    # Of the evaluations before the first online step the last one counts.
    points = {
        i['agent_steps']: i['student_score']
        for i in r['iterations']
        if i['student_score'] is not None
    }
    steps = np.array(sorted(points))
    # One teacher score for all methods, those without a teacher included.
    rows.append(
        [normalized_score(points[s], r['random_score'], teacher) for s in steps]
    )
  return Curve(steps, np.array(rows))


def table(
    results: dict[str, Any],
    games: Sequence[str],
    methods: Sequence[str],
    budget: tuple[str, ...],
) -> str:
  """Markdown: mean and range over seeds of area and final score."""
  header = ['method']
  for game in games:
    header += [f'{game}: area', 'start', 'end', 'seeds']
  rows = []
  for method in methods:
    cells, areas = [f'`{method}`'], []
    for game in games:
      found = curve(results, game, method, budget)
      if found is None:
        cells += ['', '', '', '0']
        continue
      area = found.areas
      areas.append(area.mean())
      first = found.scores[:, 0].mean() if found.agent_steps[0] == 0 else None
      cells += [
          f'{area.mean():.2f} ({area.min():.2f} to {area.max():.2f})',
          '' if first is None else f'{first:.2f}',
          f'{found.scores[:, -1].mean():.2f}',
          str(len(area)),
      ]
    rows.append((-np.mean(areas) if areas else np.inf, cells))
  rows.sort(key=lambda row: row[0])
  lines = [header, ['---'] * len(header)] + [cells for _, cells in rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def draw(
    results: dict[str, Any],
    game: str,
    methods: Sequence[str],
    budget: tuple[str, ...],
    path: str,
    dashed: Sequence[str] = (),
) -> None:
  """Curves of methods on a game: mean, and the range over seeds.

  Args:
    results: finished runs by key.
    game: of the curves.
    methods: whose curves, in the order of the legend.
    budget: bindings of the runs.
    path: of the PNG file.
    dashed: methods that learn from nothing.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(figsize=(8, 5), constrained_layout=True)
  colours = plt.get_cmap('tab20')(np.arange(len(methods)))
  for method, colour in zip(methods, colours):
    found = curve(results, game, method, budget)
    if found is None:
      continue
    x = found.agent_steps / 1000
    style = '--' if method in dashed else '-'
    mean = found.scores.mean(axis=0)
    axes.plot(x, mean, style, color=colour, marker='o', ms=3, label=method)
    low, high = found.scores.min(axis=0), found.scores.max(axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
  axes.axhline(1.0, color='0.6', lw=1, ls=':')
  axes.set_xlabel('thousand online agent steps')
  axes.set_ylabel('teacher-normalized score')
  axes.set_title(f'{game}: mean and range over seeds')
  axes.spines[['top', 'right']].set_visible(False)
  figure.legend(loc='outside right center', fontsize=8, frameon=False)
  figure.savefig(path, dpi=120)
  plt.close(figure)
