"""Threads that copy files for the Python client, and resume them.

A file grows as `<place>.<generation>.part`. A broken connection is resumed at
the byte where it broke, in the next process too, as long as the bucket holds
the same upload of it.
"""

from __future__ import annotations

import collections
import os
import threading
from typing import Any, BinaryIO, Callable

from reincarnating_rl.storage.gcs.client import Job
from reincarnating_rl.storage.gcs.client import RemoteFile
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import Unreachable
from reincarnating_rl.storage.gcs.errors import WrongChecksum

NUM_THREADS = 8
# Tries of a file without a single byte of progress, and the seconds before
# the second one; each further wait is twice as long.
NUM_TRIES = 7
FIRST_DELAY = 0.5
_MAX_DELAY = 20.0

# Sends the bytes of a file, from one on, to `write` of an object.
Stream = Callable[[RemoteFile, Any, int], None]


class _Stopped(Exception):
  """Another thread has failed for all, or the user has stopped us."""


class Crew:
  """Threads that copy files, each one file at a time."""

  def __init__(self, stream: Stream, job: Job):
    self._stream = stream
    self._job = job
    self._left = collections.deque(job.files)
    self._failures: list[BaseException] = []
    self._stop = threading.Event()
    self._lock = threading.Lock()
    self._bytes = 0  # that came and are not told yet

  def work(self) -> None:
    """Copies everything; see `clients.Client.copy`."""
    count = min(NUM_THREADS, len(self._left))
    # Daemons: a read that hangs does not keep a stopped program alive.
    threads = [
        threading.Thread(target=self._work, daemon=True) for _ in range(count)
    ]
    for thread in threads:
      thread.start()
    try:
      for thread in threads:
        while thread.is_alive():
          thread.join(0.05)
          self._tell()
    finally:
      self._stop.set()
      for thread in threads:
        thread.join(1.0)
      self._tell()
    if self._failures:
      raise self._failures[0]

  def _tell(self) -> None:
    with self._lock:
      came, self._bytes = self._bytes, 0
    if came:
      self._job.advance(came)

  def count(self, amount: int) -> None:
    """Notes bytes that came, from any thread."""
    with self._lock:
      self._bytes += amount

  def check(self) -> None:
    if self._stop.is_set():
      raise _Stopped()

  def _work(self) -> None:
    while not self._stop.is_set():
      try:
        file = self._left.popleft()
      except IndexError:
        return
      try:
        self._fetch(file)
      except _Stopped:
        return
      except Unreachable as e:
        self._fail(e, for_all=True)
      except BucketError as e:  # of this file alone
        self._fail(e, for_all=False)
      except Exception as e:  # pylint: disable=broad-exception-caught
        self._fail(e, for_all=True)

  def _fail(self, error: Exception, for_all: bool) -> None:
    with self._lock:
      self._failures.append(error)
    if for_all:
      self._stop.set()

  def _fetch(self, file: RemoteFile) -> None:
    """Copies one file, once more from the start if it arrives damaged."""
    place = self._job.place(file)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    part = part_of(file, place)
    for last in (False, True):
      self._complete(file, part)
      os.replace(part, place)
      try:
        self._job.arrived(file)
        return
      except WrongChecksum:
        self.count(-file.size)
        if last:
          raise

  def _complete(self, file: RemoteFile, part: str) -> None:
    """Brings a part to its full length, however often the line breaks."""
    tries = 0
    while True:
      start = size_of(part)
      if start > file.size:
        os.remove(part)
        continue
      error = self._append(file, part, start)
      if size_of(part) == file.size:
        return
      tries = 1 if size_of(part) > start else tries + 1
      if tries >= NUM_TRIES:
        raise Unreachable(
            f'{file.address} stopped coming after {size_of(part)} of '
            f'{file.size} bytes ({error}): check the network; the same '
            'command goes on from there.'
        )
      delay = min(FIRST_DELAY * 2 ** (tries - 1), _MAX_DELAY)
      if self._stop.wait(delay):
        raise _Stopped()

  def _append(self, file: RemoteFile, part: str, start: int) -> str:
    """Appends what comes; returns why it ended, if that may pass.

    Raises:
      BucketError: if the file is gone.
    """
    from google.api_core import exceptions
    import requests
    import urllib3

    passing = (
        exceptions.GoogleAPIError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(part, flags, 0o666), 'ab') as part_file:
      if start == file.size:
        return ''
      try:
        self._stream(file, _Sink(part_file, self), start)
      except (exceptions.NotFound, exceptions.PreconditionFailed) as e:
        os.remove(part)  # of no use any more
        raise BucketError(
            f'{file.address} has gone or changed since it was listed: repeat '
            'the command.'
        ) from e
      except (exceptions.Forbidden, exceptions.Unauthorized) as e:
        raise BucketError(
            f'{file.address} is closed to anonymous readers: take --client '
            'gsutil with an account that may read it.'
        ) from e
      except passing as e:
        return in_short(e)
      return 'the connection ended early'


class _Sink:
  """What google-cloud-storage writes a file to."""

  def __init__(self, stream: BinaryIO, crew: Crew):
    self._stream = stream
    self._crew = crew

  def write(self, data: bytes) -> int:
    self._crew.check()
    written = self._stream.write(data)
    self._crew.count(written)
    return written


def part_of(file: RemoteFile, place: str) -> str:
  """Path of a file while it grows; another upload's has another one."""
  return f'{place}.{file.generation}.part'


def size_of(path: str) -> int:
  try:
    return os.path.getsize(path)
  except FileNotFoundError:
    return 0


def in_short(error: BaseException) -> str:
  """What the operating system said, or the kind of the error and its text."""
  cause = error
  while (deeper := cause.__cause__ or cause.__context__) is not None:
    cause = deeper
  if isinstance(cause, OSError) and cause.strerror:
    return cause.strerror
  text = str(error).strip().split('\n')[0]
  name = type(error).__name__
  return f'{name}: {text}' if 0 < len(text) <= 100 else name
