"""Measures what it costs to save a run, by the size of its replay.

  python benchmarks/benchmark_checkpoints.py
  python benchmarks/benchmark_checkpoints.py --rows 100000,1000000 --json

A QDagger Rainbow student (Nature's network) in an online phase, its replay
full of frames of a real game. For each size, of the first checkpoint and of
one that follows after some thousand new agent steps: the time that training
waits, the time until it is on the disk, and its bytes; and the rate of
training while the first one is written, the peer being the rate without. The
last row is the replay's share: bytes on the disk over bytes in memory. Needs
layers 0 to 4 of the package only; a million rows need 8 GB of memory.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import NamedTuple

from absl import app
from absl import flags
import bench_frames
import bench_lib
from bench_lib import MEBIBYTES
from bench_lib import MILLISECONDS
from bench_lib import Result
from bench_lib import STEPS
import bench_work
import numpy as np

from reincarnating_rl.envs.registry import make_factory
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.teacher import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay

_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.')
_ROWS = flags.DEFINE_list('rows', ['100000'], 'Agent steps in the replay.')
_NEW_ROWS = flags.DEFINE_integer(
    'new_rows', 10_000, 'Agent steps between two checkpoints.', lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
    'repeats', 3, 'Measurements of each rate.', lower_bound=1
)
_TICKS = flags.DEFINE_integer(
    'ticks', 64, 'Agent steps of one measurement of a rate.', lower_bound=1
)


GAME = 'Pong'  # with as many actions as the networks of `bench_work`


class Cost(NamedTuple):
  """Of one checkpoint.

  Attributes:
    wait: milliseconds that training waits.
    disk: milliseconds until it is on the disk.
    size: MiB that are new on the disk.
  """

  wait: float
  disk: float
  size: float


def make_run(rows: int) -> Run:
  """A run at the beginning of its online phase."""
  config = RunConfig(
      game=GAME,
      num_iterations=1,
      training_steps=rows,
      replay_capacity=rows,
      min_replay_history=1000,
      prioritized=True,
      update_horizon=3,
  )
  learner = bench_work.make_learner('nature_c51', distill=True)
  run = Run(
      config,
      learner,
      make_factory(config.game),
      random_score=0.0,
      teacher=Teacher(bench_work.init_policy(learner), score=1.0),
      coefficients=Coefficients(),
  )
  run.begin(run.plan[0])
  return run


def fill(run: Run, num_rows: int, played: np.ndarray) -> None:
  """Puts rows of a game behind those that the replay holds."""
  writer = run.trainer.writer
  rng = np.random.default_rng(writer.slots_written)
  for frames in bench_frames.varied(played, num_rows):
    num = len(frames)
    num_actions = writer.state.storage.extras['q_teacher'].shape[1]
    columns = {
        'observation': frames,
        'action': rng.integers(0, num_actions, num).astype(np.uint8),
        'reward': np.zeros(num, np.float32),
        'flags': np.zeros(num, np.uint8),
        'q_teacher': rng.normal(size=(num, num_actions)).astype(np.float32),
    }
    start = writer.slots_written
    storage = blocks.write(writer.spec, writer.state.storage, start, columns)
    writer.state = writer.state._replace(
        storage=storage, add_count=writer.state.add_count + num
    )
    writer.slots_written += num
    run.trainer.counters.agent_steps += num


def make_drawable(run: Run) -> None:
  """Gives all rows the same weight; the last ones wait for successors."""
  writer = run.trainer.writer
  priorities = writer.state.priorities
  leaves = priorities.tree.leaves.at[: writer.slots_written - 8].set(1.0)
  tree = type(priorities.tree)((leaves, *priorities.tree.levels[1:]))
  equal = frame_replay.equalized(writer.spec, priorities._replace(tree=tree))
  writer.state = writer.state._replace(priorities=equal)


def bytes_below(folder: str) -> int:
  paths = (os.path.join(r, f) for r, _, files in os.walk(folder) for f in files)
  return sum(os.path.getsize(path) for path in paths)


def save(run: Run, checkpointer: RunCheckpointer, folder: str) -> Cost:
  """Saves a run as its loop does, segment by segment."""
  before, start = bytes_below(folder), time.perf_counter()
  checkpointer.save(run, wait=False)
  waited = time.perf_counter() - start
  checkpointer.wait()
  seconds = time.perf_counter() - start
  size = (bytes_below(folder) - before) / 2**20
  return Cost(1e3 * waited, 1e3 * seconds, size)


def rate(run: Run, num_ticks: int) -> float:
  """Agent steps a second of the online loop."""
  start = time.perf_counter()
  for _ in range(num_ticks):
    run.trainer.train_step()
    run.step(run.trainer.act)
  # The updates that these steps brought about are part of their time.
  run.trainer.learner_state.updates.block_until_ready()
  return num_ticks / (time.perf_counter() - start)


def measure(rows: int) -> list[Result]:
  """All numbers of one size."""
  run, played = make_run(rows), bench_frames.play(rows)
  ticks = _TICKS.value
  room = _NEW_ROWS.value + 2 * (_REPEATS.value + 1) * ticks
  fill(run, max(rows - room, rows // 2), played)
  make_drawable(run)
  rate(run, ticks)  # compiles
  with tempfile.TemporaryDirectory() as folder:
    checkpointer = RunCheckpointer(folder)
    first = save(run, checkpointer, folder)
    fill(run, _NEW_ROWS.value, played)
    following = save(run, checkpointer, folder)
    in_memory = run.trainer.writer.slots_written * 84 * 84
    on_disk = bytes_below(os.path.join(folder, 'rows'))
    checkpointer.close()
    alone, meanwhile = [], []
    for i in range(_REPEATS.value):
      alone.append(rate(run, ticks))
      # Everything again, in a directory of its own.
      busy = RunCheckpointer(os.path.join(folder, str(i)))
      busy.save(run, wait=False)
      meanwhile.append(rate(run, ticks))
      busy.close()
  name = f'checkpoint/{rows}_rows'
  results = [
      Result(f'{name}/{which}/{what}', unit, [value], [])
      for which, cost in (('first', first), ('following', following))
      for what, unit, value in (
          ('training_waits', MILLISECONDS, cost.wait),
          ('on_disk_after', MILLISECONDS, cost.disk),
          ('size', MEBIBYTES, cost.size),
      )
  ]
  return results + [
      Result(f'{name}/rate_meanwhile', STEPS, meanwhile, alone),
      Result(f'{name}/packed', 'of the frames', [on_disk / in_memory], []),
  ]


def main(argv: list[str]) -> None:
  del argv
  out = bench_lib.claim_stdout()
  results = []
  for rows in _ROWS.value:
    results += measure(int(rows))
  bench_lib.write_report(out, results, _JSON.value)


if __name__ == '__main__':
  app.run(main)
