"""Blocks of snappy, the compression of Dopamine 4.1's states.

A block is never trusted: it comes to the size that it must have, or is refused.
"""

from __future__ import annotations

import functools
from typing import Callable, Optional

from reincarnating_rl.teachers.formats.npy_gz import Damage


def uncompress(content: bytes, size: int) -> bytes:
  """Takes one block of snappy apart.

  Args:
    content: the block.
    size: what it must come to, in bytes.

  Returns:
    [size] bytes.

  Raises:
    Damage: if it does not.
  """
  declared, start = _varint(content)
  if declared != size:
    raise Damage(f'it has a state of {declared} bytes instead of {size}')
  fast = _library()
  if fast is None:
    result = _uncompress(content, start, size)
  else:
    try:
      result = fast(content)
    except Exception as e:  # Its kinds differ between releases.
      raise Damage('it has a state that does not unpack') from e
  if len(result) != size:
    raise Damage('it has a state that does not unpack')
  return result


@functools.cache
def _library() -> Optional[Callable[[bytes], bytes]]:
  """python-snappy, twenty times faster, where it is installed."""
  try:
    import snappy
  except ImportError:
    return None
  return snappy.uncompress


def _varint(content: bytes) -> tuple[int, int]:
  """(number, where it ends)."""
  number = 0
  for i, byte in enumerate(content[:5]):
    number |= (byte & 0x7F) << (7 * i)
    if byte < 0x80:
      return number, i + 1
  raise Damage('it has a state that does not unpack')


def _uncompress(content: bytes, at: int, size: int) -> bytes:
  """Literals and copies of what came before, until the block ends.

  The format: github.com/google/snappy, format_description.txt.
  """
  out = bytearray()
  end = len(content)
  while at < end and len(out) <= size:
    tag = content[at]
    at += 1
    if not tag & 3:  # A literal, its length in the tag or behind it.
      length = (tag >> 2) + 1
      if length > 60:
        extra = length - 60
        length = int.from_bytes(content[at : at + extra], 'little') + 1
        at += extra
      out += content[at : at + length]
      at += length
      continue
    if tag & 3 == 1:
      length = 4 + (tag >> 2 & 7)
      offset = (tag >> 5) << 8 | int.from_bytes(content[at : at + 1], 'little')
      at += 1
    else:
      length = 1 + (tag >> 2)
      extra = tag & 3 if tag & 3 == 2 else 4
      offset = int.from_bytes(content[at : at + extra], 'little')
      at += extra
    first = len(out) - offset
    if first < 0 or not offset:
      raise Damage('it has a state that does not unpack')
    # A copy may reach into itself: then it repeats.
    piece = out[first : first + length]
    out += (
        piece if offset >= length else (piece * (length // offset + 1))[:length]
    )
  return bytes(out)
