"""Time and memory of trials, estimated from measured runs."""

from __future__ import annotations

import dataclasses
import heapq
import os
import tempfile
import time
from typing import Any, Hashable, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.app import api
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.app.api import Needs
from reincarnating_rl.app.api import Result
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.launch import process
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining

# Bindings of a run that is measured: two iterations of each kind, of which the
# first compiles and the second counts.
_BRIEF = {
    'Runner.num_iterations': 2,
    'RunnerWithTeacher.stop_after': None,
    'Runner.training_steps': 400,
    'Runner.evaluation_steps': 400,
    'Runner.max_steps_per_episode': 200,
    'JaxDQNAgent.min_replay_history': 100,
}
_BRIEF_COLLECTION = {'RunnerWithTeacher.teacher_steps': 1000}
_BRIEF_PRETRAINING = {
    'RunnerWithTeacher.num_pretraining_iterations': 2,
    'RunnerWithTeacher.num_pretraining_steps': 100,
}
# A single run is measured, which has nobody to copy.
_WITHOUT_POPULATION = {
    f'PopulationBasedTraining.{field.name}': None
    for field in dataclasses.fields(PopulationBasedTraining)
}
_COLLECTION = 'data_collection'
_EVALUATION = 'evaluation'
_ONLINE = 'online'
_PRETRAINING = 'pretraining'


class Rates(NamedTuple):
  """Cost of a configuration.

  Attributes:
    seconds: seconds per update of pretraining, and per agent step of the other
      kinds of work, by kind.
    start: seconds until the first of them, compilation included.
    process_bytes: memory beside the replays; None if not measured.
  """

  seconds: Mapping[str, float]
  start: float = 0.0
  process_bytes: Optional[int] = None


class Estimate(NamedTuple):
  """Time and memory of a trial."""

  seconds: float
  num_bytes: int


def kind_of(wanted: Experiment, needs: Needs) -> Hashable:
  """Key of a configuration; those with equal keys are measured once.

  Games and values of settings do not matter.
  """
  networks = tuple(b for b in wanted.bindings if '@' in b)
  counts = (needs.agent_steps, needs.updates)
  return (
      wanted.agent,
      wanted.gin_files,
      networks,
      *(tuple(sorted(c.items())) for c in counts),
  )


def units(needs: Needs) -> dict[str, int]:
  """Work of a run by kind, in the units of `Rates`."""
  found = dict(needs.agent_steps)
  found[_PRETRAINING] = needs.updates.get(_PRETRAINING, 0)
  return {kind: count for kind, count in found.items() if count}


def from_finished_run(directory: str, needs: Needs) -> Rates:
  """Rates of a configuration, from a finished run.

  Args:
    directory: directory of the run.
    needs: plan of the run.
  """
  spent = Result(directory).summary['seconds']
  counts = units(needs)
  return Rates({k: v / counts[k] for k, v in spent.items() if k in counts})


def measure(wanted: Experiment, num_cores: int) -> Rates:
  """Rates of a configuration, from a brief run.

  Args:
    wanted: experiment of a single run.
    num_cores: cores per trial.

  Raises:
    TrialFailed: if the run fails.
  """
  wanted = without_population(wanted)
  whole = units(api.needs_of(wanted))
  bindings = dict(_BRIEF)
  if _COLLECTION in whole:
    bindings |= _BRIEF_COLLECTION
  if _PRETRAINING in whole:
    bindings |= _BRIEF_PRETRAINING
  brief = dataclasses.replace(
      wanted, bindings=wanted.bindings + api.binding_lines(bindings)
  )
  began = time.monotonic()
  with tempfile.TemporaryDirectory() as scratch:
    base_dir = os.path.join(scratch, 'run')
    num_bytes = process.run(
        process.Job(
            'a brief run',
            [*process.PROGRAM, *experiment_flags.flags_of(brief, base_dir)],
            [base_dir],
            os.path.join(scratch, 'log.txt'),
            num_cores,
        )
    )
    elapsed = time.monotonic() - began
    rates = from_brief_run(Result(base_dir))
  needs = api.needs_of(brief)
  steady = sum(
      count * rates.seconds.get(kind, 0.0)
      for kind, count in units(needs).items()
  )
  return rates._replace(
      start=max(elapsed - steady, 0.0),
      process_bytes=max(num_bytes - needs.memory.peak(), 0),
  )


def without_population(wanted: Experiment) -> Experiment:
  """The same experiment without population-based training."""
  bindings = wanted.bindings + api.binding_lines(_WITHOUT_POPULATION)
  return dataclasses.replace(wanted, bindings=bindings)


def from_brief_run(run: Result) -> Rates:
  """Rates of steps and updates, without the time of compilation.

  Args:
    run: a run with at least two iterations of each kind of training.
  """
  lines, spent = run.metrics('phase'), run.summary['seconds']
  played = {
      kind: sum(sum(_lengths(line)) for line in lines if line['phase'] in of)
      for kind, of in (
          (_EVALUATION, (_PRETRAINING, _ONLINE)),
          ('teacher_evaluation', ('teacher_evaluation',)),
      )
  }
  played[_COLLECTION] = sum(
      line['agent_steps'] for line in lines if line['phase'] == _COLLECTION
  )
  seconds = {
      kind: spent[kind] / played[kind] for kind in spent if played.get(kind)
  }
  for kind, unit in ((_PRETRAINING, 'updates'), (_ONLINE, 'agent_steps')):
    of_kind = [line for line in lines if line['phase'] == kind]
    if len(of_kind) < 2:
      continue
    before, last = of_kind[-2:]
    evaluating = seconds.get(_EVALUATION, 0.0) * sum(_lengths(last))
    training = last['seconds'] - before['seconds'] - evaluating
    seconds[kind] = max(training, 0.0) / (last[unit] - before[unit])
  return Rates(seconds)


def _lengths(line: Mapping[str, Any]) -> Sequence[int]:
  return line['episodes'].get('eval', {}).get('lengths', ())


def estimate(needs: Needs, rates: Rates, num_seeds: int) -> Estimate:
  """Time and memory of a trial.

  Args:
    needs: plan of one run.
    rates: rates of its configuration.
    num_seeds: seeds of the trial, whose times add up.
  """
  one = sum(
      count * rates.seconds.get(kind, 0.0)
      for kind, count in units(needs).items()
  )
  return Estimate(
      rates.start + num_seeds * one,
      needs.memory.peak(num_seeds) + (rates.process_bytes or 0),
  )


def makespan(seconds: Sequence[float], num_parallel: int) -> float:
  """Seconds until the last trial ends.

  Args:
    seconds: duration of each trial; they start in this order.
    num_parallel: trials at a time.
  """
  ends = [0.0] * num_parallel
  for duration in seconds:
    heapq.heapreplace(ends, ends[0] + duration)
  return max(ends)
