"""Event files: what TensorBoard finds in them, also after a full disk."""

from __future__ import annotations

import io

from events import scalars
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from reincarnating_rl.dopamine_bridge.event_file import EventFile


def _only_file(directory):
  (path,) = directory.glob('events.out.tfevents.*')
  return path


def test_tensorboard_reads_scalars(tmp_path):
  file = EventFile(str(tmp_path / 'new'))
  file.scalar('a/b', 3, 7)
  file.scalar('a/b', 0.5, 8)
  file.close()
  reader = event_accumulator.EventAccumulator(str(tmp_path / 'new'))
  reader.Reload()
  assert reader.Tags()['tensors'] == ['a/b']
  read = reader.Tensors('a/b')
  assert [(e.step, e.tensor_proto.dtype) for e in read] == [(7, 1), (8, 1)]
  assert all(e.wall_time > 1.7e9 for e in read)
  assert scalars(tmp_path / 'new') == [('a/b', 7, 3.0), ('a/b', 8, 0.5)]


def test_numbers_of_all_kinds(tmp_path):
  file = EventFile(str(tmp_path))
  numbers = [2, np.float64(0.5), jnp.float32(1.5), 1e39, -np.inf]
  for step, number in enumerate(numbers):
    file.scalar('a', number, np.int64(step))
  file.close()
  read = [value for _, _, value in scalars(tmp_path)]
  assert read == [2.0, 0.5, 1.5, np.inf, -np.inf]


def test_a_record_by_its_bytes(tmp_path):
  file = EventFile(str(tmp_path))
  file.scalar('a', 1.0, 1)
  file.flush()
  first = bytes.fromhex('1800000000000000a37f4b22')  # of every such file
  assert _only_file(tmp_path).read_bytes().startswith(first)


def test_there_is_no_file_before_the_first_value(tmp_path):
  file = EventFile(str(tmp_path / 'events'))
  file.flush()
  file.close()
  assert not list(tmp_path.iterdir())


def test_flushed_values_are_on_the_disk_and_can_be_cut_off(tmp_path):
  file = EventFile(str(tmp_path))
  file.scalar('a', 1.0, 1)
  file.flush()
  size = _only_file(tmp_path).stat().st_size
  file.scalar('a', 2.0, 2)
  file.flush()
  with open(_only_file(tmp_path), 'ab') as f:
    f.truncate(size)
  file.scalar('a', 3.0, 3)
  file.close()
  file.flush()
  assert scalars(tmp_path) == [('a', 1, 1.0), ('a', 3, 3.0)]


class _FullDisk(io.FileIO):
  """Takes some bytes of what is written, and then no more for a while."""

  room = None

  def write(self, data):
    if self.room is None:
      return super().write(data)
    if not self.room:
      raise OSError('No space left on device')
    written = super().write(bytes(data[: self.room]))
    self.room -= written
    return written


def test_a_disk_that_was_full_leaves_no_half_of_a_record(tmp_path):
  file = EventFile(str(tmp_path))
  file.scalar('a', 1.0, 1)
  file.close()
  disk = _FullDisk(_only_file(tmp_path), 'ab')
  file._file = io.BufferedWriter(disk)
  file.scalar('a', 2.0, 2)
  disk.room = 5
  for _ in range(2):
    with pytest.raises(OSError, match='No space'):
      file.flush()
  file.scalar('a', 3.0, 3)
  disk.room = None
  file.close()
  assert scalars(tmp_path) == [('a', 1, 1.0), ('a', 2, 2.0), ('a', 3, 3.0)]
