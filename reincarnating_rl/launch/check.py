"""Checks all trials of a sweep before any starts."""

from __future__ import annotations

import collections
from concurrent import futures
import dataclasses
import multiprocessing
import os
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from absl import logging

from reincarnating_rl.app import api
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.app.api import Needs
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.sweep import Faults
from reincarnating_rl.launch.trials import Trial

# Number of configurations that are checked in the time a process starts.
_PER_PROCESS = 16


def check(
    root: str,
    trials: Sequence[Trial],
    announce: Callable[[int], None] = lambda count: None,
    population: Optional[Population] = None,
) -> dict[str, Needs]:
  """Refuses a sweep with errors.

  Args:
    root: directory of the sweep.
    trials: all trials of the sweep.
    announce: called with the number of configurations checked since last time.
    population: population-based training, whose settings are checked, too.

  Returns:
    The plan of a run of each configuration, by name.

  Raises:
    Faults: all errors, each once.
  """
  faults: dict[str, list[str]] = collections.defaultdict(list)
  needs: dict[str, Any] = {}  # None for a configuration with errors.
  wanted = _wanted(trials)
  # In other processes: a check starts threads, and Ray forks this process.
  with _executor(-(-len(wanted) // _PER_PROCESS)) as processes:
    outcomes = processes.map(_check_one, wanted.values())
    for (name, _), outcome in zip(wanted, outcomes):
      announce(int(name not in needs))
      needs[name] = outcome.needs
      for fault in outcome.faults:
        faults[fault].append(name)
    if population is not None and not faults:
      seeds = list(dict.fromkeys(trial.seeds[0] for trial in trials))
      cases = _cases(wanted, population, seeds)
      outcomes = processes.map(_check_one, [case for _, case in cases])
      for (name, _), outcome in zip(cases, outcomes):
        for fault in outcome.faults:
          if name not in faults[fault]:
            faults[fault].append(name)
  sentences = [_with_names(*item) for item in faults.items()]
  sentences += _same_directory(root, trials)
  sentences += progress_on_disk.conflicts(root, trials, population)
  if sentences:
    raise Faults(sentences)
  return needs


def _wanted(
    trials: Sequence[Trial],
) -> dict[tuple[str, Optional[int]], Experiment]:
  """An experiment for each configuration and number of runs side by side.

  Runs side by side may be valid where a single run is not, and the other way
  round: a population needs two.
  """
  found: dict[tuple[str, Optional[int]], Experiment] = {}
  for trial in trials:
    size = len(trial.seeds) if trial.packed else None
    found.setdefault((trial.configuration.name, size), trial.experiment)
  return found


def _cases(
    wanted: Mapping[tuple[str, Optional[int]], Experiment],
    population: Population,
    seeds: Sequence[int],
) -> list[tuple[str, Experiment]]:
  """Experiments with the settings that members may reach.

  Args:
    wanted: experiment of the first member of each population.
    population: how settings change.
    seeds: run numbers of the members.

  Returns:
    Pairs of a configuration's name and an experiment.
  """
  return [
      (
          name,
          dataclasses.replace(
              experiment,
              bindings=(*experiment.bindings, *api.binding_lines(settings)),
          ),
      )
      for (name, _), experiment in wanted.items()
      for settings in population.possible_settings(seeds)
  ]


def _executor(num_processes: int) -> futures.Executor:
  """Processes that use neither accelerators nor logs."""
  return futures.ProcessPoolExecutor(
      min(os.cpu_count() or 1, num_processes),
      multiprocessing.get_context('spawn'),
      initializer=_initialize,
  )


def _initialize() -> None:
  import jax

  jax.config.update('jax_platforms', 'cpu')
  logging.use_absl_handler()
  logging.set_verbosity(logging.WARNING)
  command_line.quiet_libraries()


class _Outcome(NamedTuple):
  needs: Optional[Needs]
  faults: list[str]


def _check_one(wanted: Experiment) -> _Outcome:
  """Plan of an experiment, or its errors."""
  faults = experiment_flags.faults(wanted)
  if faults:
    return _Outcome(None, faults)
  try:
    return _Outcome(api.needs_of(wanted), [])
  except errors.UserError as e:
    return _Outcome(None, [str(e)])


def _with_names(fault: str, names: Sequence[str]) -> str:
  more = f' and {len(names) - 1} more' if len(names) > 1 else ''
  return f'{fault.rstrip(".")} ({names[0]}{more})'


def _same_directory(root: str, trials: Sequence[Trial]) -> list[str]:
  counts = collections.Counter(
      directory for trial in trials for directory in trial.directories(root)
  )
  return [
      f'{count} runs would go to {os.path.normpath(directory)}: let their '
      'agents, values or seeds have different names'
      for directory, count in counts.items()
      if count > 1
  ]
