"""Population-based training over processes: rounds of training and exploits.

In a round every member trains up to the next stop, with `train`. Then
`loop.population.pbt` decides who copies whom, and each member that copies
continues from its source's checkpoints. A process that is killed anywhere
resumes as if it had not been, since the disk shows what is done:

1. All members have trained up to a stop.
2. The decision is written to population.json (`lineage`).
3. The directory of each member that copies is replaced, at once, by one that
   holds its source's checkpoints and names the source (`origin.json`).
4. Only then does the next round start.

Before 2 the same decision is made again, from the same scores. Between 2 and 4
every source is as it was, since it waits, so the copies that are missing are
made.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import shutil
import sys
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.app import api
from reincarnating_rl.app.api import Needs
from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.dopamine_bridge import population_settings
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.loop.config import plan
from reincarnating_rl.loop.population import pbt
from reincarnating_rl.loop.population.lineage import Exploit
from reincarnating_rl.loop.population.lineage import Lineage

# (trials, True if this is the last round) -> names of those that are given up.
RunTrials = Callable[[Sequence[Trial], bool], set[str]]

CHECKPOINTS = 'checkpoints'
REPLACED = '.replaced'
ORIGIN = 'origin.json'


class Origin(NamedTuple):
  """Source of a copy.

  Attributes:
    run_number: run number of the source.
    stop: online iterations of the source at that time.
  """

  run_number: int
  stop: int


class ProcessPopulation:
  """Members of a population, their settings, and where these came from.

  Attributes:
    stops: online iterations after which members wait for each other; the last
      one is the end of their plan.
    seeds: [S], run numbers.
    directories: [S], directories of the runs.
    settings: [S], settings in force, by the name that gin binds.
    origins: [S], sources of the last copies; None = the member never copied.
    lineage: population.json.
  """

  def __init__(
      self,
      root: str,
      population: Population,
      trials: Sequence[Trial],
      needs: Needs,
  ):
    """Reads what was decided so far, and writes nothing.

    Args:
      root: directory of the sweep.
      population: how members copy each other.
      trials: [S], one member each.
      needs: plan of each member.

    Raises:
      UserError: if population.json is damaged, or names other members.
    """
    self._population, self._trials, self._root = population, trials, root
    online, interval = needs.online_iterations, population.training.interval
    self.stops = (*range(interval, online, interval), online)
    self._offset = needs.iterations - online
    self.seeds = [trial.seeds[0] for trial in trials]
    self.directories = [trial.base_dir(root) for trial in trials]
    self._folder = os.path.dirname(self.directories[0])
    self.settings = [
        population.first_settings(i, seed) for i, seed in enumerate(self.seeds)
    ]
    self.origins: list[Optional[Origin]] = [None] * len(trials)
    with errors.user_errors():
      self.lineage = Lineage(
          self._folder,
          self.seeds,
          [n for n, value in self.settings[0].items() if _is_number(value)],
          self.settings,
          reached=sys.maxsize,
      )
    for exploit in self.lineage.exploits:
      self._apply(exploit)

  @property
  def decided(self) -> int:
    """Online iterations at the last decision; 0 before the first."""
    exploits = self.lineage.exploits
    return exploits[-1].iteration - self._offset if exploits else 0

  def run(self, run_trials: RunTrials) -> None:
    """Trains the population to its end, from where it stands.

    Args:
      run_trials: runs the trials of a round to their ends.

    Raises:
      UserError: if a copy is lost and cannot be made again.
    """
    os.makedirs(self._folder, exist_ok=True)
    self.lineage.write()
    members: Sequence[int] = range(len(self._trials))
    for stop in self.stops:
      if stop <= self.decided:
        continue
      for directory, origin in zip(self.directories, self.origins):
        if origin is not None:
          make_copy(directory, origin)
      is_last = stop == self.stops[-1]
      if is_last:
        members = [i for i in members if len(self._scores(i)) < stop]
      # In other rounds a member starts even if its summary is at the stop: if
      # it was killed, its checkpoint may be older, and others may copy that.
      trials = {i: self.trial_until(i, stop) for i in members}
      failed = run_trials([*trials.values()], is_last) if trials else set()
      members = [i for i, t in trials.items() if t.name not in failed]
      if is_last or not members:
        return
      self.decide(stop, members)

  def trial_until(self, index: int, stop: int) -> Trial:
    """Trial of a member that ends after a number of online iterations."""
    trial = self._trials[index]
    wanted = trial.configuration.experiment
    # The plan stays whole: resets and schedules look ahead.
    bound = self.settings[index] | {'RunnerWithTeacher.stop_after': stop}
    wanted = dataclasses.replace(
        wanted,
        bindings=(*wanted.bindings, *api.binding_lines(bound)),
        # The checkpoints of a copy were made under other settings.
        fork_from=self.directories[index] if self.origins[index] else None,
    )
    configuration = dataclasses.replace(trial.configuration, experiment=wanted)
    return dataclasses.replace(trial, configuration=configuration)

  def decide(self, stop: int, members: Sequence[int]) -> None:
    """Decides who copies whom, and writes it down.

    Args:
      stop: online iterations of the members.
      members: indices of those that are not given up; others neither copy nor
        are copied.
    """
    found = {i: self._scores(i)[stop - 1] for i in members}
    scores = {i: score.score for i, score in found.items()}
    iteration = self._offset + stop
    copies = pbt.decide(
        self._population.training,
        list(scores.values()),
        [self.settings[i] for i in members],
        {},
        population_settings.generator(self.seeds[0], iteration),
    )
    exploit = Exploit(
        iteration,
        iteration,
        found[members[0]].agent_steps,
        # Null in the file for members that are given up.
        tuple(scores.get(i) for i in range(len(self._trials))),  # type: ignore
        tuple(self.settings),
        tuple(
            copy._replace(
                target=members[copy.target], source=members[copy.source]
            )
            for copy in copies
        ),
    )
    self.lineage.add(exploit)
    self._apply(exploit)

  def _scores(self, index: int) -> list[api.Score]:
    return online_scores(self.directories[index])

  def _apply(self, exploit: Exploit) -> None:
    self.settings = list(exploit.members)
    for copy in exploit.copies:
      self.settings[copy.target] = dict(copy.member)
      self.origins[copy.target] = Origin(
          self.seeds[copy.source], exploit.iteration - self._offset
      )


def of_each(
    root: str,
    population: Population,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
) -> list[ProcessPopulation]:
  """Populations of a sweep: the seeds of a configuration are one.

  Args:
    root: directory of the sweep.
    population: how members copy each other.
    trials: all members of all populations.
    needs: plan of a member, by the name of its configuration.

  Raises:
    UserError: if a population.json is damaged, or names other members.
  """
  members: dict[str, list[Trial]] = {}
  for trial in trials:
    members.setdefault(trial.configuration.name, []).append(trial)
  return [
      ProcessPopulation(root, population, found, needs[name])
      for name, found in members.items()
  ]


def describe(
    population: Population, trials: Sequence[Trial], needs: Mapping[str, Needs]
) -> str:
  """Sentences about when and how the members of a sweep copy each other."""
  sizes = collections.Counter(trial.configuration.name for trial in trials)
  lines = [
      population.training.describe(
          size,
          needs[name].online_iterations,
          needs[name].iterations - needs[name].online_iterations,
      )
      for name, size in sizes.items()
  ]
  return '\n'.join(dict.fromkeys(lines))


def make_copy(directory: str, origin: Origin) -> None:
  """Replaces a run by the continuation of another; without effect if done.

  What the run was before goes to .replaced/.

  Args:
    directory: directory of the run.
    origin: the other run, which is beside it.

  Raises:
    UserError: if the other run has trained on.
  """
  if _origin(directory) == origin:
    return
  folder, name = os.path.split(directory)
  source = os.path.join(folder, f'run_{origin.run_number}')
  done = len(online_scores(source))
  if done != origin.stop:
    raise errors.UserError(
        f'{directory} lost what it copied from {source} after {origin.stop} '
        f'online iterations, and that run is now at {done}: restore '
        f'{directory}, or choose another --base_dir.'
    )
  unfinished = f'{directory}.part'
  shutil.rmtree(unfinished, ignore_errors=True)
  shutil.copytree(
      os.path.join(source, CHECKPOINTS),
      os.path.join(unfinished, CHECKPOINTS),
      copy_function=_link,
  )
  files.write_json(os.path.join(unfinished, ORIGIN), origin._asdict())
  if os.path.exists(directory):
    replaced = os.path.join(folder, REPLACED, f'{name}_until_{origin.stop}')
    shutil.rmtree(replaced, ignore_errors=True)
    os.makedirs(os.path.dirname(replaced), exist_ok=True)
    os.rename(directory, replaced)
  os.rename(unfinished, directory)


def _origin(directory: str) -> Optional[Origin]:
  try:
    with open(os.path.join(directory, ORIGIN), encoding='utf-8') as f:
      return Origin(**json.load(f))
  except FileNotFoundError:
    return None


def _link(source: str, target: str) -> None:
  """Copies a checkpoint's file, which never changes, without its content."""
  try:
    os.link(source, target)
  except OSError:  # The file system has no hard links.
    shutil.copy2(source, target)


def online_scores(directory: str) -> list[api.Score]:
  """Scores of the online iterations that a run has finished."""
  found = progress_on_disk.scores(directory)
  return [score for score in found if score.phase == plan.ONLINE]


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)
