"""Named arrays in a folder: zarr inside an OCDBT database, by tensorstore.

Everything that is written becomes visible in one commit, compressed, each
chunk with a checksum of its own. Nothing is pickled.
"""

from __future__ import annotations

import os
from typing import Any, Mapping

import numpy as np
import tensorstore as ts

from reincarnating_rl.archive.errors import ArchiveError
from reincarnating_rl.archive.errors import DamagedError

_CODECS = (
    {'name': 'bytes', 'configuration': {'endian': 'little'}},
    {'name': 'zstd', 'configuration': {'level': 1}},
    {'name': 'crc32c'},
)
_METADATA = 'zarr.json'


def write(folder: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays into a folder that holds none yet.

  Args:
    folder: absolute path.
    arrays: by name; '/' may part a name. Any shape and number type.

  Raises:
    ArchiveError: if the disk does not take them.
  """
  try:
    with ts.Transaction() as transaction:
      for name, array in arrays.items():
        _create(folder, name, np.asarray(array), transaction)
  except (OSError, ValueError) as e:
    raise ArchiveError(f'{folder} cannot be written: {_reason(e)}') from e


def read(folder: str) -> dict[str, np.ndarray]:
  """The arrays of a folder.

  Raises:
    DamagedError: if they are not all there as they were written.
  """
  try:
    keys = ts.KvStore.open(_database(folder)).result().list().result()
    suffix = f'/{_METADATA}'
    names = [key.decode().removesuffix(suffix) for key in keys]
    names = [n for key, n in zip(keys, names) if key.decode().endswith(suffix)]
    reads = {name: _open(folder, name).read() for name in names}
    return {name: np.asarray(array.result()) for name, array in reads.items()}
  except (OSError, ValueError) as e:
    raise DamagedError(f'{folder} cannot be read: {_reason(e)}') from e


def _database(folder: str) -> dict[str, Any]:
  return {'driver': 'ocdbt', 'base': f'file://{os.path.abspath(folder)}/'}


def _spec(folder: str, name: str) -> dict[str, Any]:
  kvstore = _database(folder) | {'path': f'{name}/'}
  return {'driver': 'zarr3', 'kvstore': kvstore}


def _open(folder: str, name: str) -> ts.TensorStore:
  return ts.open(_spec(folder, name)).result()


def _create(
    folder: str, name: str, array: np.ndarray, transaction: ts.Transaction
) -> None:
  """One array, which is one chunk."""
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
  spec = _spec(folder, name) | {'metadata': metadata}
  store = ts.open(spec, create=True, transaction=transaction).result()
  store[...] = array


def _reason(error: Exception) -> str:
  """The last of what a library says, which is what happened."""
  text = str(error).split(' [')[0].strip()
  return text.rsplit(': ', 1)[-1] or type(error).__name__
