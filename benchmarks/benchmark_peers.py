"""Measures this package and Dopamine 4.1.2 side by side, doing the same work.

  python scripts/benchmark_peers.py
  python scripts/benchmark_peers.py --filter updates --json > numbers.json

Each side lives in a process of its own (this script in worker mode), with a
virtual environment of its own that is made first (bench_environments.py). It
builds what it needs once and then measures when it is asked to, in turn with
the other. The networks are the same (Nature C51 with 51 atoms and without
noise, dueling or double learning; Nature DQN with the Huber loss), so are the
horizon (3), the batch (32) and the game (Pong, random weights). Ours distills
from the teacher's stored Q-values in every offline update; Dopamine has no
such thing and only trains.

Names under updates/: `whole` is sampling, update and, for C51, priorities;
`bare_train` is Dopamine's update on a batch that is already on the device, and
`fixed_batch` is that on both sides; `asking` is Dopamine's whole update with a
teacher's forward pass on its batch, as the earlier release distilled. Names
under online/ and evaluate/ say what ours uses; Dopamine always plays in one
environment. start/ is the life of a process that ends with its first update;
ours finds its compiled code in the cache of the process before. memory/ and
replay/ are of 100,000 transitions, or of a million with --full.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from typing import Any, NamedTuple, TextIO

from absl import app
from absl import flags
import bench_environments
import bench_lib
from bench_lib import MEBIBYTES
from bench_lib import MICROSECONDS
from bench_lib import Result
from bench_lib import SECONDS
from bench_lib import STEPS
from bench_lib import UPDATES

_JSON, _FILTER, _QUICK = bench_lib.define_flags()
_ROUNDS = flags.DEFINE_integer(
    'rounds', 5, 'Measurements of each number, on each side.', lower_bound=1
)
_ENVIRONMENTS = flags.DEFINE_enum(
    'environments',
    'own',
    ['own', 'this'],
    'A virtual environment for each side, or the interpreter at hand.',
)
_FULL = flags.DEFINE_bool(
    'full', False, 'Replays of a million transitions (16 GB of memory).'
)
_WORKER = flags.DEFINE_enum(
    'worker', None, ['ours', 'dopamine'], 'Internal: serve one side.'
)

OURS, DOPAMINE = 'ours', 'dopamine'


class Comparison(NamedTuple):
  """One line of the outcome: a task of ours against one of Dopamine's."""

  name: str
  unit: str
  ours: str
  dopamine: str
  seconds: float = 1.0  # of one measurement, at least


def comparisons() -> list[Comparison]:
  """What is compared; memory comes first, while the processes hold little."""
  out = [
      Comparison(f'memory/{task}', MEBIBYTES, task, task)
      for task in ('resident_total', 'replay_growth')
  ]
  out += [
      Comparison('replay/add', MICROSECONDS, 'add', 'add'),
      Comparison('replay/sample_32', MICROSECONDS, 'sample', 'sample'),
  ]
  for net in ('c51', 'dqn'):
    whole, bare = f'updates_{net}', f'fixed_batch_{net}'
    out += [
        Comparison(f'updates/{net}/whole', UPDATES, whole, whole),
        Comparison(f'updates/{net}/whole_vs_bare_train', UPDATES, whole, bare),
        Comparison(f'updates/{net}/fixed_batch', UPDATES, bare, bare),
    ]
  whole, asking = 'updates_c51', 'updates_c51_asking'
  out.append(Comparison('updates/c51/whole_vs_asking', UPDATES, whole, asking))
  out.append(Comparison('start/first_update', SECONDS, 'start', 'start'))
  for envs in ('1_env', '8_envs'):
    # One work a measurement: the same number of agent steps on both sides.
    task = f'evaluate_{envs}'
    out.append(Comparison(f'evaluate/{envs}', STEPS, task, 'evaluate', 0.0))
  for what in ('1_env', '8_envs', '1_env_distilling', '8_envs_distilling'):
    task = f'online_{what}'
    out.append(Comparison(f'online/{what}', STEPS, task, 'online', 2.0))
  return out


# -- a worker, from outside ---------------------------------------------------


class WorkerError(Exception):
  """A worker failed; the message is one sentence for the user."""


class Worker:
  """One side in a process of its own, spoken to in lines of JSON."""

  def __init__(self, side: str, python: str):
    """Starts it and waits until it has imported what it needs.

    Args:
      side: which one.
      python: its interpreter.
    """
    self._side = side
    self._log = tempfile.NamedTemporaryFile(
        'w+', prefix=f'benchmark_{side}_', suffix='.log', delete=False
    )
    command = [python, os.path.abspath(__file__), f'--worker={side}']
    command += ['--quick'] * _QUICK.value + ['--full'] * _FULL.value
    self._process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._log,
        text=True,
        # Two processes share an accelerator, where there is one.
        env=os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'},
    )
    try:
      self.facts = self._answer('starting')
    except WorkerError:
      self.close()
      raise

  def build(self, task: str) -> None:
    """Lets it build a task and run its work once."""
    self._ask(task, {'do': 'build', 'task': task})

  def measure(self, task: str, unit: str, seconds: float) -> float:
    """Lets it measure a task that it has built."""
    request = {'do': 'measure', 'task': task, 'unit': unit, 'seconds': seconds}
    return self._ask(task, request)['value']

  def close(self) -> None:
    """Ends it; its log goes, too."""
    try:
      self._process.stdin.close()
    except BrokenPipeError:
      pass  # it is dead, and a request to it was never read
    try:
      self._process.wait(timeout=20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()
    self._log.close()
    os.unlink(self._log.name)

  def _ask(self, task: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
      self._process.stdin.write(json.dumps(request) + '\n')
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # what it died of is told by the missing answer
    return self._answer(f'running {task}')

  def _answer(self, doing: str) -> dict[str, Any]:
    line = self._process.stdout.readline()
    if line:
      answer = json.loads(line)
      if 'error' not in answer:
        return answer
      reason = answer['error']
    elif (status := self._process.wait()) < 0:
      reason = f'killed by {signal.Signals(-status).name}'
    else:
      reason = f'exit status {status}, after {self._last_line()!r}'
    raise WorkerError(
        f'The side {self._side!r} failed while {doing}: {reason}.'
    )

  def _last_line(self) -> str:
    self._log.seek(0)
    lines = self._log.read().strip().splitlines()
    return lines[-1][:200] if lines else ''


# -- a worker, from inside ----------------------------------------------------


def serve(side_name: str, out: TextIO) -> None:
  """Answers requests from stdin until it ends."""

  def answer(**fields: Any) -> None:
    out.write(json.dumps(fields) + '\n')
    out.flush()

  try:
    import bench_sides

    sizes = bench_sides.Sizes()
    if _FULL.value:
      sizes = sizes._replace(rows=1_000_000)
    sizes = bench_sides.QUICK_SIZES if _QUICK.value else sizes
    side = bench_sides.SIDES[side_name](sizes)
    tasks, works = side.tasks(), {}
    answer(
        machine=bench_lib.describe_machine(),
        versions=bench_lib.package_versions(*side.packages),
    )
    for line in sys.stdin:
      request = json.loads(line)
      task = request['task']
      if request['do'] == 'build':
        works[task] = tasks[task]()
        works[task]()
        answer()
      else:
        unit, seconds = request['unit'], request['seconds']
        answer(value=bench_lib.measure(unit, works[task], seconds))
  except Exception as error:
    traceback.print_exc()
    answer(error=f'{type(error).__name__}: {error}'.splitlines()[0])
    sys.exit(1)


# -- comparing ----------------------------------------------------------------


def compare(
    workers: dict[str, Worker],
    chosen: list[Comparison],
    rounds: int,
    quick: bool,
) -> list[Result]:
  """Builds every task, then measures them all in turn, round by round."""
  jobs = {}  # (side, task) -> (unit, seconds); a task may stand in many lines
  for c in chosen:
    for side, task in ((OURS, c.ours), (DOPAMINE, c.dopamine)):
      jobs[side, task] = (c.unit, 0.0 if quick else c.seconds)
  values = {job: [] for job in jobs}
  with bench_lib.progress(len(jobs) * (rounds + 1)) as bar:
    for side, task in jobs:
      bar.set_description(f'building {task} of {side}', refresh=False)
      workers[side].build(task)
      bar.update()
    for r in range(rounds):
      for side, task in bench_lib.alternate(list(jobs), r):
        bar.set_description(f'{task} of {side}', refresh=False)
        unit, seconds = jobs[side, task]
        value = workers[side].measure(task, unit, seconds)
        values[side, task].append(value)
        bar.update()
  return [
      Result(c.name, c.unit, values[OURS, c.ours], values[DOPAMINE, c.dopamine])
      for c in chosen
  ]


def main(argv: list[str]) -> None:
  del argv
  out = bench_lib.claim_stdout()
  quick = _QUICK.value
  if _WORKER.value is not None:
    serve(_WORKER.value, out)
    return
  chosen = bench_lib.select(comparisons(), _FILTER.value)
  rounds = min(_ROUNDS.value, 2) if quick else _ROUNDS.value
  workers: dict[str, Worker] = {}
  try:
    # Dopamine first: where it is missing, this ends at once.
    for side in (DOPAMINE, OURS):
      python = sys.executable
      if _ENVIRONMENTS.value == 'own':
        python = bench_environments.python_of(side)
      workers[side] = Worker(side, python)
    results = compare(workers, chosen, rounds, quick)
    facts = workers[DOPAMINE].facts
  except (WorkerError, bench_environments.InstallError) as error:
    raise SystemExit(str(error)) from None
  finally:
    for worker in workers.values():
      worker.close()
  bench_lib.write_report(
      out, results, _JSON.value, facts['machine'], facts['versions']
  )


if __name__ == '__main__':
  app.run(main)
