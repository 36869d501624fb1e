"""A population on Ray Tune: its scheduler decides, processes of `train` learn.

Every member reports after so many online iterations. If its score is then
among the lowest that the others have last reported, it begins anew from a
snapshot of one of the highest, with settings near theirs; nobody waits. A
snapshot is a folder of links to the files of a checkpoint, which never change.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import tempfile
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl import api
from reincarnating_rl import experiment_forms
from reincarnating_rl.api import Needs
from reincarnating_rl.experiment import Experiment
from reincarnating_rl.launch import disk
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import evolution
from reincarnating_rl.launch import process
from reincarnating_rl.launch.board import Board
from reincarnating_rl.launch.evolution import Population
from reincarnating_rl.launch.evolution import Report
from reincarnating_rl.launch.sampling import Distribution
from reincarnating_rl.launch.trials import Trial

CHECKPOINTS = 'checkpoints'
_SNAPSHOTS = '.snapshots'
_REPLACED = '.replaced'
_ORIGIN = 'origin.json'
_STATE = 'state.json'
_SETTINGS = 'settings'
# Of each member: that of now, and the one before, which may be being copied.
_SNAPSHOTS_KEPT = 2


class Origin(NamedTuple):
  """What a member's directory began with, and goes on with.

  Attributes:
    settings: in force.
    source: index of the member that it continues; its own at first.
    iterations: online ones, after which it began.
    snapshot: directory that it began from; None = from nothing.
    copies: how many came before, this one included.
  """

  settings: dict[str, Any]
  source: int
  iterations: int = 0
  snapshot: Optional[str] = None
  copies: int = 0


class _Member(NamedTuple):
  """What a worker is told of a member.

  Attributes:
    name: on the board.
    index: in the population.
    experiment: fields of an `Experiment`.
    directory: of its run.
    log: that its output is added to.
    stops: online iterations after which it reports.
    cpus: cores that it has.
    gpus: accelerators, or a share of one.
  """

  name: str
  index: int
  experiment: dict[str, Any]
  directory: str
  log: str
  stops: tuple[int, ...]
  cpus: int
  gpus: float

  @property
  def folder(self) -> str:
    """Of the population."""
    return os.path.dirname(self.directory)


def carry_out(
    root: str,
    population: Population,
    trials: Sequence[Trial],
    needs: Needs,
    resources: engine.Resources,
    board: Board,
) -> None:
  """Carries a population out, or goes on with it.

  Args:
    root: directory of the sweep.
    population: what is wanted.
    trials: its members, one seed each.
    needs: of each member.
    resources: of each member.
    board: told what happens.
  """
  from ray import tune
  from ray.tune.schedulers import PopulationBasedTraining

  interval, seed = population.interval, trials[0].seeds[0]
  online = needs.online_iterations
  stops = (*range(interval, online, interval), online)
  members = [
      _Member(
          trial.name,
          index,
          dataclasses.asdict(trial.experiment),
          trial.base_dir(root),
          os.path.join(trial.base_dir(root), disk.LOG),
          stops,
          resources.cpus,
          resources.gpus,
      )
      for index, trial in enumerate(trials)
  ]
  first = [settings_of(member, population, seed) for member in members]
  # The scheduler draws from these.
  random.seed(seed)
  np.random.seed(seed)
  engine.fit(
      root,
      _carry_out_member,
      {
          'trial': tune.grid_search([member._asdict() for member in members]),
          _SETTINGS: tune.sample_from(
              lambda config: first[config['trial']['index']]
          ),
      },
      resources,
      board,
      scheduler=PopulationBasedTraining(
          time_attr='iterations_done',
          metric='score',
          mode='max',
          perturbation_interval=interval,
          hyperparam_mutations={
              _SETTINGS: {
                  name: _for_tune(distribution)
                  for name, distribution in population.mutations.items()
              }
          },
          quantile_fraction=population.quantile,
          resample_probability=population.resample_probability,
          perturbation_factors=population.perturbation_factors,
          custom_explore_fn=lambda config: config
          | {_SETTINGS: population.within(config[_SETTINGS])},
          log_config=False,
      ),
  )
  evolution.write_lineage(
      members[0].folder,
      [trial.seeds[0] for trial in trials],
      needs.iterations - online,
  )


def _for_tune(distribution: Distribution) -> Any:
  from ray import tune

  kind, arguments = distribution
  if kind == 'choice':
    return list(arguments)
  if kind == 'integers':
    low, high = arguments
    return tune.randint(low, high + 1)
  return getattr(tune, kind)(*arguments)


def settings_of(
    member: _Member, population: Population, seed: int
) -> dict[str, Any]:
  """Those that a member goes on with, or begins with."""
  origin = read_origin(member.directory)
  if origin is not None:
    return origin.settings
  return population.first_settings(member.index, seed)


def read_origin(directory: str) -> Optional[Origin]:
  """What a member's directory says of itself; None before it is begun."""
  try:
    with open(os.path.join(directory, _ORIGIN), encoding='utf-8') as f:
      return Origin(**json.load(f))
  except FileNotFoundError:
    return None


# -- on a worker ---------------------------------------------------------------


def _carry_out_member(config: dict[str, Any]) -> None:
  """One member, from where it stands to its end."""
  from ray import tune

  member = _Member(**config['trial'])
  checkpoint = tune.get_checkpoint()
  copied = None
  if checkpoint is not None:
    with checkpoint.as_directory() as directory:
      with open(os.path.join(directory, _STATE), encoding='utf-8') as f:
        copied = wanted_copy(member, json.load(f), config[_SETTINGS])
  origin = begin(member, copied, config[_SETTINGS])
  reports = evolution.read_reports(member.folder)
  for stop in member.stops:
    told = reports.get((stop, member.index))
    done = told is not None and told.copies == origin.copies
    if stop > origin.iterations and not done:
      report(member, learn_until(member, origin, stop))


def wanted_copy(
    member: _Member, state: dict[str, Any], settings: dict[str, Any]
) -> Optional[Origin]:
  """What a member shall continue; None = itself.

  Whoever has come to the end has nothing to copy that could learn on.

  Args:
    member: which.
    state: that the scheduler hands to it, of the member that left it.
    settings: that it shall go on with.
  """
  if state['member'] == member.index:
    return None
  if state['iterations'] >= member.stops[-1]:
    return None
  return Origin(
      settings, state['member'], state['iterations'], state['snapshot']
  )


def begin(
    member: _Member, copied: Optional[Origin], settings: dict[str, Any]
) -> Origin:
  """Makes a member's directory what it is to be.

  Args:
    member: which.
    copied: what it shall continue; None = itself.
    settings: that it begins with, if there is nothing of it yet.
  """
  origin = read_origin(member.directory)
  if copied is None and origin is not None:
    return origin
  if origin is not None:
    again = copied._replace(copies=origin.copies)
    if origin == again:
      return origin  # It was begun before it was stopped.
    copied = copied._replace(copies=origin.copies + 1)
    name = f'{os.path.basename(member.directory)}_until_{copied.iterations}'
    replaced = os.path.join(member.folder, _REPLACED, name)
    shutil.rmtree(replaced, ignore_errors=True)
    os.makedirs(os.path.dirname(replaced), exist_ok=True)
    os.rename(member.directory, replaced)
  origin = copied or Origin(settings, member.index)
  os.makedirs(member.directory, exist_ok=True)
  path = os.path.join(member.directory, _ORIGIN)
  with open(path + '.part', 'w', encoding='utf-8') as f:
    json.dump(origin._asdict(), f)
  os.replace(path + '.part', path)
  return origin


def learn_until(member: _Member, origin: Origin, stop: int) -> Report:
  """Learns up to so many online iterations; returns what came of it."""
  process.carry_out(
      [*process.PROGRAM, *flags_of(member, origin, stop)],
      [member.directory],
      member.log,
      num_cores=member.cpus,
      gpus=member.gpus,
  )
  last = api.Result(member.directory).scores[-1]
  begun = next(s for s in member.stops if s > origin.iterations)
  return Report(
      member.index,
      stop,
      last.agent_steps,
      last.score,
      origin.settings,
      origin.source if stop == begun else member.index,
      origin.copies,
  )


def flags_of(member: _Member, origin: Origin, stop: int) -> list[str]:
  """Of `train`, for a member up to so many online iterations."""
  wanted = Experiment(**member.experiment)
  changed = origin.settings | {'Runner.num_iterations': stop}
  wanted = dataclasses.replace(
      wanted,
      bindings=wanted.bindings + api.binding_lines(changed),
      fork_from=origin.snapshot,
  )
  return experiment_forms.flags_of(wanted, member.directory)


def report(member: _Member, found: Report) -> None:
  """Takes a snapshot, tells Tune, and writes it down."""
  from ray import tune

  state = {
      'member': member.index,
      'iterations': found.iterations,
      'snapshot': take_snapshot(member, found.iterations),
  }
  evolution.add_report(member.folder, found)
  reached = dataclasses.asdict(disk.reached([member.directory]))
  with tempfile.TemporaryDirectory() as scratch:
    with open(os.path.join(scratch, _STATE), 'w', encoding='utf-8') as f:
      json.dump(state, f)
    tune.report(
        reached | {'score': found.score, 'iterations_done': found.iterations},
        checkpoint=tune.Checkpoint.from_directory(scratch),
    )


def take_snapshot(member: _Member, iterations: int) -> str:
  """Links a member's checkpoints to where they stay as they are.

  Returns:
    A directory that `--fork_from` takes.
  """
  name = f'{os.path.basename(member.directory)}_after_'
  folder = os.path.join(member.folder, _SNAPSHOTS)
  snapshot = os.path.join(folder, f'{name}{iterations}')
  shutil.rmtree(snapshot, ignore_errors=True)
  shutil.copytree(
      os.path.join(member.directory, CHECKPOINTS),
      os.path.join(snapshot, CHECKPOINTS),
      copy_function=os.link,
  )
  others = [n for n in os.listdir(folder) if n.startswith(name)]
  others.sort(key=lambda n: int(n.removeprefix(name)))
  for old in others[:-_SNAPSHOTS_KEPT]:
    shutil.rmtree(os.path.join(folder, old), ignore_errors=True)
  return snapshot
