"""Reads .npy.gz files (gzip of numpy's file format) from untrusted sources.

Sizes in the header are checked against the size of the file before memory is
allocated. Damage raises a TeacherError that names the file. Not here: what the
arrays mean.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
from typing import cast, IO, Iterator
import warnings
import zlib

import numpy as np

from reincarnating_rl.teachers.errors import TeacherError

# More than ten million frames of 84 x 84.
MAX_BYTES = 1 << 37
# Deflate's best ratio is 258 bytes for two bits.
_MAX_RATIO = 1032
_MAX_HEADER = 10_000
_SKIP_BYTES = 1 << 22
_NUMBERS = 'biuf'  # kinds of dtypes
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # of the header's length, by version


class Damage(ValueError):
  """Damage of a file; the text is a clause without the file's name."""


class ArrayReader:
  """An open file whose rows are read in order.

  Attributes:
    path: path of the file.
    shape: declared shape.
    dtype: declared dtype, a number.
  """

  def __init__(self, path: str, file: IO[bytes]):
    """Reads the header.

    Args:
      path: path of the file, for messages and its size.
      file: stream of its decompressed bytes.

    Raises:
      TeacherError: if the header is damaged or declares an impossible size.
    """
    self.path = path
    self._file = file
    self.shape, self.dtype = self._read_header()
    self._check_size()

  @property
  def row_bytes(self) -> int:
    return math.prod(self.shape[1:]) * self.dtype.itemsize

  def read(self, num_rows: int) -> np.ndarray:
    """Reads the next rows as [num_rows, ...], read-only.

    Raises:
      TeacherError: if the file ends early.
    """
    content = self._take(num_rows * self.row_bytes)
    return np.frombuffer(content, self.dtype).reshape(
        (num_rows,) + self.shape[1:]
    )

  def read_all(self) -> np.ndarray:
    """Reads the whole array, and verifies the end of the file."""
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
    """Creates the error for damage of this file."""
    return damaged(self.path, reason)

  def _expect_end(self) -> None:
    # gzip compares its checksum when it reads the end.
    if self._file.read(1):
      raise self.damaged('it goes on behind the end of its array')

  def _take(self, num_bytes: int) -> bytes:
    content = self._file.read(num_bytes)
    if len(content) < num_bytes:
      raise self.damaged('it ends before its array does')
    return content

  def _read_header(self) -> tuple[tuple[int, ...], np.dtype]:
    """Returns (shape, dtype), read by numpy's parser of headers."""
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
        # Headers that Python 2 wrote cause warnings.
        warnings.simplefilter('ignore')
        shape, fortran_order, dtype = parse(header)
    # The parser evaluates literals; damaged ones may raise anything.
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
  """Opens a file; damage that appears while it is open names the file.

  Args:
    path: path of a .npy.gz file, in format 1.0 or 2.0.

  Raises:
    TeacherError: if it is missing or damaged.
  """
  with naming_damage(path), gzip.open(path) as file:
    yield ArrayReader(path, cast(IO[bytes], file))


def read_bytes(path: str, max_bytes: int) -> bytes:
  """Reads the content of a gzip file.

  Args:
    path: path of the file.
    max_bytes: largest content that is accepted.

  Raises:
    TeacherError: if it is missing, damaged or too large.
  """
  with naming_damage(path), gzip.open(path) as file:
    content = file.read(max_bytes + 1)
  if len(content) > max_bytes:
    raise damaged(path, f'it holds more than {max_bytes} bytes')
  return content


@contextlib.contextmanager
def naming_damage(path: str) -> Iterator[None]:
  """Turns the errors of a damaged file into a TeacherError that names it."""
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
  """Creates the error for a damaged file."""
  return TeacherError(
      f'{path} is damaged ({reason}): copy it again from where the teacher '
      'came from.'
  )
