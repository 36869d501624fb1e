"""Measures this package on this machine.

  python scripts/benchmark.py
  python scripts/benchmark.py --filter 'updates/impala' --json > numbers.json
  python scripts/benchmark.py --filter '^(members|replay_ratio|population)/'

Offline updates, acting, online training, evaluation, replay and memory, for
three networks (on an accelerator in half precision, too); and the scaling of
updates (scaling.py), with a peer: the other way to do the same work.

  members/NETWORK/update_per_member/S: milliseconds, stacked or one by one;
  replay_ratio/NETWORK/RATIO: updates/s, grouped or one by one;
  population/S/updates_K/update: milliseconds, stacked or one by one; and
  population/S/updates_K/compile: seconds, without a peer.

Each number is the median of several measurements, taken in turn with the other
cases of its group. Setup and compilation are reported apart ('first call'). A
ratio above 1 is in favour of ours. Only layers up to the loop are needed. For a
comparison with Dopamine see benchmark_peers.py.
"""

from __future__ import annotations

import functools
import itertools
from typing import Callable, NamedTuple

from absl import app
from absl import flags
import jax

from benchmarks import harness
from benchmarks import machine
from benchmarks import output
from benchmarks import scaling
from benchmarks import workloads

_JSON, _QUICK = harness.define_flags()
_FILTER = harness.define_filter()
_REPEATS = flags.DEFINE_integer(
    'repeats', 5, 'Measurements of each number.', lower_bound=1
)
_SECONDS = flags.DEFINE_float(
    'seconds', 1.0, 'Scales the duration of measurements.', lower_bound=0.0
)
_FULL = flags.DEFINE_bool(
    'full',
    False,
    'Also measures replays of a million rows (8 GB of memory), and large '
    'populations on a CPU.',
)

NETWORKS = ('nature_dqn', 'nature_c51', 'impala_c51')
# Most CPUs emulate half precision.
HALF_PRECISION = ('nature_c51_bf16', 'impala_c51_bf16')


class Sizes(NamedTuple):
  """Amount of one work."""

  rows: tuple[int, ...] = (100_000,)  # rows of each replay
  updates: int = 32
  acts: int = 50  # calls
  online_steps: int = 128  # agent steps
  online_rows: int = 20_000
  online_envs: tuple[int, ...] = (1, 8, 32)
  evaluation_steps: int = 800  # agent steps
  samples: int = 100  # batches
  adds: int = 400  # agent steps
  updates_per_call: tuple[int, ...] = (1, 8, 32, 128)
  half_precision: bool = True


# An update of Impala takes part of a second on a CPU.
CPU_SIZES = Sizes(
    updates=8,
    online_steps=64,
    online_envs=(1, 8),
    updates_per_call=(1, 8, 32),
    half_precision=False,
)
QUICK_SIZES = CPU_SIZES._replace(
    rows=(2_000,),
    updates=2,
    acts=2,
    online_steps=16,
    online_rows=500,
    evaluation_steps=16,
    samples=2,
    adds=8,
)


def make_groups(sizes: Sizes) -> list[list[harness.Case]]:
  """All cases; those of a group are measured in turn and freed together."""
  # Memory comes first, while the process holds nothing else.
  groups = [memory_cases(sizes)]
  half = HALF_PRECISION if sizes.half_precision else ()
  groups += [update_cases(name, sizes) for name in NETWORKS + half]
  groups += playing_cases(sizes)
  groups += [online_cases(name, sizes) for name in NETWORKS]
  return groups + [replay_cases(rows, sizes) for rows in sizes.rows]


def size_name(rows: int) -> str:
  """'100k' for 100000, '1M' for 1000000."""
  return f'{rows // 10**6}M' if rows >= 10**6 else f'{rows // 10**3}k'


def _learner(name: str) -> workloads.ValueLearner:
  """Learner of a network; all but plain DQN distill."""
  return workloads.make_learner(name, distill=name != 'nature_dqn')


def update_cases(name: str, sizes: Sizes) -> list[harness.Case]:
  """Offline updates: on one batch, call by call, and K per call."""
  learner, spec = _learner(name), workloads.taught_spec(sizes.rows[0])
  replay = functools.cache(lambda: workloads.filled_replay(spec))

  def case(
      what: str, work: Callable[..., harness.Work], *args, **kwargs
  ) -> harness.Case:
    build = functools.partial(work, learner, spec, replay, *args, **kwargs)
    return harness.Case(f'updates/{name}/{what}', harness.UPDATES, build)

  def updates(what: str, k: int, wait_each: bool = False) -> harness.Case:
    return case(
        what,
        workloads.update_work,
        prioritized=False,
        updates=max(sizes.updates, k),
        per_call=k,
        wait_each=wait_each,
    )

  return [
      case('fixed_batch', workloads.fixed_batch_work, sizes.updates),
      updates('one_call_at_a_time', 1, wait_each=True),
      *(updates(f'update_many_{k}', k) for k in sizes.updates_per_call),
  ]


def playing_cases(sizes: Sizes) -> list[list[harness.Case]]:
  """Choice of actions, and evaluation; for one state and for eight."""
  acting, evaluating = [], []
  for name, n in itertools.product(NETWORKS, (1, 8)):
    learner = _learner(name)
    act = functools.partial(workloads.act_work, learner, n, sizes.acts)
    acting.append(harness.Case(f'act/{name}/states_{n}', harness.STEPS, act))
    evaluate = functools.partial(
        workloads.evaluation_work, learner, n, sizes.evaluation_steps
    )
    # Long enough for games to end: resets are part of it.
    evaluating.append(
        harness.Case(f'evaluate/{name}/envs_{n}', harness.STEPS, evaluate, 3.0)
    )
  return [acting, evaluating]


def online_cases(name: str, sizes: Sizes) -> list[harness.Case]:
  """The online loop, in one environment and in several, overlapped or not."""
  distills = name != 'nature_dqn'
  build = functools.partial(
      workloads.online_work,
      _learner(name),
      prioritized=distills,
      teacher=_learner('nature_dqn') if distills else None,
      capacity=sizes.online_rows,
      agent_steps=sizes.online_steps,
  )
  return [
      harness.Case(
          f'online/{name}/envs_{n}{suffix}',
          harness.STEPS,
          functools.partial(build, num_envs=n, overlap=bool(suffix)),
          seconds=2.0,
      )
      for n in sizes.online_envs
      for suffix in ('', '_overlap')
  ]


def replay_cases(rows: int, sizes: Sizes) -> list[harness.Case]:
  """Adding a transition, and sampling 32, at one size."""
  spec = workloads.student_spec(rows)

  @functools.cache
  def writer() -> workloads.ReplayWriter:
    writer = workloads.ReplayWriter(spec, chunk=workloads.UPDATE_PERIOD)
    # Freed first: a million rows need not be there twice.
    del writer.state
    writer.state = workloads.filled_replay(spec)
    return writer

  def add() -> harness.Work:
    return workloads.add_work(writer(), workloads.noise_steps(1), sizes.adds)

  def sample() -> harness.Work:
    return workloads.sample_work(spec, writer(), sizes.samples)

  size = size_name(rows)
  return [
      harness.Case(f'replay/add/{size}', harness.MICROSECONDS, add),
      harness.Case(f'replay/sample_32/{size}', harness.MICROSECONDS, sample),
  ]


def memory_cases(sizes: Sizes) -> list[harness.Case]:
  """Bytes of a replay, and the resident memory of a process with one."""
  rows = sizes.rows[-1]

  @functools.cache
  def measured() -> dict[str, float]:
    # Alive while the replay is filled.
    state = workloads.init_state(_learner('nature_c51'))
    before = machine.resident_mebibytes()
    replay = workloads.filled_replay(workloads.taught_spec(rows))
    found = workloads.footprint(before)
    found['arrays'] = sum(x.nbytes for x in jax.tree.leaves(replay)) / 2**20
    del state
    return found

  def build(what: str) -> harness.Work:
    return workloads.constant_work(measured()[what])

  names = ['arrays', 'resident_growth', 'resident_total']
  if jax.default_backend() != 'cpu':
    names.append('device')
  return [
      harness.Case(
          f'memory/replay_{size_name(rows)}/{what}',
          harness.MEBIBYTES,
          functools.partial(build, what),
      )
      for what in names
  ]


def measure(
    pattern: str, repeats: int, seconds: float, quick: bool, full: bool
) -> list[harness.Result]:
  """Measures all cases that `pattern` selects; see the flags."""
  sizes = CPU_SIZES if jax.default_backend() == 'cpu' else Sizes()
  sizes = QUICK_SIZES if quick else sizes
  if full:
    sizes = sizes._replace(rows=sizes.rows + (1_000_000,))
  groups = make_groups(sizes)
  groups += scaling.make_groups(scaling.choose_sizes(quick, full))
  repeats = min(repeats, 2) if quick else repeats
  chosen = harness.select(sum(groups, []), pattern)
  total = harness.num_measurements(chosen, repeats)
  # Names only: a group frees its memory when nothing holds its cases.
  names = {case.name for case in chosen}
  del chosen
  results = []
  with output.progress(total) as bar:
    while groups:
      cases = [
          case._replace(seconds=case.seconds * seconds)
          for case in groups.pop(0)
          if case.name in names
      ]
      results += harness.run_cases(cases, repeats, quick, bar)
  return results


def main(argv: list[str]) -> None:
  del argv
  out = output.claim_stdout()
  results = measure(
      _FILTER.value, _REPEATS.value, _SECONDS.value, _QUICK.value, _FULL.value
  )
  harness.write_report(out, results, _JSON.value)


if __name__ == '__main__':
  app.run(main)
