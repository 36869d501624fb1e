"""Measures this package and Dopamine 4.1.2 side by side, doing the same work.

  python scripts/benchmark_peers.py
  python scripts/benchmark_peers.py --filter updates --json > numbers.json

Each side is a process of its own (this script in worker mode) in a virtual
environment of its own, which is made first (virtual_environments.py). A side
builds what it needs once, and is then measured in turn with the other. The
networks are the same (Nature C51 with 51 atoms and without noise, dueling or
double learning; Nature DQN with the Huber loss), so are the horizon (3), the
batch (32) and the game (Pong, random weights). Ours distills from the teacher's
stored Q-values in every offline update; Dopamine only trains.

Names below updates/: `whole` is sampling, update and, for C51, priorities;
`bare_train` is Dopamine's update on a batch that is on the device already, and
`fixed_batch` is that on both sides; `asking` is Dopamine's whole update with a
teacher's forward pass on its batch, as the earlier release distilled. Names
below online/ and evaluate/ say what ours uses; Dopamine always plays in one
environment. start/ is the lifetime of a process that ends with its first
update; ours finds its compiled code in the cache of the process before.
memory/ and replay/ have 100,000 transitions, or a million with --full.
"""

from __future__ import annotations

import functools
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

from benchmarks import harness
from benchmarks import machine
from benchmarks import output
from benchmarks import virtual_environments
from benchmarks.harness import Case
from benchmarks.harness import MEBIBYTES
from benchmarks.harness import MICROSECONDS
from benchmarks.harness import Result
from benchmarks.harness import SECONDS
from benchmarks.harness import STEPS
from benchmarks.harness import UPDATES
from benchmarks.harness import Work

OURS, DOPAMINE = 'ours', 'dopamine'


_JSON, _QUICK = harness.define_flags()
_FILTER = harness.define_filter()
_ROUNDS = flags.DEFINE_integer(
    'rounds', 5, 'Measurements of each number on each side.', lower_bound=1
)
_ENVIRONMENTS = flags.DEFINE_enum(
    'environments',
    'own',
    ['own', 'this'],
    'Use a virtual environment for each side, or the current interpreter.',
)
_FULL = flags.DEFINE_bool(
    'full', False, 'Replays of a million transitions (16 GB of memory).'
)
_WORKER = flags.DEFINE_enum(
    'worker', None, [OURS, DOPAMINE], 'Internal: serve one side.'
)


class Comparison(NamedTuple):
  """One line of the results: a task of ours against one of Dopamine's."""

  name: str
  unit: str
  ours: str
  dopamine: str
  seconds: float = 1.0  # shortest duration of a measurement


def comparisons() -> list[Comparison]:
  """All lines; memory comes first, while the processes hold little."""
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
  """One side in a process of its own; both talk in lines of JSON.

  Attributes:
    facts: machine and versions of the process.
  """

  def __init__(self, side: str, python: str):
    """Starts the process with this interpreter, and waits for its imports."""
    self._side = side
    self._log = tempfile.TemporaryFile('w+')
    command = [python, '-m', 'benchmarks.benchmark_peers', f'--worker={side}']
    command += ['--quick'] * _QUICK.value + ['--full'] * _FULL.value
    self._process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._log,
        text=True,
        cwd=virtual_environments.REPOSITORY,
        # Two processes share an accelerator, if there is one.
        env=os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'},
    )
    try:
      self.facts = self._answer('starting')
    except WorkerError:
      self.close()
      raise

  def work(self, task: str, unit: str, seconds: float) -> Work:
    """A work whose value is measured by the process, which builds it first."""
    request = json.dumps({'task': task, 'unit': unit, 'seconds': seconds})

    def measured() -> float:
      try:
        print(request, file=self._process.stdin, flush=True)
      except BrokenPipeError:
        pass  # the process is dead; the missing answer leads to its error
      return self._answer(f'running {task}')['value']

    return measured

  def close(self) -> None:
    """Ends the process."""
    try:
      self._process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.communicate()
    self._log.close()

  def _answer(self, doing: str) -> dict[str, Any]:
    assert self._process.stdout is not None
    if line := self._process.stdout.readline():
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


def require_dopamine() -> None:
  """Raises an ImportError with one sentence if Dopamine is missing."""
  try:
    import dopamine as _  # noqa: F401
  except ImportError as error:
    raise ImportError(
        f'{sys.executable} cannot import Dopamine ({error}); '
        'dopamine-rl 4.1.2 must be installed beside this package'
    ) from error


def serve(side_name: str, out: TextIO) -> None:
  """Answers requests from stdin until it ends."""

  def answer(**fields: Any) -> None:
    out.write(json.dumps(fields) + '\n')
    out.flush()

  try:
    if side_name == DOPAMINE:
      require_dopamine()  # before the imports that take seconds
    from benchmarks import sides

    rows = 1_000_000 if _FULL.value else 100_000
    sizes = sides.QUICK_SIZES if _QUICK.value else sides.Sizes(rows)
    side = sides.make(side_name, sizes)
    tasks = side.tasks()
    work_of = functools.cache(lambda task: tasks[task]())
    answer(
        machine=machine.describe(),
        versions=machine.package_versions(*side.packages),
    )
    for line in sys.stdin:
      request = json.loads(line)
      work = work_of(request['task'])
      value = harness.measure(request['unit'], work, request['seconds'])
      answer(value=value)
  except Exception as error:
    traceback.print_exc()
    answer(error=f'{type(error).__name__}: {error}'.splitlines()[0])
    sys.exit(1)


# -- comparing ----------------------------------------------------------------


def compare(
    workers: dict[str, Worker], chosen: list[Comparison], rounds: int
) -> list[Result]:
  """Builds every task, then measures all in turn, round by round.

  A task may stand in many lines; it is measured once a round. The workers
  measure, so that the harness takes their values as they are.
  """
  cases = {}
  for c in chosen:
    for side, task in ((OURS, c.ours), (DOPAMINE, c.dopamine)):
      seconds = 0.0 if _QUICK.value else c.seconds
      build = functools.partial(workers[side].work, task, c.unit, seconds)
      name = f'{task} of {side}'
      cases[name] = Case(name, harness.MEASURED, build)
  jobs = list(cases.values())
  with output.progress(harness.num_measurements(jobs, rounds)) as bar:
    results = harness.run_cases(jobs, rounds, _QUICK.value, bar)
  values = {r.name: r.ours for r in results}
  return [
      Result(
          c.name,
          c.unit,
          values[f'{c.ours} of {OURS}'],
          values[f'{c.dopamine} of {DOPAMINE}'],
      )
      for c in chosen
  ]


def main(argv: list[str]) -> None:
  del argv
  out = output.claim_stdout()
  if _WORKER.value is not None:
    serve(_WORKER.value, out)
    return
  chosen = harness.select(comparisons(), _FILTER.value)
  rounds = min(_ROUNDS.value, 2) if _QUICK.value else _ROUNDS.value
  workers: dict[str, Worker] = {}
  try:
    # Dopamine first: if it is missing, this ends at once.
    for side in (DOPAMINE, OURS):
      python = sys.executable
      if _ENVIRONMENTS.value == 'own':
        python = virtual_environments.python_of(side)
      workers[side] = Worker(side, python)
    results = compare(workers, chosen, rounds)
    facts = workers[DOPAMINE].facts
  except (WorkerError, virtual_environments.InstallError) as error:
    raise SystemExit(str(error)) from None
  finally:
    for worker in workers.values():
      worker.close()
  harness.write_report(
      out, results, _JSON.value, facts['machine'], facts['versions']
  )


if __name__ == '__main__':
  app.run(main)
