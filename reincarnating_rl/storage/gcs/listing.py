"""Contents of a bucket: folders, the files of a run, errors without them."""

from __future__ import annotations

from typing import Union

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import manifest as manifests
from reincarnating_rl.storage.gcs import run_layout
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.types import Client
from reincarnating_rl.storage.gcs.types import Folder
from reincarnating_rl.storage.gcs.types import RemoteFile

# Stands for the last complete checkpoint, or the last one if none has a
# sentinel.
NEWEST = 'newest'
# Folder of files that are not verified yet.
STAGING = '.download'


def run_address(address: Address) -> Address:
  """Returns the address of a run, given that or its checkpoints/ folder."""
  parent = address.parent()
  is_folder = address.path.rpartition('/')[2] == run_layout.CHECKPOINTS
  return parent if parent is not None and is_folder else address


def is_run(folder: Folder, prefix: str = 'ckpt') -> bool:
  """Returns True if a folder is that of a run, by its direct contents."""
  direct = run_layout.checkpoints(folder.files, prefix)
  return run_layout.CHECKPOINTS in folder.folders or bool(direct)


def run_files(
    client: Client, address: Address, prefix: str = 'ckpt'
) -> dict[str, RemoteFile]:
  """Lists the files of a run by their paths within it, which are safe to write.

  Args:
    client: the client that lists.
    address: address of the run.
    prefix: prefix of the files with the parameters.

  Raises:
    BucketError: if there is no run at that address, or it holds a name that
      is no plain path.
  """
  folder = client.folder(address)
  if not folder.folders and not folder.files:
    raise missing(client, address)
  if not is_run(folder, prefix):
    raise BucketError(
        f'{address} is no run, it has no {run_layout.CHECKPOINTS}/: it holds '
        f'{addresses.enumerate_names(folder.folders + folder.files)}.'
    )
  files = {}
  for file in client.files(address):
    name = file.address.path.removeprefix(address.prefix)
    if name.endswith('/') or not name:
      continue  # Consoles store such objects for folders.
    if name == manifests.FILE or name.startswith(f'{STAGING}/'):
      continue  # Left by a download that was uploaded again.
    fault = addresses.fault_of(name)
    if fault is not None:
      raise BucketError(
          f'{address} holds an object called {name!r}, which cannot become a '
          f'file ({fault}): nothing was copied; tell the owner of the bucket.'
      )
    files[name] = file
  _check_no_file_is_a_folder(address, files)
  return files


def _check_no_file_is_a_folder(
    address: Address, files: dict[str, RemoteFile]
) -> None:
  for name in files:
    parent = name.rpartition('/')[0]
    while parent:
      if parent in files:
        raise BucketError(
            f'{address} holds both {parent!r} and {name!r}, which cannot be a '
            'file and a folder at once: nothing was copied; tell the owner of '
            'the bucket.'
        )
      parent = parent.rpartition('/')[0]


def missing(client: Client, address: Address) -> BucketError:
  """Creates the error for an empty address; it names what is there instead."""
  parent = address.parent()
  if parent is None:
    return BucketError(f'The bucket {address} is empty.')
  folder = client.folder(parent)
  if not folder.folders and not folder.files:
    return missing(client, parent)
  name = address.path.rpartition('/')[2]
  there = folder.folders or folder.files
  return BucketError(
      f'{parent} has no {name}.{addresses.nearest(name, there)} It has '
      f'{addresses.enumerate_names(there)}.'
  )


def pick(
    address: str,
    names: list[str],
    checkpoint: Union[int, str],
    prefix: str = 'ckpt',
) -> int:
  """Returns the number of a checkpoint of a run.

  Args:
    address: address of the run, for errors.
    names: names of its files.
    checkpoint: a number, or NEWEST.
    prefix: prefix of the files with the parameters.

  Raises:
    BucketError: if the run has no such checkpoint.
  """
  found = run_layout.checkpoints(names, prefix)
  if checkpoint == NEWEST and found:
    complete = [n for n, entry in found.items() if entry.complete]
    return (complete or list(found))[-1]
  if checkpoint not in found:
    raise BucketError(
        f'{address} has no {_called(checkpoint)}; it has '
        f'{addresses.enumerate_names(list(found))}.'
    )
  return int(checkpoint)


def _called(checkpoint: Union[int, str]) -> str:
  return 'checkpoint' if checkpoint == NEWEST else f'checkpoint {checkpoint}'


def select(
    names: list[str], selection: manifests.Selection, prefix: str = 'ckpt'
) -> list[str]:
  """Returns the files of a selection.

  Args:
    names: names of all files of the run.
    selection: a selection; the run must have its checkpoint.
    prefix: prefix of the files with the parameters.
  """
  if selection.checkpoint == manifests.ALL:
    return [n for n in names if selection.replay or not run_layout.is_replay(n)]
  entry = run_layout.checkpoints(names, prefix)[int(selection.checkpoint)]
  return entry.files + (entry.replay if selection.replay else [])
