"""A run of this package as a teacher: its student, read from a checkpoint.

  RUN/checkpoints/<8 digits>/{manifest,document}.json, arrays/
  RUN/checkpoints/rows/student/...      its replay (`run_replay`)

Checkpoints are those that a run goes on from (`archive.vault`; `loop.state`
says what is in them). They are verified before they are used, and left as they
are: the run may be going on, or be another's.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Optional

from flax import linen as nn
import jax
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.networks import spec
from reincarnating_rl.storage.checkpoints.checkpoint_store import Saved
from reincarnating_rl.storage.checkpoints.checkpoint_store import Vault
from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.teachers.errors import enumerate_items
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats import own_run_replay
from reincarnating_rl.teachers.teacher import LoadedTeacher
from reincarnating_rl.teachers.teacher import OptimizerMoments

CHECKPOINTS = 'checkpoints'
# Of the documents that `loop.state` writes.
SCHEMA = 2
# Schema 2 names a column of the replay otherwise (`own_run_replay`).
_READABLE_SCHEMAS = (SCHEMA, 2)
STACK_SIZE = 4
_NUMBER = re.compile(r'^\d{8,}$')
_IN_A_CHECKPOINT = ('manifest.json', 'document.json')
_IN_A_RUN = ('summary.json', 'config.gin', 'metrics.jsonl')
_MEMBER = re.compile(r'^run_(\d+)$')
_LEARNER = 'learner_state'

Arrays = dict[str, np.ndarray]


# -- what is there -------------------------------------------------------------


def is_run(directory: str) -> bool:
  """Whether a directory holds checkpoints of a run."""
  folder = os.path.join(directory, CHECKPOINTS)
  return os.path.isdir(folder) and any(
      os.path.isfile(os.path.join(folder, name, file))
      for name in os.listdir(folder)
      if _NUMBER.match(name)
      for file in _IN_A_CHECKPOINT
  )


def numbers(directory: str) -> list[int]:
  """Numbers of the checkpoints of a run, ascending."""
  return _vault(directory).numbers()


def listed_numbers(directory: str) -> list[int]:
  """Those of them whose list of files is as it was written."""
  vault = _vault(directory)
  return [number for number in vault.numbers() if vault.is_listed(number)]


def versions(directory: str) -> dict[str, str]:
  """Of the packages that a run's summary names; empty without one."""
  try:
    with open(os.path.join(directory, 'summary.json'), encoding='utf-8') as f:
      found = json.load(f)['versions']
    return {str(name): str(version) for name, version in found.items()}
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return {}


def refuse_what_is_no_run(directory: str, path: str) -> None:
  """Says of a directory without checkpoints what it is, if it is ours.

  Args:
    directory: where there are none.
    path: what the user calls it.

  Raises:
    TeacherError: if it holds several runs, or one that has saved nothing yet.
  """
  members = [
      name
      for name in os.listdir(directory)
      if _MEMBER.match(name) and is_run(os.path.join(directory, name))
  ]
  if members:
    members.sort(key=lambda name: int(_MEMBER.match(name).group(1)))
    raise TeacherError(
        f'{path} holds several runs: name one of {enumerate_items(members)}, '
        f'such as {os.path.join(path, members[0])}.'
    )
  there = os.listdir(directory)
  if not any(name in there for name in _IN_A_RUN):
    return
  folder = os.path.join(directory, CHECKPOINTS)
  if os.path.isdir(folder) and any(n.isdigit() for n in os.listdir(folder)):
    raise TeacherError(
        f'{path} is a run whose checkpoints were written by another version of '
        'this package: read them with that version.'
    )
  raise TeacherError(
      f'{path} is the directory of a run without a checkpoint: a run writes '
      'its first one after its first phase, or ten minutes.'
  )


def _vault(directory: str) -> Vault:
  return Vault(os.path.join(directory, CHECKPOINTS))


# -- reading -------------------------------------------------------------------


def read(
    directory: str,
    path: str,
    number: Optional[int],
    trusted: tuple[str, ...] = (),
) -> LoadedTeacher:
  """Reads one checkpoint of a run; its replay when it is asked for.

  Args:
    directory: of the run.
    path: what the user calls it.
    number: of the checkpoint; None = the newest that is whole.
    trusted: modules whose networks may be built, beside this package's.

  Raises:
    TeacherError: if it is not there, damaged, or no student of this package's.
  """
  vault = _vault(directory)
  saved = _saved(vault, path, number)
  source = f'Checkpoint {saved.number} of {path}'
  document = saved.document
  if document.get('schema') not in _READABLE_SCHEMAS:
    raise TeacherError(
        f'{source} was written by another version of this package (its schema '
        f'is {document.get("schema")}, not {SCHEMA}): install that version.'
    )
  settings = document['settings']
  network = _network(document, source, trusted)
  like = _parameters_of(network, own_run_replay.frame_shape(settings), source)
  params = _tree(saved.arrays, f'{_LEARNER}/online_params', like)
  if params is None:
    raise TeacherError(
        f'{source} does not hold the parameters of the network that it '
        'describes: load it with the version of this package that wrote it.'
    )
  counters = document['counters']
  return LoadedTeacher(
      path=path,
      network=network,
      params=params,
      checkpoint_number=saved.number,
      game=settings['game'],
      score=_score(document['records']),
      training_steps=counters['training_steps'],
      replay=own_run_replay.open_replay(vault, saved),
      agent=agent_kind(network),
      format='reincarnating_rl run',
      target_params=_tree(saved.arrays, f'{_LEARNER}/target_params', like),
      optimizer=_moments(saved.arrays, like),
      agent_steps=counters['agent_steps'],
      sticky_actions=float(settings['sticky_actions']),
      acts_with_target=settings.get('act_with_target') == 'True',
  )


def _saved(vault: Vault, path: str, number: Optional[int]) -> Saved:
  """The checkpoint of that number, or the newest that is whole.

  Raises:
    TeacherError: if it is not there, or damaged.
  """
  there = vault.numbers()
  try:
    if number is None:
      saved = vault.newest(mend=False)
      if saved is not None:
        return saved
    elif number in there:
      return vault.read(number, mend=False)
  except ArchiveError as e:
    if number is None:
      raise TeacherError(str(e)) from e
    others = enumerate_items([n for n in there if n != number])
    raise TeacherError(
        f'Checkpoint {number} of {path} is damaged ({e}): copy it again from '
        f'where the run was made, or name another one (there are: {others}).'
    ) from e
  raise TeacherError(
      f'{path} has no checkpoint {number}; there are {enumerate_items(there)}.'
  )


def _network(
    document: dict[str, Any], source: str, trusted: tuple[str, ...]
) -> nn.Module:
  """The student's network.

  Raises:
    TeacherError: if it cannot be built again.
  """
  if 'network' not in document:
    raise TeacherError(
        f'{source} was written by a version of this package that did not '
        'record the network: let the run go on under this one, and its next '
        'checkpoint can be read.'
    )
  if document['network'] is None:
    raise TeacherError(
        f'{source} cannot be read: its network has an attribute that no file '
        'can hold (a function, say); networks of numbers, names, tuples and '
        'modules can be read.'
    )
  try:
    return spec.from_json(document['network'], trusted=trusted)
  except spec.NetworkSpecError as e:
    raise TeacherError(f'{str(e).rstrip(".")} ({source}).') from e


def _parameters_of(
    network: nn.Module, frame_shape: tuple[int, int], source: str
) -> Any:
  """Shapes and types of a network's parameters.

  Raises:
    TeacherError: if it does not work.
  """
  states = np.zeros((1,) + frame_shape + (STACK_SIZE,), np.uint8)
  try:
    found = jax.eval_shape(network.init, jax.random.PRNGKey(0), states)
    return found['params']
  # A class may have got other attributes since; what it raises is open.
  except Exception as e:
    raise TeacherError(
        f'{source} cannot be read: its network '
        f'{spec.label(network)} cannot be built ({type(e).__name__}).'
    ) from e


def _tree(arrays: Arrays, name: str, like: Any) -> Optional[Any]:
  """The arrays below a name as a tree, None if they are others than wanted."""
  paths, structure = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, leaf in paths:
    key = jax.tree_util.keystr(path, simple=True, separator='/')
    array = arrays.get(f'{name}/{key}')
    if array is None or (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
      return None
    leaves.append(array)
  return jax.tree.unflatten(structure, leaves)


def _moments(arrays: Arrays, like: Any) -> Optional[OptimizerMoments]:
  """What Adam, plain or as a part of AdamW, or centered RMSProp remembered."""
  for name in (f'{_LEARNER}/opt_state', f'{_LEARNER}/opt_state/0'):
    mu, nu = (
        _tree(arrays, f'{name}/{moment}', like) for moment in ('mu', 'nu')
    )
    if mu is not None and nu is not None:
      count = arrays.get(f'{name}/count')
      if count is None:
        return OptimizerMoments('rmsprop', 0, mu, nu)
      return OptimizerMoments('adam', int(count), mu, nu)
  return None


def agent_kind(network: nn.Module) -> str:
  """What kind of agent has such a network: 'dqn', 'rainbow' or 'iqn'."""
  if isinstance(network, networks.ImplicitQuantileNetwork):
    return 'iqn'
  head = getattr(network, 'head', None)
  return 'rainbow' if getattr(head, 'distributional', False) else 'dqn'


def _score(records: list[dict[str, Any]]) -> Optional[float]:
  """The student's score after the last phase that was evaluated."""
  for record in reversed(records):
    if record['student_score'] is not None:
      return record['student_score']
  return None
