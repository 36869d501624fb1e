"""What is there of a sweep: its record, and how far each trial has come."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Optional, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.report.reading import runs as runs_lib
from reincarnating_rl.rundir import summary

RECORD = 'sweep.json'
LOG = 'log.txt'


@dataclasses.dataclass(frozen=True)
class Reached:
  """How far a trial has come.

  Attributes:
    iterations: evaluations of the student, of all its seeds.
    score: of the last evaluation, a mean over seeds; None before the first.
    normalized: the same, teacher = 1 and random = 0; None without a teacher.
  """

  iterations: int = 0
  score: Optional[float] = None
  normalized: Optional[float] = None


def reached(directories: Sequence[str]) -> Reached:
  """Reads how far the runs of a trial have come.

  Args:
    directories: one a seed; none need be there yet.

  Raises:
    UserError: if a summary is damaged.
  """
  runs = [_read(directory) for directory in directories]
  begun = [run for run in runs if run is not None and run.points]
  scores = [run.points[-1].score for run in begun]
  normalized = [
      (run.points[-1].score - run.random_score)
      / (run.teacher_score - run.random_score)
      for run in begun
      if None not in (run.random_score, run.teacher_score)
      and run.teacher_score != run.random_score
  ]
  return Reached(
      sum(len(run.points) for run in begun),
      _mean(scores),
      _mean(normalized),
  )


def _read(directory: str) -> Optional[runs_lib.Run]:
  if not summary.exists(directory):
    return None
  return runs_lib.read(directory, summary.read(directory))


def _mean(values: Sequence[float]) -> Optional[float]:
  return sum(values) / len(values) if values else None


def read_record(root: str) -> dict[str, Any]:
  """{name of a trial: its experiment} of earlier launches; empty at first.

  Raises:
    UserError: if the record is damaged.
  """
  path = os.path.join(root, RECORD)
  try:
    with open(path, encoding='utf-8') as f:
      return json.load(f)['runs']
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise errors.UserError(
        f'{path} cannot be read ({e}): it says which runs are there; restore '
        'it, or remove it if no run of that directory counts any more.'
    ) from e


def write_record(
    root: str,
    trials: Sequence[Trial],
    population: Optional[Population] = None,
) -> None:
  """Adds trials to the record, a run each.

  Args:
    root: directory of the sweep.
    trials: what is to be there.
    population: how they copy each other; None = they do not.

  Raises:
    UserError: if it cannot be written.
  """
  runs = read_record(root) | described(trials, population)
  runs = dict(sorted(runs.items()))
  try:
    os.makedirs(root, exist_ok=True)
    files.write_json(os.path.join(root, RECORD), {'runs': runs})
  except OSError as e:
    raise errors.UserError(
        f'--base_dir {root} cannot be written to ({e.strerror}): choose '
        'another directory.'
    ) from e


def described(
    trials: Sequence[Trial], population: Optional[Population] = None
) -> dict[str, Any]:
  """{folder of a run below that of the sweep: its experiment}, JSON-ready."""
  rules = {} if population is None else population.described()
  found = {}
  for trial in trials:
    experiment = dataclasses.asdict(trial.configuration.experiment)
    experiment |= rules
    experiment.pop('run_number')
    for seed, directory in zip(trial.seeds, trial.directories('')):
      # As JSON gives it back.
      one = experiment | {'run_number': seed}
      found[directory] = json.loads(json.dumps(one))
  return found


def changed(
    root: str,
    trials: Sequence[Trial],
    population: Optional[Population] = None,
) -> list[str]:
  """Sentences on runs that are there under other settings than wanted."""
  was = read_record(root)
  faults = []
  for directory, now in described(trials, population).items():
    before = was.get(directory)
    there = os.path.exists(os.path.join(root, directory, summary.FILE_NAME))
    if before is None or before == now or not there:
      continue
    names = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    differences = [
        f'{n} {json.dumps(before.get(n))} instead of {json.dumps(now.get(n))}'
        for n in names
    ]
    faults.append(
        f'{os.path.join(root, directory)} was run with '
        f'{", ".join(differences)}: choose another --base_dir, or give it '
        'another name'
    )
  return faults
