"""Lists and copies with the gsutil program, as researchers do by hand.

Credentials, proxies and servers are gsutil's own business (`gsutil config`,
BOTO_CONFIG); without credentials it reads public buckets anonymously.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import tempfile
import time
from typing import Callable, IO, NamedTuple, Optional, Sequence

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.client import Folder
from reincarnating_rl.storage.gcs.client import Job
from reincarnating_rl.storage.gcs.client import RemoteFile
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import Unreachable
from reincarnating_rl.storage.gcs.errors import WrongChecksum

# gsutil's default of 23 tries is ten minutes of silence without a network.
_LIST_OPTIONS = ('-o', 'Boto:num_retries=3')
# We verify each file ourselves; gsutil refuses composite objects where its own
# checksum is not compiled.
_COPY_OPTIONS = ('-o', 'GSUtil:check_hashes=if_fast_else_skip')
_SECONDS_BETWEEN_LOOKS = 0.3
# Asked to end, it is given this long.
_SECONDS_TO_END = 5.0
# A call's names are given as arguments: of a list to read (-I), gsutil 5.36 to
# 5.38 copy the first two. Systems limit a command line; this is far below.
_MAX_ARGUMENTS = 64_000  # characters
_PARTIAL_SUFFIX = '_.gstmp'
_NO_MATCH = 'matched no objects'
_OBJECT = re.compile(r'^gs://([^/]+)/(.+):\s*$')
_FIELD = re.compile(r'^\s+([^:]+):\s+(\S+)\s*$')
# Lines of an object's access list, and the sum at the end.
_REST = re.compile(r'^(\s|[\[\]{}]|TOTAL:|$)')


class _Ended(NamedTuple):
  """How a gsutil process ended."""

  code: int
  output: str
  errors: str


class Gsutil:
  """The gsutil client."""

  def __init__(self, program: str):
    """Wraps a program.

    Args:
      program: path of gsutil.
    """
    self._program = program

  def folder(self, address: Address) -> Folder:
    """As in `clients.Client`."""
    lines = self._list(address, 'ls', f'gs://{address.bucket}/{address.prefix}')
    start = f'gs://{address.bucket}/{address.prefix}'
    names = [line.removeprefix(start) for line in lines if line != start]
    return Folder(
        [name[:-1] for name in names if name.endswith('/')],
        [name for name in names if name and not name.endswith('/')],
    )

  def files(self, address: Address) -> list[RemoteFile]:
    """As in `clients.Client`."""
    pattern = f'gs://{address.bucket}/{address.prefix}**'
    return parse_listing(self._list(address, 'ls', '-L', pattern))

  def bytes_there(self, file: RemoteFile, place: str) -> int:
    """As in `clients.Client`."""
    return _bytes_of(place, file.size)

  def copy(self, job: Job) -> None:
    """As in `clients.Client`; one process for each folder, or a part of it."""
    for file in job.files:
      _check_copyable(file)
    folders: dict[str, list[RemoteFile]] = {}
    for file in job.files:
      folders.setdefault(os.path.dirname(job.place(file)), []).append(file)
    failures = []
    for folder, files in folders.items():
      os.makedirs(folder, exist_ok=True)
      for batch in _batches(files):
        failures += self._copy_into(folder, batch, job)
    if failures:
      raise failures[0]

  def _copy_into(
      self, folder: str, files: list[RemoteFile], job: Job
  ) -> list[BucketError]:
    """Copies files into one folder; returns what went wrong with which."""
    watch = _Watch([(job.place(f), f.size) for f in files], job.advance)
    names = [str(file.address) for file in files]
    arguments = (*_COPY_OPTIONS, '-q', '-m', 'cp', '-R', *names, folder)
    try:
      ended = self._run(arguments, watch.look, job.lock)
    finally:
      watch.look()
    if 'No space left' in ended.errors or 'Disk quota' in ended.errors:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    failures: list[BucketError] = []
    missing = []
    for file in files:
      if not os.path.exists(job.place(file)):
        missing.append(file)
        continue
      try:
        job.arrived(file)
      except WrongChecksum as e:
        failures.append(e)
    if missing:
      others = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
      reason = _last_words(ended.errors) or f'it ended with {ended.code}'
      failures.append(
          BucketError(
              f'gsutil could not copy {missing[0].address}{others}: {reason}; '
              'what has arrived is kept, and the same command goes on from '
              'there.'
          )
      )
    return failures

  def _list(self, address: Address, *arguments: str) -> list[str]:
    """Lines of a listing; none if nothing matches."""
    ended = self._run((*_LIST_OPTIONS, *arguments))
    if ended.code == 0:
      return ended.output.splitlines()
    if _NO_MATCH in ended.errors:
      return []
    reason = _last_words(ended.errors) or f'it ended with {ended.code}'
    if 'BucketNotFound' in ended.errors:
      raise BucketError(f'There is no bucket gs://{address.bucket}.')
    if re.search(r'\b(401|403)\b|AccessDenied', reason):
      raise BucketError(
          f'{address} is closed to this account ({reason}): name another '
          'bucket, or configure gsutil with an account that may read it.'
      )
    raise Unreachable(f'gsutil cannot list {address}: {reason}.')

  def _run(
      self,
      arguments: Sequence[str],
      look: Callable[[], None] = lambda: None,
      lock: Optional[int] = None,
  ) -> _Ended:
    """Runs gsutil, in a session of its own so that all of it can be ended.

    Args:
      arguments: of gsutil.
      look: called again and again while it runs.
      lock: a file descriptor to leave open in it: should we be killed, it
        goes on, and nobody else writes to the same files until it ends.
    """
    with (
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
      process = subprocess.Popen(
          (self._program, *arguments),
          stdin=subprocess.DEVNULL,
          stdout=stdout,
          stderr=stderr,
          pass_fds=() if lock is None else (lock,),
          start_new_session=True,
      )
      try:
        while process.poll() is None:
          look()
          time.sleep(_SECONDS_BETWEEN_LOOKS)
      except BaseException:
        _end(process)
        raise
      return _Ended(process.returncode, _all_of(stdout), _all_of(stderr))


class _Watch:
  """Tells how many bytes of some files are on the disk, as they come."""

  def __init__(
      self, sizes: list[tuple[str, int]], advance: Callable[[int], None]
  ):
    self._sizes = sizes
    self._advance = advance
    self._before = self._bytes()

  def look(self) -> None:
    now = self._bytes()
    self._advance(now - self._before)
    self._before = now

  def _bytes(self) -> int:
    return sum(_bytes_of(path, size) for path, size in self._sizes)


def _bytes_of(path: str, size: int) -> int:
  if os.path.exists(path):
    return size
  try:
    found = os.stat(path + _PARTIAL_SUFFIX)
  except FileNotFoundError:
    return 0
  # Large files are fetched in slices: there are holes in them at first.
  return min(found.st_size, found.st_blocks * 512, size)


def parse_listing(lines: Sequence[str]) -> list[RemoteFile]:
  """Reads the output of `gsutil ls -L`.

  Raises:
    BucketError: for a line or an object that it cannot make sense of.
  """
  found: list[tuple[Address, dict[str, str]]] = []
  for line in lines:
    if match := _OBJECT.match(line):
      found.append((Address(match.group(1), match.group(2)), {}))
    elif match := _FIELD.match(line):
      if found:
        found[-1][1].setdefault(match.group(1).lower(), match.group(2))
    elif not _REST.match(line):
      # Such as the second half of a name with a line break in it.
      raise BucketError(
          f'The listing of gsutil holds a line that is no object, {line!r}: '
          'take --client python.'
      )
  return [_remote_file(address, fields) for address, fields in found]


def _remote_file(address: Address, fields: dict[str, str]) -> RemoteFile:
  try:
    return RemoteFile(
        address=address,
        size=int(fields['content-length']),
        crc32c=fields['hash (crc32c)'],
        generation=fields['generation'],
        encoding=fields.get('content-encoding', ''),
    )
  except (KeyError, ValueError) as e:
    raise BucketError(
        f'The listing of gsutil lacks {e} of {address}: take --client python.'
    ) from e


def _check_copyable(file: RemoteFile) -> None:
  """Refuses what gsutil would copy otherwise than it is."""
  if addresses.has_wildcards(file.address.path):
    raise BucketError(
        f'gsutil takes {file.address} for a pattern: take --client python.'
    )
  if file.encoding == 'gzip':
    raise BucketError(
        f'gsutil would unpack {file.address}, which is stored with '
        'Content-Encoding gzip: take --client python.'
    )


def _batches(files: list[RemoteFile]) -> list[list[RemoteFile]]:
  """Files of one folder, as many together as a command line can name."""
  batches: list[list[RemoteFile]] = []
  length = _MAX_ARGUMENTS
  for file in files:
    length += len(str(file.address)) + 1
    if length > _MAX_ARGUMENTS:
      batches.append([])
      length = len(str(file.address))
    batches[-1].append(file)
  return batches


def _last_words(errors: str) -> str:
  """The line of gsutil's complaints that says most."""
  lines = [line.strip() for line in errors.splitlines() if line.strip()]
  telling = [
      line
      for line in lines
      if re.match(r'^[\w.]*(Exception|Error|Failure)\b', line)
      and 'could not be transferred' not in line
  ]
  words = (telling or lines or [''])[-1]
  return words.removeprefix('CommandException: ').rstrip('.')


def _all_of(file: IO[bytes]) -> str:
  file.seek(0)
  return file.read().decode(errors='replace')


def _end(process: subprocess.Popen) -> None:
  """Ends gsutil, and its workers even if it leaves them behind."""
  for number in (signal.SIGINT, signal.SIGKILL):
    try:
      os.killpg(process.pid, number)
    except ProcessLookupError:
      return
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(_SECONDS_TO_END)
