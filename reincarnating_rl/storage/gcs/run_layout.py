"""Files of each checkpoint of a run, found by their names alone.

  checkpoints/ckpt.<N>                           pickled parameters and more
  checkpoints/tf_ckpt-<N>.*                      the same of TensorFlow
  checkpoints/sentinel_checkpoint_complete.<N>   N was written to its end
  checkpoints/*_ckpt.<N>.gz                      its replay, or
  replay_logs/*_ckpt.<M>.gz                      its replay, M = (N + 1) // 4
  checkpoints/<N>/replay/...                     its replay, of Dopamine 4.1
  teacher.json, checkpoints/params.<N>.msgpack,
    replay/<N>/...                               the same of `train_teacher`

Without a checkpoints/ folder its files lie in the run itself.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Iterable

CHECKPOINTS = 'checkpoints'
REPLAY_LOGS = 'replay_logs'
# Dopamine logged replay with every fourth checkpoint.
CHECKPOINTS_PER_REPLAY_LOG = 4
_SHARED = ('teacher.json',)
_NUMBER = r'(0|[1-9]\d*)'
_SENTINEL = re.compile(rf'^sentinel_checkpoint_complete\.{_NUMBER}$')
_REPLAY = re.compile(rf'^.+_[^_.]+\.{_NUMBER}\.gz$')
_NATIVE = re.compile(rf'^params\.{_NUMBER}\.msgpack$')
_NATIVE_REPLAY = re.compile(rf'^replay/{_NUMBER}/.')
_ELEMENTS = re.compile(rf'^(?:{CHECKPOINTS}/)?{_NUMBER}/replay/.')


@dataclasses.dataclass
class Checkpoint:
  """Files of one checkpoint, as paths within the run.

  Attributes:
    files: files with parameters, and the sentinel.
    replay: files of the replay data.
    has_weights: True if there are parameters among the files.
    complete: True if it is marked as written to its end.
  """

  files: list[str] = dataclasses.field(default_factory=list)
  replay: list[str] = dataclasses.field(default_factory=list)
  has_weights: bool = False
  complete: bool = False


def checkpoints(
    names: Iterable[str], prefix: str = 'ckpt'
) -> dict[int, Checkpoint]:
  """Returns the checkpoints of a run by number, ascending.

  Args:
    names: names of all its files, as paths within the run.
    prefix: prefix of the files with the parameters.
  """
  weights = re.compile(
      rf'^(?:{re.escape(prefix)}\.{_NUMBER}'
      rf'|(?:{re.escape(prefix)}|tf_ckpt)-{_NUMBER}\.(?:index|meta|data-.+))$'
  )
  found: dict[int, Checkpoint] = {}
  logs: dict[int, list[str]] = {}
  shared = []
  for name in sorted(names):
    folder, _, base = name.rpartition('/')
    if name in _SHARED:
      shared.append(name)
    elif match := _NATIVE_REPLAY.match(name) or _ELEMENTS.match(name):
      _numbered(found, match).replay.append(name)
    elif folder == REPLAY_LOGS and (match := _REPLAY.match(base)):
      logs.setdefault(int(match.group(1)), []).append(name)
    elif folder in ('', CHECKPOINTS):
      _add(found, name, base, weights)
  for number, checkpoint in found.items():
    checkpoint.files = shared + checkpoint.files
    checkpoint.replay += logs.get(
        (number + 1) // CHECKPOINTS_PER_REPLAY_LOG, []
    )
  return {n: found[n] for n in sorted(found) if found[n].has_weights}


def _add(
    found: dict[int, Checkpoint], name: str, base: str, weights: re.Pattern[str]
) -> None:
  """Assigns one file of the checkpoints/ folder."""
  if match := weights.match(base):
    _numbered(found, match).files.append(name)
    _numbered(found, match).has_weights = True
  elif match := _NATIVE.match(base):
    # Such a file appears when it is complete: it needs no sentinel.
    checkpoint = _numbered(found, match)
    checkpoint.files.append(name)
    checkpoint.has_weights = checkpoint.complete = True
  elif match := _SENTINEL.match(base):
    _numbered(found, match).files.append(name)
    _numbered(found, match).complete = True
  elif match := _REPLAY.match(base):
    _numbered(found, match).replay.append(name)


def _numbered(found: dict[int, Checkpoint], match: re.Match[str]) -> Checkpoint:
  number = next(int(group) for group in match.groups() if group is not None)
  return found.setdefault(number, Checkpoint())


def is_replay(name: str) -> bool:
  """Returns True if a file of a run holds replay data."""
  base = name.rpartition('/')[2]
  patterns = (_NATIVE_REPLAY, _ELEMENTS)
  return bool(_REPLAY.match(base)) or any(p.match(name) for p in patterns)
