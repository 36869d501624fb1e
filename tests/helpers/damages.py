"""Ways to damage a file."""

import os

import pytest


def truncate(path):
  os.truncate(path, os.path.getsize(path) // 2)


def empty(path):
  os.truncate(path, 0)


def flip(path):
  """Flips one bit in the middle."""
  with open(path, 'r+b') as f:
    f.seek(os.path.getsize(path) // 2)
    byte = f.read(1)[0]
    f.seek(-1, os.SEEK_CUR)
    f.write(bytes([byte ^ 4]))


DAMAGES = {
    'truncated': truncate,
    'empty': empty,
    'flipped': flip,
    'gone': os.remove,
}
each_damage = pytest.mark.parametrize(
    'damage', DAMAGES.values(), ids=DAMAGES.keys()
)


def files_below(folder):
  """Lists the paths of all files, the largest file first."""
  found = [os.path.join(r, f) for r, _, fs in os.walk(folder) for f in fs]
  return sorted(found, key=lambda path: (-os.path.getsize(path), path))
