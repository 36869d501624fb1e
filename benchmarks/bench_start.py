"""From nothing to the first update, in a process that ends then.

  python benchmarks/bench_start.py ours|dopamine

benchmark_peers.py measures how long this process lives.
"""

from __future__ import annotations

import sys

import bench_sides

SIZES = bench_sides.QUICK_SIZES._replace(online_steps=16, online_rows=1_000)


def main(side: str) -> None:
  if side == 'dopamine':
    bench_sides.Dopamine(SIZES).tasks()['online']()
    return
  # What `train` imports, and the cache that it uses.
  from reincarnating_rl.base import command_line
  from reincarnating_rl.runners import runner as _  # noqa: F401

  command_line.use_compilation_cache()
  bench_sides.Ours(SIZES).tasks()['online_1_env']()


if __name__ == '__main__':
  main(sys.argv[1])
