"""How updates scale: with members, with the replay ratio, with populations.

The cases of benchmark.py that have a peer, which is another way to do the same
work on the same machine. Shape letters: S members, K updates a call.

Members: updates of S learners, as the default replay ratio has them (K = 1),
stacked in one dispatch or in one dispatch each. Ours is what the backend does
by default, the peer is the other; milliseconds an update and member.

Replay ratios: a `Trainer` with a replay of noise, without any environment:
steps are stored, the teacher looks at them, updates are made as they fall due.
Ours groups them as `RunConfig.grouped_updates` has it, the peer makes each in
a call of its own. Below a ratio of 2 these are the same.

Populations: the timing scripts of Flajolet et al. 2022, "Fast population-based
reinforcement learning on a single machine" (github.com/instadeepai/fastpbrl):
plain DQN, batches of 32, every call waited for, milliseconds an update of the
whole population; the peer is S runs of one member, one after the other.
Deviations: batches are drawn from replays on the device, where theirs lie
there ready; the network is ours (512 hidden units and 6 actions, theirs 256
and 14); the median, theirs is the mean; and compilation is the first call less
the second, theirs the first.
"""

from __future__ import annotations

from fractions import Fraction
import functools
import time
from typing import Any, Callable, NamedTuple, Optional

import bench_lib
from bench_lib import Case
from bench_lib import MILLISECONDS
from bench_lib import UPDATES
from bench_lib import Work
import bench_work
import jax
import jax.numpy as jnp

from reincarnating_rl.learner import make_updater
from reincarnating_rl.learner import members
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState

NETWORKS = ('nature_c51', 'impala_c51')
POPULATION_NETWORK = 'nature_dqn'
RATIOS = tuple(map(Fraction, ('0.25', '1', '2.5', '8', '32')))
POPULATION_UPDATES_PER_CALL = (1, 10)
SECONDS = 0.5  # of a measurement, at least

# Makes so many updates, and gives what is to be waited for.
Update = Callable[[int], Any]


class Sizes(NamedTuple):
  """How much is measured, and how much one work does."""

  rows: int = 2_000  # of each member's replay
  members: tuple[int, ...] = (1, 2, 4, 8, 10, 16, 40)
  populations: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
  updates: int = 32  # of each member, at least
  impala_updates: int = 32
  impala_repeats: Optional[int] = None  # at most


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
  """Those of this backend.

  Args:
    quick: for a test.
    full: large populations on a CPU, too.
  """
  if quick:
    return QUICK_SIZES
  if not is_stacked_by_default() and full:
    return CPU_SIZES._replace(populations=Sizes().populations)
  return Sizes() if is_stacked_by_default() else CPU_SIZES


def is_stacked_by_default() -> bool:
  """Whether this backend updates members together, as `SideBySide` has it."""
  return jax.default_backend() != 'cpu'


def make_groups(sizes: Sizes) -> list[list[Case]]:
  """All cases; those of a group are measured in turn and freed together."""
  groups = [
      member_cases(name, num_members, sizes)
      for name in NETWORKS
      for num_members in sizes.members
  ]
  groups += [
      ratio_cases(name, ratio, sizes) for name in NETWORKS for ratio in RATIOS
  ]
  return groups + [
      population_cases(num_members, per_call, sizes)
      for num_members in sizes.populations
      for per_call in POPULATION_UPDATES_PER_CALL
  ]


# -- members ------------------------------------------------------------------


def member_cases(name: str, num_members: int, sizes: Sizes) -> list[Case]:
  """Updates of a QDagger learner's members, one update a call."""
  learner = bench_work.make_learner(name, distill=True)
  spec = bench_work.taught_spec(sizes.rows)
  replays = functools.cache(lambda: make_replays(spec, num_members))
  amount, max_repeats = _amounts(name, sizes)

  def build(stacked: bool) -> Work:
    update = member_updates(
        learner, spec, replays(), prioritized=True, stacked=stacked
    )

    def work() -> int:
      for _ in range(amount):
        alive = update(1)
      jax.block_until_ready(alive)
      return amount * num_members

    return work

  stacked = is_stacked_by_default()
  return [
      Case(
          f'members/{name}/update_per_member/{num_members}',
          MILLISECONDS,
          functools.partial(build, stacked),
          SECONDS,
          functools.partial(build, not stacked),
          max_repeats,
      )
  ]


def _amounts(name: str, sizes: Sizes) -> tuple[int, Optional[int]]:
  """Updates of one work, and how often it is measured at most."""
  if name.startswith('impala'):
    return sizes.impala_updates, sizes.impala_repeats
  return sizes.updates, None


def make_replays(spec: ReplaySpec, num_members: int) -> list[ReplayState]:
  """Full replays of noise, each in memory of its own."""
  filled = bench_work.filled_replay(spec)
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
  """Fresh members and what updates them.

  Args:
    learner: whose updates.
    spec: of each replay.
    replays: S of them, only read; their priorities are copied.
    prioritized: whether priorities are written back.
    stacked: all in one dispatch, else in one each.
    compile_anew: even if such updates were compiled before.

  Returns:
    `update(num_updates)` of all members in calls of so many; it does not wait.
  """
  make = make_updater.__wrapped__ if compile_anew else make_updater
  updater = make(
      learner,
      spec,
      bench_work.BATCH_SIZE,
      prioritized,
      scan=jax.default_backend() != 'cpu',
      num_members=len(replays) if stacked else None,
  )
  states = [
      bench_work.init_state(learner)._replace(rng_key=jax.random.PRNGKey(i))
      for i in range(len(replays))
  ]
  storages = tuple(replay.storage for replay in replays)
  priorities = tuple(
      jax.tree.map(jnp.copy, replay.priorities) for replay in replays
  )
  if stacked:
    return _updates_of(updater, members.stack(states), storages, priorities)
  updates = [
      _updates_of(updater, *member)
      for member in zip(states, storages, priorities)
  ]
  return lambda num_updates: [update(num_updates) for update in updates]


def _updates_of(
    updater: Callable, state: Any, storage: Any, priorities: Any
) -> Update:
  """Calls an updater with what it returned the last time."""
  alive = [state, priorities]

  def update(num_updates: int) -> list[Any]:
    alive[:] = updater(alive[0], storage, alive[1], num_updates)[:2]
    return alive

  return update


# -- replay ratios ------------------------------------------------------------


def ratio_cases(name: str, ratio: Fraction, sizes: Sizes) -> list[Case]:
  """Updates as they fall due at a replay ratio, in groups and one by one."""
  amount, max_repeats = _amounts(name, sizes)
  build = functools.partial(
      ratio_work, name, ratio, rows=sizes.rows, updates=amount
  )
  return [
      Case(
          f'replay_ratio/{name}/{float(ratio):g}',
          UPDATES,
          functools.partial(build, updates_per_call=None),
          SECONDS,
          functools.partial(build, updates_per_call=1),
          max_repeats,
      )
  ]


def ratio_work(
    name: str,
    ratio: Fraction,
    *,
    rows: int,
    updates: int,
    updates_per_call: Optional[int],
) -> Work:
  """What a trainer does beside acting; it waits only when it reads metrics.

  Args:
    name: of the network.
    ratio: updates per agent step.
    rows: agent steps of the replay, which begins full.
    updates: units of the work, about: as many as whole agent steps make due.
    updates_per_call: as in `RunConfig`.
  """
  from reincarnating_rl.loop.config.plan import RunConfig
  from reincarnating_rl.loop.training.initial_state import Beginning
  from reincarnating_rl.loop.training.trainer import Trainer

  learner = bench_work.make_learner(name, distill=True)
  spec = bench_work.taught_spec(rows)
  trainer = Trainer(
      RunConfig(
          update_horizon=bench_work.UPDATE_HORIZON,
          batch_size=bench_work.BATCH_SIZE,
          replay_capacity=rows,
          min_replay_history=0,
          replay_ratio=ratio,
          updates_per_call=updates_per_call,
          prioritized=True,
      ),
      learner,
      teacher=bench_work.init_policy(
          bench_work.make_learner('nature_dqn', distill=False)
      ),
      beginning=Beginning(
          bench_work.init_state(learner).online_params,
          replay=lambda: (spec, bench_work.filled_replay(spec)),
      ),
  )
  trainer.begin_online()
  steps = bench_work.noise_steps(1)
  agent_steps = max(1, round(updates / ratio))

  def work() -> int:
    before = trainer.counters.updates_made
    for _ in range(agent_steps):
      trainer.train_step()
      trainer.store(**next(steps))
    jax.block_until_ready((trainer.learner_state, trainer.writer.state))
    return trainer.counters.updates_made - before

  return work


# -- populations --------------------------------------------------------------


def population_cases(
    num_members: int, per_call: int, sizes: Sizes
) -> list[Case]:
  """Calls of K updates of a population, and their compilation."""
  learner = bench_work.make_learner(POPULATION_NETWORK, distill=False)
  spec = bench_work.taught_spec(sizes.rows)
  replays = functools.cache(lambda: make_replays(spec, num_members))

  def build_updates(stacked: bool, compile_anew: bool) -> Update:
    return member_updates(
        learner,
        spec,
        replays(),
        prioritized=False,
        stacked=stacked,
        compile_anew=compile_anew,
    )

  def as_work(update: Update) -> Work:
    def work() -> int:
      jax.block_until_ready(update(per_call))
      return per_call

    return work

  @functools.cache
  def ours() -> tuple[Work, float]:
    """The work, and how many seconds its compilation took."""
    work = as_work(build_updates(is_stacked_by_default(), True))
    first, second = _seconds(work), _seconds(work)
    return work, first - second

  case = lambda what, *more: Case(
      f'population/{num_members}/updates_{per_call}/{what}', *more
  )
  return [
      case(
          'update',
          MILLISECONDS,
          lambda: ours()[0],
          SECONDS,
          lambda: as_work(build_updates(False, False)),
      ),
      case(
          'compile',
          bench_lib.SECONDS,
          lambda: bench_work.constant_work(ours()[1]),
      ),
  ]


def _seconds(work: Work) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start
