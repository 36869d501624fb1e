"""Addresses in buckets, and names of objects that may become file names."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple, Optional, Sequence

from reincarnating_rl.storage.gcs.errors import BucketError

SCHEME = 'gs://'
_BUCKET = re.compile(r'^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$')
# Characters of gsutil's patterns and versions.
_WILDCARDS = re.compile(r'[*?\[\]{}#]')
# Longest name that file systems take.
_MAX_NAME_BYTES = 255
# Longer lists are shortened in the middle.
_MAX_ENUMERATED = 12


class Address(NamedTuple):
  """A place in a bucket; the path has no slash at either end."""

  bucket: str
  path: str

  def __str__(self) -> str:
    return f'{SCHEME}{self.bucket}/{self.path}'.rstrip('/')

  @property
  def prefix(self) -> str:
    """Beginning of the names of all objects below this address."""
    return f'{self.path}/' if self.path else ''

  def child(self, name: str) -> Address:
    return Address(self.bucket, f'{self.prefix}{name}')

  def parent(self) -> Optional[Address]:
    """Returns the folder above; None for a whole bucket."""
    if not self.path:
      return None
    return Address(self.bucket, self.path.rpartition('/')[0])


def parse(url: str) -> Address:
  """Parses 'gs://bucket/path'; a slash at the end makes no difference.

  Raises:
    BucketError: if the text has another form.
  """
  if not url.startswith(SCHEME):
    raise BucketError(
        f'{url!r} is no address in a bucket: write it as '
        'gs://rl_checkpoints/DQN_400/Breakout/1.'
    )
  bucket, _, path = url[len(SCHEME) :].partition('/')
  path = path.removesuffix('/')
  if not _BUCKET.match(bucket):
    raise BucketError(f'{url!r} names no bucket: {bucket!r} cannot be one.')
  fault = fault_of(path) if path else None
  if fault is None and has_wildcards(path):
    fault = 'it holds one of * ? [ ] { } #'
  if fault is not None:
    raise BucketError(f'{url!r} is no plain address: {fault}.')
  return Address(bucket, path)


def has_wildcards(name: str) -> bool:
  """Returns True if gsutil would take a name for a pattern."""
  return _WILDCARDS.search(name) is not None


def fault_of(name: str) -> Optional[str]:
  """Says why an object's name cannot become a path below a folder.

  Returns:
    A clause, or None if the name can. Such a name leads out of the folder on no
    file system.
  """
  if any(not character.isprintable() for character in name):
    return 'it holds unprintable characters'
  if '\\' in name:
    return 'it holds a backslash'
  if name.startswith('/'):
    return 'it begins with a slash'
  for part in name.split('/'):
    if not part:
      return 'it has an empty part'
    if part in ('.', '..'):
      return f'{part!r} is a part of it'
    if len(part.encode()) > _MAX_NAME_BYTES:
      return f'a part of it is longer than {_MAX_NAME_BYTES} bytes'
  return None


def enumerate_names(names: Sequence[object]) -> str:
  """Joins names as '1, 2, 3' in natural order; shortens long lists."""
  words = sorted((str(name) for name in names), key=_natural)
  if len(words) > _MAX_ENUMERATED:
    half = _MAX_ENUMERATED // 2
    words = words[:half] + ['...'] + words[-half:]
  return ', '.join(words) or 'nothing'


def natural_order(names: Sequence[str]) -> list[str]:
  """Sorts names such that 10 comes after 9."""
  return sorted(names, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
  pieces = re.split(r'(\d+)', name)
  return [(int(p), '') if p.isdecimal() else (0, p) for p in pieces]


def nearest(name: str, names: Sequence[str]) -> str:
  """Returns ' Did you mean Breakout?' with similar names, or ''."""
  by_key = {candidate.lower(): candidate for candidate in names}
  close = difflib.get_close_matches(name.lower(), by_key, n=2, cutoff=0.6)
  if not close:
    return ''
  return f' Did you mean {" or ".join(by_key[key] for key in close)}?'
