"""Measures the loading of a teacher's replay log: memory and time.

  python -m benchmarks.benchmark_replay_logs
  python -m benchmarks.benchmark_replay_logs --rows 1000000 --json

Writes a log in the format of Dopamine up to 4.0, with frames of a random game,
and loads it in a fresh process. Memory is the peak of that process, less its
memory before; the least possible is 1 over the bytes of the data. The peer is
what Dopamine does with such a file: `numpy.load` into the host's memory. Only
layers up to the teachers are needed, and memory for the log; the log takes a
fiftieth of it on the disk.
"""

from __future__ import annotations

from concurrent import futures
import gzip
import multiprocessing
import os
import sys
import tempfile
import time
from typing import Any, Callable, NamedTuple

from absl import app
from absl import flags
import numpy as np

from benchmarks import game_frames
from benchmarks import harness
from benchmarks import machine
from benchmarks import output
from benchmarks import replay_log_writer
from benchmarks.harness import Result

_JSON, _ = harness.define_flags()
_ROWS = flags.DEFINE_integer(
    'rows', 100_000, 'Rows of the log.', lower_bound=100
)

NUMBER = 0
EPISODE_ROWS = 1000
FASTEST = 1  # level of compression


class Cost(NamedTuple):
  """Cost of loading a log."""

  seconds: float
  data_mebibytes: float
  memory_mebibytes: float


def write_log(folder: str, num_rows: int) -> None:
  """A full ring; its head stands in the middle of an episode's rows."""
  rng = np.random.default_rng(0)
  terminal = np.zeros(num_rows, np.uint8)
  terminal[EPISODE_ROWS - 1 :: EPISODE_ROWS] = 1
  columns = replay_log_writer.Columns(
      rng.integers(0, 4, num_rows).astype(np.int32),
      rng.choice([0.0, 0.0, 1.0], num_rows).astype(np.float32),
      terminal,
      add_count=num_rows + num_rows // 3,
      ends=np.flatnonzero(terminal),
  )
  frames = game_frames.varied(game_frames.play(num_rows), num_rows)
  replay_log_writer.write(folder, NUMBER, columns, frames, level=FASTEST)


def _cost(load: Callable[[], list[Any]]) -> Cost:
  """Cost of a function that returns arrays."""
  before, start = machine.resident_mebibytes(peak=True), time.perf_counter()
  arrays = load()
  seconds = time.perf_counter() - start
  peak = machine.resident_mebibytes(peak=True)
  data = sum(x.nbytes for x in arrays) / 2**20
  return Cost(seconds, data, peak - before)


def measure_ours(folder: str) -> Cost:
  import jax

  from reincarnating_rl.teachers.formats import replay_logs

  files: Any = replay_logs.find(folder, NUMBER)

  def load() -> list[Any]:
    replay: Any = replay_logs.open_replay(files)
    replay.read()
    return jax.tree.leaves(replay.storage)

  jax.block_until_ready(jax.numpy.zeros(1))
  return _cost(load)


def measure_peer(folder: str) -> Cost:
  def load() -> list[Any]:
    arrays = []
    for name in ('observation', 'action', 'reward', 'terminal'):
      file = f'$store$_{name}_{replay_log_writer.PREFIX}.{NUMBER}.gz'
      with gzip.open(os.path.join(folder, file)) as f:
        arrays.append(np.load(f))
    return arrays

  return _cost(load)


def in_fresh_process(measure: Callable[[str], Cost], folder: str) -> Cost:
  """The same function in a process that has held nothing yet."""
  spawn = multiprocessing.get_context('spawn')
  with futures.ProcessPoolExecutor(1, spawn) as pool:
    return pool.submit(measure, folder).result()


def make_results(rows: int, ours: Cost, peer: Cost) -> list[Result]:
  name = f'replay_log/{rows}_rows'
  load = [1e6 * cost.seconds / rows for cost in (ours, peer)]
  memory = [cost.memory_mebibytes for cost in (ours, peer)]
  overhead = ours.memory_mebibytes / ours.data_mebibytes
  return [
      Result(f'{name}/load_a_row', harness.MICROSECONDS, load[:1], load[1:]),
      Result(f'{name}/memory', harness.MEBIBYTES, memory[:1], memory[1:]),
      # Without a peer: a ratio of ratios would say nothing.
      Result(f'{name}/memory_over_data', 'of the data', [overhead]),
  ]


def main(argv: list[str]) -> None:
  del argv
  out = output.claim_stdout()
  with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    write_log(folder, _ROWS.value)
    print(f'Wrote in {time.perf_counter() - start:.0f} s.', file=sys.stderr)
    costs = [
        in_fresh_process(measure, folder)
        for measure in (measure_ours, measure_peer)
    ]
  harness.write_report(out, make_results(_ROWS.value, *costs), _JSON.value)


if __name__ == '__main__':
  app.run(main)
