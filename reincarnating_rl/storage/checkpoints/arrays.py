"""Named arrays in a folder: zarr inside an OCDBT database, by tensorstore.

Everything that is written becomes visible in one commit, compressed, each
chunk with a checksum of its own. Nothing is pickled.
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
    arrays: by name; '/' may part a name. Any shape and number type.

  Raises:
    ArchiveError: if the disk does not take them.
  """
  # One database: arrays that are opened apart would each commit for themselves.
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
  """The arrays of a folder.

  Raises:
    DamagedError: if they are not all there as they were written.
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
  """How tensorstore finds an array, or makes one chunk of it."""
  kvstore = _database(folder) | {'path': f'{name}/'}
  spec = {'driver': 'zarr3', 'kvstore': kvstore}
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
  """The last of what a library says, which is what happened."""
  text = str(error).split(' [')[0].strip()
  return text.rsplit(': ', 1)[-1] or type(error).__name__
