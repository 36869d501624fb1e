"""Several runs of one experiment in one process: seeds and populations.

Each member is a whole `Run`, with its own episodes, replay, keys and records.
Its results are the same as in a process of its own. Members share the
teacher's evaluation, the teacher's data and compiled code. Except on a CPU,
one dispatch makes the updates of all members, and one their actions.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from typing import Any, Callable, Iterator, Optional, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.learner import members as members_lib
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Actor
from reincarnating_rl.learner.policy import Carry
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.training.trainer import Trainer
from reincarnating_rl.loop.training.update_schedule import Learn
from reincarnating_rl.loop.training.update_schedule import Sync
from reincarnating_rl.loop.training.update_schedule import Work

# (runs, part, join): see `SideBySide.run`.
AtStep = Callable[[list[Run], Callable[[], None], Callable[[], None]], None]

# Fields of RunConfig in which members may differ. The others determine compiled
# code and the schedule, which members share.
MEMBER_SETTINGS = ('seed', 'learning_rate', 'final_learning_rate')


class SideBySide:
  """Several runs that carry out one plan together.

  Attributes:
    runs: members.
    stacked: True if all members on one device learn in one dispatch.
  """

  def __init__(self, runs: Sequence[Run], stacked: Optional[bool] = None):
    """Builds a group of runs, new or restored from their checkpoints.

    Args:
      runs: S runs, each built on its `device_of`, with the same `Teacher`.
      stacked: True to learn in one dispatch; None = True except on a CPU.

    Raises:
      ValueError: if runs differ in more than MEMBER_SETTINGS.
    """
    self.runs = list(runs)
    if stacked is None:
      stacked = jax.default_backend() != 'cpu'
    self.stacked = stacked
    check_alike(self.runs)

  def run(
      self,
      after_phase: Callable[[Run], None] = lambda run: None,
      at_step: AtStep = lambda runs, part, join: None,
      before_phase: Callable[[int], None] = lambda index: None,
  ) -> None:
    """Carries out the rest of each run's plan.

    Members that are behind the others, after an earlier stop, catch up first.

    Args:
      after_phase: called after each phase of each run.
      at_step: called after each step in one dispatch, with the runs and two
        functions: `part` gives each run its own state, so that it can be saved,
        and `join` stacks the states again.
      before_phase: called before each phase with its index in the plan. Each
        run then has its own state, and none has begun the phase in this
        process.
    """
    self._at_step = at_step
    for i, run in enumerate(self.runs):
      with self._on_device(i):
        run.prepare()
    while not all(run.is_done for run in self.runs):
      behind = min(run.next_phase for run in self.runs)
      before_phase(behind)
      members = [
          i for i, run in enumerate(self.runs) if run.next_phase == behind
      ]
      self._run_phase(members, self.runs[0].plan[behind], after_phase)

  def _on_device(self, member: int) -> contextlib.AbstractContextManager:
    return jax.default_device(device_of(member, len(self.runs)))

  def _run_phase(
      self,
      members: list[int],
      phase: Phase,
      after_phase: Callable[[Run], None],
  ) -> None:
    together = self.stacked and self._stand_alike(members, phase)
    if together:
      self._train(members, phase)
    for i in members:
      run = self.runs[i]
      with self._on_device(i):
        if together:
          run.finish_training(phase)
        else:
          run.run_phase(phase)
        after_phase(run)

  def _stand_alike(self, members: list[int], phase: Phase) -> bool:
    """True if members can train in one dispatch; not after unequal stops."""
    runs = [self.runs[i] for i in members]
    trains = phase.kind in (plan_lib.PRETRAINING, plan_lib.ONLINE)
    between = all(
        run.player is None or run.player.in_flight is None for run in runs
    )
    return trains and between and len({run.steps_done for run in runs}) == 1

  def _train(self, members: list[int], phase: Phase) -> None:
    """Trains all members through a phase, step by step together."""
    by_device = collections.defaultdict(list)
    for i in members:
      with self._on_device(i):
        self.runs[i].begin(phase)
      by_device[device_of(i, len(self.runs))].append(self.runs[i])
    runs = [self.runs[i] for i in members]
    first = runs[0]
    with contextlib.ExitStack() as stack:
      # One member announces the phase; all have the same time.
      stack.enter_context(first.training(phase))
      for run in runs[1:]:
        stack.enter_context(run.stage.booked(phase.kind))
      groups = [_Group(device, runs) for device, runs in by_device.items()]

      def part() -> None:
        for group in groups:
          group.take_answers()
          group.part()

      def join() -> None:
        for group in groups:
          group.join()

      self._at_step(runs, part, join)
      if phase.kind == plan_lib.PRETRAINING:
        for num in first.pretraining_chunks():
          for group in groups:
            group.do(functools.partial(_pretraining, num))
          for run in runs:
            run.pretrained(num, announced=run is first)
          self._at_step(runs, part, join)
      else:
        overlap = first.config.overlap
        while first.steps_done < first.config.ticks:
          # Dispatches are asynchronous: all devices work at the same time.
          if not overlap:
            for group in groups:
              group.do(lambda t: t.duties.of_step())
          for group in groups:
            group.decide()
          for group in groups:
            group.hand_out()
          if overlap:
            for run in runs:
              run.player.begin()
            for group in groups:
              group.do(lambda t: t.duties.of_step())
          failed = [e for group in groups for e in group.step()]
          if failed:
            raise failed[0]
          self._at_step(runs, part, join)
        for group in groups:
          group.do(lambda t: t.duties.left())
      part()
      self._at_step(runs, lambda: None, lambda: None)


def device_of(member: int, num_members: int) -> jax.Device:
  """Returns the device of a member; members are spread evenly."""
  devices = jax.local_devices()
  return devices[member * len(devices) // num_members]


def check_alike(runs: Sequence[Run]) -> None:
  """Raises a ValueError if runs differ in more than MEMBER_SETTINGS."""
  first = runs[0]
  for run in runs[1:]:
    for name, value in vars(first.config).items():
      other = getattr(run.config, name)
      if name not in MEMBER_SETTINGS and value != other:
        raise ValueError(
            f'Runs side by side must be alike, but their {name} are {value} '
            f'and {other}.'
        )
    if run.trainer.online_learner != first.trainer.online_learner:
      raise ValueError(
          'Runs side by side must have one network, objective and optimizer.'
      )


class _Group:
  """Trainers on one device, with their states stacked on a member axis."""

  def __init__(self, device: jax.Device, runs: Sequence[Run]):
    self._device = device
    self._runs = runs
    self._trainers = [run.trainer for run in runs]
    self._teacher_data = runs[0].teacher_data
    if self._teacher_data is not None:
      # No copy if the data is on the device already.
      spec, replay = self._teacher_data
      self._teacher_data = spec, jax.device_put(replay, device)
    self.join()

  def join(self) -> None:
    """Stacks the states of all trainers."""
    trainers = self._trainers
    with jax.default_device(self._device):
      self._states = members_lib.stack([t.learner_state for t in trainers])
      self._act_keys = jnp.stack([t.act_key for t in trainers])

  def part(self) -> None:
    """Gives each trainer its own state."""
    with jax.default_device(self._device):
      both = (self._states, self._act_keys)
      parts = members_lib.unstack(both, len(self._trainers))
      for trainer, (state, key) in zip(self._trainers, parts):
        trainer.learner_state, trainer.act_key = state, key

  def do(self, duties: Callable[[Trainer], Iterator[Work]]) -> None:
    """Does the work that is due; it is the same for all members."""
    with jax.default_device(self._device):
      for works in zip(*map(duties, self._trainers), strict=True):
        if isinstance(works[0], Learn):
          self._learn(works)
        elif isinstance(works[0], Sync):
          learner = self._trainers[0].learner
          self._states = learner.sync_target(self._states)
        else:
          self._one_by_one(functools.partial(self._do_alone, works))

  def _do_alone(self, works: Sequence[Work], member: int) -> None:
    self._trainers[member].do(works[member], self._teacher_data)

  def _one_by_one(self, do: Callable[[int], None]) -> None:
    """Calls a function for each member, with its own state."""
    self.part()
    for i in range(len(self._trainers)):
      do(i)
    self.join()

  def _learn(self, works: Sequence[Learn]) -> None:
    trainers = self._trainers
    updater = trainers[0].updater(works[0], self._teacher_data, len(trainers))
    storages, priorities, counts, rehearsed = zip(
        *(t.sampled(w, self._teacher_data) for t, w in zip(trainers, works))
    )
    self._states, priorities, metrics = updater(
        self._states, storages, priorities, counts[0], rehearsed[0]
    )
    for i, (run, work) in enumerate(zip(self._runs, works)):
      with run.naming_the_way_back():
        run.trainer.take_outcome(work, priorities[i], metrics, member=i)

  def decide(self) -> None:
    """Starts to compute the actions of all members, without waiting."""
    first = self._trainers[0]
    self._actions = None
    if first.guide is not None:
      return  # The guide acts in one run at a time; see `hand_out`.
    policy = first.learner.policy(self._states, first.config.act_with_target)
    players = [run.player for run in self._runs]
    with jax.default_device(self._device):
      self._actions, self._carries, self._act_keys = _act_all(
          *policy,
          np.stack([player.observation for player in players]),
          np.stack([player.first for player in players]),
          members_lib.stack([player.carry for player in players]),
          np.float32(first.epsilon),
          self._act_keys,
      )

  def hand_out(self) -> None:
    """Gives all members their actions.

    All members get them before the first one steps. So each of them can be
    saved and resumed if the process stops during the steps.
    """
    with jax.default_device(self._device):
      if self._actions is None:
        self._one_by_one(self._act_alone)
        return
      carries = members_lib.unstack(self._carries, len(self._runs))
      for run, actions, carry in zip(
          self._runs, np.asarray(self._actions), carries
      ):
        run.player.in_flight, run.player.carry = actions, carry

  def step(self) -> list[EnvironmentFailedError]:
    """Takes one step of all environments of all members.

    Returns:
      Errors of the members whose environments failed; all others have stepped.
    """
    failed = []
    with jax.default_device(self._device):
      for run in self._runs:
        try:
          run.finish_step()
        except EnvironmentFailedError as e:
          failed.append(e)
    return failed

  def take_answers(self) -> None:
    """Finishes the steps of members whose environments have answered."""
    with jax.default_device(self._device):
      for run in self._runs:
        if run.player is not None and run.player.has_answer:
          run.finish_step()

  def _act_alone(self, member: int) -> None:
    self._runs[member].player.decide(self._trainers[member].act)


def _pretraining(num_steps: int, trainer: Trainer) -> Iterator[Work]:
  return trainer.duties.of_pretraining(num_steps)


@functools.partial(jax.jit, static_argnums=0)
def _act_all(
    actor: Actor,
    params: Any,
    observations: jax.Array,
    first: jax.Array,
    carries: Carry,
    epsilon: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, Carry, jax.Array]:
  """Returns [S, E, ...] actions of S members, next carries and next keys."""
  one = lambda p, o, f, c, k: act(actor, p, o, f, c, epsilon, k, True)
  return jax.vmap(one)(params, observations, first, carries, keys)
