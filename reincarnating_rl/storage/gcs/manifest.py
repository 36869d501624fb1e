"""`download.json`: what a folder holds, and where it came from.

The recorded size and time of change of a file tell quickly that it is still
the one that was verified.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
from typing import Any, NamedTuple, Optional, Union

from reincarnating_rl.base import files
from reincarnating_rl.storage.gcs.client import RemoteFile
from reincarnating_rl.storage.gcs.errors import BucketError

FILE = 'download.json'
FORMAT = 'reincarnating_rl.download'
FORMAT_VERSION = 1
# Instead of a checkpoint's number: the whole run.
ALL = 'all'
_LOGGER = logging.getLogger(__name__)


class Selection(NamedTuple):
  """What of a run was asked for."""

  checkpoint: Union[int, str]  # a number, or ALL
  replay: bool

  @property
  def number(self) -> Optional[int]:
    """Of the checkpoint; None for the whole run."""
    return None if self.checkpoint == ALL else int(self.checkpoint)

  def covers(self, other: Selection) -> bool:
    """Whether the other one is part of it."""
    return self.checkpoint in (ALL, other.checkpoint) and (
        self.replay or not other.replay
    )


class Entry(NamedTuple):
  """One verified file."""

  generation: str
  size: int
  crc32c: str
  mtime_ns: int  # of the local file, when it was verified
  time: str  # when that was, UTC


@dataclasses.dataclass
class Manifest:
  """The contents of the file.

  Attributes:
    source: address of the run.
    selections: that are there as a whole.
    files: by their paths within the run.
  """

  source: str
  selections: list[Selection] = dataclasses.field(default_factory=list)
  files: dict[str, Entry] = dataclasses.field(default_factory=dict)

  def covers(self, selection: Selection) -> bool:
    return any(done.covers(selection) for done in self.selections)

  def add_selection(self, selection: Selection) -> None:
    """Notes that a selection is there, in place of those it covers."""
    kept = [done for done in self.selections if not selection.covers(done)]
    self.selections = kept + [selection]

  def add_file(self, name: str, path: str, remote: RemoteFile) -> None:
    """Notes a file that was verified just now."""
    now = datetime.datetime.now(datetime.UTC)
    self.files[name] = Entry(
        remote.generation,
        remote.size,
        remote.crc32c,
        os.stat(path).st_mtime_ns,
        now.isoformat(timespec='seconds'),
    )

  def is_unchanged(self, name: str, path: str) -> bool:
    """Whether a file still has the size and time of when it was verified."""
    entry = self.files.get(name)
    try:
      found = os.stat(path)
    except OSError:
      return False
    return entry is not None and (found.st_size, found.st_mtime_ns) == (
        entry.size,
        entry.mtime_ns,
    )

  def write(self, directory: str) -> None:
    document = {
        'format': FORMAT,
        'version': FORMAT_VERSION,
        'source': self.source,
        'selections': [s._asdict() for s in self.selections],
        'files': {n: self.files[n]._asdict() for n in sorted(self.files)},
    }
    text = json.dumps(document, indent=1) + '\n'
    files.write_whole(os.path.join(directory, FILE), text.encode())


def read(directory: str, source: str) -> Manifest:
  """Reads the manifest of a folder; an empty one if it has none.

  A damaged one counts as none: the files are then verified anew.

  Raises:
    BucketError: if the folder holds files of another address, or a later
      release wrote it.
  """
  path = os.path.join(directory, FILE)
  try:
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
  except FileNotFoundError:
    return Manifest(source)
  except (json.JSONDecodeError, UnicodeDecodeError):
    _LOGGER.warning('%s is damaged: the files beside it are verified.', path)
    return Manifest(source)
  manifest = _parse(document, path)
  if manifest is None:
    _LOGGER.warning('%s is damaged: the files beside it are verified.', path)
    return Manifest(source)
  if manifest.source != source:
    raise BucketError(
        f'{directory} holds files of {manifest.source}, not of {source}: '
        'choose another folder.'
    )
  return manifest


def _parse(document: Any, path: str) -> Optional[Manifest]:
  try:
    if document['format'] != FORMAT:
      return None
    if document['version'] > FORMAT_VERSION:
      raise BucketError(
          f'{path} has version {document["version"]}, this release reads '
          f'{FORMAT_VERSION}: choose another folder, or use a newer release.'
      )
    return Manifest(
        str(document['source']),
        [Selection(**fields) for fields in document['selections']],
        {name: Entry(**e) for name, e in document['files'].items()},
    )
  except (KeyError, TypeError, AttributeError):
    return None
