"""Run directories of Dopamine: finds and reads checkpoints.

  RUN/checkpoints/ckpt.<N>                        pickle: parameters, logs
  RUN/checkpoints/sentinel_checkpoint_complete.<N>
  RUN/checkpoints/tf_ckpt-<N>.index, .data-..     parameters (TensorFlow)

Replay data: `replay_logs` (one file per array, up to Dopamine 4.0) and
`dopamine41_replay`.
"""

from __future__ import annotations

import os
import re
from typing import Any, Iterator, NamedTuple, Optional

from absl import logging
import numpy as np

from reincarnating_rl.teachers.errors import enumerate_items
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats import dopamine_params
from reincarnating_rl.teachers.formats import safe_pickle
from reincarnating_rl.teachers.formats import tensorflow_checkpoint
from reincarnating_rl.teachers.teacher import LoadedTeacher
from reincarnating_rl.teachers.teacher import OptimizerMoments
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

CHECKPOINTS = 'checkpoints'
TENSORFLOW_PREFIX = 'tf_ckpt'
_SENTINEL = 'sentinel_checkpoint_complete'
# The largest known checkpoint, an Impala DQN with its Adam state, has 100 MB.
_MAX_CHECKPOINT_BYTES = 4 * 2**30


class Checkpoints(NamedTuple):
  """Checkpoints of a run.

  Attributes:
    folder: folder of their files.
    prefix: prefix of the files.
    numbers: numbers of the checkpoints, ascending.
    complete: numbers of those that Dopamine marked as complete.
    is_tensorflow: True if parameters are in TensorFlow's format.
  """

  folder: str
  prefix: str
  numbers: list[int]
  complete: list[int]
  is_tensorflow: bool


def find_checkpoints(directory: str, prefix: str) -> Optional[Checkpoints]:
  """Finds the checkpoints in a run directory, or in its checkpoints/ folder.

  Args:
    directory: the run directory.
    prefix: prefix of the files; TensorFlow's is tried if there are none.

  Returns:
    The checkpoints, or None if there are none.
  """
  inner = os.path.join(directory, CHECKPOINTS)
  folder = inner if os.path.isdir(inner) else directory
  complete = _numbers(folder, _SENTINEL)
  for candidate in dict.fromkeys((prefix, TENSORFLOW_PREFIX)):
    numbers = tensorflow_checkpoint.checkpoint_numbers(folder, candidate)
    if numbers:
      # Files beside them with the other prefix hold no parameters.
      return Checkpoints(folder, candidate, numbers, complete, True)
    numbers = _numbers(folder, candidate)
    if numbers and not tensorflow_checkpoint.checkpoint_numbers(
        folder, TENSORFLOW_PREFIX
    ):
      return Checkpoints(folder, candidate, numbers, complete, False)
  return None


def _numbers(folder: str, prefix: str) -> list[int]:
  pattern = re.compile(rf'^{re.escape(prefix)}\.(\d+)$')
  matches = (pattern.match(name) for name in os.listdir(folder))
  return sorted(int(m.group(1)) for m in matches if m)


def choose_number(
    checkpoints: Checkpoints, path: str, wanted: Optional[int]
) -> int:
  """Returns the number of the wanted checkpoint, or of the newest complete one.

  Args:
    checkpoints: the checkpoints of a run.
    path: path of the teacher, as the user gave it.
    wanted: a number, or None for the newest.

  Raises:
    TeacherError: if there is no such checkpoint.
  """
  whole = [n for n in checkpoints.numbers if n in checkpoints.complete]
  if wanted is None:
    return (whole or checkpoints.numbers)[-1]
  if wanted not in checkpoints.numbers:
    raise TeacherError(
        f'{path} has no checkpoint {wanted}; there are '
        f'{enumerate_items(checkpoints.numbers)}.'
    )
  if whole and wanted not in whole:
    logging.warning(
        'Checkpoint %d of %s has no %s.%d beside it: it may not be whole.',
        wanted,
        path,
        _SENTINEL,
        wanted,
    )
  return wanted


def read(
    checkpoints: Checkpoints,
    path: str,
    number: int,
    *,
    agent: Optional[str],
    replay: Optional[TeacherReplay],
) -> LoadedTeacher:
  """Reads one checkpoint.

  Args:
    checkpoints: the checkpoints of a run, from `find_checkpoints`.
    path: path of the teacher, as the user gave it.
    number: number of the checkpoint, which must exist.
    agent: kind of agent; None = found from the parameters.
    replay: replay data; None for none.

  Raises:
    TeacherError: if it is refused, damaged, or no agent of this package.
  """
  if checkpoints.is_tensorflow:
    online, target = _read_tensorflow(checkpoints, number, agent)
    bundle = _read_tensorflow_bundle(checkpoints.folder, number)
    optimizer, format_ = None, 'TensorFlow'
  else:
    file = os.path.join(checkpoints.folder, f'{checkpoints.prefix}.{number}')
    bundle = read_bundle(file)
    online, target, optimizer = _read_networks(bundle, file, agent)
    format_ = _format(bundle)
  return LoadedTeacher(
      path=path,
      network=online.network,
      params=online.params,
      checkpoint_number=number,
      score=_score(bundle),
      training_steps=_count(bundle, 'training_steps'),
      replay=replay,
      agent=online.agent,
      format=format_,
      target_params=target.params if target else None,
      optimizer=optimizer,
  )


def read_bundle(file: str) -> dict[str, Any]:
  """Reads the dict that Dopamine pickles.

  Raises:
    TeacherError: if it is refused or damaged.
  """
  size = os.path.getsize(file)
  if size > _MAX_CHECKPOINT_BYTES:
    raise TeacherError(
        f'{file} has {size} bytes, more than any checkpoint '
        f'({_MAX_CHECKPOINT_BYTES}): it is not one.'
    )
  with open(file, 'rb') as f:
    bundle = safe_pickle.loads(f.read(), file)
  if not isinstance(bundle, dict):
    raise TeacherError(
        f'{file} holds a {type(bundle).__name__} instead of the dict of a '
        'Dopamine checkpoint.'
    )
  return bundle


def _read_networks(
    bundle: dict[str, Any], file: str, agent: Optional[str]
) -> tuple[
    dopamine_params.Converted,
    Optional[dopamine_params.Converted],
    Optional[OptimizerMoments],
]:
  """Reads online network, target network, and the optimizer's moments."""
  tree = bundle.get('online_params')
  if tree is None and isinstance(bundle.get('optimizer'), safe_pickle.Record):
    # Releases that used flax.optim kept the parameters in the optimizer.
    tree = _field(bundle['optimizer'], 'target')
  if tree is None:
    raise TeacherError(
        f'{file} holds no online_params but '
        f'{enumerate_items(sorted(map(str, bundle)))}: it is not the '
        'checkpoint of an agent with a JAX network. Of a TensorFlow agent, '
        'the files tf_ckpt-<N>.* are needed as well.'
    )
  convert = lambda tree: dopamine_params.from_flax(_unwrap(tree), file, agent)
  online = convert(tree)
  target = bundle.get('target_params')
  moments = _moments(bundle.get('optimizer_state'))
  if moments is not None:
    moments = moments._replace(
        mu=convert(moments.mu).params, nu=convert(moments.nu).params
    )
  return online, None if target is None else convert(target), moments


def _unwrap(tree: Any) -> Any:
  """Returns the parameters of a flax.nn.Model, or the tree itself."""
  if isinstance(tree, safe_pickle.Record):
    return _field(tree, 'params')
  return tree


def _field(record: safe_pickle.Record, name: str) -> Any:
  """Returns an attribute of a record, or its last argument."""
  if name in record.attributes:
    return record.attributes[name]
  return record.args[-1] if record.args else None


def _moments(state: Any) -> Optional[OptimizerMoments]:
  """Finds the moments in the state of an optax chain."""
  for record in _records(state):
    if record.class_name == 'ScaleByAdamState' and len(record.args) == 3:
      count, mu, nu = record.args
      return OptimizerMoments('adam', int(count), mu, nu)
    if record.class_name == 'ScaleByRStdDevState' and len(record.args) == 2:
      return OptimizerMoments('rmsprop', 0, *record.args)
  return None


def _records(state: Any) -> Iterator[safe_pickle.Record]:
  """Yields every record in nested tuples and records."""
  if isinstance(state, safe_pickle.Record):
    yield state
    state = state.args
  if isinstance(state, (tuple, list)):
    for item in state:
      yield from _records(item)


def _read_tensorflow(
    checkpoints: Checkpoints, number: int, agent: Optional[str]
) -> tuple[dopamine_params.Converted, Optional[dopamine_params.Converted]]:
  folder, prefix = checkpoints.folder, checkpoints.prefix
  variables = tensorflow_checkpoint.read_variables(folder, prefix, number)
  source = os.path.join(folder, f'{prefix}-{number}')
  convert = lambda scope: dopamine_params.from_tensorflow(
      variables, source, agent, scope
  )
  has_target = any(name.startswith('Target/') for name in variables)
  return convert('Online'), convert('Target') if has_target else None


def _read_tensorflow_bundle(folder: str, number: int) -> dict[str, Any]:
  """Reads the counters and logs that Dopamine pickled beside the variables."""
  file = os.path.join(folder, f'ckpt.{number}')
  return read_bundle(file) if os.path.isfile(file) else {}


def _format(bundle: dict[str, Any]) -> str:
  """Describes which releases wrote a pickle, as far as its contents tell."""
  tree = bundle.get('online_params')
  if isinstance(tree, dict) and 'params' in tree:
    era = 'linen'
  else:
    era = 'before linen'
  optimizer = 'with' if 'optimizer_state' in bundle else 'without'
  return f'Dopamine pickle, flax {era}, {optimizer} optimizer state'


def _count(bundle: dict[str, Any], key: str) -> Optional[int]:
  """Returns a counter of a bundle, None if it is missing or no number."""
  value = bundle.get(key)
  if isinstance(value, (int, np.integer)) and value >= 0:
    return int(value)
  return None


def _score(bundle: dict[str, Any]) -> Optional[float]:
  """Returns the mean return of the newest evaluation in the logs, or None."""
  logs = bundle.get('logs')
  iteration = _count(bundle, 'current_iteration')
  if not isinstance(logs, dict) or iteration is None:
    return None
  entry = logs.get(f'iteration_{iteration}')
  values: Any = None
  if isinstance(entry, dict):
    values = entry.get('eval_average_return')
  try:
    score = float(np.mean(values))
  except (TypeError, ValueError):
    return None
  return score if np.isfinite(score) else None
