"""A population of processes on Ray Tune: its scheduler decides who copies whom.

All members wait for each other at a stop. Then Tune names who copies whom, it
is written to population.json as `loop.lineage` has it, and whoever copies is
told to begin anew (`member`). That file is all that is needed to go on: Tune
hands a copy the whole configuration of its source, of which none is used.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from reincarnating_rl.app.api import Needs
from reincarnating_rl.base import errors
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import population_worker as member_lib
from reincarnating_rl.launch import process
from reincarnating_rl.launch import status_display as board_lib
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.population_spec import Settings
from reincarnating_rl.launch.population_worker import Copied
from reincarnating_rl.launch.population_worker import Member
from reincarnating_rl.launch.status_display import Board
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.loop.population.lineage import Exploit
from reincarnating_rl.loop.population.lineage import Lineage
from reincarnating_rl.loop.population.pbt import Copy


def of_each(trials: Sequence[Trial]) -> list[list[Trial]]:
  """The members of each population: the seeds of a configuration."""
  found: dict[str, list[Trial]] = {}
  for trial in trials:
    found.setdefault(trial.configuration.name, []).append(trial)
  return list(found.values())


def check(
    root: str,
    population: Population,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
) -> None:
  """Refuses populations that do not fit what is there of them.

  Raises:
    UserError: for the first such one.
  """
  for members in of_each(trials):
    one = needs[members[0].configuration.name]
    History(root, population, members, one)


def describe(
    population: Population, trials: Sequence[Trial], needs: Mapping[str, Needs]
) -> str:
  """What will happen, in words, of each population once."""
  lines = []
  for members in of_each(trials):
    one = needs[members[0].configuration.name]
    lines.append(
        population.training.describe(
            len(members),
            one.online_iterations,
            one.iterations - one.online_iterations,
        )
    )
  return '\n'.join(dict.fromkeys(lines))


def carry_out_all(
    root: str,
    population: Population,
    trials: Sequence[Trial],
    missing: Sequence[Trial],
    needs: Mapping[str, Needs],
    resources: engine.Resources,
    board: Board,
) -> None:
  """Carries out the populations of a sweep, one after the other.

  Args:
    root: directory of the sweep.
    population: how members copy each other.
    trials: all members of all populations.
    missing: those that are not at their end.
    needs: by the name of the configuration.
    resources: of each member.
    board: told what happens.
  """
  for members in of_each(trials):
    left = [trial for trial in members if trial in missing]
    if not left:
      continue
    one = needs[members[0].configuration.name]
    carry_out(root, population, members, left, one, resources, board)
    if any(
        board.rows[trial.name].state not in board_lib.ENDED for trial in left
    ):
      return  # Tune was interrupted, and says so to nobody.


def carry_out(
    root: str,
    population: Population,
    trials: Sequence[Trial],
    missing: Sequence[Trial],
    needs: Needs,
    resources: engine.Resources,
    board: Board,
) -> None:
  """Carries a population out, or goes on with it.

  Args:
    root: directory of the sweep.
    population: how they copy each other.
    trials: its members, one seed each.
    missing: those of them that are not at their end.
    needs: of each member.
    resources: of each member.
    board: told what happens.
  """
  history = History(root, population, trials, needs)
  history.write()
  members = [history.member(trials.index(trial)) for trial in missing]
  engine.carry_out(
      root,
      missing,
      resources,
      board,
      engine.Scheduled(
          make_scheduler(history, len(missing), resources.num_parallel),
          member_lib.carry_out,
          [{'member': member._asdict()} for member in members],
      ),
  )


class History:
  """What members have been, and are to be: population.json, and how it grows.

  Attributes:
    population: how they copy each other.
    lineage: what was decided.
    stops: online iterations after which members report.
    settings: [S], in force.
  """

  def __init__(
      self,
      root: str,
      population: Population,
      trials: Sequence[Trial],
      needs: Needs,
  ):
    """Reads what was decided so far; nothing is written.

    Args:
      root: directory of the sweep.
      population: how they copy each other.
      trials: all members.
      needs: of each.

    Raises:
      UserError: if what is there is damaged, or of other members.
    """
    self.population = population
    self._root, self._trials = root, trials
    online, interval = needs.online_iterations, population.training.interval
    self.stops = (*range(interval, online, interval), online)
    self._offset = needs.iterations - online
    self.settings = [
        population.first_settings(i, trial.seeds[0])
        for i, trial in enumerate(trials)
    ]
    self._copied: list[Any] = [None] * len(trials)
    self._folder = os.path.dirname(trials[0].directories(root)[0])
    with errors.user_errors():
      self.lineage = Lineage(
          self._folder,
          self.seeds,
          [n for n in self.settings[0] if _is_number(self.settings[0][n])],
          self.settings,
          reached=sys.maxsize,
      )
    for exploit in self.lineage.exploits:
      self._carry_on(exploit)

  def write(self) -> None:
    """Says who there is, before anything is decided."""
    os.makedirs(self._folder, exist_ok=True)
    self.lineage.write()

  @property
  def seeds(self) -> list[int]:
    """[S], run numbers."""
    return [trial.seeds[0] for trial in self._trials]

  @property
  def decided(self) -> int:
    """Online iterations after which members copied each other last."""
    exploits = self.lineage.exploits
    return exploits[-1].iteration - self._offset if exploits else 0

  def member(self, index: int) -> Member:
    """One as it is to be now."""
    trial = self._trials[index]
    return Member(
        index,
        process.PROGRAM,
        dataclasses.asdict(trial.experiment),
        trial.base_dir(self._root),
        self.stops,
        self.settings[index],
        self._copied[index],
    )

  def explored(self, target: int, source: int, stop: int) -> Settings:
    """What a member goes on with that copies another; drawn by its seed."""
    rng = np.random.default_rng([*self.seeds[:1], target, stop])
    return self.population.explored(self.settings[source], rng)

  def add(
      self,
      stop: int,
      agent_steps: int,
      scores: Sequence[Any],
      copies: Sequence[Copy],
  ) -> None:
    """Decides what happens after so many online iterations."""
    iteration = self._offset + stop
    exploit = Exploit(
        iteration,
        iteration,
        agent_steps,
        tuple(scores),
        tuple(self.settings),
        tuple(copies),
    )
    self.lineage.add(exploit)
    self._carry_on(exploit)

  def _carry_on(self, exploit: Exploit) -> None:
    self.settings = list(exploit.members)
    for copy in exploit.copies:
      self.settings[copy.target] = dict(copy.member)
      self._copied[copy.target] = Copied(
          self.seeds[copy.source], exploit.iteration - self._offset
      )


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def make_scheduler(
    history: History, count: int, num_parallel: Optional[int]
) -> Any:
  """Tune's scheduler, whose decisions are kept.

  Args:
    history: of the population; grows.
    count: how many members there will be, which Tune learns one by one.
    num_parallel: that learn at once; None = as many as fit.
  """
  from ray.tune.schedulers import PopulationBasedTraining

  training, size = history.population.training, len(history.settings)
  index_of = lambda trial: trial.config['trial']['member']['index']
  # Tune draws sources from these.
  random.seed(f'{history.seeds[0]} {history.decided}')

  class Scheduler(PopulationBasedTraining):
    """Keeps what is decided, and each trial's identity."""

    def __init__(self, **options):
      super().__init__(**options)
      self._chosen = set()

    def on_trial_result(self, tune_controller, trial, result):
      if len(self._trial_state) < count:
        return self._wait(trial, result)
      self._copies, due = {}, self._next_perturbation_sync
      decision = super().on_trial_result(tune_controller, trial, result)
      if self._next_perturbation_sync > due:
        self._keep(result, self._copies)
      return decision

    def _wait(self, trial, result):
      """For those that are not known yet."""
      if result[member_lib.TIME] < self._next_perturbation_sync:
        return self.CONTINUE
      self._save_trial_state(
          self._trial_state[trial], result[member_lib.TIME], result, trial
      )
      return self.PAUSE

    def _keep(self, result, copies):
      """All of an exploit is on the disk before any trial goes on.

      One without copies, too: it says up to where all have come.
      """
      scores: list[Any] = [None] * size
      for trial, state in self._trial_state.items():
        scores[index_of(trial)] = state.last_score
      history.add(
          result[member_lib.TIME],
          result['agent_steps'],
          scores,
          [copy for _, copy in copies.values()],
      )
      for trial, copy in copies.values():
        member = history.member(copy.target)._asdict()
        trial.set_config({'trial': trial.config['trial'] | {'member': member}})

    def _exploit(self, tune_controller, trial, trial_to_clone):
      scores = [
          self._trial_state[t].last_score for t in (trial, trial_to_clone)
      ]
      if scores[0] < scores[1]:  # A tie changes nothing.
        super()._exploit(tune_controller, trial, trial_to_clone)

    def _get_new_config(self, trial, trial_to_clone):
      target, source = index_of(trial), index_of(trial_to_clone)
      stop = self._trial_state[trial].last_train_time
      settings = history.explored(target, source, stop)
      self._copies[target] = trial, Copy(target, source, settings)
      return trial.config, {}

    def choose_trial_to_run(self, tune_controller):
      self._go_on(tune_controller)
      busy = [
          trial
          for trial in tune_controller.get_live_trials()
          if trial in self._chosen
          and trial.status in (trial.PENDING, trial.RUNNING)
      ]
      if num_parallel is not None and len(busy) >= num_parallel:
        # One that failed, or whose worker is not there yet, keeps its place.
        return next((t for t in busy if t.status == t.PENDING), None)
      trial = super().choose_trial_to_run(tune_controller)
      if trial is not None:
        self._chosen.add(trial)
      return trial

    def _go_on(self, tune_controller):
      """If all wait for one that was given up, nobody else would say so."""
      due = self._next_perturbation_sync
      for trial, state in self._trial_state.items():
        if trial.is_finished():  # Tune counts those that failed as alive.
          state.last_train_time = max(state.last_train_time, due)
      live = [t for t in self._trial_state if not t.is_finished()]
      states = [self._trial_state[trial] for trial in live]
      waiting = all(
          trial.status == trial.PAUSED and state.last_train_time >= due
          for trial, state in zip(live, states)
      )
      if live and waiting and len(self._trial_state) == count:
        self.on_trial_result(tune_controller, live[0], states[0].last_result)

  return Scheduler(
      time_attr=member_lib.TIME,
      metric=member_lib.SCORE,
      mode='max',
      perturbation_interval=training.interval,
      # What was decided is not decided once more.
      burn_in_period=history.decided + training.interval,
      # Tune rounds up.
      quantile_fraction=(training.num_copying(size) - 0.5) / size,
      custom_explore_fn=lambda config: config,
      log_config=False,
      synch=True,
  )
