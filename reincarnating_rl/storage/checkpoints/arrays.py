"""Named arrays in a folder: zarr inside an OCDBT database, by tensorstore.

All arrays of a call become visible in one commit. Each chunk is compressed and
has its own checksum. Nothing is pickled.
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional

import numpy as np
import tensorstore as ts

from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.storage.checkpoints.errors import DamagedError

_CODECS = (
    {'name': 'bytes', 'configuration': {'endian': 'little'}},
    {'name': 'zstd', 'configuration': {'level': 1}},
    {'name': 'crc32c'},
)
_METADATA = 'zarr.json'
_MANIFEST = 'manifest.ocdbt'


def write(folder: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays into a folder that holds none yet.

  Args:
    folder: absolute path.
    arrays: arrays of any shape and number type, by name; names may contain '/'.

  Raises:
    ArchiveError: if they cannot be written.
  """
  # Arrays commit together only if they share one database.
  context = ts.Context()
  try:
    with ts.Transaction(atomic=True) as transaction:
      for name, array in arrays.items():
        spec = _spec(folder, name, np.asarray(array))
        store = ts.open(
            spec, create=True, transaction=transaction, context=context
        ).result()
        store[...] = array
  except (OSError, ValueError) as e:
    raise ArchiveError(f'{folder} cannot be written: {_reason(e)}') from e


def read(folder: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a folder, by name.

  Raises:
    DamagedError: if one is missing or damaged.
  """
  if not os.path.exists(os.path.join(folder, _MANIFEST)):
    raise DamagedError(f'{folder} cannot be read: its manifest is missing')
  try:
    context = ts.Context()
    database = ts.KvStore.open(_database(folder), context=context).result()
    keys = [key.decode() for key in database.list().result()]
    suffix = f'/{_METADATA}'
    names = [k.removesuffix(suffix) for k in keys if k.endswith(suffix)]
    stores = {n: ts.open(_spec(folder, n), context=context) for n in names}
    reads = {name: store.result().read() for name, store in stores.items()}
    return {name: np.asarray(array.result()) for name, array in reads.items()}
  except (OSError, ValueError) as e:
    raise DamagedError(f'{folder} cannot be read: {_reason(e)}') from e


def _database(folder: str) -> dict[str, Any]:
  return {'driver': 'ocdbt', 'base': f'file://{os.path.abspath(folder)}/'}


def _spec(
    folder: str, name: str, array: Optional[np.ndarray] = None
) -> dict[str, Any]:
  """Specification of an array for tensorstore, to open it or to create it.

  Args:
    folder: folder of the database.
    name: name of the array.
    array: array to create, as one chunk; None to open an existing array.
  """
  kvstore = _database(folder) | {'path': f'{name}/'}
  spec: dict[str, Any] = {'driver': 'zarr3', 'kvstore': kvstore}
  if array is None:
    return spec
  chunk = [max(size, 1) for size in array.shape]
  metadata = {
      'shape': list(array.shape),
      'data_type': array.dtype.name,
      'codecs': list(_CODECS),
      'chunk_grid': {
          'name': 'regular',
          'configuration': {'chunk_shape': chunk},
      },
  }
  return spec | {'metadata': metadata}


def _reason(error: Exception) -> str:
  """Last part of a library's message, which names the cause."""
  text = str(error).split(' [')[0].strip()
  return text.rsplit(': ', 1)[-1] or type(error).__name__
