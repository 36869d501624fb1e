"""From the start of a process to its first update, and its end.

  python -m benchmarks.first_update ours|dopamine

benchmark_peers.py measures the lifetime of this process.
"""

from __future__ import annotations

import sys

from benchmarks import sides

SIZES = sides.QUICK_SIZES._replace(online_steps=16, online_rows=1_000)


def main(side: str) -> None:
  task = 'online'
  if side == 'ours':
    # The imports of `train`, and its compilation cache.
    from reincarnating_rl.base import command_line
    from reincarnating_rl.runners import runner as _  # noqa: F401

    command_line.use_compilation_cache()
    task = 'online_1_env'
  sides.make(side, SIZES).tasks()[task]()


if __name__ == '__main__':
  main(sys.argv[1])
