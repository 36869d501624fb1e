"""Prints the outcome of a run as a table and draws its learning curve.

python -m reincarnating_rl.show_run BASE_DIR

Of runs that copy each other: who copied whom, and the lineage of the best.
"""

from __future__ import annotations

import json
import os
from typing import Any, Optional, Sequence

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.report import lineage
from reincarnating_rl.rundir import summary

FIGURE = 'learning_curve.png'


def read_summary(base_dir: str) -> dict[str, Any]:
  """Reads the summary of a run.

  Raises:
    UserError: if there is none, or it is damaged.
  """
  path = os.path.join(base_dir, summary.FILE_NAME)
  try:
    with open(path, encoding='utf-8') as f:
      return json.load(f)
  except FileNotFoundError as e:
    raise errors.UserError(
        f'{base_dir} holds no {summary.FILE_NAME}: it is not the directory of '
        'a run, or its first phase has not ended.'
    ) from e
  except OSError as e:
    raise errors.UserError(f'{path} cannot be read ({e.strerror}).') from e
  except ValueError as e:
    raise errors.UserError(f'{path} is damaged: {e}.') from e


def table(document: dict[str, Any]) -> str:
  """Scores of random policy, teacher, and student after each iteration."""
  header = ('', 'agent steps', 'updates', 'score', 'normalized', 'lambda')
  rows = [header]
  rows.append(('random', '', '', _number(document['random_score']), '0.00', ''))
  if document['teacher_score'] is not None:
    score = _number(document['teacher_score'])
    rows.append(('teacher', '', '', score, '1.00', ''))
  for entry in document['iterations']:
    if entry['student_score'] is None:
      continue
    rows.append(
        (
            f'student, {entry["phase"]} {entry["iteration"]}',
            str(entry['agent_steps']),
            str(entry['updates']),
            _number(entry['student_score']),
            _number(entry['teacher_normalized']),
            _number(entry['lambda']),
        )
    )
  return tables.table(rows)


def _number(value: Optional[float]) -> str:
  return '' if value is None else f'{value:.2f}'


def figure(document: dict[str, Any]) -> Any:
  """Score over updates, with teacher and random policy as lines.

  Args:
    document: of a run's summary.

  Returns:
    matplotlib's Figure.
  """
  from matplotlib import figure as figure_lib

  entries = [
      e for e in document['iterations'] if e['student_score'] is not None
  ]
  drawn = figure_lib.Figure(figsize=(6.4, 4.0), layout='constrained')
  axes = drawn.subplots()
  styles = {'pretraining': ('C0', 'o', 'pretraining (offline)')}
  styles['online'] = ('C1', 's', 'online')
  axes.plot(
      [e['updates'] for e in entries],
      [e['student_score'] for e in entries],
      color='0.6',
      zorder=1,
  )
  for phase, (color, marker, label) in styles.items():
    points = [e for e in entries if e['phase'] == phase]
    if points:
      axes.scatter(
          [e['updates'] for e in points],
          [e['student_score'] for e in points],
          color=color,
          marker=marker,
          label=f'student, {label}',
          zorder=2,
      )
  if document['teacher_score'] is not None:
    axes.axhline(
        document['teacher_score'], color='C2', linestyle='--', label='teacher'
    )
  axes.axhline(
      document['random_score'], color='0.4', linestyle=':', label='random'
  )
  axes.set_xlabel('updates')
  axes.set_ylabel('mean return')
  axes.set_title(
      f'{document["agent"]} on {document["game"]}, run {document["run_number"]}'
  )
  axes.legend(frameon=False)
  return drawn


def main(argv: Sequence[str]) -> None:
  if len(argv) != 2:
    raise errors.UserError('Name one run: reincarnating_rl.show_run BASE_DIR.')
  if lineage.has_lineage(argv[1]):
    lineage.show(argv[1])
    return
  document = read_summary(argv[1])
  if 'iterations' not in document:
    raise errors.UserError(
        f'{argv[1]} holds several runs: name one of '
        f'{", ".join(document["runs"])} in it.'
    )
  path = os.path.join(argv[1], FIGURE)
  print(table(document))
  minutes = sum(document['seconds'].values()) / 60
  try:
    figure(document).savefig(path, dpi=150)
  except OSError as e:
    raise errors.UserError(
        f'The learning curve {path} cannot be written ({e.strerror}).'
    ) from e
  print(f'\n{minutes:.1f} minutes. Learning curve: {path}')


if __name__ == '__main__':
  command_line.run(main)
