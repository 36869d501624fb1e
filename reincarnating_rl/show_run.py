"""Prints the outcome of a run as a table and draws its learning curve.

python -m reincarnating_rl.show_run BASE_DIR

For a population: prints who copied whom and draws the lineage of the best run.
"""

from __future__ import annotations

import os
from typing import Any, Optional, Sequence

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.report.figures import lineage as lineage_figure
from reincarnating_rl.report.reading import lineage
from reincarnating_rl.rundir import learning_curve
from reincarnating_rl.rundir import summary


def table(document: dict[str, Any]) -> str:
  """Tabulates the scores of random policy, teacher and student.

  Args:
    document: summary of a run.
  """
  rows = [('', 'agent steps', 'updates', 'score', 'normalized', 'lambda')]
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


def _show_run(base_dir: str, document: dict[str, Any]) -> None:
  print(table(document))
  path = os.path.join(base_dir, learning_curve.FILE_NAME)
  try:
    learning_curve.figure(document).savefig(path, dpi=150)
  except OSError as e:
    raise errors.UserError(
        f'The learning curve {path} cannot be written ({e.strerror}).'
    ) from e
  minutes = sum(document['seconds'].values()) / 60
  print(f'\n{minutes:.1f} minutes. Learning curve: {path}')


def _show_population(base_dir: str) -> None:
  history = lineage.read(base_dir)
  print(lineage.table(history))
  name = lineage_figure.FILE_STEM
  path = os.path.join(base_dir, f'{name}.png')
  try:
    lineage_figure.draw(history, base_dir, name)
  except OSError as e:
    raise errors.UserError(
        f'The lineage {path} cannot be written ({e.strerror}).'
    ) from e
  print(f'\n* the best run. Lineage: {path}')


def main(argv: Sequence[str]) -> None:
  if len(argv) != 2:
    raise errors.UserError('Name one run: reincarnating_rl.show_run BASE_DIR.')
  base_dir = argv[1]
  if lineage.has_lineage(base_dir):
    _show_population(base_dir)
    return
  document = summary.read(base_dir)
  if 'iterations' in document:
    _show_run(base_dir, document)
  elif document.get('runs'):
    raise errors.UserError(
        f'{base_dir} holds several runs: name one of '
        f'{", ".join(document["runs"])} in it.'
    )
  else:
    raise errors.UserError(f'{summary.path(base_dir)} is not of a run.')


if __name__ == '__main__':
  command_line.run(main)
