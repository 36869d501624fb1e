"""Everything that a run has left, by name, and the comparison of two runs."""

from __future__ import annotations

import collections
import glob
import json
import os
import pickle
from typing import Any, Iterator

import numpy as np

# Entries of the document with times and names of files.
_NOT_COMPARED = ('seconds', 'logs')
_METRICS_FILE = 'metrics.jsonl'


def differences(reference: str, victim: str) -> list[str]:
  """Differences between two run directories, one sentence each."""
  ours, theirs = contents(reference), contents(victim)
  return [
      f'{name}: {_shown(theirs.get(name))}, not {_shown(ours.get(name))}'
      for name in sorted({**ours, **theirs})
      if name not in ours
      or name not in theirs
      or not _equal(ours[name], theirs[name])
  ]


def contents(base_dir: str) -> dict[str, Any]:
  """All that a run has left, times excepted, by name."""
  with open(os.path.join(base_dir, 'summary.json'), encoding='utf-8') as f:
    iterations = json.load(f)['iterations']
  found = dict(_leaves('summary/iterations', iterations))
  found |= checkpoint_contents(os.path.join(base_dir, 'checkpoints'))
  found |= event_contents(base_dir)
  with open(os.path.join(base_dir, _METRICS_FILE), encoding='utf-8') as f:
    found |= dict(_leaves(_METRICS_FILE, [json.loads(line) for line in f]))
  # The newest file of each holds the contents of those before it.
  number = lambda path: int(path.removesuffix('.pkl').split('_')[-1])
  for pattern in ('logs/log_*', 'metrics/pickle/pickle_*.pkl'):
    newest = max(
        glob.glob(os.path.join(base_dir, pattern)), key=number, default=None
    )
    if newest is not None:
      with open(newest, 'rb') as f:
        found |= dict(_leaves(os.path.dirname(pattern), pickle.load(f)))
  return {k: v for k, v in found.items() if not k.endswith('/seconds')}


def checkpoint_contents(folder: str) -> dict[str, Any]:
  """Document, arrays and replays of the newest checkpoint, by name."""
  from reincarnating_rl.storage.checkpoints.checkpoint_store import Vault

  vault = Vault(folder)
  saved: Any = vault.newest()
  document = {k: v for k, v in saved.document.items() if k not in _NOT_COMPARED}
  leaves = dict(_leaves('checkpoint', document))
  found = {k: v for k, v in leaves.items() if '/seconds' not in k}
  found |= {f'arrays/{name}': array for name, array in saved.arrays.items()}
  for ring, segments in saved.segments.items():
    num_envs = len(saved.arrays['player/first'])
    writer = document['state']['trainer']['writer']
    slots = writer['capacity'] // num_envs
    written = int(saved.arrays['trainer/writer/add_count'])
    oldest = max(written - slots, 0)
    pieces = collections.defaultdict(list)
    for segment in segments:
      skipped = max(oldest - segment.start, 0) * num_envs
      for name, column in vault.read_rows(ring, segment).items():
        pieces[f'replay/{ring}/{name}'].append(column[skipped:])
    found |= {name: np.concatenate(p) for name, p in pieces.items()}
    for name in pieces:
      if len(found[name]) != (written - oldest) * num_envs:
        found[name] = f'{len(found[name])} rows of {written - oldest} slots'
  return found


def event_contents(base_dir: str) -> dict[str, list]:
  """Steps and values of TensorBoard's events, by folder and tag."""
  from tensorboard.compat.proto.event_pb2 import Event
  from tensorboard.compat.tensorflow_stub import errors
  from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
  from tensorboard.util import tensor_util

  found: dict[str, list] = collections.defaultdict(list)
  pattern = os.path.join(base_dir, '**', 'events.out.tfevents.*')
  for path in glob.glob(pattern, recursive=True):
    folder = os.path.relpath(os.path.dirname(path), base_dir)
    reader = pywrap_tensorflow.PyRecordReader_New(path)
    try:
      while True:
        reader.GetNext()
        event = Event.FromString(reader.record())
        for value in event.summary.value:
          number = tensor_util.make_ndarray(value.tensor).item()
          found[f'events/{folder}/{value.tag}'].append((event.step, number))
    except errors.OutOfRangeError:
      pass  # The end of the file.
    except errors.DataLossError as e:
      found[f'events/{folder}'].append(f'{path} is damaged ({e.message})')
  return {name: sorted(found[name]) for name in found}


def _leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
  """Leaves of nested dicts and lists, by path."""
  if isinstance(tree, dict):
    tree = tree.items()
  elif isinstance(tree, (list, tuple)) and any(
      isinstance(x, (dict, list, tuple)) for x in tree
  ):
    tree = enumerate(tree)
  else:
    yield name, tree
    return
  for key, value in tree:
    yield from _leaves(f'{name}/{key}', value)


def _equal(a: Any, b: Any) -> bool:
  """True if equal bit for bit; NaN equals NaN."""
  if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
    same = (a.shape, a.dtype) == (b.shape, b.dtype)
    return same and a.tobytes() == b.tobytes()
  if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
    return False
  return a == b or repr(a) == repr(b)


def _shown(value: Any) -> str:
  if value is None:
    return 'nothing'
  if isinstance(value, np.ndarray):
    return f'{value.dtype}{list(value.shape)} {value.ravel()[:4]}...'
  text = repr(value)
  return text if len(text) <= 200 else f'{text[:200]}...'
