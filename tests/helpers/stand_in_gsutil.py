"""A program that stands in for gsutil, with buckets in a folder.

gsutil takes seconds to start; this takes milliseconds. It knows the commands
that the package gives (`ls`, `ls -L`, `cp`), prints what gsutil 5.38 prints,
and leaves parts of files as gsutil does. A test makes `Buckets`, which puts it
on the PATH; faults are ordered per object.

Run as a program it is gsutil: FOLDER is its first argument.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time

_STATE = 'state.json'
_LOG = 'commands.jsonl'
_PARTIAL = '_.gstmp'
_CHUNK = 16 * 1024


class Buckets:
  """Buckets that the program serves; every change is on disk at once."""

  def __init__(self, folder, monkeypatch):
    """Makes no bucket yet, and puts the program on the PATH.

    Args:
      folder: an empty folder for buckets and the program.
      monkeypatch: fixture of pytest.
    """
    self._folder = str(folder)
    os.makedirs(os.path.join(self._folder, 'bin'))
    program = os.path.join(self._folder, 'bin', 'gsutil')
    with open(program, 'w', encoding='utf-8') as f:
      f.write(
          f'#!/bin/sh\nexec {sys.executable} -S -E {os.path.abspath(__file__)} '
          f'{self._folder} "$@"\n'
      )
    os.chmod(program, 0o755)
    path = os.path.dirname(program) + os.pathsep + os.environ['PATH']
    monkeypatch.setenv('PATH', path)
    self._state = {'buckets': {}, 'list_error': ''}
    self._generation = 1_700_000_000_000_000
    self._write()

  def _write(self):
    path = os.path.join(self._folder, _STATE)
    with open(path + '.new', 'w', encoding='utf-8') as f:
      json.dump(self._state, f)
    os.replace(path + '.new', path)

  def make(self, bucket):
    """Makes an empty bucket."""
    self._state['buckets'].setdefault(bucket, {})
    self._write()

  def put(self, url, data, encoding=''):
    """Stores an object under 'gs://bucket/name'; replaces an older one."""
    import google_crc32c

    bucket, _, name = url.removeprefix('gs://').partition('/')
    self._generation += 1
    file = os.path.join(self._folder, f'object_{self._generation}')
    with open(file, 'wb') as f:
      f.write(data)
    checksum = google_crc32c.Checksum(data).digest()
    self._state['buckets'].setdefault(bucket, {})[name] = {
        'file': file,
        'size': len(data),
        'crc32c': base64.b64encode(checksum).decode(),
        'generation': str(self._generation),
        'encoding': encoding,
    }
    self._write()

  def put_folder(self, url, folder):
    """Stores every file of a folder below 'gs://bucket/prefix'."""
    for path in sorted(folder.rglob('*')):
      if path.is_file():
        name = path.relative_to(folder).as_posix()
        self.put(f'{url}/{name}', path.read_bytes())

  def _object(self, url):
    bucket, _, name = url.removeprefix('gs://').partition('/')
    return self._state['buckets'][bucket][name]

  def read(self, url):
    """Content of an object."""
    with open(self._object(url)['file'], 'rb') as f:
      return f.read()

  def generation(self, url):
    return self._object(url)['generation']

  def names(self, bucket):
    return list(self._state['buckets'][bucket])

  def order(self, url, **faults):
    """Orders the faults of an object, in place of earlier ones.

    Args:
      url: of the object.
      **faults: corrupt=True, missing=True, full_after=BYTES, break_after=BYTES,
        seconds_per_chunk=SECONDS.
    """
    self._object(url)['faults'] = faults
    self._write()

  def refuse_lists(self, error):
    """Lets every listing fail with a line on stderr; '' ends that."""
    self._state['list_error'] = error
    self._write()

  # -- what was asked ----------------------------------------------------------

  def commands(self):
    """Every command since `forget`: a dict with 'command' and 'names'."""
    try:
      with open(os.path.join(self._folder, _LOG), encoding='utf-8') as f:
        return [json.loads(line) for line in f]
    except FileNotFoundError:
      return []

  def copied(self):
    """(name, first byte, number of bytes) of each object that was copied."""
    return [tuple(c['part']) for c in self.commands() if c['command'] == 'part']

  def forget(self):
    """Forgets the commands so far."""
    if os.path.exists(os.path.join(self._folder, _LOG)):
      os.remove(os.path.join(self._folder, _LOG))


# -- the program ---------------------------------------------------------------


def _log(folder, **entry):
  with open(os.path.join(folder, _LOG), 'a', encoding='utf-8') as f:
    f.write(json.dumps(entry) + '\n')


def _fail(line):
  print(line, file=sys.stderr)
  return 1


def _list(state, url, detailed):
  if state['list_error']:
    return _fail(state['list_error'])
  bucket, _, prefix = url.removeprefix('gs://').partition('/')
  if bucket not in state['buckets']:
    return _fail(
        f'BucketNotFoundException: 404 gs://{bucket} bucket does not exist.'
    )
  objects = state['buckets'][bucket]
  prefix = prefix.removesuffix('**')
  lines = set()
  for name in sorted(n for n in objects if n.startswith(prefix)):
    if detailed:
      _print_object(f'gs://{bucket}/{name}', objects[name])
      lines.add(name)
      continue
    head, slash, _ = name[len(prefix) :].partition('/')
    lines.add(f'gs://{bucket}/{prefix}{head}{slash}')
  if not lines:
    return _fail('CommandException: One or more URLs matched no objects.')
  if not detailed:
    print('\n'.join(sorted(lines)))
  return 0


def _print_object(url, stored):
  print(f'{url}:')
  fields = {
      'Content-Encoding': stored['encoding'],
      'Content-Length': stored['size'],
      'Hash (crc32c)': stored['crc32c'],
      'Generation': stored['generation'],
  }
  for name, value in fields.items():
    if value != '':
      print(f'    {name + ":":24}{value}')


def _copy(folder, state, urls, target):
  failed = 0
  for url in urls:
    bucket, _, name = url.removeprefix('gs://').partition('/')
    stored = state['buckets'].get(bucket, {}).get(name)
    faults = (stored or {}).get('faults', {})
    if stored is None or faults.get('missing'):
      _fail(f'NotFoundException: 404 No such object: {bucket}/{name}')
      failed += 1
      continue
    place = os.path.join(target, name.rpartition('/')[2])
    error = _fetch(folder, name, stored, faults, place)
    if error:
      _fail(error)
      failed += 1
  if failed:
    _fail(f'CommandException: {failed} file/object could not be transferred.')
  return min(failed, 1)


def _fetch(folder, name, stored, faults, place):
  """Appends to the part of a file; returns an error, or ''."""
  part = place + _PARTIAL
  # gsutil continues a part of the same upload only.
  tracker = os.path.join(folder, 'tracker_' + place.replace('/', '%'))
  start = 0
  if os.path.exists(part) and os.path.exists(tracker):
    with open(tracker, encoding='utf-8') as f:
      if f.read() == stored['generation']:
        start = os.path.getsize(part)
  with open(tracker, 'w', encoding='utf-8') as f:
    f.write(stored['generation'])
  with open(stored['file'], 'rb') as f:
    data = f.read()
  if faults.get('corrupt'):
    data = bytes([data[0] ^ 0xFF]) + data[1:]
  stop, error = len(data), ''
  if 'break_after' in faults:
    stop = min(stop, faults['break_after'])
    error = 'ResumableDownloadException: Connection broken'
  if 'full_after' in faults:
    stop = min(stop, faults['full_after'])
    error = 'OSError: [Errno 28] No space left on device.'
  with open(part, 'ab' if start else 'wb') as f:
    for at in range(start, stop, _CHUNK):
      f.write(data[at : min(at + _CHUNK, stop)])
      f.flush()
      time.sleep(faults.get('seconds_per_chunk', 0.0))
  _log(folder, command='part', part=[name, start, max(stop - start, 0)])
  if not error:
    os.replace(part, place)
    os.remove(tracker)
  return error


def main(folder, *arguments):
  arguments = list(arguments)
  while arguments[0].startswith('-'):
    del arguments[: 2 if arguments[0] == '-o' else 1]
  command, *rest = arguments
  with open(os.path.join(folder, _STATE), encoding='utf-8') as f:
    state = json.load(f)
  _log(folder, command=command, names=rest)
  if command == 'ls':
    return _list(state, rest[-1], rest[0] == '-L')
  assert command == 'cp' and rest[0] == '-R', arguments
  return _copy(folder, state, rest[1:-1], rest[-1])


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
