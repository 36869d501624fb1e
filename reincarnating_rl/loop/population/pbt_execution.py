"""Execution of population-based training on runs in one process.

An exploit has four steps, so that a process that dies at any point can resume
with the same result:

1. All runs are between the same two phases. They are saved.
2. The copies are decided from the scores and written to the disk (`lineage`).
3. Each run that copies takes over the state of its source, and notes it in its
   own state (`Run.copied_after`).
4. All runs are saved again. Only then does a run begin the next phase.

Sources do not copy, so until step 4 is done each source is on the disk in the
state that is copied. After a resume steps 2 to 4 are repeated: a run that has
not copied yet copies the same state, and a run that has copied does not copy
again.
"""

from __future__ import annotations

from typing import Callable, Sequence

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.loop.acting.replay_writer import FIRST_NAME
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.population import lineage as lineage_lib
from reincarnating_rl.loop.population import pbt
from reincarnating_rl.loop.population.lineage import Exploit
from reincarnating_rl.loop.population.lineage import Lineage
from reincarnating_rl.loop.population.pbt import Copy
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining
from reincarnating_rl.loop.population.side_by_side import device_of
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving import state as state_lib
from reincarnating_rl.loop.saving.supervisor import Keeper
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.replay import splice

# Each run keeps its own key; its coefficients follow from its settings.
_NOT_COPIED = ('rng_key', 'coefficients')


class Exploits:
  """Executes the copies between the runs of a population."""

  def __init__(
      self,
      training: PopulationBasedTraining,
      runs: Sequence[Run],
      lineage: Lineage,
      generator: Callable[[int], np.random.Generator],
  ):
    """Checks that earlier decisions can still be completed.

    Args:
      training: settings of population-based training.
      runs: runs of the population, new or restored from their checkpoints.
      lineage: decisions so far.
      generator: returns the random generator of an iteration.

    Raises:
      ValueError: if a run was restored from before a copy, and the source of
        that copy has continued since.
    """
    training.check_size(len(runs))
    if training.copy_replay:
      _check_length(training.interval, runs[0])
    self._training = training
    self._runs = runs
    self._lineage = lineage
    self._generator = generator
    for exploit in lineage.exploits:
      for copy in self._pending(exploit):
        self._check_source(exploit, copy)

  def before_phase(self, index: int, keeper: Keeper) -> None:
    """Executes the exploit before a phase, if one is due.

    Args:
      index: index in the plan of a phase that no run has begun yet in this
        process.
      keeper: keeper that saves the runs.

    Raises:
      StoppedError: if the disk is full.
    """
    exploit = self._lineage.before(index)
    if exploit is None:
      if not (self._is_due(index) and self._all_stand_before(index)):
        return
      keeper.make_sure('the state before an exploit')
      exploit = self._decide(index)
      try:
        self._lineage.add(exploit)
      except OSError as e:
        raise keeper.full_disk(lineage_lib.FILE_NAME) from e
    pending = self._pending(exploit)
    for copy in pending:
      self._carry_out(exploit, copy)
    if pending:
      keeper.make_sure('an exploit')

  def _is_due(self, index: int) -> bool:
    plan = self._runs[0].plan
    if not index or plan[index - 1].kind != plan_lib.ONLINE:
      return False
    iterations = sum(p.kind == plan_lib.ONLINE for p in plan[:index])
    return self._training.is_due(iterations)

  def _all_stand_before(self, index: int) -> bool:
    return all(
        run.next_phase == index and state_lib.is_between_phases(run)
        for run in self._runs
    )

  def _decide(self, index: int) -> Exploit:
    first = self._runs[0]
    records = [run.records[index - 1] for run in self._runs]
    scores = tuple(record.student_score for record in records)
    members = tuple(dict(run.trainer.member) for run in self._runs)
    iteration = records[0].iteration
    copies = pbt.decide(
        self._training,
        scores,
        members,
        member_settings.values_of_all(first.config, first.trainer.coefficients),
        self._generator(iteration),
    )
    agent_steps = records[0].agent_steps
    return Exploit(
        iteration, index, agent_steps, scores, members, tuple(copies)
    )

  def _pending(self, exploit: Exploit) -> list[Copy]:
    """Copies of an exploit that are not done yet."""
    return [
        copy
        for copy in exploit.copies
        if self._runs[copy.target].copied_after < exploit.iteration
    ]

  def _check_source(self, exploit: Exploit, copy: Copy) -> None:
    source, target = self._runs[copy.source], self._runs[copy.target]
    ahead = source.next_phase > exploit.phase
    here = source.next_phase == exploit.phase
    if ahead or (here and not state_lib.is_between_phases(source)):
      seeds = source.config.seed, target.config.seed
      raise ValueError(
          f'Run {seeds[1]} went back to a checkpoint from before it copied run '
          f'{seeds[0]} after iteration {exploit.iteration}, and run {seeds[0]} '
          f'has gone on: remove the newest checkpoints of run {seeds[0]}, and '
          'it goes back, too.'
      )

  def _carry_out(self, exploit: Exploit, copy: Copy) -> None:
    source, target = self._runs[copy.source], self._runs[copy.target]
    device = device_of(copy.target, len(self._runs))
    with jax.default_device(device):
      copy_student(source, target)
      if self._training.copy_replay:
        copy_replay(source, target, device, exploit.iteration)
      target.trainer.settle(copy.member)
    target.copied_after = exploit.iteration
    logging.info(
        'Run %d (score %.2f) copies run %d (score %.2f) and goes on with %s.',
        target.config.seed,
        exploit.scores[copy.target],
        source.config.seed,
        exploit.scores[copy.source],
        member_settings.describe(copy.member),
    )


def _check_length(interval: int, run: Run) -> None:
  """Raises a ValueError if the interval is too short to copy replays."""
  spec = run.config.student_spec(run.config.student_capacity)
  needed = spec.update_horizon + spec.stack_size
  if interval * run.config.ticks < needed:
    raise ValueError(
        f'There are {interval * run.config.ticks} steps of each environment '
        f'between exploits, and PopulationBasedTraining.copy_replay needs '
        f'{needed}: lengthen Runner.training_steps or the interval.'
    )


def copy_student(source: Run, target: Run) -> None:
  """Copies parameters, optimizer state and lambda from one run to another.

  The copy goes through the host: the runs may be on different devices, and
  nothing needs to be compiled.
  """
  theirs = source.trainer.learner_state
  names = [name for name in theirs._fields if name not in _NOT_COPIED]
  parts = {name: getattr(theirs, name) for name in names}
  copied = jax.tree.map(jnp.array, jax.device_get(parts))
  trainer = target.trainer
  trainer.learner_state = trainer.learner_state._replace(**copied)
  trainer.set_lambda(source.trainer.lambda_)


def copy_replay(
    source: Run, target: Run, device: jax.Device, iteration: int
) -> None:
  """Copies the replay of one run to another, which keeps its own episodes.

  Args:
    source: run to copy from.
    target: run to copy to; a few of its own rows stay (`replay.splice`).
    device: device of the target.
    iteration: iteration after which the copy is made. It is part of the new
      name of the rows, because checkpoints share rows of equal names.
  """
  writer = target.trainer.writer
  own = splice.newest(writer.spec, writer.state)
  writer.state = None  # Frees the memory for the copy.
  theirs = jax.device_put(source.trainer.writer.state, device)
  writer.state = splice.splice(writer.spec, theirs, own)
  writer.slots_written = source.trainer.writer.slots_written
  writer.name = f'{FIRST_NAME}_{iteration}'
