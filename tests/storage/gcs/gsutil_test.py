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

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import client as client_lib
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import gsutil
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.client import RemoteFile
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import WrongChecksum

RUN = 'gs://rl_checkpoints/DQN_400/Breakout/1'
WEIGHTS = 'checkpoints/ckpt.399'
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
  with pytest.raises(BucketError, match=f'{reason}.* --client python'):
    gsutil._check_copyable(file)


# -- the program itself, seconds each ------------------------------------------


@pytest.fixture
def emulator(tmp_path, monkeypatch):
  """A run, and the settings that lead gsutil to it."""
  with gcs_emulator.Emulator() as server:
    rng = np.random.default_rng(0)
    for number in (398, 399):
      server.put(f'{RUN}/checkpoints/ckpt.{number}', rng.bytes(50_000))
      name = f'checkpoints/sentinel_checkpoint_complete.{number}'
      server.put(f'{RUN}/{name}', b'done')
    server.put(f'{RUN}/{FRAMES}', rng.bytes(900_000))
    config = gcs_emulator.boto_config(tmp_path, server.tls(tmp_path))
    monkeypatch.setenv('BOTO_CONFIG', str(config))
    monkeypatch.setenv('HOME', str(tmp_path))
    # The one that is installed beside this Python comes first.
    folder = os.path.dirname(sys.executable)
    monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')
    # A Google Cloud SDK may be led to trust only what it is told.
    monkeypatch.delenv('CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE', raising=False)
    monkeypatch.delenv(client_lib.EMULATOR_VARIABLE, raising=False)
    monkeypatch.delenv('PYTHONPATH', raising=False)
    yield server


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


def test_a_wrong_checksum_is_refused_by_name(emulator, tmp_path, monkeypatch):
  # By our own check, whatever gsutil's is worth.
  monkeypatch.setattr(
      gsutil, '_COPY_OPTIONS', ('-o', 'GSUtil:check_hashes=never')
  )
  emulator.get(f'{RUN}/{WEIGHTS}').faults.corrupt = True
  with pytest.raises(WrongChecksum, match='ckpt.399 has arrived damaged'):
    _download(tmp_path / 'to', 399)
  assert WEIGHTS not in _files(tmp_path / 'to')
  assert FRAMES in _files(tmp_path / 'to')


def test_what_is_not_there(emulator, monkeypatch):
  client = client_lib.choose('auto')
  assert client.folder(Address('rl_checkpoints', 'DQN_400/Pong')).files == []
  with pytest.raises(BucketError, match='There is no bucket gs://nowhere.$'):
    client.folder(Address('nowhere', 'DQN_400'))
  # No answer at all; with gsutil's own settings it tries for ten minutes.
  monkeypatch.setattr(gsutil, '_LIST_OPTIONS', ('-o', 'Boto:num_retries=0'))
  for server in emulator._servers:
    server.shutdown()
    server.server_close()
  with pytest.raises(BucketError, match='gsutil cannot list gs://rl_check'):
    client.folder(Address('rl_checkpoints', ''))


def _kill_in_the_middle(root):
  """Starts a copy of the whole run and kills it; returns its staging."""
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
  deadline = time.monotonic() + 60
  while max(sizes(), default=0) < 200_000:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  return staging


def test_killed_in_the_middle_it_goes_on(emulator, tmp_path, capfd):
  emulator.get(f'{RUN}/{FRAMES}').faults.seconds_per_chunk = 0.03
  _kill_gsutil_of(str(_kill_in_the_middle(tmp_path)))
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


def test_a_gsutil_that_lives_on_is_waited_for(emulator, tmp_path):
  emulator.get(f'{RUN}/{FRAMES}').faults.seconds_per_chunk = 0.03
  _kill_in_the_middle(tmp_path)
  emulator.requests.clear()
  _download(tmp_path)
  (request,) = emulator.media_requests()  # of the gsutil that lived on
  assert request.name.endswith(FRAMES)
  assert request.range.startswith('bytes=0-')
  assert len(_files(tmp_path)) == 6


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
