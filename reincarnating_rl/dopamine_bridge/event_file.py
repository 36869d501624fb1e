"""TensorBoard's event files, written without TensorFlow (layer 5).

Scalars look as those of `tf.summary.scalar`. TensorBoard's own writer is not
used: it prefers TensorFlow where that is installed, and once a disk was full it
writes nothing any more.
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import socket
import struct
import time

import google_crc32c
import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto import types_pb2

_FILE_VERSION = 'brain.Event:2'
_MASK_DELTA = 0xA282EAD8
_numbers = itertools.count()


class EventFile:
  """A file of scalars in a directory; there is none before the first.

  What could not be written stays in a buffer until the next try, so a disk that
  was full for a while leaves no half of a record in the file.
  """

  def __init__(self, directory: str):
    self._directory = directory

  def scalar(self, tag: str, value: float, step: int) -> None:
    """Adds a value, which may not be on the disk before `flush`."""
    self._file.write(_record(_scalar_event(tag, value, step)))

  def flush(self) -> None:
    """Writes what was added."""
    if self._is_open():
      self._file.flush()

  def close(self) -> None:
    """Writes what was added, and closes the file."""
    if self._is_open():
      self._file.close()

  def __del__(self):
    # Nobody else does where Dopamine's collector is dropped.
    self.close()

  def _is_open(self) -> bool:
    return '_file' in self.__dict__ and not self._file.closed

  @functools.cached_property
  def _file(self) -> io.BufferedWriter:
    os.makedirs(self._directory, exist_ok=True)
    place = f'{socket.gethostname()}.{os.getpid()}.{next(_numbers)}.v2'
    name = f'events.out.tfevents.{int(time.time()):010d}.{place}'
    # Appends, so that a file that is set back has no hole.
    file = open(os.path.join(self._directory, name), 'ab')
    version = event_pb2.Event(wall_time=time.time(), file_version=_FILE_VERSION)
    file.write(_record(version))
    return file


def _scalar_event(tag: str, value: float, step: int) -> event_pb2.Event:
  event = event_pb2.Event(wall_time=time.time(), step=int(step))
  entry = event.summary.value.add(tag=tag)
  entry.metadata.plugin_data.plugin_name = 'scalars'
  entry.tensor.dtype = types_pb2.DT_FLOAT
  entry.tensor.tensor_shape.SetInParent()
  with np.errstate(over='ignore'):  # Infinity, as TensorFlow has it.
    entry.tensor.tensor_content = np.asarray(value, '<f4').tobytes()
  return event


def _record(event: event_pb2.Event) -> bytes:
  """The event with its length and checksums, as TensorFlow frames records."""
  data = event.SerializeToString()
  length = struct.pack('<Q', len(data))
  return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
  """CRC-32C, masked so that a checksum of checksums is none of zeros."""
  crc = google_crc32c.value(data)
  rotated = crc >> 15 | crc << 17
  return struct.pack('<I', (rotated + _MASK_DELTA) % 2**32)
