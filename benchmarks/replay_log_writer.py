"""Writes replay logs in the format of Dopamine up to 4.0.

Benchmarks and tests read them; `teachers.formats.replay_logs` describes the
files.
"""

from __future__ import annotations

import gzip
import os
import pickle
from typing import Iterable, NamedTuple, Optional

import numpy as np

PREFIX = 'ckpt'


class Columns(NamedTuple):
  """Columns of a log without its frames; R rows."""

  action: np.ndarray  # [R] int32
  reward: np.ndarray  # [R] float32
  terminal: np.ndarray  # [R] uint8
  add_count: int  # rows ever written
  ends: Optional[Iterable[int]] = None  # rows; None as before 4.0.6


def write(
    folder: str,
    number: int,
    columns: Columns,
    frames: Iterable[np.ndarray],
    frame_shape: tuple[int, int] = (84, 84),
    *,
    level: int = 9,
) -> None:
  """Writes a log.

  Args:
    folder: folder of the files; made if it is missing.
    number: number of the log.
    columns: all columns but the frames.
    frames: chunks of [T, H, W] uint8, R rows together.
    frame_shape: (H, W).
    level: level of compression; Dopamine's is 9.
  """
  os.makedirs(folder, exist_ok=True)
  path = lambda name: os.path.join(folder, f'{name}_{PREFIX}.{number}.gz')
  shape = (len(columns.action),) + tuple(frame_shape)
  with gzip.open(path('$store$_observation'), 'wb', level) as file:
    header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in frames:
      file.write(np.ascontiguousarray(chunk, np.uint8).data)
  arrays = {
      '$store$_action': columns.action,
      '$store$_reward': columns.reward,
      '$store$_terminal': columns.terminal,
      'add_count': np.array(columns.add_count),
      # Rows around the head, as saved for 1-step returns.
      'invalid_range': (columns.add_count - 1 + np.arange(5)) % shape[0],
  }
  for name, array in arrays.items():
    with gzip.open(path(name), 'wb', level) as file:
      np.save(file, array, allow_pickle=False)
  if columns.ends is not None:
    with gzip.open(path('episode_end_indices'), 'wb', level) as file:
      pickle.dump({np.int64(row) for row in columns.ends}, file)
