"""Lists and copies with the gsutil program.

gsutil's own configuration (`gsutil config`, BOTO_CONFIG) sets credentials,
proxies and servers. Without credentials it reads public buckets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Callable, IO, NamedTuple, Optional, Sequence

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import Unreachable
from reincarnating_rl.storage.gcs.errors import WrongChecksum
from reincarnating_rl.storage.gcs.types import Folder
from reincarnating_rl.storage.gcs.types import Job
from reincarnating_rl.storage.gcs.types import RemoteFile

# gsutil's default of 23 tries is ten minutes of silence without a network.
_LIST_OPTIONS = ('-o', 'Boto:num_retries=3')
# We verify each file ourselves. gsutil would do it a second time, and refuses
# composite objects where its own checksum is not compiled.
_COPY_OPTIONS = ('-o', 'GSUtil:check_hashes=never')
_SECONDS_BETWEEN_LOOKS = 0.3
# Time to end after SIGINT, before SIGKILL.
_SECONDS_TO_END = 5.0
# Names are arguments of the command: of a list on stdin (-I), gsutil 5.36 to
# 5.38 copy the first two only. The limit is far below that of any system.
_MAX_ARGUMENTS = 64_000  # characters
_PARTIAL_SUFFIX = '_.gstmp'
_NO_MATCH = 'matched no objects'
_OBJECT = re.compile(r'^gs://([^/]+)/(.+):\s*$')
_FIELD = re.compile(r'^\s+([^:]+):\s+(\S+)\s*$')
# Lines of an object's access list, and the total at the end.
_REST = re.compile(r'^(\s|[\[\]{}]|TOTAL:|$)')


class _Ended(NamedTuple):
  """Exit code and output of a gsutil process."""

  code: int
  output: str
  errors: str


class _Failure(NamedTuple):
  """A file that was not copied."""

  file: RemoteFile
  error: BucketError


def find() -> Gsutil:
  """Finds gsutil on the PATH, or beside the Python that runs this.

  Raises:
    BucketError: if it is not installed.
  """
  program = shutil.which('gsutil') or shutil.which(
      'gsutil', path=os.path.dirname(sys.executable)
  )
  if program is None:
    raise BucketError(
        'gs:// addresses need gsutil, which is not installed: pip install '
        'gsutil.'
    )
  return Gsutil(program)


class Gsutil:
  """A `types.Client` that runs gsutil."""

  def __init__(self, program: str):
    """Creates a client.

    Args:
      program: path of gsutil.
    """
    self._program = program

  def folder(self, address: Address) -> Folder:
    """Lists a folder, as `types.Client` describes."""
    lines = self._list(address, 'ls', f'gs://{address.bucket}/{address.prefix}')
    start = f'gs://{address.bucket}/{address.prefix}'
    names = [line.removeprefix(start) for line in lines if line != start]
    return Folder(
        [name[:-1] for name in names if name.endswith('/')],
        [name for name in names if name and not name.endswith('/')],
    )

  def files(self, address: Address) -> list[RemoteFile]:
    """Lists all objects, as `types.Client` describes."""
    pattern = f'gs://{address.bucket}/{address.prefix}**'
    return parse_listing(self._list(address, 'ls', '-L', pattern))

  def part_of(self, place: str) -> str:
    """Returns the path of a part, as `types.Client` describes."""
    return place + _PARTIAL_SUFFIX

  def bytes_there(self, file: RemoteFile, place: str) -> int:
    """Counts bytes on the disk, as `types.Client` describes."""
    return _bytes_of(place, file.size)

  def copy(self, job: Job) -> None:
    """Copies files, as `types.Client` describes.

    A file that arrives damaged is copied once more: the part that an earlier
    copy left of it may be to blame.
    """
    for file in job.files:
      _check_copyable(file)
    failures = self._copy_all(job.files, job)
    is_damaged = lambda failure: isinstance(failure.error, WrongChecksum)
    damaged = [failure.file for failure in failures if is_damaged(failure)]
    if damaged:
      failures = [f for f in failures if not is_damaged(f)]
      failures += self._copy_all(damaged, job)
    if failures:
      raise failures[0].error

  def _copy_all(self, files: list[RemoteFile], job: Job) -> list[_Failure]:
    """Copies files; one process for each folder, or a part of it."""
    folders: dict[str, list[RemoteFile]] = {}
    for file in files:
      folders.setdefault(os.path.dirname(job.place(file)), []).append(file)
    failures = []
    for folder, within in folders.items():
      os.makedirs(folder, exist_ok=True)
      for batch in _batches(within):
        failures += self._copy_into(folder, batch, job)
    return failures

  def _copy_into(
      self, folder: str, files: list[RemoteFile], job: Job
  ) -> list[_Failure]:
    """Copies files into one folder; returns the failures."""
    watch = _Watch([(job.place(f), f.size) for f in files], job.advance)
    names = [str(file.address) for file in files]
    arguments = (*_COPY_OPTIONS, '-q', '-m', 'cp', '-R', *names, folder)
    try:
      ended = self._run(arguments, watch.look, job.lock)
    finally:
      watch.look()
    if 'No space left' in ended.errors or 'Disk quota' in ended.errors:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    failures = []
    missing = []
    for file in files:
      if not os.path.exists(job.place(file)):
        missing.append(file)
        continue
      try:
        job.arrived(file)
      except WrongChecksum as e:
        job.advance(-file.size)
        failures.append(_Failure(file, e))
    if missing:
      others = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
      reason = _last_words(ended.errors) or f'it ended with {ended.code}'
      error = BucketError(
          f'gsutil could not copy {missing[0].address}{others}: {reason}; '
          'what has arrived is kept, and the same command goes on from there.'
      )
      failures.append(_Failure(missing[0], error))
    return failures

  def _list(self, address: Address, *arguments: str) -> list[str]:
    """Returns the lines of a listing; none if nothing matches."""
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
    raise Unreachable(
        f'gsutil cannot list {address} ({reason}): check the network, and '
        'repeat the command.'
    )

  def _run(
      self,
      arguments: Sequence[str],
      look: Callable[[], None] = lambda: None,
      lock: Optional[int] = None,
  ) -> _Ended:
    """Runs gsutil in a session of its own, so that all of it can be ended.

    Args:
      arguments: arguments of gsutil.
      look: called again and again while gsutil runs.
      lock: a file descriptor that gsutil inherits. If this process is killed,
        gsutil goes on, and the lock keeps others from the same files.
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
        while not _has_ended(process, _SECONDS_BETWEEN_LOOKS):
          look()
      except BaseException:
        _end(process)
        raise
      return _Ended(process.returncode, _all_of(stdout), _all_of(stderr))


class _Watch:
  """Reports the bytes of some files as they reach the disk."""

  def __init__(
      self, sizes: list[tuple[str, int]], advance: Callable[[int], object]
  ):
    self._sizes = sizes
    self._advance = advance
    self._before = self._bytes()

  def look(self) -> None:
    """Reports what has come since the last call."""
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
  # gsutil fetches large files in slices: they have holes at first.
  return min(found.st_size, found.st_blocks * 512, size)


def parse_listing(lines: Sequence[str]) -> list[RemoteFile]:
  """Reads the output of `gsutil ls -L`.

  Raises:
    BucketError: if a line or an object has another form.
  """
  found: list[tuple[Address, dict[str, str]]] = []
  for line in lines:
    if match := _OBJECT.match(line):
      found.append((Address(match.group(1), match.group(2)), {}))
    elif match := _FIELD.match(line):
      if found:
        found[-1][1].setdefault(match.group(1).lower(), match.group(2))
    elif not _REST.match(line):
      # For example the second half of a name that has a line break.
      raise BucketError(
          f'The listing of gsutil holds a line that is no object, {line!r}: '
          'nothing was copied; tell the owner of the bucket.'
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
        f'The listing of gsutil lacks {e} of {address}: update gsutil (pip '
        'install --upgrade gsutil), and repeat the command.'
    ) from e


def _check_copyable(file: RemoteFile) -> None:
  """Refuses an object that gsutil would not copy as it is.

  Raises:
    BucketError: if it is one.
  """
  if addresses.has_wildcards(file.address.path):
    raise BucketError(
        f'gsutil takes {file.address} for a pattern: nothing was copied; ask '
        'the owner of the bucket to rename it.'
    )
  if file.encoding == 'gzip':
    raise BucketError(
        f'gsutil would unpack {file.address}, which is stored with '
        'Content-Encoding gzip: nothing was copied; ask the owner of the '
        'bucket to store it without.'
    )


def _batches(files: list[RemoteFile]) -> list[list[RemoteFile]]:
  """Splits the files of one folder into as many as a command line can name."""
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
  """The most telling line of gsutil's errors."""
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
  """Ends gsutil and its workers."""
  for number in (signal.SIGINT, signal.SIGKILL):
    try:
      os.killpg(process.pid, number)
    except ProcessLookupError:
      return
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(_SECONDS_TO_END)


def _has_ended(process: subprocess.Popen, seconds: float) -> bool:
  """Waits for a process, at most so long; returns True if it has ended."""
  try:
    process.wait(seconds)
  except subprocess.TimeoutExpired:
    return False
  return True
