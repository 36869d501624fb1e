"""Arrays of strangers: gzip of numpy's own file format, read front to back.

A file is never trusted: what its header declares is checked against what its
bytes can hold before anything is allocated, and damage is a TeacherError with
the file's name in it. Not here: what the arrays mean.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
from typing import BinaryIO, Iterator
import warnings
import zlib

import numpy as np

from reincarnating_rl.teachers.errors import TeacherError

# Ten million frames of 84 x 84, and then some.
MAX_BYTES = 1 << 37
# The most that deflate can do is 258 bytes for two bits.
_MAX_RATIO = 1032
_MAX_HEADER = 10_000
_SKIP_BYTES = 1 << 22
_NUMBERS = 'biuf'  # kinds of dtypes
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # of the header's length, by version


class Damage(ValueError):
  """A clause that says what is wrong with a file, without its name."""


class ArrayReader:
  """An open file; its rows come in order.

  Attributes:
    path: of the file.
    shape: as declared.
    dtype: as declared; numbers.
  """

  def __init__(self, path: str, file: BinaryIO):
    """Reads the header.

    Args:
      path: of the file, for messages and its size.
      file: its decompressed bytes.

    Raises:
      TeacherError: if the header is damaged or declares what cannot be.
    """
    self.path = path
    self._file = file
    self.shape, self.dtype = self._read_header()
    self._check_size()

  @property
  def row_bytes(self) -> int:
    return math.prod(self.shape[1:]) * self.dtype.itemsize

  def read(self, num_rows: int) -> np.ndarray:
    """The next rows: [num_rows, ...], read-only.

    Raises:
      TeacherError: if the file ends before.
    """
    content = self._take(num_rows * self.row_bytes)
    return np.frombuffer(content, self.dtype).reshape(
        (num_rows,) + self.shape[1:]
    )

  def read_all(self) -> np.ndarray:
    """The whole array, to the end of the file, which is verified."""
    content = self._take(math.prod(self.shape) * self.dtype.itemsize)
    self._expect_end()
    return np.frombuffer(content, self.dtype).reshape(self.shape)

  def skip(self, num_rows: int) -> None:
    """Reads past the last rows and verifies the end of the file."""
    left = num_rows * self.row_bytes
    while left:
      left -= len(self._take(min(left, _SKIP_BYTES)))
    self._expect_end()

  def damaged(self, reason: str) -> TeacherError:
    """The error to raise about this file."""
    return damaged(self.path, reason)

  def _expect_end(self) -> None:
    # Reading on is also what makes gzip compare its checksum.
    if self._file.read(1):
      raise self.damaged('it goes on behind the end of its array')

  def _take(self, num_bytes: int) -> bytes:
    content = self._file.read(num_bytes)
    if len(content) < num_bytes:
      raise self.damaged('it ends before its array does')
    return content

  def _read_header(self) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype), by numpy's own parser of headers."""
    magic = self._take(8)
    version = (magic[6], magic[7])
    if magic[:6] != b'\x93NUMPY' or version not in _LENGTH_BYTES:
      raise self.damaged('it does not begin as an array of numpy')
    length = self._take(_LENGTH_BYTES[version])
    size = int.from_bytes(length, 'little')
    if size > _MAX_HEADER:
      raise self.damaged(f'its header takes {size} bytes')
    header = io.BytesIO(length + self._take(size))
    parse = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
      with warnings.catch_warnings():
        # About headers that Python 2 wrote.
        warnings.simplefilter('ignore')
        shape, fortran_order, dtype = parse(header)
    # It evaluates literals; what a damaged one raises is open.
    except Exception as e:
      raise self.damaged(f'its header is malformed: {type(e).__name__}') from e
    if dtype.kind not in _NUMBERS:
      raise self.damaged(f'it holds {dtype} where numbers belong')
    if fortran_order and len(shape) > 1:
      raise self.damaged('its rows are not in C order')
    return shape, dtype

  def _check_size(self) -> None:
    declared = math.prod(self.shape) * self.dtype.itemsize
    if min(self.shape, default=0) < 0 or declared > MAX_BYTES:
      raise self.damaged(
          'it declares a negative size, or one above the limit of '
          f'{MAX_BYTES} bytes'
      )
    size = os.path.getsize(self.path)
    if declared > _MAX_RATIO * size:
      raise self.damaged(
          f'it declares {declared} bytes, which do not fit its {size}'
      )


@contextlib.contextmanager
def open_array(path: str) -> Iterator[ArrayReader]:
  """Opens a file; damage that shows while it is open is named.

  Args:
    path: of a gzip of an array, formats 1.0 and 2.0.

  Raises:
    TeacherError: if it is not there, or damaged.
  """
  with naming_damage(path), gzip.open(path) as file:
    yield ArrayReader(path, file)


def read_bytes(path: str, max_bytes: int) -> bytes:
  """The content of a gzip file.

  Args:
    path: of the file.
    max_bytes: more is refused.

  Raises:
    TeacherError: if it is not there, damaged or too large.
  """
  with naming_damage(path), gzip.open(path) as file:
    content = file.read(max_bytes + 1)
  if len(content) > max_bytes:
    raise damaged(path, f'it holds more than {max_bytes} bytes')
  return content


@contextlib.contextmanager
def naming_damage(path: str) -> Iterator[None]:
  """Turns what a damaged file raises into a TeacherError with its name."""
  try:
    yield
  except FileNotFoundError as e:
    raise TeacherError(
        f'{path} is missing: copy it from where the teacher came from.'
    ) from e
  except (Damage, EOFError, gzip.BadGzipFile, zlib.error) as e:
    raise damaged(path, str(e).rstrip('.')) from e
  except OSError as e:
    raise TeacherError(f'{path} cannot be read: {e.strerror or e}.') from e


def damaged(path: str, reason: str) -> TeacherError:
  """One sentence about a file whose content is not what it should be."""
  return TeacherError(
      f'{path} is damaged ({reason}): copy it again from where the teacher '
      'came from.'
  )
