"""Whether what a run will allocate fits where it will be allocated."""

from __future__ import annotations

import os
from typing import Optional, Sequence

from absl import logging
import jax

from reincarnating_rl.loop.forecast import Memory
from reincarnating_rl.loop.plan_text import size

GIB = 2**30
_GROUPS_FOLDER = '/sys/fs/cgroup'
# Of control groups, version 2 and 1: limit, usage, and where the files that are
# kept in memory are counted.
_GROUPS = (
    ('memory.max', 'memory.current', 'memory.stat', 'inactive_file'),
    (
        'memory/memory.limit_in_bytes',
        'memory/memory.usage_in_bytes',
        'memory/memory.stat',
        'total_inactive_file',
    ),
)


def available() -> Optional[int]:
  """Bytes that one device has left; None where nobody tells."""
  device = jax.local_devices()[0]
  if device.platform != 'cpu':
    stats = device.memory_stats() or {}
    limit = stats.get('bytes_limit')
    return limit and limit - stats.get('bytes_in_use', 0)
  found = [left for left in (_of_machine(), _of_group()) if left is not None]
  return min(found, default=None)


def _of_machine() -> Optional[int]:
  """Bytes that the machine has left."""
  try:
    with open('/proc/meminfo', encoding='ascii') as f:
      for line in f:
        if line.startswith('MemAvailable:'):
          return 1024 * int(line.split()[1])
  except OSError:
    pass
  return None


def _of_group() -> Optional[int]:
  """Bytes that a container or a batch job has left; None = no limit."""
  for limit, usage, stat, cached in _GROUPS:
    try:
      left = int(_text(limit)) - int(_text(usage))
      entries = dict(line.split() for line in _text(stat).splitlines())
      # What the system keeps of files, it gives away.
      return max(left + int(entries.get(cached, 0)), 0)
    except (OSError, ValueError):
      continue  # 'max' is no number: there is no limit.
  return None


def _text(path: str) -> str:
  with open(os.path.join(_GROUPS_FOLDER, path), encoding='ascii') as f:
    return f.read()


def check(memory: Memory, num_members: int, free: Optional[int]) -> None:
  """Says what will be allocated where, or refuses what does not fit.

  Nothing is allocated before.

  Args:
    memory: of one member; members share the teacher's data.
    num_members: S, side by side.
    free: bytes on one device; None = unknown, nothing is refused.

  Raises:
    ValueError: one sentence that says what is needed, and what there is.
  """
  devices = jax.local_devices()
  if devices[0].platform == 'cpu':
    on_one = num_members  # All of a machine's memory is one.
  else:
    on_one = -(-num_members // len(devices))
  needed = memory.peak(on_one)
  if free is None or needed <= free:
    logging.info(
        'Memory on %s: %s of %s and %s of data of the teacher%s.',
        _place(devices),
        'a replay' if on_one == 1 else f'{on_one} replays',
        size(memory.student),
        size(memory.teacher),
        '' if free is None else f'; {size(free)} are free',
    )
    return
  raise ValueError(
      f'{num_members} replays of {memory.student / GIB:.2f} GiB and '
      f'{memory.teacher / GIB:.2f} GiB of the data of the teacher need '
      f'{needed / GIB:.2f} GiB on one device, of which {free / GIB:.2f} GiB '
      'are free: lower the capacity of the replay (ReplayBuffer.max_capacity), '
      'the number of seeds or RunnerWithTeacher.teacher_steps.'
  )


def _place(devices: Sequence[jax.Device]) -> str:
  first = devices[0]
  if first.platform == 'cpu':
    return 'this machine'
  if len(devices) == 1:
    return first.device_kind
  return f'each of {len(devices)} devices ({first.device_kind})'
