"""Copying with gsutil itself, against https on loopback."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import gcs_emulator
import numpy as np
from paths import ROOT
import pytest

from reincarnating_rl.base import locks
from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import gsutil
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import Unreachable
from reincarnating_rl.storage.gcs.types import RemoteFile

RUN = 'gs://rl_checkpoints/DQN_400/Breakout/1'
WEIGHTS = 'checkpoints/ckpt.399'
SENTINEL = 'checkpoints/sentinel_checkpoint_complete.399'
FRAMES = 'checkpoints/$store$_observation_ckpt.399.gz'
LISTING = """\
gs://abc/Pong/1/checkpoints/ckpt.3:
    Creation time:          Wed, 01 Jun 2022 00:00:00 GMT
    Storage class:          STANDARD
    Content-Encoding:       gzip
    Content-Length:         3000
    Content-Type:           application/octet-stream
    Metadata:
        note:               Content-Length: 7
    Hash (crc32c):          IIo6uQ==
    Generation:             17
    ACL:                    [
  {
    "role": "OWNER"
  }
]
gs://abc/Pong/1/$store$_a: b_ckpt.0.gz:
  Content-Length:               0
  Hash (CRC32C):                AAAAAA==
  Generation:                   18
  ACL:                          ACCESS DENIED.
TOTAL: 2 objects, 3000 bytes (2.93 KiB)
"""


def test_listings_are_read():
  first, second = gsutil.parse_listing(LISTING.splitlines())
  assert first == RemoteFile(
      Address('abc', 'Pong/1/checkpoints/ckpt.3'),
      3000,
      'IIo6uQ==',
      '17',
      'gzip',
  )
  assert second.address.path == 'Pong/1/$store$_a: b_ckpt.0.gz'
  assert (second.size, second.generation, second.encoding) == (0, '18', '')
  assert gsutil.parse_listing([]) == []


def test_listings_that_make_no_sense_are_refused():
  # An object called 'a<line break>../../evil'.
  lines = ['gs://abc/Pong/1/a', '../../evil:', '  Content-Length: 3']
  with pytest.raises(BucketError, match=r"no object, 'gs://abc/Pong/1/a'"):
    gsutil.parse_listing(lines)
  with pytest.raises(BucketError, match='lacks .*crc32c.* of gs://abc/a'):
    gsutil.parse_listing(['gs://abc/a:', '    Content-Length:   3'])


def _remote(name, encoding=''):
  return RemoteFile(Address('abc', name), 1, 'AAAAAA==', '1', encoding)


def test_command_lines_have_a_limited_length():
  files = [_remote(f'{i:01000}') for i in range(200)]
  batches = gsutil._batches(files)
  assert [file for batch in batches for file in batch] == files
  assert len(batches) == 4
  assert gsutil._batches([]) == []


@pytest.mark.parametrize(
    ('file', 'reason'),
    [(_remote('a[1]'), 'pattern'), (_remote('a', 'gzip'), 'unpack gs://abc/a')],
)
def test_what_gsutil_would_change_is_refused(file, reason):
  with pytest.raises(BucketError, match=f'{reason}.*nothing was copied'):
    gsutil._check_copyable(file)


# -- the program itself, seconds each ------------------------------------------


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  folder = tmp_path_factory.mktemp('server')
  with gcs_emulator.Emulator(folder, page_size=2) as found:
    yield found


@pytest.fixture
def emulator(server, tmp_path, monkeypatch):
  """A run, and the settings that lead gsutil to it."""
  server.buckets.clear()
  server.requests.clear()
  rng = np.random.default_rng(0)
  for number in (398, 399):
    server.put(f'{RUN}/checkpoints/ckpt.{number}', rng.bytes(50_000))
    name = f'checkpoints/sentinel_checkpoint_complete.{number}'
    server.put(f'{RUN}/{name}', b'done')
  server.put(f'{RUN}/{FRAMES}', rng.bytes(900_000))
  config = gcs_emulator.boto_config(tmp_path, server)
  monkeypatch.setenv('BOTO_CONFIG', str(config))
  monkeypatch.setenv('HOME', str(tmp_path))
  # The one that is installed beside this Python comes first.
  folder = os.path.dirname(sys.executable)
  monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')
  # A Google Cloud SDK may be led to trust only what it is told.
  monkeypatch.delenv('CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE', raising=False)
  return server


def _download(root, checkpoint=download.ALL):
  return download.download(
      addresses.parse(RUN), str(root), 'Breakout/1', checkpoint
  )


def _files(root):
  folder = root / 'Breakout/1'
  return {
      path.relative_to(folder).as_posix()
      for path in folder.rglob('*')
      if path.is_file()
  }


def test_what_cannot_be_copied_is_named_and_all_else_arrives(
    emulator, tmp_path
):
  """Servers that are busy, and lines that break, are asked again."""
  missing = 'checkpoints/ckpt.398'
  emulator.get(f'{RUN}/{missing}').faults.missing = True
  emulator.get(f'{RUN}/{WEIGHTS}').faults.corrupt = True
  emulator.get(f'{RUN}/{SENTINEL}').faults.statuses = [503]
  emulator.get(f'{RUN}/{FRAMES}').faults.break_after = [300_000]
  with pytest.raises(BucketError) as error:
    _download(tmp_path)
  sentence = str(error.value)
  assert sentence.startswith(f'gsutil could not copy {RUN}/{missing}: ')
  assert '404' in sentence and '\n' not in sentence
  there = {name for name in _files(tmp_path) if '.gstmp' not in name}
  others = {SENTINEL, SENTINEL.replace('399', '398'), FRAMES}
  assert there == others | {'download.json'}
  media = [request.name for request in emulator.media_requests()]
  # What arrives damaged is fetched once more.
  assert len([name for name in media if name.endswith(WEIGHTS)]) == 2
  frames = [r for r in emulator.media_requests() if r.name.endswith(FRAMES)]
  assert sum(request.sent for request in frames) == 900_000


def test_what_is_not_there(emulator, tmp_path, monkeypatch):
  client = gsutil.find()
  assert client.folder(Address('rl_checkpoints', 'DQN_400/Pong')).files == []
  with pytest.raises(BucketError, match='There is no bucket gs://nowhere.$'):
    client.folder(Address('nowhere', 'DQN_400'))
  # No answer at all; with gsutil's own settings it tries for ten minutes.
  monkeypatch.setattr(gsutil, '_LIST_OPTIONS', ('-o', 'Boto:num_retries=0'))
  gcs_emulator.boto_config(tmp_path, emulator, port=9)
  with pytest.raises(Unreachable, match='gsutil cannot list gs://rl_check'):
    client.folder(Address('rl_checkpoints', ''))


def test_killed_in_the_middle_it_goes_on(emulator, tmp_path, capfd):
  emulator.get(f'{RUN}/{FRAMES}').faults.seconds_per_chunk = 0.03
  _kill_in_the_middle(tmp_path)
  assert _is_locked(tmp_path / 'Breakout/1')  # by the gsutil that lives on
  _kill_gsutil_of(str(tmp_path / 'Breakout/1/.download'))
  emulator.get(f'{RUN}/{FRAMES}').faults.seconds_per_chunk = 0.0
  emulator.requests.clear()
  _download(tmp_path)
  media = emulator.media_requests()
  assert all(request.name.endswith(FRAMES) for request in media)
  (resumed,) = [r for r in media if not r.range.startswith('bytes=0-')]
  assert 0 < resumed.sent < 900_000
  assert '900k/900k' in capfd.readouterr().err
  for name in (WEIGHTS, FRAMES):
    path = tmp_path / 'Breakout/1' / name
    assert path.read_bytes() == emulator.get(f'{RUN}/{name}').data
  assert len(_files(tmp_path)) == 6  # the manifest, and no rests
  emulator.requests.clear()
  assert _download(tmp_path).copied_files == 0
  assert emulator.requests == []


def _kill_in_the_middle(root):
  """Starts a copy of the whole run and kills it, not its gsutil."""
  process = subprocess.Popen(
      [sys.executable, '-m', 'reincarnating_rl.download', RUN, f'--to={root}'],
      cwd=ROOT,
      stderr=subprocess.DEVNULL,
  )
  # The frames are slow and stay where they are; the other parts come and go.
  staging = root / 'Breakout/1/.download/checkpoints'
  sizes = lambda: [
      path.stat().st_size for path in staging.glob('*_observation_*_.gstmp')
  ]
  deadline = time.monotonic() + 180
  while max(sizes(), default=0) < 200_000:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()


def _is_locked(folder):
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    return locks.lock(descriptor) is locks.State.ANOTHERS
  finally:
    os.close(descriptor)


def _kill_gsutil_of(folder):
  """Kills every process that was started to copy into a folder."""
  for entry in pathlib.Path('/proc').iterdir():
    if entry.name.isdigit():
      try:
        command = (entry / 'cmdline').read_bytes().decode(errors='replace')
      except OSError:
        continue
      if folder in command:
        os.kill(int(entry.name), signal.SIGKILL)
