"""What a client does, and which of the two there are is taken."""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import Callable, NamedTuple, Protocol

from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError

GSUTIL, PYTHON, AUTO = 'gsutil', 'python', 'auto'
NAMES = (AUTO, GSUTIL, PYTHON)
# Points google-cloud-storage at another server; gsutil does not read it.
EMULATOR_VARIABLE = 'STORAGE_EMULATOR_HOST'


class RemoteFile(NamedTuple):
  """One object of a bucket, as it is listed."""

  address: Address
  size: int
  crc32c: str  # base64 of the big-endian checksum, as the JSON API writes it
  generation: str  # which upload of that name
  encoding: str = ''  # Content-Encoding


class Folder(NamedTuple):
  """What lies directly in a folder; names without slashes."""

  folders: list[str]
  files: list[str]


@dataclasses.dataclass(frozen=True)
class Job:
  """Files to copy, and who hears of it.

  Attributes:
    files: to copy.
    place: where a file is to lie when it is whole.
    arrived: to be called when it lies there; checks it and takes it away.
      Raises WrongChecksum, the file thrown away, if it is damaged. May be
      called from any thread.
    advance: to be told of bytes that came (or were lost, if negative), from
      the calling thread only.
    lock: a file descriptor that whatever writes must keep open.
  """

  files: list[RemoteFile]
  place: Callable[[RemoteFile], str]
  arrived: Callable[[RemoteFile], None]
  advance: Callable[[int], None]
  lock: int


class Client(Protocol):
  """Lists and copies; every failure is a BucketError or an OSError."""

  def folder(self, address: Address) -> Folder:
    """What lies directly at an address; empty if nothing does.

    Raises:
      BucketError: if the bucket is missing, closed, or out of reach.
    """

  def files(self, address: Address) -> list[RemoteFile]:
    """Every object below an address."""

  def bytes_there(self, file: RemoteFile, place: str) -> int:
    """Bytes of a file that an interrupted copy has left on the disk."""

  def copy(self, job: Job) -> None:
    """Copies files; goes on from what is there of them.

    Raises:
      BucketError: for the first file that cannot be had, after all others
        are copied, or at once where they would fail too.
      OSError: if the disk takes no more.
    """


def choose(name: str) -> Client:
  """The client of that name; of 'auto', gsutil where there is one.

  Raises:
    BucketError: if it is not installed.
  """
  # pylint: disable=g-import-not-at-top
  from reincarnating_rl.storage.gcs import gsutil
  from reincarnating_rl.storage.gcs import python_client

  program = shutil.which('gsutil')
  has_python = python_client.is_installed()
  if name == AUTO:
    # Only one of the two can be led to a server of one's own that way.
    elsewhere = has_python and os.environ.get(EMULATOR_VARIABLE)
    name = PYTHON if elsewhere or not program else GSUTIL
    if name == PYTHON and not has_python:
      raise BucketError(
          'Neither gsutil nor the Python package google-cloud-storage is '
          'installed, and gs:// needs one of them: pip install '
          'google-cloud-storage.'
      )
  if name == PYTHON:
    if not has_python:
      raise BucketError(
          'The Python package google-cloud-storage is not installed: pip '
          'install google-cloud-storage, or take --client gsutil.'
      )
    return python_client.PythonClient()
  if not program:
    raise BucketError(
        'There is no gsutil on the PATH: install it '
        '(https://cloud.google.com/storage/docs/gsutil_install), or take '
        '--client python.'
    )
  return gsutil.Gsutil(program)
