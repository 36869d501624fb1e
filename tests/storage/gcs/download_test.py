"""Downloads: what is copied, and what goes wrong; gsutil has a stand-in."""

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

import numpy as np
from paths import ROOT
import pytest
from stand_in_gsutil import Buckets

from reincarnating_rl.base import locks
from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import gsutil
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
def buckets(tmp_path, monkeypatch):
  """A bucket with two runs of two games."""
  (tmp_path / 'buckets').mkdir()
  there = Buckets(tmp_path / 'buckets', monkeypatch)
  for number in (398, 399):
    there.put(f'{RUN}/checkpoints/ckpt.{number}', _bytes(60_000, number))
    name = f'sentinel_checkpoint_complete.{number}'
    there.put(f'{RUN}/checkpoints/{name}', b'done')
  there.put(f'{RUN}/checkpoints/ckpt.404', b'without a sentinel')
  there.put(f'{RUN}/{FRAMES}', _bytes(200_000))
  there.put(f'{RUN}/{ACTIONS}', _bytes(1_000))
  there.put(f'{RUN}/replay_logs/add_count_ckpt.99.gz', b'')
  there.put(f'{GAMES}/Pong/1/{WEIGHTS}', b'')
  return there


@pytest.fixture
def root(tmp_path):
  return tmp_path / 'teachers'


def _download(root, checkpoint=399, url=RUN, **options):
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


def test_one_checkpoint(buckets, root):
  outcome = _download(root)
  assert outcome.directory == str(root / 'Breakout/1')
  assert (outcome.checkpoint, outcome.files, outcome.size) == (399, 4, 261_004)
  assert (outcome.copied_files, outcome.copied_size) == (4, 261_004)
  assert _files(root) == OF_399
  for name in OF_399:
    path = root / 'Breakout/1' / name
    assert path.read_bytes() == buckets.read(f'{RUN}/{name}')


def test_the_manifest(buckets, root):
  _download(root)
  manifest = _manifest(root)
  assert manifest['source'] == RUN
  assert manifest['selections'] == [{'checkpoint': 399, 'replay': True}]
  assert set(manifest['files']) == OF_399
  entry = manifest['files'][FRAMES]
  assert entry['generation'] == buckets.generation(f'{RUN}/{FRAMES}')
  assert entry['size'] == 200_000
  assert len(entry['crc32c']) == 8 and entry['time'].endswith('+00:00')


def test_a_whole_run_and_nothing_but_it(buckets, root):
  outcome = _download(root, download.ALL)
  stored = buckets.names('rl_checkpoints')
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


def test_placeholders_and_earlier_manifests_are_no_files(buckets, root):
  buckets.put(f'{RUN}/', b'')
  buckets.put(f'{RUN}/checkpoints/', b'')
  buckets.put(f'{RUN}/download.json', b'{}')
  buckets.put(f'{RUN}/.download/x', b'x')
  _download(root, download.ALL)
  assert not {'x', '.download/x'} & _files(root)
  assert _manifest(root)['source'] == RUN


# -- what is there already -----------------------------------------------------


def test_a_second_call_asks_for_nothing(buckets, root):
  _download(root)
  buckets.forget()
  outcome = _download(root)
  assert buckets.commands() == []
  assert (outcome.files, outcome.size, outcome.copied_files) == (4, 261_004, 0)
  # Parts of what is there are there, too.
  assert _download(root, replay=False).copied_files == 0
  assert buckets.commands() == []


def test_a_whole_run_answers_for_its_checkpoints(buckets, root):
  _download(root, download.ALL)
  buckets.forget()
  assert _download(root).files == 4
  assert buckets.commands() == []
  with pytest.raises(BucketError, match='has no checkpoint 7; it has 398'):
    _download(root, 7)


def test_what_a_larger_selection_adds_is_copied_alone(buckets, root):
  _download(root, replay=False)
  buckets.forget()
  assert _download(root).copied_files == 2
  assert {name for name, _, _ in buckets.copied()} == {
      f'DQN_400/Breakout/1/{name}' for name in (FRAMES, ACTIONS)
  }


def test_a_touched_file_is_verified_not_copied(buckets, root):
  _download(root)
  os.utime(root / 'Breakout/1' / WEIGHTS, (1, 1))
  buckets.forget()
  assert _download(root).copied_files == 0
  assert buckets.copied() == []
  buckets.forget()
  _download(root)
  assert buckets.commands() == []


def test_a_deleted_or_cut_file_is_copied_again(buckets, root):
  _download(root)
  (root / 'Breakout/1' / WEIGHTS).unlink()
  os.truncate(root / 'Breakout/1' / ACTIONS, 10)
  buckets.forget()
  assert _download(root).copied_files == 2
  assert len(buckets.copied()) == 2
  assert (root / 'Breakout/1' / ACTIONS).read_bytes() == _bytes(1_000)


def test_verify_reads_everything_again(buckets, root):
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


def test_a_file_that_somebody_else_brought_is_taken_over(buckets, root):
  path = root / 'Breakout/1' / FRAMES
  path.parent.mkdir(parents=True)
  path.write_bytes(_bytes(200_000))
  assert _download(root).copied_files == 3
  assert f'DQN_400/Breakout/1/{FRAMES}' not in {
      name for name, _, _ in buckets.copied()
  }


def test_a_damaged_manifest_means_verifying(buckets, root, caplog):
  _download(root)
  (root / 'Breakout/1/download.json').write_text('{"format": ')
  buckets.forget()
  assert _download(root).copied_files == 0
  assert buckets.copied() == []
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


def test_manifests_of_later_releases_and_other_runs_are_refused(buckets, root):
  _download(root)
  buckets.put(f'gs://other/Breakout/1/{WEIGHTS}', b'x')
  with pytest.raises(BucketError, match=f'holds files of {RUN}, not of gs://o'):
    _download(root, url='gs://other/Breakout/1')
  path = root / 'Breakout/1/download.json'
  path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
  with pytest.raises(BucketError, match='version 2, this release reads 1'):
    _download(root)


def test_the_newest_of_a_bucket_out_of_reach(buckets, root, caplog):
  _download(root, 398)
  _download(root, 399)
  buckets.refuse_lists('OSError: Network is unreachable.')
  assert _download(root, download.NEWEST).checkpoint == 399
  assert 'Checkpoint 399, which was copied earlier' in caplog.text
  with pytest.raises(Unreachable, match=f'cannot list {RUN}.*Network is unr'):
    _download(root, 397)


def test_a_newest_that_cannot_be_had_is_not_replaced(buckets, root):
  _download(root, 398)
  buckets.order(f'{RUN}/{WEIGHTS}', corrupt=True)
  with pytest.raises(WrongChecksum):
    _download(root, download.NEWEST)


def test_a_new_upload_replaces_the_old_one(buckets, root):
  _download(root)
  buckets.put(f'{RUN}/{ACTIONS}', b'new')
  assert _download(root, verify=True).copied_files == 1
  assert (root / 'Breakout/1' / ACTIONS).read_bytes() == b'new'


# -- what goes wrong on the way ------------------------------------------------


def test_a_broken_connection_leaves_its_part(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', break_after=90_000)
  with pytest.raises(BucketError) as error:
    _download(root)
  assert str(error.value) == (
      f'gsutil could not copy {RUN}/{FRAMES}: ResumableDownloadException: '
      'Connection broken; what has arrived is kept, and the same command goes '
      'on from there.'
  )
  assert _files(root) - {f'.download/{FRAMES}_.gstmp'} == OF_399 - {FRAMES}
  buckets.order(f'{RUN}/{FRAMES}')
  buckets.forget()
  _download(root)
  assert _files(root) == OF_399
  assert buckets.copied() == [(f'DQN_400/Breakout/1/{FRAMES}', 90_000, 110_000)]


def test_a_part_of_an_older_upload_is_not_continued(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', break_after=90_000)
  with pytest.raises(BucketError):
    _download(root)
  buckets.put(f'{RUN}/{FRAMES}', _bytes(100_000, 1))
  _download(root)
  assert (root / 'Breakout/1' / FRAMES).read_bytes() == _bytes(100_000, 1)
  assert _files(root) == OF_399


def test_a_damaged_part_costs_one_copy_more(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', break_after=90_000)
  with pytest.raises(BucketError):
    _download(root)
  buckets.order(f'{RUN}/{FRAMES}')
  (part,) = (root / 'Breakout/1').rglob('*_.gstmp')
  part.write_bytes(bytes(90_000))
  _download(root)
  assert (root / 'Breakout/1' / FRAMES).read_bytes() == _bytes(200_000)


def test_a_part_that_is_not_needed_any_more_is_removed(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', break_after=90_000)
  with pytest.raises(BucketError):
    _download(root)
  (root / 'Breakout/1' / FRAMES).parent.mkdir(exist_ok=True)
  (root / 'Breakout/1' / FRAMES).write_bytes(_bytes(200_000))
  _download(root)
  assert _files(root) == OF_399


def test_a_wrong_checksum_is_refused_by_name(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', corrupt=True)
  with pytest.raises(WrongChecksum) as error:
    _download(root)
  assert f'{RUN}/{FRAMES} has arrived damaged' in str(error.value)
  # The rest is there, and what is damaged is nowhere.
  assert _files(root) == OF_399 - {FRAMES}
  buckets.order(f'{RUN}/{FRAMES}')
  assert _download(root).copied_files == 1


def test_an_object_that_has_gone(buckets, root):
  buckets.order(f'{RUN}/{ACTIONS}', missing=True)
  with pytest.raises(BucketError, match='_action_ckpt.100.gz: NotFoundExc'):
    _download(root)
  assert _files(root) == OF_399 - {ACTIONS}


@pytest.mark.parametrize(
    ('url', 'encoding', 'reason'),
    [
        (f'{RUN}/{ACTIONS}', 'gzip', 'would unpack .*_action_ckpt.100.gz'),
        (f'{RUN}/checkpoints/$store$_a[1]_ckpt.399.gz', '', 'for a pattern'),
    ],
)
def test_objects_that_gsutil_would_change_are_refused(
    buckets, root, url, encoding, reason
):
  buckets.put(url, b'\x1f\x8bx', encoding)
  with pytest.raises(BucketError, match=f'{reason}.*nothing was copied; ask'):
    _download(root)
  assert _files(root) == set() and buckets.copied() == []


class _Usage(NamedTuple):
  free: int


def test_too_little_space_is_refused_at_once(buckets, root, monkeypatch):
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: _Usage(100_000))
  with pytest.raises(BucketError) as error:
    _download(root)
  assert 'needs 261.0 kB more, but only 100.0 kB are free' in str(error.value)
  assert buckets.copied() == []
  assert not (root / 'Breakout').exists()
  _download(root, replay=False)


def test_a_disk_that_fills_up(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', full_after=110_000)
  with pytest.raises(BucketError, match='disk of .*Breakout/1 is full: make'):
    _download(root)
  assert FRAMES not in _files(root)
  (part,) = (root / 'Breakout/1').rglob('*_observation_*')
  assert part.stat().st_size == 110_000
  buckets.order(f'{RUN}/{FRAMES}')
  _download(root)
  assert _files(root) == OF_399


def test_a_folder_that_cannot_be_written(root):
  root.write_text('a file')
  with pytest.raises(BucketError, match='cannot be used .*another folder'):
    _download(root)


def test_killed_while_gsutil_copies_it_is_waited_for(buckets, root):
  buckets.order(f'{RUN}/{FRAMES}', seconds_per_chunk=0.1)
  process = subprocess.Popen(
      [sys.executable, '-m', 'reincarnating_rl.download', RUN, f'--to={root}']
      + ['--checkpoint=399'],
      cwd=ROOT,
      stderr=subprocess.DEVNULL,
  )
  part = root / 'Breakout/1/.download' / f'{FRAMES}_.gstmp'
  deadline = time.monotonic() + 60
  while not part.exists() or part.stat().st_size < 30_000:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert FRAMES not in _files(root)
  # The stand-in lives on, and holds the lock.
  _download(root)
  (copied,) = (c for c in buckets.copied() if FRAMES in c[0])
  assert copied[1:] == (0, 200_000)
  assert _files(root) == OF_399


def test_two_at_once_copy_once(buckets, root, caplog):
  (root / 'Breakout/1').mkdir(parents=True)
  threads = [threading.Thread(target=_download, args=(root,)) for _ in 'ab']
  with locks.locked(str(root / 'Breakout/1'), 'copies into'):
    with caplog.at_level(logging.WARNING):
      for thread in threads:
        thread.start()
      while caplog.text.count('Another process copies into') < 2:
        time.sleep(0.01)
    assert buckets.copied() == []
  for thread in threads:
    thread.join(30)
  assert _files(root) == OF_399
  assert len(buckets.copied()) == 4


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
def test_names_that_lead_out_of_the_folder(buckets, root, name):
  buckets.put(f'{RUN}/{name}', b'evil')
  for checkpoint in (399, download.ALL):
    with pytest.raises(BucketError) as error:
      _download(root, checkpoint)
    # gsutil prints a line break as it is: its lines make no sense then.
    shown = name.splitlines()[0]
    assert repr(shown)[1:-1] in str(error.value)
    assert 'nothing was copied' in str(error.value)
    assert '\n' not in str(error.value)
  assert not root.exists() and buckets.copied() == []


def test_a_name_that_is_a_file_and_a_folder(buckets, root):
  buckets.put(f'{RUN}/{WEIGHTS}/more', b'x')
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


def test_checkpoints_that_are_not_there(buckets, root):
  with pytest.raises(BucketError) as error:
    _download(root, 7)
  assert str(error.value) == f'{RUN} has no checkpoint 7; it has 398, 399, 404.'
  buckets.put(f'{GAMES}/Asterix/1/checkpoints/x', b'')
  with pytest.raises(BucketError, match='1 has no checkpoint; it has nothing.'):
    _download(root, download.NEWEST, url=f'{GAMES}/Asterix/1')
  buckets.make('empty-one')
  with pytest.raises(BucketError, match='The bucket gs://empty-one is empty'):
    _download(root, url='gs://empty-one/Pong/1')


# -- gsutil --------------------------------------------------------------------


def test_without_gsutil_a_sentence_says_how_to_install_it(monkeypatch):
  monkeypatch.setattr(shutil, 'which', lambda name, path=None: None)
  with pytest.raises(BucketError) as error:
    gsutil.find()
  assert str(error.value) == (
      'gs:// addresses need gsutil, which is not installed: pip install gsutil.'
  )


def test_gsutil_beside_this_python_is_found(tmp_path, monkeypatch):
  """A virtual environment need not be activated."""
  (tmp_path / 'gsutil').write_text('#!/bin/sh\nexit 3\n')
  (tmp_path / 'gsutil').chmod(0o755)
  monkeypatch.setenv('PATH', '/nowhere')
  monkeypatch.setattr(sys, 'executable', str(tmp_path / 'python'))
  with pytest.raises(Unreachable, match='ended with 3'):
    gsutil.find().folder(addresses.parse(GAMES))


def test_an_account_that_may_not_read(buckets, root):
  buckets.refuse_lists('ServiceException: 401 Anonymous caller may not list.')
  with pytest.raises(BucketError, match='closed to this account .*Anonymous'):
    _download(root)
