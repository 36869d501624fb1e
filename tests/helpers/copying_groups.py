"""Groups of runs that copy each other, in directories, and ways to end them."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import small_runs
from small_runs import ALONE
from small_runs import make_env
from small_runs import PLAIN_LEARNER

from reincarnating_rl.loop.population import pbt_execution as exploits_lib
from reincarnating_rl.loop.population.lineage import Lineage
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining
from reincarnating_rl.loop.population.pbt_execution import Exploits
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.saving.supervisor import Keeper

CONFIG = dataclasses.replace(
    ALONE,
    num_iterations=3,
    training_steps=24,
    min_replay_history=8,
    replay_capacity=40,  # the ring is written over in the second iteration
    prioritized=True,
)
TRAINING = PopulationBasedTraining(
    interval=1,
    mutations=(Mutation('learning_rate', 'log_uniform', (1e-4, 1e-1)),),
    quantile=0.5,  # two of four copy
)
MEMBERS = tuple({'learning_rate': 10.0 ** (-1 - i / 2)} for i in range(4))


def make_run(index, member, config=CONFIG, env=make_env):
  return Run(
      dataclasses.replace(config, seed=index),
      PLAIN_LEARNER,
      env,
      random_score=-1.0,
      member=member,
  )


class Group:
  """Runs in a directory, as an entry point has them."""

  def __init__(self, directory, training=TRAINING, members=MEMBERS, **of_run):
    self.directory = str(directory)
    self.runs = [make_run(i, m, **of_run) for i, m in enumerate(members)]
    self.checkpointers = [
        RunCheckpointer(os.path.join(directory, f'run_{i}', 'checkpoints'))
        for i in range(len(members))
    ]
    for run, checkpointer in zip(self.runs, self.checkpointers):
      checkpointer.restore(run)
    self.lineage = Lineage(
        self.directory,
        range(len(members)),
        training.names,
        [run.trainer.member for run in self.runs],
        max(run.next_phase for run in self.runs),
    )
    self.exploits = Exploits(training, self.runs, self.lineage, generator)

  def run(self, stacked=False, on_phase=lambda run: None, **options):
    pairs = list(zip(self.runs, self.checkpointers))
    try:
      with Keeper(pairs, stall_minutes=None, **options) as keeper:

        def after_phase(run):
          on_phase(run)
          keeper.after_phase(run)

        SideBySide(self.runs, stacked).run(
            after_phase,
            keeper.at_step_of_all,
            lambda index: self.exploits.before_phase(index, keeper),
        )
        keeper.finish()
    finally:
      for checkpointer in self.checkpointers:
        checkpointer.close()
    return self


def generator(iteration):
  return np.random.default_rng((3, iteration))


def outcome(group):
  """All that a group has come to, its file included."""
  with open(os.path.join(group.directory, 'population.json')) as f:
    return [small_runs.outcome(run) for run in group.runs], json.load(f)


class Cut(BaseException):
  """The process died."""


class Points:
  """The moments at which the content of the disk changes.

  Attributes:
    names: function that was called at each moment so far.
  """

  def __init__(self, patch, slow_disk=False, each=lambda index: None):
    """Watches what goes to the disk.

    Args:
      patch: a MonkeyPatch; its end is the end of the watch.
      slow_disk: if True, saves that nobody waits for are lost.
      each: called at each moment with its index.
    """
    self.names, self._each, self._slow_disk = [], each, slow_disk
    patch.setattr(RunCheckpointer, 'save', self._save(RunCheckpointer.save))
    for owner, name in ((Lineage, 'add'), (exploits_lib, 'copy_student')):
      patch.setattr(owner, name, self._after(name, getattr(owner, name)))

  def _save(self, save):
    def wrapped(checkpointer, run, wait=True):
      if wait or not self._slow_disk:
        save(checkpointer, run)
      self._come_to('save')
      return True

    return wrapped

  def _after(self, name, do):
    def wrapped(*args):
      do(*args)
      self._come_to(name)

    return wrapped

  def _come_to(self, name):
    self.names.append(name)
    self._each(len(self.names) - 1)


def die_at(moment):
  """What is done at each of the `Points` of a process that dies at one."""

  def each(index):
    if index == moment:
      raise Cut

  return each
