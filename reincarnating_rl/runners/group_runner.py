"""Runs several seeds in one process, each in its own directory (layer 5)."""

from __future__ import annotations

import functools
import glob
import os
from typing import Any, Callable, Optional, Sequence

from absl import logging
import jax

from reincarnating_rl.dopamine_bridge import population_settings
from reincarnating_rl.dopamine_bridge import reset_settings
from reincarnating_rl.loop.config import memory as memory_lib
from reincarnating_rl.loop.population import lineage as lineage_lib
from reincarnating_rl.loop.population.lineage import Lineage
from reincarnating_rl.loop.population.pbt_execution import Exploits
from reincarnating_rl.loop.population.side_by_side import device_of
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving.supervisor import Keeper
from reincarnating_rl.loop.training import member_settings as population_lib
from reincarnating_rl.loop.training.member_settings import Member
from reincarnating_rl.rundir import summary
from reincarnating_rl.runners.runner import RunnerWithTeacher

# (base_dir, run_number, member, label) -> the runner of one run.
MakeRunner = Callable[[str, int, Optional[Member], str], RunnerWithTeacher]


def folder(base_dir: str, run_number: int | str) -> str:
  """Directory of one run of a group."""
  return os.path.join(base_dir, f'run_{run_number}')


def check_layout(
    base_dir: str,
    run_numbers: Optional[Sequence[int]],
    alone: bool = False,
) -> None:
  """Refuses a directory that holds other runs.

  Args:
    base_dir: directory of the runs.
    run_numbers: seeds of a group; None = a single run.
    alone: True if no other runs may be in the directory, since these runs
      depend on each other. Runs that are there already may demand it, too.

  Raises:
    ValueError: one sentence, with the runs that are there.
  """
  base_dir = os.path.abspath(os.path.expanduser(base_dir))
  there = runs_in(base_dir)
  single = os.path.isdir(os.path.join(base_dir, 'checkpoints'))
  alone = alone or os.path.exists(os.path.join(base_dir, lineage_lib.FILE_NAME))
  wanted = sorted(run_numbers or ())
  if run_numbers is None and there:
    was, now = f'runs {_listed(there)}', 'a single run is'
  elif run_numbers is not None and single:
    was, now = 'a single run', f'runs {_listed(wanted)} are'
  elif run_numbers is not None and alone and not set(there) <= set(wanted):
    was, now = f'runs {_listed(there)}', f'runs {_listed(wanted)} are'
  else:
    return
  raise ValueError(
      f'base_dir {base_dir} holds {was}, but {now} asked for: use the '
      'settings that they were started with, or another directory, and '
      f'--fork_from {base_dir} to go on there from their checkpoints.'
  )


def runs_in(base_dir: str) -> list[int]:
  """Seeds of the runs that groups have left in a directory."""
  folders = glob.glob(os.path.join(base_dir, 'run_*', 'checkpoints'))
  numbers = [_number_of(os.path.dirname(f)) for f in folders]
  return sorted(n for n in numbers if n is not None)


def _number_of(path: str) -> Optional[int]:
  """7 for a/run_7; None for a path that is no folder of a run."""
  number = os.path.basename(path).removeprefix('run_')
  return int(number) if number.isdigit() else None


def check_is_input(base_dir: str, population: str) -> None:
  """Refuses a population's file at the path of a file of the group.

  Raises:
    ValueError: one sentence.
  """
  path = os.path.join(os.path.expanduser(base_dir), lineage_lib.FILE_NAME)
  if os.path.realpath(path) == os.path.realpath(population):
    raise ValueError(
        f'--population {population} is where the group writes who copied whom: '
        'move the file out of --base_dir, or give it another name.'
    )


def _listed(numbers: Sequence[int]) -> str:
  return ', '.join(map(str, numbers))


class GroupRunner:
  """S runners whose runs go through their plan side by side.

  Attributes:
    runners: one for each run.
  """

  is_group = True

  def __init__(
      self,
      base_dir: str,
      make_runner: MakeRunner,
      run_numbers: Sequence[int],
      members: Optional[Sequence[Member]] = None,
  ):
    """Builds the runners; nothing is played yet.

    Args:
      base_dir: parent of the directories of the runs.
      make_runner: builds the runner of one run.
      run_numbers: [S], the seeds.
      members: [S], settings in which each differs; None = the seed alone.

    Raises:
      ValueError: one sentence, for settings that make no sense or data that
        does not fit into memory.
    """
    resets = reset_settings.reset_schedule()
    anneals = resets is not None and resets.annealing is not None
    self._training = population_settings.population_based_training()
    mutated: dict[str, Any] = {}
    if self._training is not None:
      self._training.check_size(len(run_numbers))
      mutated = dict.fromkeys(self._training.names)
    population_lib.check_objective([*(members or ()), mutated], anneals)
    self._base_dir = os.path.abspath(os.path.expanduser(base_dir))
    self._run_numbers = list(run_numbers)
    self._prepared: list[tuple[Run, Any]] = []
    self._exploits: Optional[Exploits] = None
    differences: Sequence[Optional[Member]] = members or [None] * len(
        run_numbers
    )
    self.runners = [
        make_runner(
            folder(self._base_dir, number), number, member, f'run {number},'
        )
        for number, member in zip(run_numbers, differences, strict=True)
    ]

  @property
  def directories(self) -> list[str]:
    """Directories of the runs."""
    return [folder(self._base_dir, number) for number in self._run_numbers]

  def check_memory(self) -> None:
    """Raises a ValueError if the data of all runs does not fit."""
    memory_lib.check(
        self.runners[0].memory(), len(self.runners), memory_lib.available()
    )

  def describe_plan(self) -> str:
    """The plan of one run, and the differences of the others."""
    lines = [self.runners[0].describe_plan()]
    if len(self.runners) > 1:
      lines.append(
          f'{len(self.runners)} such runs side by side, with seeds '
          f'{self._run_numbers[0]} to {self._run_numbers[-1]}; each has a '
          'replay of its own, the data of the teacher is shared.'
      )
    for number, runner in zip(self._run_numbers, self.runners):
      if runner.member:
        member = population_lib.describe(runner.member)
        lines.append(f'Run {number}: {member}')
    if self._training is not None:
      config = self.runners[0].run_config
      lines.append(
          self._training.describe(
              len(self.runners),
              config.num_iterations,
              config.num_pretraining_iterations,
          )
      )
    return '\n'.join(lines)

  def prepare(self) -> None:
    """Builds the runs, so that errors are raised before they start.

    Raises:
      ValueError: if a checkpoint is of another run.
    """
    size = len(self.runners)
    for i, runner in enumerate(self.runners):
      with jax.default_device(device_of(i, size)):
        teacher = self._prepared[0][0].teacher if self._prepared else None
        self._prepared.append(runner.make_run(teacher))
    self._exploits = self._make_exploits([run for run, _ in self._prepared])
    self._write_summary()

  def _make_exploits(self, runs: list[Run]) -> Optional[Exploits]:
    """Carries out copies between the runs; None where there are none.

    Raises:
      ValueError: if the files on disk do not fit together.
    """
    if self._training is None:
      return None
    lineage = Lineage(
        self._base_dir,
        self._run_numbers,
        self._training.names,
        [run.trainer.member for run in runs],
        reached=max(run.next_phase for run in runs),
    )
    draws = functools.partial(
        population_settings.generator, self._run_numbers[0]
    )
    exploits = Exploits(self._training, runs, lineage, draws)
    lineage.write()
    return exploits

  def run_experiment(self) -> list[Run]:
    """Carries all runs out, and saves each of them meanwhile.

    Raises:
      TrainingDivergedError: if a run diverges.
      StoppedError: if a signal stopped them, or an environment broke down.
    """
    if not self._prepared:
      self.prepare()
    pairs = self._prepared
    runs = [run for run, _ in pairs]
    by_run = {id(run): i for i, run in enumerate(runs)}

    def saved(run: Run) -> None:
      self.runners[by_run[id(run)]].saved(run)

    options = self.runners[0].keeper_options
    try:
      with Keeper(pairs, on_saved=saved, **options) as keeper:

        def after_phase(run: Run) -> None:
          record = run.records[-1]
          if record.student_score is not None:
            logging.info(
                'Run %d: score %.2f after %s %d.',
                self._run_numbers[by_run[id(run)]],
                record.student_score,
                record.phase,
                record.iteration,
            )
          keeper.after_phase(run)

        def before_phase(index: int) -> None:
          if self._exploits is not None:
            self._exploits.before_phase(index, keeper)

        SideBySide(runs).run(after_phase, keeper.at_step_of_all, before_phase)
        keeper.finish()
    finally:
      # After the keeper, which saves runs that broke down.
      for runner, (_, checkpointer) in zip(self.runners, pairs):
        runner.close(checkpointer)
    return runs

  def _write_summary(self) -> None:
    """Writes the list of runs into the parent directory."""
    first = self.runners[0]
    names = glob.glob(folder(self._base_dir, '*'))
    beside = [n for n in map(_number_of, names) if n is not None]
    numbers = sorted({*beside, *self._run_numbers})
    document = {
        'game': first.run_config.game,
        'agent': first.options.agent_name,
        'run_numbers': numbers,
        'runs': [os.path.basename(folder(self._base_dir, n)) for n in numbers],
        'versions': summary.versions(),
    }
    summary.write(self._base_dir, document)
