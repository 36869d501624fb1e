"""Runs of this package as teachers: reads the student of a checkpoint.

  RUN/checkpoints/<8 digits>/{manifest,document}.json, arrays/
  RUN/checkpoints/rows/student/...      its replay (`own_run_replay`)

A run resumes from the same checkpoints (`storage.checkpoints`; `loop.saving`
lists their contents). They are verified before use and never changed: the run
may still be training, or belong to somebody else.
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
from reincarnating_rl.teachers.formats.own_run_layout import run_layout
from reincarnating_rl.teachers.teacher import LoadedTeacher
from reincarnating_rl.teachers.teacher import OptimizerMoments

CHECKPOINTS = 'checkpoints'
STACK_SIZE = 4
_NUMBER = re.compile(r'^\d{8,}$')
_IN_A_CHECKPOINT = ('manifest.json', 'document.json')
_IN_A_RUN = ('summary.json', 'config.gin', 'metrics.jsonl')
_MEMBER = re.compile(r'^run_(\d+)$')

Arrays = dict[str, np.ndarray]


# -- finding -------------------------------------------------------------------


def is_run(directory: str) -> bool:
  """Returns True if a directory holds checkpoints of a run."""
  folder = os.path.join(directory, CHECKPOINTS)
  return os.path.isdir(folder) and any(
      os.path.isfile(os.path.join(folder, name, file))
      for name in os.listdir(folder)
      if _NUMBER.match(name)
      for file in _IN_A_CHECKPOINT
  )


def numbers(directory: str) -> list[int]:
  """Lists the numbers of the checkpoints of a run, ascending."""
  return _vault(directory).numbers()


def listed_numbers(directory: str) -> list[int]:
  """Lists the numbers of checkpoints with an undamaged manifest."""
  vault = _vault(directory)
  return [number for number in vault.numbers() if vault.is_listed(number)]


def versions(directory: str) -> dict[str, str]:
  """Returns the package versions in a run's summary; empty without one."""
  try:
    with open(os.path.join(directory, 'summary.json'), encoding='utf-8') as f:
      found = json.load(f)['versions']
    return {str(name): str(version) for name, version in found.items()}
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return {}


def refuse_what_is_no_run(directory: str, path: str) -> None:
  """Refuses a run directory without readable checkpoints, with the reason.

  Args:
    directory: a directory without checkpoints.
    path: its path, as the user gave it.

  Raises:
    TeacherError: if it holds several runs, or one without a checkpoint.
  """
  members = [
      name
      for name in os.listdir(directory)
      if _MEMBER.match(name) and is_run(os.path.join(directory, name))
  ]
  if members:
    members.sort(key=lambda name: int(name.removeprefix('run_')))
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
  """Reads one checkpoint of a run; its replay is read at first use.

  Args:
    directory: directory of the run.
    path: its path, as the user gave it.
    number: number of the checkpoint; None = the newest undamaged one.
    trusted: modules whose networks may be built, beside this package's.

  Raises:
    TeacherError: if it is missing, damaged, or no student of this package.
  """
  vault = _vault(directory)
  saved = _saved(vault, path, number)
  source = f'Checkpoint {saved.number} of {path}'
  document = saved.document
  layout = run_layout(saved, source)
  settings = document['settings']
  network = _network(document, source, trusted)
  like = _parameters_of(network, own_run_replay.frame_shape(settings), source)
  params = _tree(saved.arrays, f'{layout.learner}/online_params', like)
  if params is None:
    raise TeacherError(
        f'{source} does not hold the parameters of the network that it '
        'describes: load it with the version of this package that wrote it.'
    )
  counters = layout.counters
  return LoadedTeacher(
      path=path,
      network=network,
      params=params,
      checkpoint_number=saved.number,
      game=settings['game'],
      score=_score(layout.records),
      training_steps=counters['training_steps'],
      replay=own_run_replay.open_replay(vault, saved, layout),
      agent=agent_kind(network),
      format='reincarnating_rl run',
      target_params=_tree(
          saved.arrays, f'{layout.learner}/target_params', like
      ),
      optimizer=_moments(saved.arrays, layout.learner, like),
      agent_steps=counters['agent_steps'],
      sticky_actions=float(settings['sticky_actions']),
      acts_with_target=settings.get('act_with_target') == 'True',
  )


def _saved(vault: Vault, path: str, number: Optional[int]) -> Saved:
  """Reads a checkpoint by its number, or the newest undamaged one.

  Raises:
    TeacherError: if it is missing or damaged.
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
  """Builds the student's network.

  Raises:
    TeacherError: if it cannot be built.
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
  """Returns shapes and dtypes of a network's parameters.

  Raises:
    TeacherError: if the network cannot be initialized.
  """
  states = np.zeros((1,) + frame_shape + (STACK_SIZE,), np.uint8)
  try:
    found = jax.eval_shape(network.init, jax.random.PRNGKey(0), states)
    return found['params']
  # The class may have changed since: it may raise anything.
  except Exception as e:
    raise TeacherError(
        f'{source} cannot be read: its network '
        f'{spec.label(network)} cannot be built ({type(e).__name__}).'
    ) from e


def _tree(arrays: Arrays, name: str, like: Any) -> Optional[Any]:
  """Returns the arrays below a name as a tree; None if they do not fit."""
  paths, structure = jax.tree_util.tree_flatten_with_path(like)
  leaves = []
  for path, leaf in paths:
    key = jax.tree_util.keystr(path, simple=True, separator='/')
    array = arrays.get(f'{name}/{key}')
    if array is None or (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
      return None
    leaves.append(array)
  return jax.tree.unflatten(structure, leaves)


def _moments(
    arrays: Arrays, learner: str, like: Any
) -> Optional[OptimizerMoments]:
  """Reads the moments of Adam, of Adam within AdamW, or of centered RMSProp."""
  for name in (f'{learner}/opt_state', f'{learner}/opt_state/0'):
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
  """Returns the kind of agent of a network: 'dqn', 'rainbow' or 'iqn'."""
  if isinstance(network, networks.ImplicitQuantileNetwork):
    return 'iqn'
  head = getattr(network, 'head', None)
  return 'rainbow' if getattr(head, 'distributional', False) else 'dqn'


def _score(records: list[dict[str, Any]]) -> Optional[float]:
  """Returns the student's score in the last evaluation, or None."""
  for record in reversed(records):
    if record['student_score'] is not None:
      return record['student_score']
  return None
