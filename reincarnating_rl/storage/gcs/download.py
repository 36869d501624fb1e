"""Downloads a run, or one checkpoint of it, into a folder.

Files that are there unchanged are not copied again; if all are there, no
request is sent. An interrupted download is resumed (`verified_copy`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from typing import Iterator, Optional, Union

from reincarnating_rl.base import files
from reincarnating_rl.base import locks
from reincarnating_rl.storage.gcs import gsutil
from reincarnating_rl.storage.gcs import listing
from reincarnating_rl.storage.gcs import local_folder
from reincarnating_rl.storage.gcs import manifest as manifests
from reincarnating_rl.storage.gcs import run_layout
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.listing import NEWEST
from reincarnating_rl.storage.gcs.manifest import ALL
from reincarnating_rl.storage.gcs.manifest import Manifest
from reincarnating_rl.storage.gcs.manifest import Selection
from reincarnating_rl.storage.gcs.types import Client
from reincarnating_rl.storage.gcs.types import RemoteFile
from reincarnating_rl.storage.gcs.verified_copy import Copy
from reincarnating_rl.storage.gcs.verified_copy import Outcome

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Wish:
  """A download that a user asked for.

  Attributes:
    source: address of the run.
    directory: directory of the run on this machine.
    checkpoint: a number, NEWEST, or ALL.
    replay: True to copy the replay data, too.
    prefix: prefix of the files with the parameters.
  """

  source: Address
  directory: str
  checkpoint: Union[int, str]
  replay: bool
  prefix: str


def download(
    source: Address,
    root: str,
    name: str,
    checkpoint: Union[int, str] = ALL,
    *,
    replay: bool = True,
    prefix: str = 'ckpt',
    verify: bool = False,
) -> Outcome:
  """Downloads the missing files of a run.

  Args:
    source: address of the run.
    root: folder; no file is written outside of it.
    name: folder of the run below `root`, such as 'Breakout/1'.
    checkpoint: a number, NEWEST, or ALL.
    replay: True to copy the replay data, too.
    prefix: prefix of the files with the parameters.
    verify: True to read all files again and compare them with the bucket,
      instead of trusting the manifest.

  Raises:
    BucketError: one sentence that says what is missing, full, closed or
      damaged.
  """
  root = os.path.abspath(os.path.expanduser(root))
  manifest = local_folder.path_within(root, f'{name}/{manifests.FILE}')
  directory = os.path.dirname(manifest)
  wish = _Wish(source, directory, checkpoint, replay, prefix)
  with _disk_errors(directory):
    ready = None if verify else _without_asking(wish)
    if ready is not None:
      return ready
    try:
      client = gsutil.find()
      remote = listing.run_files(client, source, prefix)
    except BucketError as e:
      ready = None if verify else _newest_there(wish)
      if ready is None:
        raise
      _LOGGER.warning(
          '%s Checkpoint %d, which was copied earlier, is taken instead.',
          e,
          ready.checkpoint,
      )
      return ready
    try:
      return _copy(wish, client, remote, verify)
    finally:
      local_folder.remove_empty(root, directory)


def _copy(
    wish: _Wish, client: Client, remote: dict[str, RemoteFile], verify: bool
) -> Outcome:
  """Copies the missing files of a selection."""
  names = list(remote)
  checkpoint = wish.checkpoint
  if checkpoint != ALL:
    source = str(wish.source)
    checkpoint = number = listing.pick(source, names, checkpoint, wish.prefix)
    _warn_of_gaps(wish, names, number)
  selection = Selection(checkpoint, wish.replay)
  names = listing.select(names, selection, wish.prefix)
  wanted = {name: remote[name] for name in names}
  os.makedirs(wish.directory, exist_ok=True)
  with locks.locked(wish.directory, 'copies into') as lock:
    # The process that we may have waited for has changed the manifest.
    known = manifests.read(wish.directory, str(wish.source))
    copy = Copy(known, wish.directory, client, wanted, verify)
    return copy.run(selection, lock)


def _warn_of_gaps(wish: _Wish, names: list[str], number: int) -> None:
  """Warns if a checkpoint is incomplete in the bucket itself."""
  entry = run_layout.checkpoints(names, wish.prefix)[number]
  if not entry.complete:
    _LOGGER.warning(
        'Checkpoint %d of %s has no sentinel: it may not have been written '
        'to its end.',
        number,
        wish.source,
    )
  if wish.replay and not entry.replay:
    _LOGGER.warning('%s has no replay of checkpoint %d.', wish.source, number)


# -- without requests ----------------------------------------------------------


def _without_asking(wish: _Wish) -> Optional[Outcome]:
  """Returns the outcome if all files are recorded as complete, else None."""
  known = manifests.read(wish.directory, str(wish.source))
  if wish.checkpoint == NEWEST:
    return None
  return _if_unchanged(wish, known, wish.checkpoint)


def _newest_there(wish: _Wish) -> Optional[Outcome]:
  """Returns the newest complete local checkpoint if NEWEST is wanted."""
  if wish.checkpoint != NEWEST:
    return None
  known = manifests.read(wish.directory, str(wish.source))
  found = run_layout.checkpoints(known.files, wish.prefix)
  for number in sorted(found, reverse=True):
    if found[number].complete:
      ready = _if_unchanged(wish, known, number)
      if ready is not None:
        return ready
  return None


def _if_unchanged(
    wish: _Wish, known: Manifest, checkpoint: Union[int, str]
) -> Optional[Outcome]:
  """Returns the outcome if a selection is there as it was recorded."""
  selection = Selection(checkpoint, wish.replay)
  names = list(known.files)
  if not known.covers(selection):
    return None
  if checkpoint not in (ALL, *run_layout.checkpoints(names, wish.prefix)):
    return None
  names = listing.select(names, selection, wish.prefix)
  for name in names:
    path = local_folder.path_within(wish.directory, name)
    if not known.is_unchanged(name, path):
      return None
  size = sum(known.files[name].size for name in names)
  return Outcome(wish.directory, selection.number, len(names), size, 0, 0)


@contextlib.contextmanager
def _disk_errors(directory: str) -> Iterator[None]:
  """Turns errors of the disk into a BucketError."""
  try:
    yield
  except OSError as e:
    if files.is_full(e):
      raise BucketError(
          f'The disk of {directory} is full: make room and repeat the command, '
          'which goes on from what has arrived.'
      ) from e
    where = e.filename or directory
    raise BucketError(
        f'{where} cannot be used ({e.strerror or e}): choose another folder.'
    ) from e
