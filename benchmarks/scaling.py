"""Scaling of updates with members, the replay ratio, and populations.

Cases of benchmark.py with a peer: another way to do the same work on the same
machine. Shape letters: S members, K updates a call.

Members: updates of S learners at the default replay ratio (K = 1), stacked in
one dispatch or in one dispatch each. Ours is the backend's default, the peer is
the other way; milliseconds per update and member.

Replay ratios: a `Trainer` with a replay of noise, without an environment. Steps
are stored, the teacher's Q-values are computed, updates are made when they are
due. Ours groups them as `RunConfig.grouped_updates` says, the peer makes each
in a call of its own. Below a ratio of 2 both are the same.

Populations: the timing scripts of Flajolet et al. 2022, "Fast population-based
reinforcement learning on a single machine" (github.com/instadeepai/fastpbrl):
plain DQN, batches of 32, every call is waited for, milliseconds per update of
the whole population. The peer is S runs of one member, one after the other.
Deviations: batches are drawn from replays on the device, theirs lie ready
there; the network is ours (512 hidden units and 6 actions, theirs 256 and 14);
the statistic is the median, theirs is the mean; compilation is the first call
less the second, theirs is the first.
"""

from __future__ import annotations

from fractions import Fraction
import functools
import time
from typing import Any, Callable, NamedTuple, Optional

import jax
import jax.numpy as jnp

from benchmarks import harness
from benchmarks import workloads
from benchmarks.harness import Case
from benchmarks.harness import Work
from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import members
from reincarnating_rl.learner import Sampler
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState

NETWORKS = ('nature_c51', 'impala_c51')
POPULATION_NETWORK = 'nature_dqn'
RATIOS = tuple(map(Fraction, ('0.25', '1', '2.5', '8', '32')))
POPULATION_UPDATES_PER_CALL = (1, 10)
SECONDS = 0.5  # shortest duration of a measurement

# Makes a number of updates and returns arrays to wait for.
Update = Callable[[int], Any]


class Sizes(NamedTuple):
  """Which sizes are measured, and the amount of one work."""

  rows: int = 2_000  # rows in each member's replay
  members: tuple[int, ...] = (1, 2, 4, 8, 10, 16, 40)
  populations: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
  updates: int = 32  # least updates of each member
  impala_updates: int = 32
  impala_repeats: Optional[int] = None  # limit

  def amounts(self, network: str) -> tuple[int, Optional[int]]:
    """Updates of one work, and the limit of its measurements."""
    if network.startswith('impala'):
      return self.impala_updates, self.impala_repeats
    return self.updates, None


# An update of Impala takes part of a second on a CPU, a stacked one more.
CPU_SIZES = Sizes(
    members=(1, 2, 4, 8),
    populations=(1, 2, 5),
    updates=4,
    impala_updates=1,
    impala_repeats=2,
)
QUICK_SIZES = Sizes(200, (1, 2), (1, 2), 1, 1, 1)


def choose_sizes(quick: bool, full: bool) -> Sizes:
  """Sizes for this backend.

  Args:
    quick: True for a test.
    full: True for large populations on a CPU, too.
  """
  if quick:
    return QUICK_SIZES
  if not is_stacked_by_default() and full:
    return CPU_SIZES._replace(populations=Sizes().populations)
  return Sizes() if is_stacked_by_default() else CPU_SIZES


def is_stacked_by_default() -> bool:
  """True if `SideBySide` updates members together on this backend."""
  return jax.default_backend() != 'cpu'


def make_groups(sizes: Sizes) -> list[list[Case]]:
  """All cases; those of a group are measured in turn and freed together."""
  groups = [
      [member_case(name, num_members, sizes)]
      for name in NETWORKS
      for num_members in sizes.members
  ]
  groups += [
      [ratio_case(name, ratio, sizes)] for name in NETWORKS for ratio in RATIOS
  ]
  return groups + [
      population_cases(num_members, per_call, sizes)
      for num_members in sizes.populations
      for per_call in POPULATION_UPDATES_PER_CALL
  ]


# -- members ------------------------------------------------------------------


def member_case(name: str, num_members: int, sizes: Sizes) -> Case:
  """Updates of a QDagger learner's members, one update a call."""
  learner = workloads.make_learner(name, distill=True)
  spec = workloads.taught_spec(sizes.rows)
  replays = functools.cache(lambda: make_replays(spec, num_members))
  amount, max_repeats = sizes.amounts(name)

  def build(stacked: bool) -> Work:
    update = member_updates(
        learner, spec, replays(), prioritized=True, stacked=stacked
    )
    return workloads.repeated(lambda: update(1), amount, num_members)

  stacked = is_stacked_by_default()
  return Case(
      f'members/{name}/update_per_member/{num_members}',
      harness.MILLISECONDS,
      functools.partial(build, stacked),
      SECONDS,
      functools.partial(build, not stacked),
      max_repeats,
  )


def make_replays(spec: ReplaySpec, num_members: int) -> list[ReplayState]:
  """Full replays of noise, each in memory of its own."""
  filled = workloads.filled_replay(spec)
  return [jax.tree.map(jnp.copy, filled) for _ in range(num_members)]


def member_updates(
    learner: ValueLearner,
    spec: ReplaySpec,
    replays: list[ReplayState],
    *,
    prioritized: bool,
    stacked: bool,
    compile_anew: bool = False,
) -> Update:
  """Fresh members, and the function that updates them.

  Args:
    learner: learner of every member.
    spec: layout of each replay.
    replays: S of them, only read; their priorities are copied.
    prioritized: True to write priorities back.
    stacked: True for one dispatch for all members, else one each.
    compile_anew: True to compile even if such updates were compiled before.

  Returns:
    `update(num_updates)` makes so many updates of every member in one call. It
    does not wait.
  """
  make = make_updater.__wrapped__ if compile_anew else make_updater
  updater = make(
      Sampler(learner, spec, workloads.BATCH_SIZE, prioritized),
      scan=jax.default_backend() != 'cpu',
      num_members=len(replays) if stacked else None,
  )

  def updates_of(state: Any, storage: Any, priorities: Any) -> Update:
    alive = [state, priorities]

    def update(num_updates: int) -> list[Any]:
      alive[:] = updater(alive[0], storage, alive[1], num_updates)[:2]
      return alive

    return update

  states = [
      workloads.init_state(learner)._replace(rng_key=jax.random.PRNGKey(i))
      for i in range(len(replays))
  ]
  storages = tuple(replay.storage for replay in replays)
  priorities = tuple(
      jax.tree.map(jnp.copy, replay.priorities) for replay in replays
  )
  if stacked:
    return updates_of(members.stack(states), storages, priorities)
  updates = list(map(updates_of, states, storages, priorities))
  return lambda num_updates: [update(num_updates) for update in updates]


# -- replay ratios ------------------------------------------------------------


def ratio_case(name: str, ratio: Fraction, sizes: Sizes) -> Case:
  """Updates as they are due at a replay ratio, in groups and one by one."""
  amount, max_repeats = sizes.amounts(name)
  build = functools.partial(ratio_work, name, ratio, sizes.rows, amount)
  return Case(
      f'replay_ratio/{name}/{float(ratio):g}',
      harness.UPDATES,
      functools.partial(build, updates_per_call=None),
      SECONDS,
      functools.partial(build, updates_per_call=1),
      max_repeats,
  )


def ratio_work(
    name: str,
    ratio: Fraction,
    rows: int,
    updates: int,
    updates_per_call: Optional[int],
) -> Work:
  """Work of a trainer without acting; it waits only to read metrics.

  Args:
    name: name of the network.
    ratio: updates per agent step.
    rows: agent steps in the replay, which begins full.
    updates: approximate units of the work: updates due in whole agent steps.
    updates_per_call: setting of `RunConfig`.
  """
  from reincarnating_rl.loop.config.plan import RunConfig
  from reincarnating_rl.loop.training.initial_state import Beginning
  from reincarnating_rl.loop.training.trainer import Trainer

  learner = workloads.make_learner(name, distill=True)
  spec = workloads.taught_spec(rows)
  trainer = Trainer(
      RunConfig(
          update_horizon=workloads.UPDATE_HORIZON,
          batch_size=workloads.BATCH_SIZE,
          replay_capacity=rows,
          min_replay_history=0,
          replay_ratio=ratio,
          updates_per_call=updates_per_call,
          prioritized=True,
      ),
      learner,
      teacher=workloads.init_policy(
          workloads.make_learner('nature_dqn', distill=False)
      ),
      beginning=Beginning(
          workloads.init_state(learner).online_params,
          replay=lambda: (spec, workloads.filled_replay(spec)),
      ),
  )
  trainer.begin_online()
  writer: Any = trainer.writer
  steps = workloads.noise_steps(1)
  agent_steps = max(1, round(updates / ratio))

  def work() -> int:
    before = trainer.counters.updates_made
    for _ in range(agent_steps):
      trainer.train_step()
      trainer.store(**next(steps))
    jax.block_until_ready((trainer.learner_state, writer.state))
    return trainer.counters.updates_made - before

  return work


# -- populations --------------------------------------------------------------


def population_cases(
    num_members: int, per_call: int, sizes: Sizes
) -> list[Case]:
  """Calls of K updates of a population, and their compilation."""
  learner = workloads.make_learner(POPULATION_NETWORK, distill=False)
  spec = workloads.student_spec(sizes.rows)
  replays = functools.cache(lambda: make_replays(spec, num_members))

  def build(stacked: bool, compile_anew: bool) -> Work:
    update = member_updates(
        learner,
        spec,
        replays(),
        prioritized=False,
        stacked=stacked,
        compile_anew=compile_anew,
    )
    return workloads.repeated(lambda: update(per_call), 1, per_call)

  @functools.cache
  def ours() -> tuple[Work, float]:
    """The work, and the seconds of its compilation."""
    work = build(is_stacked_by_default(), True)
    first, second = _seconds(work), _seconds(work)
    return work, first - second

  name = f'population/{num_members}/updates_{per_call}'
  return [
      Case(
          f'{name}/update',
          harness.MILLISECONDS,
          lambda: ours()[0],
          SECONDS,
          lambda: build(False, False),
      ),
      Case(
          f'{name}/compile',
          harness.SECONDS,
          lambda: workloads.constant_work(ours()[1]),
      ),
  ]


def _seconds(work: Work) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start
