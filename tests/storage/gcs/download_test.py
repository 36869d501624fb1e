"""Copying with the Python client: what is copied, and what goes wrong."""

import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import gcs_emulator
import numpy as np
from paths import ROOT
import pytest

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import client
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import download_threads
from reincarnating_rl.storage.gcs import python_client
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import Unreachable
from reincarnating_rl.storage.gcs.errors import WrongChecksum

GAMES = 'gs://rl_checkpoints/DQN_400'
RUN = f'{GAMES}/Breakout/1'
WEIGHTS = 'checkpoints/ckpt.399'
SENTINEL = 'checkpoints/sentinel_checkpoint_complete.399'
FRAMES = 'replay_logs/$store$_observation_ckpt.100.gz'
ACTIONS = 'replay_logs/$store$_action_ckpt.100.gz'
OF_399 = {WEIGHTS, SENTINEL, FRAMES, ACTIONS}


def _bytes(size, seed=0):
  return np.random.default_rng(seed).bytes(size)


@pytest.fixture(autouse=True)
def emulator(monkeypatch):
  """A bucket with two runs of two games, listed in small pages."""
  with gcs_emulator.Emulator(page_size=3) as server:
    for number in (398, 399):
      server.put(f'{RUN}/checkpoints/ckpt.{number}', _bytes(60_000, number))
      name = f'sentinel_checkpoint_complete.{number}'
      server.put(f'{RUN}/checkpoints/{name}', b'done')
    server.put(f'{RUN}/checkpoints/ckpt.404', b'without a sentinel')
    server.put(f'{RUN}/{FRAMES}', _bytes(200_000))
    server.put(f'{RUN}/{ACTIONS}', _bytes(1_000))
    server.put(f'{RUN}/replay_logs/add_count_ckpt.99.gz', b'')
    server.put(f'{GAMES}/Pong/1/{WEIGHTS}', b'')
    monkeypatch.setenv(client.EMULATOR_VARIABLE, server.host)
    monkeypatch.setattr(download_threads, 'FIRST_DELAY', 0.01)
    monkeypatch.setattr(download_threads, 'NUM_TRIES', 4)
    # These files need not survive a power failure.
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)
    yield server


@pytest.fixture
def root(tmp_path):
  return tmp_path / 'teachers'


def _download(root, checkpoint=399, url=RUN, **options):
  options = {'client': 'python'} | options
  source = addresses.parse(url)
  name = '/'.join(source.path.split('/')[-2:])
  return download.download(source, str(root), name, checkpoint, **options)


def _files(root, run='Breakout/1'):
  """Paths of all files below the run's folder, but for the manifest."""
  folder = root / run
  found = {
      path.relative_to(folder).as_posix()
      for path in folder.rglob('*')
      if path.is_file()
  }
  return found - {'download.json'}


def _manifest(root):
  path = root / 'Breakout/1/download.json'
  return json.loads(path.read_text(encoding='utf-8'))


# -- what is copied ------------------------------------------------------------


def test_one_checkpoint(emulator, root):
  outcome = _download(root)
  assert outcome.directory == str(root / 'Breakout/1')
  assert (outcome.checkpoint, outcome.files, outcome.size) == (399, 4, 261_004)
  assert (outcome.copied_files, outcome.copied_size) == (4, 261_004)
  assert _files(root) == OF_399
  for name in OF_399:
    path = root / 'Breakout/1' / name
    assert path.read_bytes() == emulator.get(f'{RUN}/{name}').data


def test_the_manifest(emulator, root):
  _download(root)
  manifest = _manifest(root)
  assert manifest['source'] == RUN
  assert manifest['selections'] == [{'checkpoint': 399, 'replay': True}]
  assert set(manifest['files']) == OF_399
  entry = manifest['files'][FRAMES]
  stored = emulator.get(f'{RUN}/{FRAMES}')
  assert entry['generation'] == str(stored.generation)
  assert entry['size'] == 200_000
  assert len(entry['crc32c']) == 8 and entry['time'].endswith('+00:00')


def test_a_whole_run_and_nothing_but_it(emulator, root):
  outcome = _download(root, download.ALL)
  stored = emulator.buckets['rl_checkpoints']
  prefix = 'DQN_400/Breakout/1/'
  expected = {n.removeprefix(prefix) for n in stored if n.startswith(prefix)}
  assert outcome.checkpoint is None and _files(root) == expected


def test_without_replay(root):
  _download(root, replay=False)
  assert _files(root) == {WEIGHTS, SENTINEL}
  _download(root, download.ALL, replay=False)
  assert all(name.startswith('checkpoints/') for name in _files(root))


def test_the_newest_is_the_last_complete_one(root):
  assert _download(root, download.NEWEST).checkpoint == 399


def test_where_none_is_complete_the_newest_is_the_last(root, caplog):
  url = f'{GAMES}/Pong/1'
  assert _download(root, download.NEWEST, url=url).checkpoint == 399
  assert 'no sentinel' in caplog.text


def test_a_checkpoint_without_sentinel_is_warned_of(root, caplog):
  assert _download(root, 404).files == 1
  assert 'no sentinel' in caplog.text and 'no replay' in caplog.text


def test_placeholders_and_earlier_manifests_are_no_files(emulator, root):
  emulator.put(f'{RUN}/', b'')
  emulator.put(f'{RUN}/checkpoints/', b'')
  emulator.put(f'{RUN}/download.json', b'{}')
  emulator.put(f'{RUN}/.download/x', b'x')
  _download(root, download.ALL)
  assert not {'x', '.download/x'} & _files(root)
  assert _manifest(root)['source'] == RUN


# -- what is there already -----------------------------------------------------


def test_a_second_call_asks_for_nothing(emulator, root):
  _download(root)
  emulator.requests.clear()
  outcome = _download(root)
  assert emulator.requests == []
  assert (outcome.files, outcome.size, outcome.copied_files) == (4, 261_004, 0)
  # Parts of what is there are there, too.
  assert _download(root, replay=False).copied_files == 0
  assert emulator.requests == []


def test_a_whole_run_answers_for_its_checkpoints(emulator, root):
  _download(root, download.ALL)
  emulator.requests.clear()
  assert _download(root).files == 4
  assert emulator.requests == []
  with pytest.raises(BucketError, match='has no checkpoint 7; it has 398'):
    _download(root, 7)


def test_what_a_larger_selection_adds_is_copied_alone(emulator, root):
  _download(root, replay=False)
  emulator.requests.clear()
  assert _download(root).copied_files == 2
  assert {r.name for r in emulator.media_requests()} == {
      f'DQN_400/Breakout/1/{name}' for name in (FRAMES, ACTIONS)
  }


def test_a_touched_file_is_verified_not_copied(emulator, root):
  _download(root)
  os.utime(root / 'Breakout/1' / WEIGHTS, (1, 1))
  emulator.requests.clear()
  assert _download(root).copied_files == 0
  assert emulator.media_requests() == []
  emulator.requests.clear()
  _download(root)
  assert emulator.requests == []


def test_a_deleted_or_cut_file_is_copied_again(emulator, root):
  _download(root)
  (root / 'Breakout/1' / WEIGHTS).unlink()
  os.truncate(root / 'Breakout/1' / ACTIONS, 10)
  emulator.requests.clear()
  assert _download(root).copied_files == 2
  assert len(emulator.media_requests()) == 2
  assert (root / 'Breakout/1' / ACTIONS).read_bytes() == _bytes(1_000)


def test_verify_reads_everything_again(emulator, root):
  _download(root)
  path = root / 'Breakout/1' / FRAMES
  before = path.stat()
  path.write_bytes(b'x' + path.read_bytes()[1:])
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  assert _download(root).copied_files == 0  # as recorded, for all it knows
  assert _download(root, verify=True).copied_files == 1
  assert path.read_bytes() == _bytes(200_000)


def test_a_file_of_somebody_else_is_not_overwritten(root):
  path = root / 'Breakout/1' / WEIGHTS
  path.parent.mkdir(parents=True)
  path.write_bytes(b'mine')
  with pytest.raises(BucketError, match='is there already.*move it away'):
    _download(root)
  assert path.read_bytes() == b'mine'


def test_a_file_that_somebody_else_brought_is_taken_over(emulator, root):
  path = root / 'Breakout/1' / FRAMES
  path.parent.mkdir(parents=True)
  path.write_bytes(_bytes(200_000))
  assert _download(root).copied_files == 3
  assert f'DQN_400/Breakout/1/{FRAMES}' not in {
      r.name for r in emulator.media_requests()
  }


def test_a_damaged_manifest_means_verifying(emulator, root, caplog):
  _download(root)
  (root / 'Breakout/1/download.json').write_text('{"format": ')
  emulator.requests.clear()
  assert _download(root).copied_files == 0
  assert emulator.media_requests() == []
  assert 'download.json is damaged' in caplog.text
  assert set(_manifest(root)['files']) == OF_399


@pytest.mark.parametrize(
    'text', ['[]', '{"format": "x"}', '\xff', '{"files":1}']
)
def test_any_other_manifest_counts_as_damaged(root, text):
  _download(root)
  path = root / 'Breakout/1/download.json'
  path.write_text(text, encoding='latin-1')
  assert _download(root).copied_files == 0


def test_manifests_of_later_releases_and_other_runs_are_refused(emulator, root):
  _download(root)
  emulator.put(f'gs://other/Breakout/1/{WEIGHTS}', b'x')
  with pytest.raises(BucketError, match=f'holds files of {RUN}, not of gs://o'):
    _download(root, url='gs://other/Breakout/1')
  path = root / 'Breakout/1/download.json'
  path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
  with pytest.raises(BucketError, match='version 2, this release reads 1'):
    _download(root)


def test_the_newest_of_a_bucket_out_of_reach(root, monkeypatch, caplog):
  _download(root, 398)
  _download(root, 399)
  monkeypatch.setenv(client.EMULATOR_VARIABLE, 'http://127.0.0.1:9')
  monkeypatch.setattr(python_client, '_LIST_SECONDS', 0.1)
  assert _download(root, download.NEWEST).checkpoint == 399
  assert 'Checkpoint 399, which was copied earlier' in caplog.text
  with pytest.raises(Unreachable, match=f'{RUN} cannot be listed.*network'):
    _download(root, 397)


def test_a_newest_that_cannot_be_had_is_not_replaced(emulator, root):
  _download(root, 398)
  emulator.get(f'{RUN}/{WEIGHTS}').faults.corrupt = True
  with pytest.raises(WrongChecksum):
    _download(root, download.NEWEST)


def test_a_new_upload_replaces_the_old_one(emulator, root):
  _download(root)
  emulator.put(f'{RUN}/{ACTIONS}', b'new')
  assert _download(root, verify=True).copied_files == 1
  assert (root / 'Breakout/1' / ACTIONS).read_bytes() == b'new'


# -- what goes wrong on the way ------------------------------------------------


def test_a_broken_connection_is_resumed_where_it_broke(emulator, root):
  emulator.get(f'{RUN}/{FRAMES}').faults.break_after = [70_000, 5, 50_000]
  _download(root)
  requests = [r for r in emulator.media_requests() if FRAMES in r.name]
  assert [r.range for r in requests[1:]] == [
      'bytes=70000-',
      'bytes=70005-',
      'bytes=120005-',
  ]
  assert sum(r.sent for r in requests) == 200_000


def test_busy_servers_are_asked_again(emulator, root):
  emulator.listing_statuses = [503]
  emulator.get(f'{RUN}/{WEIGHTS}').faults.statuses = [503, 429, 500]
  _download(root)
  assert _files(root) == OF_399


def test_a_line_that_stays_dead_leaves_its_part(emulator, root):
  faults = emulator.get(f'{RUN}/{FRAMES}').faults
  faults.break_after = [90_000] + [0] * download_threads.NUM_TRIES
  with pytest.raises(Unreachable, match='stopped coming after 90000 of 200000'):
    _download(root)
  assert FRAMES not in _files(root)
  faults.break_after.clear()
  emulator.requests.clear()
  _download(root)
  assert _files(root) == OF_399
  last = emulator.media_requests()[-1]
  assert (last.range, last.sent) == ('bytes=90000-', 110_000)


def test_a_part_of_an_older_upload_is_not_continued(emulator, root):
  faults = emulator.get(f'{RUN}/{FRAMES}').faults
  faults.break_after = [90_000] + [0] * download_threads.NUM_TRIES
  with pytest.raises(Unreachable):
    _download(root)
  emulator.put(f'{RUN}/{FRAMES}', _bytes(100_000, 1))
  _download(root)
  assert (root / 'Breakout/1' / FRAMES).read_bytes() == _bytes(100_000, 1)
  assert _files(root) == OF_399  # the older part is gone, too


def test_a_damaged_part_costs_one_copy_more(emulator, root):
  faults = emulator.get(f'{RUN}/{FRAMES}').faults
  faults.break_after = [90_000] + [0] * download_threads.NUM_TRIES
  with pytest.raises(Unreachable):
    _download(root)
  faults.break_after.clear()
  (part,) = (root / 'Breakout/1').rglob('*.part')
  part.write_bytes(bytes(90_000))
  _download(root)
  assert (root / 'Breakout/1' / FRAMES).read_bytes() == _bytes(200_000)


def test_a_wrong_checksum_is_refused_by_name(emulator, root):
  emulator.get(f'{RUN}/{FRAMES}').faults.corrupt = True
  with pytest.raises(WrongChecksum) as error:
    _download(root)
  assert f'{RUN}/{FRAMES} has arrived damaged' in str(error.value)
  # The rest is there, and what is damaged is nowhere.
  assert _files(root) == OF_399 - {FRAMES}
  emulator.get(f'{RUN}/{FRAMES}').faults.corrupt = False
  assert _download(root).copied_files == 1


def test_an_object_that_has_gone(emulator, root):
  emulator.get(f'{RUN}/{ACTIONS}').faults.missing = True
  with pytest.raises(BucketError, match='_action_ckpt.100.gz has gone'):
    _download(root)
  assert _files(root) == OF_399 - {ACTIONS}


def test_objects_that_are_stored_packed_stay_so(emulator, root):
  emulator.put(f'{RUN}/{ACTIONS}', b'\x1f\x8bx', content_encoding='gzip')
  _download(root)
  assert (root / 'Breakout/1' / ACTIONS).read_bytes() == b'\x1f\x8bx'


class _Usage(NamedTuple):
  free: int


def test_too_little_space_is_refused_at_once(emulator, root, monkeypatch):
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: _Usage(100_000))
  with pytest.raises(BucketError) as error:
    _download(root)
  assert 'needs 261.0 kB more, but only 100.0 kB are free' in str(error.value)
  assert emulator.media_requests() == []
  assert not (root / 'Breakout').exists()
  _download(root, replay=False)


def test_a_disk_that_fills_up(root, monkeypatch):
  write = download_threads._Sink.write

  def full(sink, data):
    if sink._stream.tell() > 100_000:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(sink, data)

  with monkeypatch.context() as patched:
    patched.setattr(download_threads._Sink, 'write', full)
    with pytest.raises(BucketError, match='disk of .*Breakout/1 is full: make'):
      _download(root)
  assert FRAMES not in _files(root)
  (part,) = (root / 'Breakout/1').rglob('*_observation_*.part')
  assert part.stat().st_size > 100_000
  _download(root)
  assert _files(root) == OF_399


def test_a_folder_that_cannot_be_written(root):
  root.write_text('a file')
  with pytest.raises(BucketError, match='cannot be used .*another folder'):
    _download(root)


def test_killed_in_the_middle_it_goes_on(emulator, root):
  emulator.get(f'{RUN}/{FRAMES}').faults.seconds_per_chunk = 0.5
  process = subprocess.Popen(
      [sys.executable, '-m', 'reincarnating_rl.download', RUN, f'--to={root}']
      + ['--checkpoint=399', '--client=python'],
      cwd=ROOT,
      stderr=subprocess.DEVNULL,
  )
  # The frames are slow and stay where they are; the other parts come and go.
  staging = root / 'Breakout/1/.download/replay_logs'
  sizes = lambda: [p.stat().st_size for p in staging.glob('*_observation_*')]
  deadline = time.monotonic() + 30
  others = OF_399 - {FRAMES}
  while not others <= _files(root) or max(sizes(), default=0) < 30_000:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert FRAMES not in _files(root)
  emulator.get(f'{RUN}/{FRAMES}').faults.seconds_per_chunk = 0.0
  while not any(FRAMES in r.name for r in emulator.media_requests()):
    assert time.monotonic() < deadline  # The server sees the end a bit later.
    time.sleep(0.02)
  emulator.requests.clear()
  _download(root)
  (request,) = emulator.media_requests()
  assert FRAMES in request.name and request.range and request.sent < 200_000
  assert (root / 'Breakout/1' / FRAMES).read_bytes() == _bytes(200_000)
  assert _files(root) == OF_399


def test_two_at_once_copy_once(emulator, root, caplog):
  (root / 'Breakout/1').mkdir(parents=True)
  lock = os.open(root / 'Breakout/1', os.O_RDONLY)
  fcntl.flock(lock, fcntl.LOCK_EX)
  threads = [threading.Thread(target=_download, args=(root,)) for _ in 'ab']
  with caplog.at_level(logging.WARNING):
    for thread in threads:
      thread.start()
    while caplog.text.count('Another process copies into') < 2:
      time.sleep(0.01)
  assert emulator.media_requests() == []
  os.close(lock)
  for thread in threads:
    thread.join(30)
  assert _files(root) == OF_399
  assert len(emulator.media_requests()) == 4


# -- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    'name',
    [
        '../../../evil',
        'checkpoints/../../../evil',
        './evil',
        '/etc/evil',
        'checkpoints//evil',
        'checkpoints\\..\\..\\evil',
        'evil\0',
        'evil\nname',
        'e' * 256,
    ],
)
def test_names_that_lead_out_of_the_folder(emulator, root, name):
  emulator.put(f'{RUN}/{name}', b'evil')
  for checkpoint in (399, download.ALL):
    with pytest.raises(BucketError) as error:
      _download(root, checkpoint)
    assert repr(name) in str(error.value)
    assert 'nothing was copied' in str(error.value)
  assert not root.exists() and emulator.media_requests() == []


def test_a_name_that_is_a_file_and_a_folder(emulator, root):
  emulator.put(f'{RUN}/{WEIGHTS}/more', b'x')
  with pytest.raises(BucketError, match='file and a folder at once'):
    _download(root)
  assert not root.exists()


@pytest.mark.parametrize(
    'link',
    [
        'Breakout',
        'Breakout/1',
        'Breakout/1/checkpoints',
        'Breakout/1/.download',
        f'Breakout/1/{WEIGHTS}',
        'Breakout/1/download.json',
    ],
)
def test_links_in_the_folder_are_not_followed(root, tmp_path, link):
  elsewhere = tmp_path / 'elsewhere'
  if link.endswith(('.json', '399')):
    elsewhere.write_text('{}')
  else:
    elsewhere.mkdir()
  (root / link).parent.mkdir(parents=True)
  (root / link).symlink_to(elsewhere)
  with pytest.raises(BucketError) as error:
    _download(root)
  assert f'{root / link} is a symbolic link' in str(error.value)
  if elsewhere.is_dir():
    assert list(elsewhere.iterdir()) == []
  else:
    assert elsewhere.read_text() == '{}'


def test_the_folder_itself_may_be_a_link(root, tmp_path):
  (tmp_path / 'disk').mkdir()
  root.symlink_to(tmp_path / 'disk')
  _download(root)
  assert _files(tmp_path / 'disk') == OF_399


def test_a_folder_in_the_place_of_a_file(root):
  (root / 'Breakout/1' / WEIGHTS).mkdir(parents=True)
  with pytest.raises(BucketError, match='should be a file, and is not'):
    _download(root)


@pytest.mark.parametrize(
    ('url', 'sentence'),
    [
        ('gs://nowhere/x/Pong/1', 'There is no bucket gs://nowhere.'),
        (
            f'{GAMES}/Breakot/1',
            f'{GAMES} has no Breakot. Did you mean Breakout? It has Breakout, '
            'Pong.',
        ),
        (f'{GAMES}/Breakout/7', f'{GAMES}/Breakout has no 7. It has 1.'),
        (
            f'{GAMES}/Breakout',
            f'{GAMES}/Breakout is no run, it has no checkpoints/: it holds 1.',
        ),
        (
            'gs://rl_checkpoints/DQN/x/1',
            'Did you mean DQN_400? It has DQN_400.',
        ),
    ],
)
def test_what_is_not_there(root, url, sentence):
  with pytest.raises(BucketError) as error:
    _download(root, url=url)
  assert str(error.value).endswith(sentence)
  assert not root.exists()


def test_checkpoints_that_are_not_there(emulator, root):
  with pytest.raises(BucketError) as error:
    _download(root, 7)
  assert str(error.value) == f'{RUN} has no checkpoint 7; it has 398, 399, 404.'
  emulator.put(f'{GAMES}/Asterix/1/checkpoints/x', b'')
  with pytest.raises(BucketError, match='1 has no checkpoint; it has nothing.'):
    _download(root, download.NEWEST, url=f'{GAMES}/Asterix/1')
  emulator.buckets['empty-one'] = {}
  with pytest.raises(BucketError, match='The bucket gs://empty-one is empty'):
    _download(root, url='gs://empty-one/Pong/1')


# -- clients -------------------------------------------------------------------


def test_which_client_is_taken(monkeypatch):
  monkeypatch.setattr(shutil, 'which', lambda name: f'/bin/{name}')
  assert type(client.choose('auto')).__name__ == 'PythonClient'
  monkeypatch.delenv(client.EMULATOR_VARIABLE)
  assert type(client.choose('auto')).__name__ == 'Gsutil'
  assert type(client.choose('python')).__name__ == 'PythonClient'
  monkeypatch.setattr(shutil, 'which', lambda name: None)
  assert type(client.choose('auto')).__name__ == 'PythonClient'
  with pytest.raises(BucketError, match='no gsutil on the PATH: install it'):
    client.choose('gsutil')


def test_without_any_client_one_sentence_says_what_to_install(monkeypatch):
  monkeypatch.setattr(shutil, 'which', lambda name: None)
  monkeypatch.setitem(sys.modules, 'google.cloud.storage', None)
  with pytest.raises(BucketError, match='pip install google-cloud-storage'):
    client.choose('auto')
  with pytest.raises(BucketError, match='take --client gsutil'):
    client.choose('python')


def test_with_an_emulator_of_other_authors(root, monkeypatch):
  from gcp_storage_emulator import server
  from google.cloud import storage

  other = server.create_server('127.0.0.1', 0, True, 'rl_checkpoints')
  other.start()
  try:
    port = other._api._httpd.server_address[1]
    monkeypatch.setenv(client.EMULATOR_VARIABLE, f'http://127.0.0.1:{port}')
    bucket = storage.Client.create_anonymous_client().bucket('rl_checkpoints')
    for name in OF_399:
      blob = bucket.blob(f'DQN_400/Breakout/1/{name}')
      blob.upload_from_string(_bytes(5_000))
    assert _download(root).copied_files == 4
    with pytest.raises(BucketError, match='has no 2. It has 1.'):
      _download(root, url=f'{GAMES}/Breakout/2')
    path = root / 'Breakout/1' / FRAMES
    os.truncate(path, 100)
    assert _download(root).copied_files == 1
  finally:
    other.stop()
  assert path.read_bytes() == _bytes(5_000)
