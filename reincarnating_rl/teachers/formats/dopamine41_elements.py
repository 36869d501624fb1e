"""Reads the elements of Dopamine 4.1's replay.

The file is one msgpack map. The package reads this part:

  memory: {keys: [int, ...],
           values: [[state, action, reward, next_state, is_terminal,
                     episode_end], ...],
           treedef: a pickle, which is never read}

Arrays and numpy's numbers are maps of dtype, shape and data; states may be
compressed by snappy. Elements are read one at a time. The file may come from an
untrusted source: sizes are checked before memory is allocated. Not here: what
the elements mean.
"""

from __future__ import annotations

import functools
import math
import os
import re
from typing import Any, BinaryIO, Callable, Iterator, NamedTuple, Optional

import msgpack
import numpy as np

from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats.npy_gz import Damage

# Largest state; states of Atari games are far smaller.
_MAX_STATE_BYTES = 1 << 24
_NUMBER = re.compile(r"^'([<>|=]?[biuf][1248])'$")
_COMPRESSED = re.compile(
    r"^\[\('data', '\|u1', \((\d+),\)\), \('shape', '<i4', \(3,\)\), "
    r"\('dtype', '\|S3'\)\]$"
)
_BYTES = b'|u1'  # the only dtype of frames
_SHAPE_BYTES = 12  # three int32


class Stack(NamedTuple):
  """A state as it is stored."""

  content: bytes
  shape: tuple[int, int, int]  # (H, W, C), oldest frame first
  is_compressed: bool

  def frames(self) -> np.ndarray:
    """Returns [C, H, W] uint8 frames, oldest first.

    Raises:
      Damage: if the content does not decompress to the shape.
    """
    size = math.prod(self.shape)
    content = self.content
    if self.is_compressed:
      content = uncompressed(content, size)
    array = np.frombuffer(content, np.uint8).reshape(self.shape)
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))

  def is_same(self, other: Stack) -> bool:
    """Returns True if both hold the same frames."""
    # Releases of snappy may compress the same frames to different bytes.
    return self.content == other.content or np.array_equal(
        self.frames(), other.frames()
    )


class Element(NamedTuple):
  """A transition, as Dopamine samples it."""

  key: int  # counts elements ever added
  state: Stack
  action: int
  reward: float  # n-step return
  next_state: Stack
  is_terminal: bool


class ElementReader:
  """An open file of elements.

  Attributes:
    num_elements: number of elements.
  """

  def __init__(self, file: BinaryIO):
    """Reads up to the first element.

    Args:
      file: the open file.

    Raises:
      Damage: if the content has another form.
    """
    self._size = os.fstat(file.fileno()).st_size
    # Limits for one element.
    self._unpacker = msgpack.Unpacker(
        file,
        read_size=1 << 20,
        raw=False,
        max_buffer_size=1 << 27,
        max_bin_len=_MAX_STATE_BYTES,
        max_str_len=1 << 16,
        max_array_len=64,
        max_map_len=64,
        max_ext_len=0,
    )
    self._shape: Optional[tuple[int, int, int]] = None
    self._keys = self._guarded(self._read_keys)

  @property
  def num_elements(self) -> int:
    return len(self._keys)

  def __iter__(self) -> Iterator[Element]:
    """Yields the elements in the order in which they were added.

    Raises:
      Damage: if the content has another form.
    """
    for key in self._keys.tolist():
      yield self._guarded(functools.partial(self._read_element, key))
    self._guarded(self._read_rest)

  def _guarded(self, read: Callable[[], Any]) -> Any:
    """Turns the many errors of msgpack into Damage."""
    try:
      return read()
    except Damage:
      raise
    except msgpack.OutOfData as e:
      raise Damage('it ends too early') from e
    except (
        ArithmeticError,
        TypeError,
        ValueError,
        msgpack.UnpackException,
    ) as e:
      raise Damage(f'it is no msgpack of a replay: {type(e).__name__}') from e

  def _read_keys(self) -> np.ndarray:
    """Reads [K] int64 keys, up to the first element."""
    unpacker = self._unpacker
    self._after_memory = self._enter('memory')
    self._after_values = self._enter('keys')
    keys = np.zeros(self._read_length(), np.int64)
    for i in range(len(keys)):
      keys[i] = self._integer(unpacker.unpack())
    self._after_values = self._enter('values', self._after_values)
    if self._read_length() != len(keys):
      raise Damage('it has not as many keys as elements')
    return keys

  def _enter(self, name: str, left: Optional[int] = None) -> int:
    """Skips to an entry of a map.

    Args:
      name: name of the entry.
      left: number of entries left in the map; None to begin a map.

    Returns:
      The number of entries left after the one found.
    """
    if left is None:
      left = self._unpacker.read_map_header()
    while left:
      left -= 1
      if self._unpacker.unpack() == name:
        return left
      self._unpacker.skip()
    raise Damage(f'it has no {name}')

  def _read_length(self) -> int:
    """Reads the length of the array that begins here."""
    length = self._unpacker.read_array_header()
    # Each item takes at least one byte.
    if length > self._size:
      raise Damage(f'it declares {length} items in {self._size} bytes')
    return length

  def _read_rest(self) -> None:
    """Skips the rest of the file, which must be complete."""
    for _ in range(2 * self._after_values + 2 * self._after_memory):
      self._unpacker.skip()
    try:
      self._unpacker.skip()
    except msgpack.OutOfData:
      return
    raise Damage('it goes on behind its end')

  def _read_element(self, key: int) -> Element:
    leaves = self._unpacker.unpack()
    if not isinstance(leaves, list) or len(leaves) != 6:
      raise Damage('its elements are not those of a replay of states')
    state, action, reward, next_state, is_terminal, _ = leaves
    action = self._integer(action)
    if not 0 <= action <= 255:
      raise Damage(f'it has an action {action}; at most 256 are known here')
    reward = float(_number(reward))
    if not math.isfinite(reward):
      raise Damage('not all rewards are finite')
    return Element(
        key,
        self._stack(state),
        action,
        reward,
        self._stack(next_state),
        bool(_number(is_terminal)),
    )

  def _integer(self, value: Any) -> int:
    number = _number(value)
    if isinstance(number, float):
      raise Damage(f'it holds {number} where a whole number belongs')
    return int(number)

  def _stack(self, value: Any) -> Stack:
    """Checks an encoded state, without decompressing it."""
    if not isinstance(value, dict) or not {'dtype', 'shape', 'data'} <= set(
        value
    ):
      raise Damage('it has a state that is no array')
    dtype, shape, content = value['dtype'], value['shape'], value['data']
    if not isinstance(dtype, str) or not isinstance(content, bytes):
      raise Damage('it has a state that is no array')
    compressed = _COMPRESSED.match(dtype)
    if compressed:
      content, shape = _compressed_parts(content, int(compressed.group(1)))
    elif dtype != repr(_BYTES.decode()) or value.get('order', 'C') != 'C':
      raise Damage(f'its states are arrays of {dtype[:40]}, not of bytes')
    stack = Stack(content, self._checked(shape), compressed is not None)
    if not compressed and len(content) != math.prod(stack.shape):
      raise Damage('it has a state of another size than its shape')
    return stack

  def _checked(self, shape: Any) -> tuple[int, int, int]:
    """Returns the shape of a state, which must be that of all states."""
    if self._shape is not None and list(shape) == list(self._shape):
      return self._shape
    sizes = tuple(shape)
    if (
        self._shape is not None
        or len(sizes) != 3
        or not all(isinstance(x, int) and x > 0 for x in sizes)
        or math.prod(sizes) > _MAX_STATE_BYTES
    ):
      raise Damage(f'it has states of shape {str(sizes)[:40]}')
    self._shape = sizes
    return sizes


def uncompressed(content: bytes, size: int) -> bytes:
  """Decompresses a block of snappy.

  Args:
    content: the block.
    size: bytes that it must come to; no more are allocated.

  Returns:
    [size] bytes.

  Raises:
    Damage: if it is damaged, or comes to another size.
    TeacherError: if the decompressor is not installed.
  """
  # Imported here: machines that read no such replay may lack it.
  try:
    import cramjam
  except ImportError as e:
    raise TeacherError(
        "The states of Dopamine 4.1's replay are compressed by snappy: pip "
        'install cramjam.'
    ) from e
  try:
    declared = cramjam.snappy.decompress_raw_len(content)
    if declared != size:
      raise Damage(f'it has a state of {declared} bytes instead of {size}')
    result = bytearray(size)
    written = cramjam.snappy.decompress_raw_into(content, result)
  except cramjam.DecompressionError as e:
    raise Damage('it has a state that does not unpack') from e
  if written != size:
    raise Damage('it has a state that does not unpack')
  return bytes(result)


def _compressed_parts(
    content: bytes, length: int
) -> tuple[bytes, tuple[int, ...]]:
  """Splits a record of data, shape and dtype into (compressed bytes, shape)."""
  shape = content[length : length + _SHAPE_BYTES]
  if len(content) != length + _SHAPE_BYTES + len(_BYTES):
    raise Damage('it has a state of another size than it says')
  if content[-len(_BYTES) :] != _BYTES:
    raise Damage('its states are not arrays of bytes')
  return content[:length], tuple(np.frombuffer(shape, '<i4').tolist())


def _number(value: Any) -> int | float | bool:
  """Decodes a number, Python's or numpy's."""
  if isinstance(value, (bool, int, float)):
    return value
  if isinstance(value, dict) and {'dtype', 'shape', 'data'} <= set(value):
    dtype, data = value['dtype'], value['data']
    match = _NUMBER.match(dtype) if isinstance(dtype, str) else None
    if match and isinstance(data, bytes):
      if len(data) == np.dtype(match.group(1)).itemsize:
        return np.frombuffer(data, match.group(1))[0].item()
  raise Damage('it has something else where a number belongs')
