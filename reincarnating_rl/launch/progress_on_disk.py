"""State of a sweep on the disk: its record, and the progress of each trial."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Optional, Sequence

from reincarnating_rl.app import api
from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.rundir import summary

RECORD = 'sweep.json'
LOG = 'log.txt'


@dataclasses.dataclass(frozen=True)
class Progress:
  """Progress of a trial.

  Attributes:
    iterations: evaluations of the student so far, summed over seeds.
    score: score of the last evaluation, averaged over seeds; None before the
      first.
    normalized: the same score, teacher = 1 and random = 0; None without a
      teacher.
  """

  iterations: int = 0
  score: Optional[float] = None
  normalized: Optional[float] = None


def read(directories: Sequence[str]) -> Progress:
  """Progress of a trial, from the summaries of its runs.

  Args:
    directories: one per seed; they need not exist yet.

  Raises:
    UserError: if a summary is damaged.
  """
  of_runs = [found for found in map(scores, directories) if found]
  last = [found[-1] for found in of_runs]
  return Progress(
      sum(map(len, of_runs)),
      _mean([score.score for score in last]),
      _mean([s.normalized for s in last if s.normalized is not None]),
  )


def scores(directory: str) -> list[api.Score]:
  """Scores of a run so far; none if it has not started.

  Raises:
    UserError: if the summary is damaged.
  """
  if not summary.exists(directory):
    return []
  return api.Result(directory).scores


def _mean(values: Sequence[float]) -> Optional[float]:
  return sum(values) / len(values) if values else None


def read_record(root: str) -> dict[str, Any]:
  """Runs of earlier launches: {name of the folder: experiment}.

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
  """Adds the runs of trials to the record.

  Args:
    root: directory of the sweep.
    trials: trials of this launch.
    population: population-based training of their seeds; None = there is none.

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
  """Entries of the record: {folder of the run: experiment}, JSON-ready."""
  shared = {} if population is None else population.described()
  found = {}
  for trial in trials:
    experiment = dataclasses.asdict(trial.configuration.experiment)
    experiment |= shared
    experiment.pop('run_number')
    for seed, directory in zip(trial.seeds, trial.directories('')):
      # JSON turns tuples into lists.
      one = experiment | {'run_number': seed}
      found[directory] = json.loads(json.dumps(one))
  return found


def conflicts(
    root: str,
    trials: Sequence[Trial],
    population: Optional[Population] = None,
) -> list[str]:
  """Sentences about existing runs that have other settings than wanted."""
  record = read_record(root)
  faults = []
  for directory, now in described(trials, population).items():
    before = record.get(directory)
    exists = os.path.exists(os.path.join(root, directory, summary.FILE_NAME))
    if before is None or before == now or not exists:
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
