"""Measures this package on the machine at hand.

  python scripts/benchmark.py
  python scripts/benchmark.py --filter 'updates/impala' --json > numbers.json
  python scripts/benchmark.py --filter '^(members|replay_ratio|population)/'

Offline updates, acting, online training, evaluation, replay and memory, for
three networks (on an accelerator in half precision, too); and how updates scale
(bench_scaling.py), where a peer, the other way to do the same work, is measured
beside ours:

  members/NETWORK/update_per_member/S: milliseconds, stacked or one by one;
  replay_ratio/NETWORK/RATIO: updates/s, grouped or one by one;
  population/S/updates_K/update: milliseconds, stacked or one by one; and
  population/S/updates_K/compile: seconds, without a peer.

Each number is the median of several measurements, taken in turn with those
beside it; setup and compilation are apart ('first call'). A ratio above 1 is
in favour of ours. Needs layers 0 to 4 of the package only. For a comparison
with Dopamine see benchmark_peers.py.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from absl import app
from absl import flags
import bench_lib
from bench_lib import Case
from bench_lib import MEBIBYTES
from bench_lib import MICROSECONDS
from bench_lib import STEPS
from bench_lib import UPDATES
import bench_scaling
import bench_work
import jax

_JSON, _FILTER, _QUICK = bench_lib.define_flags()
_REPEATS = flags.DEFINE_integer(
    'repeats', 5, 'Measurements of each number.', lower_bound=1
)
_SECONDS = flags.DEFINE_float(
    'seconds',
    1.0,
    'Scales how long one measurement lasts, one second in most cases.',
    lower_bound=0.0,
)
_FULL = flags.DEFINE_bool(
    'full',
    False,
    'Replays of a million rows, too (8 GB of memory); large populations on a '
    'CPU, too.',
)

NETWORKS = ('nature_dqn', 'nature_c51', 'impala_c51')
# Half precision is emulated on most CPUs.
HALF_PRECISION = ('nature_c51_bf16', 'impala_c51_bf16')
UPDATES_PER_CALL = (1, 8, 32, 128)


class Sizes(NamedTuple):
  """How much one work does."""

  rows: tuple[int, ...] = (100_000,)  # of the replays
  updates: int = 32
  acts: int = 50  # calls
  online_steps: int = 128  # agent steps
  online_rows: int = 20_000
  online_envs: tuple[int, ...] = (1, 8, 32)
  evaluation_steps: int = 800  # agent steps
  samples: int = 100  # batches
  adds: int = 400  # agent steps
  updates_per_call: tuple[int, ...] = UPDATES_PER_CALL
  half_precision: bool = True


# An update of Impala takes part of a second on a CPU.
CPU_SIZES = Sizes(
    updates=8,
    online_steps=64,
    online_envs=(1, 8),
    updates_per_call=(1, 8, 32),
    half_precision=False,
)
QUICK_SIZES = Sizes(
    rows=(2_000,),
    updates=2,
    acts=2,
    online_steps=16,
    online_rows=500,
    online_envs=(1, 8),
    evaluation_steps=16,
    samples=2,
    adds=8,
    updates_per_call=(1, 8, 32),
    half_precision=False,
)


def make_groups(sizes: Sizes) -> list[list[Case]]:
  """All cases; those of a group are measured in turn and freed together."""
  # The memory comes first, while the process holds nothing else.
  groups = [memory_cases(sizes)]
  half = HALF_PRECISION if sizes.half_precision else ()
  groups += [update_cases(name, sizes) for name in NETWORKS + half]
  groups += [acting_cases(sizes), evaluation_cases(sizes)]
  groups += [online_cases(name, sizes) for name in NETWORKS]
  return groups + [replay_cases(rows, sizes) for rows in sizes.rows]


def size_name(rows: int) -> str:
  """100000 to '100k', 1000000 to '1M'."""
  return f'{rows // 10**6}M' if rows >= 10**6 else f'{rows // 10**3}k'


def _learner(name: str):
  """The learner of a network; all but plain DQN distill."""
  return bench_work.make_learner(name, distill=name != 'nature_dqn')


def update_cases(name: str, sizes: Sizes) -> list[Case]:
  """Offline updates: on one batch, call by call, and K to a call."""

  @functools.cache
  def replay():
    spec = bench_work.taught_spec(sizes.rows[0])
    return spec, bench_work.filled_replay(spec)

  def fixed_batch():
    return bench_work.fixed_batch_work(_learner(name), *replay(), sizes.updates)

  def updates(per_call: int, wait_each: bool):
    return bench_work.update_work(
        _learner(name),
        *replay(),
        prioritized=False,
        updates=max(sizes.updates, per_call),
        per_call=per_call,
        wait_each=wait_each,
    )

  case = lambda what, build: Case(f'updates/{name}/{what}', UPDATES, build)
  return [
      case('fixed_batch', fixed_batch),
      case('one_call_at_a_time', lambda: updates(1, True)),
  ] + [
      case(f'update_many_{k}', functools.partial(updates, k, False))
      for k in sizes.updates_per_call
  ]


def acting_cases(sizes: Sizes) -> list[Case]:
  """Choosing actions for one state, and for eight."""

  def build(name: str, num_states: int):
    return bench_work.act_work(_learner(name), num_states, sizes.acts)

  return [
      Case(f'act/{name}/states_{n}', STEPS, functools.partial(build, name, n))
      for name in NETWORKS
      for n in (1, 8)
  ]


def evaluation_cases(sizes: Sizes) -> list[Case]:
  """Evaluation in one environment, and in eight."""

  def build(name: str, num_envs: int):
    return bench_work.evaluation_work(
        _learner(name), num_envs, sizes.evaluation_steps
    )

  # Long enough for a game to end now and then: resets are part of it.
  return [
      Case(
          f'evaluate/{name}/envs_{n}',
          STEPS,
          functools.partial(build, name, n),
          seconds=3.0,
      )
      for name in NETWORKS
      for n in (1, 8)
  ]


def online_cases(name: str, sizes: Sizes) -> list[Case]:
  """The online loop, in one environment and in several, overlapped or not."""

  def build(num_envs: int, overlap: bool):
    learner = _learner(name)
    distills = learner.objective.needs_teacher
    return bench_work.online_work(
        learner,
        num_envs,
        prioritized=name != 'nature_dqn',
        teacher=_learner('nature_dqn') if distills else None,
        capacity=sizes.online_rows,
        agent_steps=sizes.online_steps,
        overlap=overlap,
    )

  return [
      Case(
          f'online/{name}/envs_{n}{"_overlap" if overlap else ""}',
          STEPS,
          functools.partial(build, n, overlap),
          seconds=2.0,
      )
      for n in sizes.online_envs
      for overlap in (False, True)
  ]


def replay_cases(rows: int, sizes: Sizes) -> list[Case]:
  """Adding a transition, and sampling 32, at one size."""

  @functools.cache
  def spec_and_writer():
    spec = bench_work.student_spec(rows)
    writer = bench_work.ReplayWriter(spec, chunk=bench_work.UPDATE_PERIOD)
    writer.state = None  # a million rows should not be there twice
    writer.state = bench_work.filled_replay(spec)
    return spec, writer

  def add():
    steps = bench_work.noise_steps(1)
    return bench_work.add_work(spec_and_writer()[1], steps, sizes.adds)

  def sample():
    return bench_work.sample_work(*spec_and_writer(), sizes.samples)

  case = lambda what, build: Case(
      f'replay/{what}/{size_name(rows)}', MICROSECONDS, build
  )
  return [case('add', add), case('sample_32', sample)]


def memory_cases(sizes: Sizes) -> list[Case]:
  """Bytes of a replay, and the resident memory of a process with one."""
  rows = sizes.rows[-1]

  @functools.cache
  def measured():
    spec = bench_work.taught_spec(rows)
    alive = [bench_work.init_state(_learner('nature_c51'))]
    before = bench_lib.resident_mebibytes()
    alive.append(bench_work.filled_replay(spec))
    arrays = sum(x.nbytes for x in jax.tree.leaves(alive[1])) / 2**20
    return arrays, bench_work.footprint(before)

  def build(what: str):
    arrays, footprint = measured()
    value = {
        'arrays': arrays,
        'resident_growth': footprint.growth,
        'resident_total': footprint.total,
        'device': footprint.device,
    }[what]
    return bench_work.constant_work(value)

  names = ['arrays', 'resident_growth', 'resident_total']
  if jax.default_backend() != 'cpu':
    names.append('device')
  return [
      Case(
          f'memory/replay_{size_name(rows)}/{what}',
          MEBIBYTES,
          functools.partial(build, what),
      )
      for what in names
  ]


def main(argv: list[str]) -> None:
  del argv
  out = bench_lib.claim_stdout()
  sizes = CPU_SIZES if jax.default_backend() == 'cpu' else Sizes()
  sizes = QUICK_SIZES if _QUICK.value else sizes
  if _FULL.value:
    sizes = sizes._replace(rows=sizes.rows + (1_000_000,))
  groups = make_groups(sizes)
  groups += bench_scaling.make_groups(
      bench_scaling.choose_sizes(_QUICK.value, _FULL.value)
  )
  groups = [
      [c._replace(seconds=c.seconds * _SECONDS.value) for c in group]
      for group in groups
  ]
  repeats = min(_REPEATS.value, 2) if _QUICK.value else _REPEATS.value
  chosen = bench_lib.select(sum(groups, []), _FILTER.value)
  total = bench_lib.num_measurements(chosen, repeats)
  # Names only: a group frees its memory when nothing holds its cases.
  names = {case.name for case in chosen}
  del chosen
  results = []
  with bench_lib.progress(total) as bar:
    while groups:
      group = [c for c in groups.pop(0) if c.name in names]
      results += bench_lib.run_cases(group, repeats, _QUICK.value, bar)
  bench_lib.write_report(out, results, _JSON.value)


if __name__ == '__main__':
  app.run(main)
