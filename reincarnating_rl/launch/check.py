"""Everything that is wrong with the trials of a sweep, before any starts."""

from __future__ import annotations

import collections
from concurrent import futures
import dataclasses
import multiprocessing
import os
from typing import Callable, Mapping, NamedTuple, Optional, Sequence

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

# So many configurations are checked while another process would start.
_FOR_ONE_PROCESS = 16


def check(
    root: str,
    trials: Sequence[Trial],
    announce: Callable[[int], None] = lambda count: None,
    population: Optional[Population] = None,
) -> dict[str, Needs]:
  """Refuses a sweep that cannot be carried out as it is.

  Args:
    root: directory of the sweep.
    trials: all of it.
    announce: called with how many configurations were checked meanwhile.
    population: whose members' settings are checked, too.

  Returns:
    What a run of each configuration comes to, by its name.

  Raises:
    Faults: all that is wrong, each once.
  """
  faults: dict[str, list[str]] = collections.defaultdict(list)
  needs: dict[str, Needs] = {}
  wanted = _wanted(trials)
  # Elsewhere, for what one run needs makes threads, and Ray forks.
  with futures.ProcessPoolExecutor(
      min(os.cpu_count() or 1, -(-len(wanted) // _FOR_ONE_PROCESS)),
      multiprocessing.get_context('spawn'),
  ) as processes:
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
  sentences += _same_directory(root, trials) + progress_on_disk.changed(
      root, trials, population
  )
  if sentences:
    raise Faults(sentences)
  return needs


def _wanted(
    trials: Sequence[Trial],
) -> dict[tuple[str, Optional[int]], Experiment]:
  """By configuration and number of runs side by side, one experiment each.

  What is right for runs side by side may be wrong for one, and the other way
  round: a population needs two.
  """
  found = {}
  for trial in trials:
    size = len(trial.seeds) if trial.packed else None
    found.setdefault((trial.configuration.name, size), trial.experiment)
  return found


def _cases(
    wanted: Mapping[tuple[str, Optional[int]], Experiment],
    population: Population,
    seeds: Sequence[int],
) -> list[tuple[str, Experiment]]:
  """What members may come to: what is right for one may be wrong for another.

  Args:
    wanted: a population each, as its first member begins.
    population: how they change.
    seeds: of its members.

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


class _Outcome(NamedTuple):
  needs: Optional[Needs]
  faults: list[str]


def _check_one(wanted: Experiment) -> _Outcome:
  """In a process that learns nothing: what an experiment comes to."""
  import jax

  jax.config.update('jax_platforms', 'cpu')
  logging.use_absl_handler()
  logging.set_verbosity(logging.WARNING)
  command_line.quiet_libraries()
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
