"""Teacher directories of this package: JSON, msgpack and orbax, no pickle.

  DIR/teacher.json                      what the teacher is (the manifest)
  DIR/checkpoints/params.<N>.msgpack    parameters, nested by module
  DIR/replay/<N>/                       ring of the last steps (orbax), optional

Readers never see a part of a file: each file is renamed into place when it is
complete, the manifest last.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from typing import Any, Optional

from flax import serialization
import jax
import numpy as np
from numpy.typing import DTypeLike

from reincarnating_rl import networks
from reincarnating_rl.base import files
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.errors import enumerate_items
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.teacher import LoadedTeacher
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

MANIFEST = 'teacher.json'
CHECKPOINTS = 'checkpoints'
REPLAY = 'replay'
FORMAT = 'reincarnating_rl.teacher'
FORMAT_VERSION = 2
# Version 1 names the columns of its replay otherwise.
_READABLE_VERSIONS = (1, FORMAT_VERSION)
_PARAMS_FILE = re.compile(r'^params\.(\d+)\.msgpack$')


@dataclasses.dataclass(frozen=True)
class Manifest:
  """Description of a teacher.

  Attributes:
    game: game in Dopamine's spelling.
    network: keyword arguments of `networks.make_network`.
    update_horizon: n of the teacher's training.
    scores: mean returns by checkpoint number.
    agent_steps: numbers of agent steps by checkpoint number.
    provenance: origin of the teacher, in free form.
  """

  game: str
  network: dict[str, Any]
  update_horizon: int = 1
  scores: dict[str, float] = dataclasses.field(default_factory=dict)
  agent_steps: dict[str, int] = dataclasses.field(default_factory=dict)
  provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def is_native(directory: str) -> bool:
  """Returns True if a directory holds a teacher in this format."""
  return os.path.isfile(os.path.join(directory, MANIFEST))


def write_checkpoint(
    directory: str,
    manifest: Manifest,
    number: int,
    params: Any,
    *,
    dtype: DTypeLike = np.float32,
    replay: Optional[TeacherReplay] = None,
) -> None:
  """Adds a checkpoint to a teacher directory, which may be missing yet.

  Args:
    directory: directory of the teacher.
    manifest: new manifest, which includes this checkpoint.
    number: number of the checkpoint.
    params: parameters of the network.
    dtype: dtype of the stored parameters.
    replay: replay data to store; None for none.
  """
  folder = os.path.join(directory, CHECKPOINTS)
  os.makedirs(folder, exist_ok=True)
  stored = jax.tree.map(lambda x: np.asarray(x, dtype), jax.device_get(params))
  blob = serialization.msgpack_serialize(stored)
  files.write_whole(os.path.join(folder, f'params.{number}.msgpack'), blob)
  if replay is not None:
    _write_replay(os.path.join(directory, REPLAY), number, replay)
  document: dict[str, Any] = {'format': FORMAT, 'version': FORMAT_VERSION}
  document |= dataclasses.asdict(manifest)
  files.write_json(os.path.join(directory, MANIFEST), document)


def keep_checkpoints(directory: str, numbers: set[int]) -> None:
  """Removes all other checkpoints; the manifest keeps their scores."""
  for number in checkpoint_numbers(directory):
    if number not in numbers:
      file = f'params.{number}.msgpack'
      os.remove(os.path.join(directory, CHECKPOINTS, file))


def _write_replay(folder: str, number: int, replay: TeacherReplay) -> None:
  """Writes the replay, and removes those of other checkpoints."""
  import orbax.checkpoint as ocp

  path = os.path.abspath(os.path.join(folder, str(number)))
  shutil.rmtree(path, ignore_errors=True)
  spec = dataclasses.asdict(replay.spec)
  spec.pop('extras')
  # Written only if they differ from those of a ring of this package.
  if replay.head:
    spec['head'] = replay.head
  if replay.num_rows != replay.spec.capacity:
    spec['num_rows'] = replay.num_rows
  if replay.only_horizon is not None:
    spec['only_horizon'] = replay.only_horizon
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    checkpointer.save(
        path,
        ocp.args.Composite(
            columns=ocp.args.StandardSave(_columns(replay.storage)),
            spec=ocp.args.JsonSave(spec),
        ),
    )
  for other in os.listdir(folder):
    if other.isdigit() and int(other) != number:
      shutil.rmtree(os.path.join(folder, other))


def _columns(storage: frame_replay.Storage) -> dict[str, Any]:
  columns = storage._asdict()
  columns.pop('extras')
  return columns


def read_manifest(directory: str) -> Manifest:
  """Reads the manifest of a teacher directory.

  Raises:
    TeacherError: if it is damaged, or has another version.
  """
  path = os.path.join(directory, MANIFEST)
  try:
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
    if document.pop('format') != FORMAT:
      raise TeacherError(f'{path} is not the manifest of a teacher.')
    version = document.pop('version')
    if version not in _READABLE_VERSIONS:
      raise TeacherError(
          f'{path} has format version {version}, this release reads versions '
          f'up to {FORMAT_VERSION}: use a release that fits it.'
      )
    return Manifest(**document)
  except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as e:
    raise TeacherError(
        f'{path} is damaged ({e}): restore it from where the teacher came '
        'from.'
    ) from e


def checkpoint_numbers(directory: str) -> list[int]:
  """Lists the numbers of the checkpoints, ascending."""
  folder = os.path.join(directory, CHECKPOINTS)
  if not os.path.isdir(folder):
    return []
  matches = (_PARAMS_FILE.match(name) for name in os.listdir(folder))
  return sorted(int(m.group(1)) for m in matches if m)


def read(directory: str, path: str, number: Optional[int]) -> LoadedTeacher:
  """Reads one checkpoint; its replay data are read at first use.

  Args:
    directory: directory of the teacher.
    path: its path, as the user gave it.
    number: number of the checkpoint; None = the newest.

  Raises:
    TeacherError: if it is missing or damaged.
  """
  manifest = read_manifest(directory)
  number = _choose_number(directory, path, number)
  file = os.path.join(directory, CHECKPOINTS, f'params.{number}.msgpack')
  try:
    network = networks.make_network(**manifest.network)
  except TypeError as e:
    raise TeacherError(f'{directory} describes an unknown network: {e}.') from e
  params = _read_params(file, network)
  replay_folder = os.path.join(directory, REPLAY, str(number))
  replay = None
  if os.path.isdir(replay_folder):
    replay = _read_replay(replay_folder)
  return LoadedTeacher(
      path=path,
      network=network,
      params=params,
      checkpoint_number=number,
      game=manifest.game,
      score=manifest.scores.get(str(number)),
      training_steps=manifest.agent_steps.get(str(number)),
      replay=replay,
      agent='rainbow' if manifest.network.get('distributional') else 'dqn',
      format='reincarnating_rl teacher',
  )


def _choose_number(directory: str, path: str, wanted: Optional[int]) -> int:
  numbers = checkpoint_numbers(directory)
  if wanted is None and numbers:
    return numbers[-1]
  if wanted not in numbers:
    which = 'no checkpoint' if wanted is None else f'no checkpoint {wanted}'
    raise TeacherError(
        f'{path} has {which}; there are {enumerate_items(numbers)}.'
    )
  return wanted


def _read_params(file: str, network: networks.QNetwork) -> Any:
  """Reads parameters as float32, and checks all shapes against a network."""
  try:
    with open(file, 'rb') as f:
      stored = serialization.msgpack_restore(f.read())
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), stored)
  except Exception as e:  # msgpack raises many kinds for damaged input
    raise TeacherError(
        f'{file} is damaged ({type(e).__name__}): restore it from where the '
        'teacher came from.'
    ) from e
  states = np.zeros((1, 84, 84, 4), np.uint8)
  expected = jax.eval_shape(network.init, jax.random.PRNGKey(0), states)
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  if shapes(params) != shapes(expected['params']):
    raise TeacherError(
        f'{file} does not hold the parameters of the network that the '
        'manifest beside it describes.'
    )
  return params


def _read_replay(folder: str) -> TeacherReplay:
  """Reads the description of a ring; its columns are read at first use."""
  folder = os.path.abspath(folder)
  fields = _restore_item(folder, 'spec')

  def read_columns() -> frame_replay.Storage:
    columns = _restore_item(folder, 'columns')
    if 'frames' in columns:  # Version 1.
      columns['observation'] = columns.pop('frames')
    fields = frame_replay.Storage._fields[:-1]
    try:
      return frame_replay.Storage(*(columns[name] for name in fields))
    except KeyError as e:
      raise _damaged_replay(folder) from e

  try:
    optional = ('head', 'num_rows', 'only_horizon')
    options = {key: fields.pop(key) for key in optional if key in fields}
    if 'frame_shape' in fields:  # Version 1.
      frame = {'shape': fields.pop('frame_shape'), 'dtype': 'uint8'}
      fields['observation'] = frame
    for name in {'observation', 'action'} & fields.keys():
      array = fields[name]
      fields[name] = ArraySpec(tuple(array['shape']), array['dtype'])
    spec = frame_replay.ReplaySpec(**fields)
    return TeacherReplay(spec, read_columns, **options)
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    raise _damaged_replay(folder) from e


def _restore_item(folder: str, name: str) -> Any:
  """Reads one of the two items that `_write_replay` saved."""
  import orbax.checkpoint as ocp

  how = {'spec': ocp.args.JsonRestore, 'columns': ocp.args.StandardRestore}
  items = ocp.args.Composite(**{name: how[name]()})
  try:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      return checkpointer.restore(folder, items)[name]
  except (ValueError, OSError, KeyError) as e:
    raise _damaged_replay(folder) from e


def _damaged_replay(folder: str) -> TeacherError:
  return TeacherError(
      f'The replay in {folder} is damaged: restore it, or delete the folder '
      'to go on without it.'
  )
