"""Measures the cost of saving a run, by the size of its replay.

  python -m benchmarks.benchmark_checkpoints
  python -m benchmarks.benchmark_checkpoints --rows 100000,1000000 --json

A QDagger Rainbow student (Nature's network) in an online phase; its replay is
full of frames of a real game. For each size, for the first checkpoint and for
one some thousand agent steps later: the time that training waits, the time
until the checkpoint is on the disk, and its bytes; and the rate of training
while the first one is written, with the rate without as the peer. The last row
is the replay's share: bytes on the disk over bytes in memory. Only layers up to
the loop are needed; a million rows need 8 GB of memory.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any, NamedTuple

from absl import app
from absl import flags
import numpy as np

from benchmarks import game_frames
from benchmarks import harness
from benchmarks import output
from benchmarks import workloads
from benchmarks.harness import MEBIBYTES
from benchmarks.harness import MILLISECONDS
from benchmarks.harness import Result
from reincarnating_rl.envs.registry import make_factory
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.teacher import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay

GAME = 'Pong'  # has as many actions as the networks of `workloads`


_JSON, _ = harness.define_flags()
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


class Cost(NamedTuple):
  """Cost of one checkpoint.

  Attributes:
    wait: milliseconds that training waits.
    disk: milliseconds until the checkpoint is on the disk.
    size: MiB that are new on the disk.
  """

  wait: float
  disk: float
  size: float


def make_run(rows: int) -> Run:
  """A run at the start of its online phase."""
  config = RunConfig(
      game=GAME,
      num_iterations=1,
      training_steps=rows,
      replay_capacity=rows,
      min_replay_history=min(1000, rows - 1),
      prioritized=True,
      update_horizon=3,
  )
  learner = workloads.make_learner('nature_c51', distill=True)
  run = Run(
      config,
      learner,
      make_factory(config.game),
      random_score=0.0,
      teacher=Teacher(workloads.init_policy(learner), score=1.0),
      coefficients=Coefficients(),
  )
  run.begin(run.plan[0])
  return run


def fill(run: Run, num_rows: int, played: np.ndarray) -> None:
  """Adds rows of a game to the replay."""
  writer: Any = run.trainer.writer
  rng = np.random.default_rng(writer.slots_written)
  for frames in game_frames.varied(played, num_rows):
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
  """Gives all rows equal weights, but the last, which lack successors."""
  writer: Any = run.trainer.writer
  priorities = writer.state.priorities
  leaves = priorities.tree.leaves.at[: writer.slots_written - 8].set(1.0)
  tree = type(priorities.tree)((leaves, *priorities.tree.levels[1:]))
  equal = frame_replay.equalized(writer.spec, priorities._replace(tree=tree))
  writer.state = writer.state._replace(priorities=equal)


def bytes_below(folder: pathlib.Path) -> int:
  return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


def save(run: Run, checkpointer: RunCheckpointer, folder: pathlib.Path) -> Cost:
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
  player: Any = run.player
  start = time.perf_counter()
  for _ in range(num_ticks):
    run.trainer.train_step()
    player.decide(run.trainer.act)
    run.finish_step()
  # The updates that these steps triggered belong to their time.
  run.trainer.learner_state.updates.block_until_ready()
  return num_ticks / (time.perf_counter() - start)


def measure(rows: int) -> list[Result]:
  """All numbers of one size."""
  run, played = make_run(rows), game_frames.play(rows)
  new_rows, repeats, ticks = _NEW_ROWS.value, _REPEATS.value, _TICKS.value
  writer: Any = run.trainer.writer
  room = new_rows + 2 * (repeats + 1) * ticks
  fill(run, max(rows - room, rows // 2), played)
  make_drawable(run)
  rate(run, ticks)  # compiles
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    checkpointer = RunCheckpointer(temporary)
    first = save(run, checkpointer, folder)
    fill(run, new_rows, played)
    following = save(run, checkpointer, folder)
    in_memory = writer.slots_written * 84 * 84
    on_disk = bytes_below(folder / 'rows')
    checkpointer.close()
    alone, meanwhile = [], []
    for i in range(repeats):
      alone.append(rate(run, ticks))
      # The whole checkpoint again, in another directory.
      busy = RunCheckpointer(str(folder / str(i)))
      busy.save(run, wait=False)
      meanwhile.append(rate(run, ticks))
      busy.close()
  name = f'checkpoint/{rows}_rows'
  results = []
  for which, cost in (('first', first), ('following', following)):
    results += [
        Result(f'{name}/{which}/training_waits', MILLISECONDS, [cost.wait]),
        Result(f'{name}/{which}/on_disk_after', MILLISECONDS, [cost.disk]),
        Result(f'{name}/{which}/size', MEBIBYTES, [cost.size]),
    ]
  return results + [
      Result(f'{name}/rate_meanwhile', harness.STEPS, meanwhile, alone),
      Result(f'{name}/packed', 'of the frames', [on_disk / in_memory]),
  ]


def main(argv: list[str]) -> None:
  del argv
  out = output.claim_stdout()
  results = sum((measure(int(rows)) for rows in _ROWS.value), [])
  harness.write_report(out, results, _JSON.value)


if __name__ == '__main__':
  app.run(main)
