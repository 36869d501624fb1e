"""Selects the runs that a report covers."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.report.reading import finding
from reincarnating_rl.report.reading import runs as runs_lib
from reincarnating_rl.report.reading.runs import Run


class Loaded(NamedTuple):
  """Runs that a report covers.

  Attributes:
    runs: runs with at least one evaluation each.
    warnings: sentences about runs that were cut short.
    notes: sentences about runs that were left out, with the reason.
  """

  runs: list[Run]
  warnings: list[str]
  notes: list[str]


def load(paths: Sequence[str], unfinished: bool = False) -> Loaded:
  """Loads the runs at or below some paths.

  Args:
    paths: directories.
    unfinished: True to include unfinished runs; all runs are then cut at the
      last online agent step that each of them has reached.

  Raises:
    UserError: if there is no run, or one cannot be read.
  """
  found = finding.find(paths)
  notes = [
      f'{path} is left out: its first phase has not ended.'
      for path in found.begun
  ]
  kept = []
  for path, document in found.summaries.items():
    run = runs_lib.read(path, document)
    reason = _reason_to_leave_out(run, unfinished)
    if reason is None:
      kept.append(run)
    else:
      notes.append(f'{path} is left out: {reason}.')
  warnings = []
  if any(not run.finished for run in kept):
    kept, warning, cut = _up_to_common_step(kept)
    warnings.append(warning)
    notes += cut
  if not kept:
    raise errors.UserError(f'There is no run to report on: {" ".join(notes)}')
  return Loaded(kept, warnings, notes)


def _reason_to_leave_out(run: Run, unfinished: bool) -> Optional[str]:
  """Reason in words; None if the run counts."""
  pretraining, online = run.planned
  if not pretraining + online:
    return 'its plan has no training'
  if run.finished:
    return None
  done = f'it has done {sum(run.done)} of {pretraining + online} iterations'
  if not unfinished:
    return f'{done}; --unfinished takes it'
  if online and not run.online:
    return f'{done}, none of them online'
  return None if run.points else done


def _up_to_common_step(
    runs: Sequence[Run],
) -> tuple[list[Run], str, list[str]]:
  """Cuts runs at their last common online step.

  Returns:
    The runs, a warning, and a note on each run that has nothing left.
  """
  if not any(run.online for run in runs):
    return _up_to_common_iteration(runs)
  steps = min(run.points[-1].agent_steps for run in runs if run.online)
  cut = [run.until(steps) for run in runs]
  early = [run.path for run in runs if not run.finished]
  warning = (
      f'{len(early)} of {len(runs)} runs had not ended, so all of them count '
      f'up to {steps:,} online agent steps (--unfinished): {", ".join(early)}.'
  )
  notes = [
      f'{run.path} is left out: it has no evaluation within {steps:,} agent '
      'steps.'
      for run in cut
      if not run.points
  ]
  return [run for run in cut if run.points], warning, notes


def _up_to_common_iteration(
    runs: Sequence[Run],
) -> tuple[list[Run], str, list[str]]:
  """Cuts runs that only pretrain; returns as `_up_to_common_step` does."""
  common = min(len(run.points) for run in runs)
  early = [run.path for run in runs if not run.finished]
  noun = 'iteration' if common == 1 else 'iterations'
  warning = (
      f'{len(early)} of {len(runs)} runs had not ended, so all of them count '
      f'up to {common} {noun} of pretraining (--unfinished): '
      f'{", ".join(early)}.'
  )
  return [run.first(common) for run in runs], warning, []
