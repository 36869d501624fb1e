"""The learning curve of one run, drawn from its summary."""

from __future__ import annotations

from typing import Any

FILE_NAME = 'learning_curve.png'
# Phase -> (color, marker, label).
_STYLES = {
    'pretraining': ('C0', 'o', 'student, pretraining (offline)'),
    'online': ('C1', 's', 'student, online'),
}


def figure(document: dict[str, Any]) -> Any:
  """Draws score over updates, with horizontal lines for teacher and random.

  Args:
    document: summary of the run.

  Returns:
    A matplotlib Figure.
  """
  from matplotlib import figure as figure_lib

  entries = [
      e for e in document['iterations'] if e['student_score'] is not None
  ]
  column = lambda some, name: [entry[name] for entry in some]
  drawn = figure_lib.Figure(figsize=(6.4, 4.0), layout='constrained')
  axes = drawn.subplots()
  axes.plot(
      column(entries, 'updates'),
      column(entries, 'student_score'),
      color='0.6',
      zorder=1,
  )
  for phase, (color, marker, label) in _STYLES.items():
    points = [e for e in entries if e['phase'] == phase]
    if points:
      axes.scatter(
          column(points, 'updates'),
          column(points, 'student_score'),
          color=color,
          marker=marker,
          label=label,
          zorder=2,
      )
  for name, color, linestyle in (
      ('teacher', 'C2', '--'),
      ('random', '0.4', ':'),
  ):
    score = document[f'{name}_score']
    if score is not None:
      axes.axhline(score, color=color, linestyle=linestyle, label=name)
  axes.set_xlabel('updates')
  axes.set_ylabel('mean return')
  axes.set_title(
      f'{document["agent"]} on {document["game"]}, run {document["run_number"]}'
  )
  axes.legend(frameon=False)
  return drawn
