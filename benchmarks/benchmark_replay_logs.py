"""Measures how a teacher's replay log is loaded: its memory and its time.

  python benchmarks/benchmark_replay_logs.py
  python benchmarks/benchmark_replay_logs.py --rows 1000000 --json

Writes a log in the format of Dopamine up to 4.0, of frames of a game played at
random, and loads it in a fresh process. Memory is the most that the process
ever held, less what it held before; over the bytes of the data 1 is the least.
The peer is what Dopamine does with such a file: `numpy.load` into the host's
memory. Needs layers 0 to 3 of the package only, and the room of the log in
memory, on the disk a fiftieth of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags
import bench_frames
import bench_lib
import dopamine_logs
import numpy as np

_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.')
_ROWS = flags.DEFINE_integer(
    'rows', 100_000, 'Rows of the log.', lower_bound=100
)
_MEASURE = flags.DEFINE_enum(
    'measure', None, ['ours', 'peer'], 'Load a log once: what a child does.'
)
_FOLDER = flags.DEFINE_string('folder', None, 'Where the log of a child lies.')

NUMBER = 0
EPISODE_ROWS = 1000
FASTEST = 1  # level of compression


def write_log(folder: str, num_rows: int) -> None:
  """A full ring whose head is in the middle of a row of episodes."""
  rng = np.random.default_rng(0)
  terminal = np.zeros(num_rows, np.uint8)
  terminal[EPISODE_ROWS - 1 :: EPISODE_ROWS] = 1
  columns = dopamine_logs.Columns(
      rng.integers(0, 4, num_rows).astype(np.int32),
      rng.choice([0.0, 0.0, 1.0], num_rows).astype(np.float32),
      terminal,
      add_count=num_rows + num_rows // 3,
      ends=np.flatnonzero(terminal),
  )
  frames = bench_frames.varied(bench_frames.play(num_rows), num_rows)
  dopamine_logs.write(folder, NUMBER, columns, frames, level=FASTEST)


def measure_ours(folder: str) -> dict[str, float]:
  import jax

  from reincarnating_rl.teachers.formats import replay_logs

  files = replay_logs.find(folder, NUMBER)
  jax.block_until_ready(jax.numpy.zeros(1))
  before, start = peak_bytes(), time.perf_counter()
  replay = replay_logs.open_replay(files)
  replay.read()
  seconds = time.perf_counter() - start
  data = sum(x.nbytes for x in jax.tree.leaves(replay.storage))
  return {
      'seconds': seconds,
      'data': data,
      'memory': peak_bytes() - before,
  }


def measure_peer(folder: str) -> dict[str, float]:
  import gzip

  before, start = peak_bytes(), time.perf_counter()
  arrays = []
  for name in ('observation', 'action', 'reward', 'terminal'):
    file = f'$store$_{name}_{dopamine_logs.PREFIX}.{NUMBER}.gz'
    with gzip.open(os.path.join(folder, file)) as f:
      arrays.append(np.load(f))
  seconds = time.perf_counter() - start
  return {
      'seconds': seconds,
      'data': sum(x.nbytes for x in arrays),
      'memory': peak_bytes() - before,
  }


def peak_bytes() -> int:
  """The most memory that this process ever held."""
  with open('/proc/self/status') as f:
    line = next(line for line in f if line.startswith('VmHWM'))
  return int(line.split()[1]) * 1024


def in_child(side: str, folder: str) -> dict[str, float]:
  """What a fresh process measures."""
  command = [sys.executable, os.path.abspath(__file__)]
  command += [f'--measure={side}', f'--folder={folder}']
  done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
  return json.loads(done.stdout)


def make_results(
    rows: int, ours: dict[str, float], peer: dict[str, float]
) -> list[bench_lib.Result]:
  result = lambda what, unit, value: bench_lib.Result(
      f'replay_log/{rows}_rows/{what}', unit, [value(ours)], [value(peer)]
  )
  overhead = result(
      'memory_over_data',
      'of the data',
      lambda side: side['memory'] / side['data'],
  )
  return [
      result(
          'load_a_row',
          bench_lib.MICROSECONDS,
          lambda side: 1e6 * side['seconds'] / rows,
      ),
      result(
          'memory', bench_lib.MEBIBYTES, lambda side: side['memory'] / 2**20
      ),
      # A ratio of ratios would say nothing.
      overhead._replace(peer=()),
  ]


def main(argv: list[str]) -> None:
  del argv
  out = bench_lib.claim_stdout()
  if _MEASURE.value:
    measure = {'ours': measure_ours, 'peer': measure_peer}[_MEASURE.value]
    json.dump(measure(_FOLDER.value), out)
    out.flush()
    return
  with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    write_log(folder, _ROWS.value)
    print(f'Wrote in {time.perf_counter() - start:.0f} s.', file=sys.stderr)
    sides = {side: in_child(side, folder) for side in ('ours', 'peer')}
  results = make_results(_ROWS.value, sides['ours'], sides['peer'])
  bench_lib.write_report(out, results, _JSON.value)


if __name__ == '__main__':
  app.run(main)
