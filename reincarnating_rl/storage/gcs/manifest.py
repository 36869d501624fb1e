"""`download.json`: record of the files that a folder holds, and their source.

A file whose size and time of change are as recorded is taken for the one that
was verified.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
from typing import Any, NamedTuple, Optional, Union

from reincarnating_rl.base import files
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.types import RemoteFile

FILE = 'download.json'
FORMAT = 'reincarnating_rl.download'
FORMAT_VERSION = 1
# Stands for all checkpoints, instead of a number.
ALL = 'all'
_LOGGER = logging.getLogger(__name__)


class Selection(NamedTuple):
  """A part of a run that a user asked for."""

  checkpoint: Union[int, str]  # a number, or ALL
  replay: bool

  @property
  def number(self) -> Optional[int]:
    """Number of the checkpoint; None for the whole run."""
    return None if self.checkpoint == ALL else int(self.checkpoint)

  def covers(self, other: Selection) -> bool:
    """Returns True if the other selection is a part of this one."""
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
  """Contents of `download.json`.

  Attributes:
    source: address of the run.
    selections: selections that are complete.
    files: verified files by their paths within the run.
  """

  source: str
  selections: list[Selection] = dataclasses.field(default_factory=list)
  files: dict[str, Entry] = dataclasses.field(default_factory=dict)

  def covers(self, selection: Selection) -> bool:
    """Returns True if a selection is complete."""
    return any(done.covers(selection) for done in self.selections)

  def add_selection(self, selection: Selection) -> None:
    """Records a complete selection, in place of those that it covers."""
    kept = [done for done in self.selections if not selection.covers(done)]
    self.selections = kept + [selection]

  def add_file(self, name: str, path: str, remote: RemoteFile) -> None:
    """Records a file that was verified just now."""
    now = datetime.datetime.now(datetime.UTC)
    self.files[name] = Entry(
        remote.generation,
        remote.size,
        remote.crc32c,
        os.stat(path).st_mtime_ns,
        now.isoformat(timespec='seconds'),
    )

  def is_unchanged(self, name: str, path: str) -> bool:
    """Returns True if a file has the recorded size and time of change."""
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
    """Writes the file into a folder."""
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
  """Reads the manifest of a folder; returns an empty one if it has none.

  A damaged manifest counts as none: the files are then verified again.

  Args:
    directory: the folder.
    source: address of the run that it should hold.

  Raises:
    BucketError: if the folder holds files of another address, or a later
      release wrote the manifest.
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
