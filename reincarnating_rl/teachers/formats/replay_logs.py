"""Replay of a Dopamine teacher up to 4.0: one file per array.

  $store$_observation_ckpt.<M>.gz   [R, H, W] uint8, one frame a row
  $store$_action_ckpt.<M>.gz        [R] int
  $store$_reward_ckpt.<M>.gz        [R] float, clipped
  $store$_terminal_ckpt.<M>.gz      [R] uint8
  add_count_ckpt.<M>.gz             [] int, rows ever written; head = mod R
  episode_end_indices_ckpt.<M>.gz   pickled set of rows, since 4.0.6

The rows are a ring. Three blank rows (padding) come before each episode, so
stacks are read as they are stored. The end of a ring that is not full is
uninitialized memory. `invalid_range` is not read: it holds for 1-step returns
only, and follows from the head for any n.

Small arrays are read and checked at once, frames at first use.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Iterator, NamedTuple, Optional

from absl import logging
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Storage
from reincarnating_rl.teachers.errors import enumerate_items
from reincarnating_rl.teachers.formats import npy_gz
from reincarnating_rl.teachers.formats import row_flags
from reincarnating_rl.teachers.formats import safe_pickle
from reincarnating_rl.teachers.teacher_replay import observations_on_device
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

CHECKPOINTS = 'checkpoints'
REPLAY_LOGS = 'replay_logs'
# Number of checkpoints per file in replay_logs/.
CHECKPOINTS_PER_LOG = 4

_ARRAY_FILE = re.compile(
    r'^\$store\$_(?:observation|action|reward|terminal)_(.+)\.(\d+)\.gz$'
)
_CHUNK_BYTES = 16 << 20
# Upper bound for the size of a number in a pickled set.
_PICKLED_INT_BYTES = 64


class LogFiles(NamedTuple):
  """Location of the files of one replay."""

  folder: str
  prefix: str  # 'ckpt'
  number: int

  def path(self, name: str) -> str:
    return os.path.join(self.folder, f'{name}_{self.prefix}.{self.number}.gz')


class _Columns(NamedTuple):
  """Columns of the written rows, without frames."""

  action: np.ndarray  # [R] uint8
  reward: np.ndarray  # [R] float32
  terminal: np.ndarray  # [R] bool


def find(
    directory: str, checkpoint_number: int, prefix: str = 'ckpt'
) -> Optional[LogFiles]:
  """Finds the replay of a checkpoint.

  It has the number of the checkpoint if it lies beside that; in replay_logs/ it
  has the number (checkpoint_number + 1) // 4.

  Args:
    directory: run directory of the teacher, or the folder of the files.
    checkpoint_number: number of the checkpoint.
    prefix: prefix of the checkpoint files, preferred among several.

  Returns:
    Its files, or None; a warning names other replays.
  """
  logs_number = (checkpoint_number + 1) // CHECKPOINTS_PER_LOG
  places = (
      (os.path.join(directory, CHECKPOINTS), checkpoint_number),
      (directory, checkpoint_number),
      (os.path.join(directory, REPLAY_LOGS), logs_number),
  )
  for folder, number in places:
    prefixes = _numbers_and_prefixes(folder).get(number)
    if prefixes:
      chosen = prefix if prefix in prefixes else min(prefixes)
      return LogFiles(folder, chosen, number)
  for folder, number in reversed(places):
    there = sorted(_numbers_and_prefixes(folder))
    if there or (os.path.isdir(folder) and folder.endswith(REPLAY_LOGS)):
      logging.warning(
          'No replay is loaded with checkpoint %d: %s holds no number %d, only '
          '%s.',
          checkpoint_number,
          folder,
          number,
          enumerate_items(there),
      )
      break
  return None


def _numbers_and_prefixes(folder: str) -> dict[int, set[str]]:
  """Lists the replays in a folder, incomplete ones included."""
  found: dict[int, set[str]] = {}
  if os.path.isdir(folder):
    for match in map(_ARRAY_FILE.match, os.listdir(folder)):
      if match:
        found.setdefault(int(match.group(2)), set()).add(match.group(1))
  return found


def open_replay(files: LogFiles) -> Optional[TeacherReplay]:
  """Reads a replay without its frames.

  Args:
    files: its files, from `find`.

  Returns:
    The replay. Its update_horizon is 1: the files do not record it. None, with
    a warning, if too few rows were written for a single transition.

  Raises:
    TeacherError: if a file is missing or damaged.
  """
  with npy_gz.open_array(files.path('$store$_observation')) as reader:
    is_frames = len(reader.shape) == 3 and min(reader.shape[1:]) > 0
    if not is_frames or reader.dtype != np.uint8:
      raise reader.damaged(
          f'its frames are {reader.dtype} of shape {reader.shape}, not bytes '
          'of [rows, height, width]'
      )
    num_rows, *frame_shape = reader.shape
  add_count = _read_add_count(files)
  written = min(add_count, num_rows)
  columns = _read_columns(files, num_rows, written)
  ends = _read_ends(files, num_rows)
  try:
    spec = ReplaySpec(
        written,
        stack_size=row_flags.STACK_SIZE,
        observation=ArraySpec(tuple(frame_shape), 'uint8'),
    )
  except ValueError:
    logging.warning(
        'The replay %s is left out: only %d rows of it were ever written.',
        files.path('$store$_observation'),
        written,
    )
    return None
  head = add_count % num_rows if add_count >= num_rows else 0
  read = functools.partial(
      _read_storage, files, spec, columns, ends[ends < written], head, num_rows
  )
  return TeacherReplay(spec, read, head=head, num_rows=num_rows)


def _read_add_count(files: LogFiles) -> int:
  with npy_gz.open_array(files.path('add_count')) as reader:
    if np.prod(reader.shape) != 1 or reader.dtype.kind not in 'iu':
      raise reader.damaged(f'it holds {reader.shape} {reader.dtype}, no count')
    count = int(reader.read_all().item())
    if count < 0:
      raise reader.damaged(f'it counts {count} rows')
  return count


def _read_columns(files: LogFiles, num_rows: int, written: int) -> _Columns:
  """Reads the three small columns of the rows that were written."""
  action = _read_column(files, 'action', 'iu', num_rows)[:written]
  reward = _read_column(files, 'reward', 'f', num_rows)[:written]
  terminal = _read_column(files, 'terminal', 'biu', num_rows)[:written]
  if written and not 0 <= action.min() <= action.max() <= 255:
    raise npy_gz.damaged(
        files.path('$store$_action'),
        f'it has actions from {action.min()} to {action.max()}; at most 256 '
        'actions are known here',
    )
  with np.errstate(over='ignore'):
    reward = reward.astype(np.float32)
  if not np.isfinite(reward).all():
    raise npy_gz.damaged(
        files.path('$store$_reward'), 'not all rewards are finite'
    )
  return _Columns(action.astype(np.uint8), reward, terminal != 0)


def _read_column(
    files: LogFiles, name: str, kinds: str, num_rows: int
) -> np.ndarray:
  """Reads [num_rows] of one of some kinds of dtype."""
  with npy_gz.open_array(files.path(f'$store$_{name}')) as reader:
    if reader.shape != (num_rows,) or reader.dtype.kind not in kinds:
      raise reader.damaged(
          f'it holds {reader.dtype} of shape {reader.shape} beside '
          f'{num_rows} frames'
      )
    return reader.read_all()


def _read_ends(files: LogFiles, num_rows: int) -> np.ndarray:
  """Reads the [K] rows that end episodes; none without the file."""
  path = files.path('episode_end_indices')
  if not os.path.exists(path):
    return np.zeros(0, np.int64)
  most = 4096 + _PICKLED_INT_BYTES * num_rows
  rows = safe_pickle.loads(npy_gz.read_bytes(path, most), path)
  if not isinstance(rows, (set, frozenset, list)) or not all(
      _is_row(row, num_rows) for row in rows
  ):
    raise npy_gz.damaged(path, f'it is no set of rows below {num_rows}')
  return np.array(sorted(int(row) for row in rows), np.int64)


def _is_row(value: Any, num_rows: int) -> bool:
  whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  return whole and 0 <= value < num_rows


def _read_storage(
    files: LogFiles,
    spec: ReplaySpec,
    columns: _Columns,
    ends: np.ndarray,
    head: int,
    num_rows: int,
) -> Storage:
  """Streams the frames to the device, and computes the flags from them."""
  blank = ~columns.terminal & (columns.action == 0) & (columns.reward == 0)

  def chunks() -> Iterator[np.ndarray]:
    with npy_gz.open_array(files.path('$store$_observation')) as reader:
      if reader.shape != (num_rows,) + spec.observation.shape:
        raise reader.damaged('it has changed since it was opened')
      size = max(1, _CHUNK_BYTES // reader.row_bytes)
      for start in range(0, spec.capacity, size):
        chunk = reader.read(min(size, spec.capacity - start))
        _keep_blank(blank[start : start + len(chunk)], chunk)
        yield chunk
      reader.skip(num_rows - spec.capacity)

  frames = observations_on_device(spec, chunks(), f'Replay log {files.number}')
  flags = row_flags.row_flags(columns.terminal, blank, ends, head, num_rows)
  return Storage(
      frames,
      jnp.asarray(columns.action),
      jnp.asarray(columns.reward),
      jnp.asarray(flags),
  )


def _keep_blank(blank: np.ndarray, chunk: np.ndarray) -> None:
  """Clears `blank` where a frame is not blank.

  Args:
    blank: [T] bool, changed in place.
    chunk: [T, H, W] uint8.
  """
  candidates = np.flatnonzero(blank)
  # The first rows of pixels suffice for most frames.
  blank[candidates] = ~chunk[candidates, : chunk.shape[1] // 8].any(axis=(1, 2))
  candidates = np.flatnonzero(blank)
  blank[candidates] = ~chunk[candidates].any(axis=(1, 2))
