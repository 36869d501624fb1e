"""Check that a run's data fits into the memory of its devices."""

from __future__ import annotations

import os
from typing import NamedTuple, Optional, Sequence

from absl import logging
import jax

from reincarnating_rl.loop.config.estimate import Memory
from reincarnating_rl.loop.config.plan_text import size

GIB = 2**30
_GROUPS_FOLDER = '/sys/fs/cgroup'
_OWN_GROUPS = '/proc/self/cgroup'


class _Files(NamedTuple):
  """Files of one version of control groups.

  Attributes:
    folder: folder of all groups, below that of the file system.
    limit: file with the bytes that a group may take.
    usage: file with the bytes that it takes.
    cached: entries of memory.stat that count files kept in memory.
  """

  folder: str
  limit: str
  usage: str
  cached: tuple[str, ...]


_VERSION_2 = _Files(
    '', 'memory.max', 'memory.current', ('inactive_file', 'active_file')
)
_VERSION_1 = _Files(
    'memory',
    'memory.limit_in_bytes',
    'memory.usage_in_bytes',
    ('total_inactive_file', 'total_active_file'),
)


def available() -> Optional[int]:
  """Bytes that one device has left; None if unknown."""
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
  try:
    lines = _text(_OWN_GROUPS).splitlines()
  except OSError:
    return None
  found = []
  for line in lines:
    _, controllers, path = line.split(':', 2)
    files = _VERSION_2 if not controllers else _VERSION_1
    if controllers and 'memory' not in controllers.split(','):
      continue
    # Any group above may have a limit, or the root in a container.
    parts = [part for part in path.split('/') if part]
    for depth in range(len(parts) + 1):
      folder = os.path.join(_GROUPS_FOLDER, files.folder, *parts[:depth])
      left = _left_in(folder, files)
      found += [] if left is None else [left]
  return min(found, default=None)


def _left_in(folder: str, files: _Files) -> Optional[int]:
  """Bytes that a group may still take; None without a limit."""
  text = lambda name: _text(os.path.join(folder, name))
  try:
    left = int(text(files.limit)) - int(text(files.usage))
    entries = dict(line.split() for line in text('memory.stat').splitlines())
  except (OSError, ValueError):
    return None  # 'max' is no number: there is no limit.
  # The system frees its cache of files when memory is needed.
  cached = sum(int(entries.get(name, 0)) for name in files.cached)
  return max(left + cached, 0)


def _text(path: str) -> str:
  with open(path, encoding='utf-8') as f:
    return f.read()


def check(memory: Memory, num_members: int, free: Optional[int]) -> None:
  """Logs the memory that runs need, or refuses runs that do not fit.

  Nothing is allocated before.

  Args:
    memory: memory of one member; members share the teacher's data.
    num_members: S, side by side.
    free: bytes on one device; None = unknown, nothing is refused.

  Raises:
    ValueError: one sentence, with the need and the free memory.
  """
  devices = jax.local_devices()
  if devices[0].platform == 'cpu':
    on_one = num_members  # All of a machine's memory is one.
  else:
    on_one = -(-num_members // len(devices))
  if num_members > 1:  # Wherever they are, they share the teacher's data.
    memory = memory._replace(at_once=True)
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
