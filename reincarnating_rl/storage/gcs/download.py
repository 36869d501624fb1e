"""Brings a run, or one checkpoint of it, from a bucket into a folder.

What is there already, whole and unchanged, is not copied again, and where that
is everything no bucket is asked. Whatever ends a copy, the next one goes on
from there (`copying`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from typing import Iterator, Optional, Union

from reincarnating_rl.base import files
from reincarnating_rl.storage.gcs import client as client_lib
from reincarnating_rl.storage.gcs import listing
from reincarnating_rl.storage.gcs import local_folder
from reincarnating_rl.storage.gcs import manifest as manifests
from reincarnating_rl.storage.gcs import run_layout
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.client import Client
from reincarnating_rl.storage.gcs.client import RemoteFile
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.listing import NEWEST
from reincarnating_rl.storage.gcs.manifest import ALL
from reincarnating_rl.storage.gcs.manifest import Manifest
from reincarnating_rl.storage.gcs.manifest import Selection
from reincarnating_rl.storage.gcs.verified_copy import Copy
from reincarnating_rl.storage.gcs.verified_copy import Outcome

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Wish:
  """What is to be where.

  Attributes:
    source: of the run.
    directory: of the run on this machine.
    checkpoint: a number, NEWEST, or ALL.
    replay: whether the data to learn from is wanted, too.
    prefix: of the files with the parameters.
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
    client: str = client_lib.AUTO,
    prefix: str = 'ckpt',
    verify: bool = False,
) -> Outcome:
  """Copies what is missing.

  Args:
    source: of the run.
    root: folder that nothing is written outside of.
    name: folder of the run below it, such as 'Breakout/1'.
    checkpoint: a number, NEWEST, or ALL.
    replay: whether the data to learn from is wanted, too.
    client: which client copies, one of `clients.NAMES`.
    prefix: of the files with the parameters.
    verify: reads every file again and compares it with the bucket, instead
      of trusting what is recorded.

  Raises:
    BucketError: one sentence on what is missing, full, closed or damaged.
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
      chosen = client_lib.choose(client)
      remote = listing.run_files(chosen, source, prefix)
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
      return _copy(wish, chosen, remote, verify)
    finally:
      local_folder.remove_empty(root, directory)


def _copy(
    wish: _Wish, client: Client, remote: dict[str, RemoteFile], verify: bool
) -> Outcome:
  """Copies what is missing of the files of a run."""
  names = list(remote)
  checkpoint = wish.checkpoint
  if checkpoint != ALL:
    source = str(wish.source)
    checkpoint = listing.pick(source, names, checkpoint, wish.prefix)
    _warn_of_gaps(wish, names, checkpoint)
  selection = Selection(checkpoint, wish.replay)
  names = listing.select(names, selection, wish.prefix)
  wanted = {name: remote[name] for name in names}
  os.makedirs(wish.directory, exist_ok=True)
  with local_folder.locked(wish.directory) as lock:
    # The manifest is read again: we may have waited for who wrote it.
    known = manifests.read(wish.directory, str(wish.source))
    copy = Copy(known, wish.directory, client, wanted, verify)
    return copy.run(selection, lock)


def _warn_of_gaps(wish: _Wish, names: list[str], number: int) -> None:
  """Says what a checkpoint lacks in the bucket itself."""
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


# -- without the bucket --------------------------------------------------------


def _without_asking(wish: _Wish) -> Optional[Outcome]:
  """The outcome, if all of it is known to be there."""
  known = manifests.read(wish.directory, str(wish.source))
  if wish.checkpoint == NEWEST:
    return None
  return _if_unchanged(wish, known, wish.checkpoint)


def _newest_there(wish: _Wish) -> Optional[Outcome]:
  """The newest complete checkpoint that is there, if the newest is wanted."""
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
  """The outcome, if a selection is there as it was recorded."""
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
  """Turns what the disk refuses into a sentence."""
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
