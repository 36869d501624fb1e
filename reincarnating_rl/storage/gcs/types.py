"""Objects of a bucket, jobs to copy them, and the interface of a client."""

from __future__ import annotations

import dataclasses
from typing import Callable, NamedTuple, Protocol

from reincarnating_rl.storage.gcs.address import Address


class RemoteFile(NamedTuple):
  """One object of a bucket, as it is listed."""

  address: Address
  size: int
  crc32c: str  # base64 of the big-endian checksum, as the JSON API writes it
  generation: str  # identifies the upload
  encoding: str = ''  # Content-Encoding


class Folder(NamedTuple):
  """Direct contents of a folder; names without slashes."""

  folders: list[str]
  files: list[str]


@dataclasses.dataclass(frozen=True)
class Job:
  """Files to copy, and callbacks.

  Attributes:
    files: files to copy.
    place: returns the path at which a complete file is to lie.
    arrived: to be called once a file lies there; verifies it and moves it
      away. Raises WrongChecksum, the file deleted, if it is damaged.
    advance: to be told the number of bytes that came (negative: were lost).
    lock: a file descriptor that every writing program must keep open.
  """

  files: list[RemoteFile]
  place: Callable[[RemoteFile], str]
  arrived: Callable[[RemoteFile], None]
  advance: Callable[[int], object]
  lock: int


class Client(Protocol):
  """Lists and copies; every failure is a BucketError or an OSError."""

  def folder(self, address: Address) -> Folder:
    """Lists what lies directly at an address; empty if nothing does.

    Raises:
      BucketError: if the bucket is missing, closed, or out of reach.
    """
    ...

  def files(self, address: Address) -> list[RemoteFile]:
    """Lists every object below an address.

    Raises:
      BucketError: as `folder` does.
    """
    ...

  def part_of(self, place: str) -> str:
    """Returns the path of a part of a file.

    Args:
      place: path of the file once it is complete.
    """
    ...

  def bytes_there(self, file: RemoteFile, place: str) -> int:
    """Counts the bytes that an interrupted copy has left on the disk.

    Args:
      file: the file.
      place: path of the file once it is complete.
    """
    ...

  def copy(self, job: Job) -> None:
    """Copies files; resumes those of which a part is on the disk.

    Raises:
      BucketError: for the first file that cannot be copied, after all others
        are copied, or at once where they would fail, too.
      OSError: if the disk is full.
    """
    ...
