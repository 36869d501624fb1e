"""How long trials take and what memory they need, from what was measured."""

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

# What is measured with: two iterations of each kind, of which the first one
# compiles and the second one counts.
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
# One run alone is measured: it has nobody to copy.
_ALONE = {
    f'PopulationBasedTraining.{name}': None
    for name in (
        'interval',
        'mutations',
        'quantile',
        'copy_replay',
        'perturbation_factors',
        'resample_probability',
    )
}
_COLLECTION = 'data_collection'
_EVALUATION = 'evaluation'
_ONLINE = 'online'
_PRETRAINING = 'pretraining'


class Rates(NamedTuple):
  """What a configuration costs.

  Attributes:
    seconds: of one unit, by kind: of an update in a pretraining, else of an
      agent step.
    start: seconds until the first of them, compilation included.
    process_bytes: beside the replays; None if not measured.
  """

  seconds: Mapping[str, float]
  start: float = 0.0
  process_bytes: Optional[int] = None


class Estimate(NamedTuple):
  """What a trial takes: seconds, and bytes of memory."""

  seconds: float
  num_bytes: int


def kind_of(wanted: Experiment, needs: Needs) -> Hashable:
  """Equal for configurations that are measured once: games do not matter."""
  networks = tuple(b for b in wanted.bindings if '@' in b)
  counts = (needs.agent_steps, needs.updates)
  return (
      wanted.agent,
      wanted.gin_files,
      networks,
      *(tuple(sorted(c.items())) for c in counts),
  )


def units(needs: Needs) -> dict[str, int]:
  """What a run does of each kind, in the units of `Rates`."""
  found = dict(needs.agent_steps)
  found[_PRETRAINING] = needs.updates.get(_PRETRAINING, 0)
  return {kind: count for kind, count in found.items() if count}


def of_finished(directory: str, needs: Needs) -> Rates:
  """What a finished run of a configuration took.

  Args:
    directory: of the run.
    needs: of its configuration.
  """
  spent = Result(directory).summary['seconds']
  counts = units(needs)
  return Rates({k: v / counts[k] for k, v in spent.items() if k in counts})


def measure(wanted: Experiment, num_cores: Optional[int]) -> Rates:
  """Carries out a brief run, and looks at the clock.

  Args:
    wanted: of one run.
    num_cores: that a trial will have; None = all.

  Raises:
    TrialFailed: if it does not run.
  """
  wanted = alone(wanted)
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
    num_bytes = process.carry_out(
        [*process.PROGRAM, *experiment_flags.flags_of(brief, base_dir)],
        [base_dir],
        os.path.join(scratch, 'log.txt'),
        num_cores=num_cores,
    )
    elapsed = time.monotonic() - began
    rates = of_brief(Result(base_dir))
  needs = api.needs_of(brief)
  steady = sum(
      count * rates.seconds.get(kind, 0.0)
      for kind, count in units(needs).items()
  )
  return rates._replace(
      start=max(elapsed - steady, 0.0),
      process_bytes=max(num_bytes - needs.memory.peak(), 0),
  )


def alone(wanted: Experiment) -> Experiment:
  """The same for a run that copies nobody."""
  return dataclasses.replace(
      wanted, bindings=wanted.bindings + api.binding_lines(_ALONE)
  )


def of_brief(run: Result) -> Rates:
  """What steps and updates took once everything was compiled.

  Args:
    run: with at least two iterations of each kind of training.
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
  """What a trial takes.

  Args:
    needs: of one run.
    rates: of its configuration.
    num_seeds: that it goes through, counted one after the other.
  """
  one = sum(
      count * rates.seconds.get(kind, 0.0)
      for kind, count in units(needs).items()
  )
  return Estimate(
      rates.start + num_seeds * one,
      needs.memory.peak(num_seeds) + (rates.process_bytes or 0),
  )


def together(seconds: Sequence[float], at_once: int) -> float:
  """Seconds until the last of some trials ends, so many at once, in order."""
  ends = [0.0] * at_once
  for duration in seconds:
    heapq.heapreplace(ends, ends[0] + duration)
  return max(ends)
