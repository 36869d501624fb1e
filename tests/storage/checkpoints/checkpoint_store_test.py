"""Checkpoints: the newest whole one comes back, whatever befell the others."""

from __future__ import annotations

import errno
import json
import os
import shutil

from damages import each_damage
from damages import files_below
from damages import truncate
import numpy as np
import pytest
from rings import Ring

from reincarnating_rl.base import files
from reincarnating_rl.storage.checkpoints import arrays as arrays_lib
from reincarnating_rl.storage.checkpoints.background import Background
from reincarnating_rl.storage.checkpoints.checkpoint_store import Vault
from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.storage.checkpoints.errors import DamagedError
from reincarnating_rl.storage.checkpoints.row_segments import RowLog

KINDS = ('manifest.json', 'document.json', 'arrays/manifest.ocdbt', 'arrays/d')


@pytest.fixture
def background():
  worker = Background()
  yield worker
  worker.close()


def _document(number):
  return {'number': number, 'text': 'ü', 'nothing': None, 'list': [1, 2.5]}


def _arrays(number):
  return {'x/y': np.full((3, 2), number), 'key': np.arange(4, dtype=np.uint32)}


def _write(vault, *numbers, segments=None):
  for number in numbers:
    vault.write(number, _document(number), _arrays(number), segments or {})


def _assert_is(saved, number):
  assert saved.number == number
  assert saved.document == _document(number)
  assert saved.arrays.keys() == _arrays(number).keys()
  for name, array in _arrays(number).items():
    np.testing.assert_array_equal(saved.arrays[name], array)


def _file(vault, number, kind):
  """A file of a kind: of a folder, its largest one."""
  path = os.path.join(vault.folder, f'{number:08d}', kind)
  return files_below(path)[0] if os.path.isdir(path) else path


class Checkpoints:
  """A vault with the rows of one ring, as a run writes them."""

  def __init__(self, folder, background, keep=2):
    self.vault = Vault(folder, keep)
    self.background = background
    self.ring = Ring()
    self.log = RowLog(self.rows_folder, background)

  @property
  def rows_folder(self):
    return self.vault.rows_folder('student')

  def write(self, number, new_rows=5):
    self.log.seal(self.ring.add(new_rows))
    self.background.wait()
    segments = {'student': self.log.covering(*self.ring.window)}
    _write(self.vault, number, segments=segments)
    return segments['student']

  def prune(self):
    self.vault.prune({'student': self.log})

  def there(self):
    return {n.split('.')[0] for n in os.listdir(self.rows_folder)}


def _names(segments):
  return {s.name for s in segments}


# -- what is whole -------------------------------------------------------------


def test_the_newest_comes_back(tmp_path, background):
  checkpoints = Checkpoints(tmp_path / 'a', background)
  assert checkpoints.vault.newest() is None
  assert not checkpoints.vault.numbers()
  checkpoints.write(1)
  segments = checkpoints.write(2)
  vault = Vault(tmp_path / 'a')
  assert vault.numbers() == [1, 2]
  saved = vault.newest()
  _assert_is(saved, 2)
  assert saved.segments == {'student': segments}
  found = [vault.read_rows('student', s) for s in segments]
  action = np.concatenate([columns['action'] for columns in found])
  np.testing.assert_array_equal(action, np.arange(10))


def test_any_of_them_by_its_number(tmp_path, background):
  checkpoints = Checkpoints(tmp_path, background)
  first, second = checkpoints.write(1), checkpoints.write(2)
  vault = Vault(tmp_path)
  for number, segments in ((1, first), (2, second)):
    saved = vault.read(number)
    _assert_is(saved, number)
    assert saved.segments == {'student': segments}
    assert vault.is_listed(number)
  for number in (3, 12345678):
    assert not vault.is_listed(number)
    with pytest.raises(DamagedError, match=f'{number:08d}.* cannot be read'):
      vault.read(number)


@pytest.mark.parametrize('kind', KINDS)
@each_damage
def test_a_damaged_one_is_not_read(tmp_path, kind, damage):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  path = _file(vault, 2, kind)
  damage(path)
  with pytest.raises(DamagedError) as error:
    vault.read(2)
  assert path in str(error.value) or os.path.dirname(path) in str(error.value)
  assert vault.is_listed(2) == (kind != 'manifest.json')
  _assert_is(vault.read(1), 1)


def test_rows_of_another_are_read_and_not_mended(tmp_path, background):
  checkpoints = Checkpoints(tmp_path, background)
  segment, *_ = checkpoints.write(1)
  folder = os.path.join(checkpoints.rows_folder, f'{segment.name}.a')
  truncate(files_below(folder)[0])
  before = files.listing(folder)
  for saved in (
      Vault(tmp_path).newest(mend=False),
      Vault(tmp_path).read(1, mend=False),
  ):
    _assert_is(saved, 1)
    columns = checkpoints.vault.read_rows('student', segment)
    expected = np.arange(segment.start, segment.stop)
    np.testing.assert_array_equal(columns['action'], expected)
  assert files.listing(folder) == before
  Vault(tmp_path).read(1)
  assert files.listing(folder) == segment.files


def test_numbers_may_have_any_length(tmp_path):
  vault = Vault(tmp_path)
  _write(vault, 9, 10, 123456789)
  assert vault.numbers() == [9, 10, 123456789]
  _assert_is(vault.newest(), 123456789)


def test_the_home_may_be_named(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  _write(Vault('~/here'), 1)
  _assert_is(Vault(tmp_path / 'here').newest(), 1)


@pytest.mark.parametrize('keep', [1, 2, 3])
def test_only_so_many_stay(tmp_path, background, keep):
  checkpoints = Checkpoints(tmp_path, background, keep)
  for number in range(1, 6):
    checkpoints.write(number)
    checkpoints.prune()
  assert checkpoints.vault.numbers() == list(range(6 - keep, 6))
  folders = {n for n in os.listdir(tmp_path) if n != 'rows'}
  assert folders == {f'{n:08d}' for n in range(6 - keep, 6)}


@pytest.mark.parametrize('keep', [0, -1])
def test_keeping_none_is_refused(tmp_path, keep):
  with pytest.raises(ValueError, match=f'must be kept, got {keep}'):
    Vault(tmp_path, keep)


# -- what is damaged -----------------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
@each_damage
def test_the_one_before_comes_back_where_the_newest_is_damaged(
    tmp_path, caplog, damage, kind
):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  path = _file(vault, 2, kind)
  damage(path)
  _assert_is(vault.newest(), 1)
  assert path in caplog.text
  assert 'Going back to checkpoint 1' in caplog.text
  assert vault.numbers() == [1]


def test_a_whole_one_is_not_complained_about(tmp_path, caplog):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  truncate(_file(vault, 1, 'document.json'))
  _assert_is(vault.newest(), 2)
  assert not caplog.text


@pytest.mark.parametrize(
    'content',
    ['', 'null', '[]', '{}', '{"checksum": "0", "content": {"files": {}}}'],
)
def test_a_manifest_of_something_else_is_damage(tmp_path, caplog, content):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  path = _file(vault, 2, 'manifest.json')
  with open(path, 'w', encoding='utf-8') as f:
    f.write(content)
  _assert_is(vault.newest(), 1)
  assert f'{path} is not what was written' in caplog.text


def test_a_manifest_that_was_edited_is_damage(tmp_path):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  path = _file(vault, 2, 'manifest.json')
  with open(path, encoding='utf-8') as f:
    manifest = json.load(f)
  manifest['content']['files'].pop('document.json')
  with open(path, 'w', encoding='utf-8') as f:
    json.dump(manifest, f)
  _assert_is(vault.newest(), 1)


def test_a_folder_that_is_gone_is_not_missed(tmp_path):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  shutil.rmtree(os.path.dirname(_file(vault, 2, 'manifest.json')))
  _assert_is(vault.newest(), 1)


def test_where_all_are_damaged_it_names_them(tmp_path):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  paths = [_file(vault, 1, 'document.json'), _file(vault, 2, 'manifest.json')]
  for path in paths:
    truncate(path)
  with pytest.raises(ArchiveError) as error:
    vault.newest()
  sentence = str(error.value)
  assert all(path in sentence for path in paths)
  assert 'checkpoint 1: ' in sentence and 'checkpoint 2: ' in sentence
  assert 'bring the files back, or choose another directory' in sentence
  assert '\n' not in sentence
  # Nothing is removed that somebody may still mend.
  assert all(os.path.exists(path) for path in paths)


def test_one_damaged_copy_of_rows_costs_nothing(tmp_path, background, caplog):
  checkpoints = Checkpoints(tmp_path, background)
  segment, *_ = checkpoints.write(1)
  for copy in 'ab':
    folder = f'{checkpoints.rows_folder}/{segment.name}.{copy}'
    truncate(files_below(folder)[0])
    _assert_is(Vault(tmp_path).newest(), 1)
    assert folder in caplog.text
    caplog.clear()


def test_rows_that_only_the_newest_needs_cost_only_the_newest(
    tmp_path, background, caplog
):
  checkpoints = Checkpoints(tmp_path, background)
  before = _names(checkpoints.write(1))
  new, *_ = [s for s in checkpoints.write(2) if s.name not in before]
  for copy in 'ab':
    shutil.rmtree(f'{checkpoints.rows_folder}/{new.name}.{copy}')
  _assert_is(Vault(tmp_path).newest(), 1)
  assert new.name in caplog.text


def test_rows_that_all_need_and_nobody_has_cost_all(tmp_path, background):
  checkpoints = Checkpoints(tmp_path, background)
  first, *_ = checkpoints.write(1)
  checkpoints.write(2)
  for copy in 'ab':
    shutil.rmtree(f'{checkpoints.rows_folder}/{first.name}.{copy}')
  with pytest.raises(ArchiveError, match=first.name):
    Vault(tmp_path).newest()


def test_a_run_goes_on_after_a_damaged_one(tmp_path):
  """Which is removed as soon as there is another one, and not before."""
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  truncate(_file(vault, 2, 'document.json'))
  vault.newest()
  assert os.path.isdir(tmp_path / '00000002')
  _write(vault, 3)
  vault.prune({})
  assert vault.numbers() == [1, 3]
  assert not os.path.exists(tmp_path / '00000002')
  truncate(_file(vault, 3, 'document.json'))
  _assert_is(Vault(tmp_path).newest(), 1)


# -- crashes and full disks ----------------------------------------------------


def test_what_a_crash_left_is_not_seen_and_in_nobodys_way(tmp_path, background):
  checkpoints = Checkpoints(tmp_path, background)
  segments = checkpoints.write(1)
  unfinished = tmp_path / '00000002.part'
  shutil.copytree(tmp_path / '00000001', unfinished)
  (unfinished / 'manifest.json').unlink()
  half = f'{checkpoints.rows_folder}/{5:012d}-{10:012d}.a.part'
  shutil.copytree(f'{checkpoints.rows_folder}/{segments[0].name}.a', half)
  vault = Vault(tmp_path)
  assert vault.numbers() == [1]
  _assert_is(vault.newest(), 1)
  checkpoints.write(2)
  checkpoints.prune()
  _assert_is(Vault(tmp_path).newest(), 2)
  assert not unfinished.exists() and not os.path.exists(half)


def _no_room(*_):
  raise OSError(errno.ENOSPC, 'No space left on device')


def _refused(*_):
  raise ArchiveError('arrays cannot be written: No space left on device')


@pytest.mark.parametrize(
    'module, name, fails',
    [
        (arrays_lib, 'write', _refused),
        (os, 'rename', _no_room),
        (os, 'fsync', _no_room),
        (os, 'makedirs', _no_room),
        (files, 'sync_folder', _no_room),
        (files, 'listing', _no_room),
        (json, 'dumps', _no_room),
    ],
    ids=lambda x: x if isinstance(x, str) else '',
)
def test_a_full_disk_changes_nothing(
    tmp_path, monkeypatch, module, name, fails
):
  vault = Vault(tmp_path)
  _write(vault, 1, 2)
  before = files.listing(str(tmp_path))
  with monkeypatch.context() as patch:
    patch.setattr(module, name, fails)
    with pytest.raises(ArchiveError, match='No space left on device') as error:
      _write(vault, 3)
  assert '\n' not in str(error.value)
  assert files.listing(str(tmp_path)) == before
  assert sorted(os.listdir(tmp_path)) == ['00000001', '00000002']
  _assert_is(vault.newest(), 2)
  _write(vault, 3)
  _assert_is(vault.newest(), 3)


# -- rows that are needed ------------------------------------------------------


def test_rows_stay_as_long_as_a_checkpoint_needs_them(tmp_path, background):
  checkpoints = Checkpoints(tmp_path, background)
  kept = {}
  for number in range(1, 9):
    kept[number] = _names(checkpoints.write(number))
    checkpoints.prune()
    last_two = kept[number] | kept.get(number - 1, set())
    assert checkpoints.there() == last_two
    for path in files_below(checkpoints.rows_folder):
      assert '.part' not in path and '.removed' not in path
  truncate(_file(checkpoints.vault, 8, 'document.json'))
  _assert_is(Vault(tmp_path).newest(), 7)


def test_rows_of_a_ring_that_is_no_more_go_with_the_last_that_needs_them(
    tmp_path, background
):
  checkpoints = Checkpoints(tmp_path, background, keep=1)
  teacher = RowLog(checkpoints.vault.rows_folder('teacher'), background)
  ring = Ring().add(3)
  teacher.seal(ring)
  background.wait()
  segments = {'teacher': teacher.covering(*ring.window)}
  _write(checkpoints.vault, 1, segments=segments)
  checkpoints.prune()
  assert os.path.isdir(checkpoints.vault.rows_folder('teacher'))
  checkpoints.write(2)
  checkpoints.prune()
  assert os.listdir(tmp_path / 'rows') == ['student']


def test_rows_that_a_coming_checkpoint_will_need_stay(tmp_path, background):
  checkpoints = Checkpoints(tmp_path, background)
  checkpoints.write(1)
  checkpoints.log.follow(checkpoints.ring.add(8))
  background.wait()
  coming = checkpoints.there()
  checkpoints.prune()
  assert checkpoints.there() == coming


# -- another vault's -----------------------------------------------------------


def test_the_newest_of_another_vault_is_copied(tmp_path, background):
  checkpoints = Checkpoints(tmp_path / 'a', background)
  for number in (1, 2):
    checkpoints.write(number)
  ours = Vault(tmp_path / 'b')
  ours.copy_newest_of(Vault(tmp_path / 'a'))
  shutil.rmtree(tmp_path / 'a')
  saved = ours.newest()
  _assert_is(saved, 2)
  assert ours.numbers() == [2]
  found = [ours.read_rows('student', s) for s in saved.segments['student']]
  action = np.concatenate([columns['action'] for columns in found])
  np.testing.assert_array_equal(action, np.arange(10))


def test_there_must_be_one_to_copy(tmp_path):
  with pytest.raises(ArchiveError, match=f'no checkpoint in {tmp_path / "a"}'):
    Vault(tmp_path / 'b').copy_newest_of(Vault(tmp_path / 'a'))
  assert not (tmp_path / 'b').exists()


@pytest.mark.parametrize('calls', [0, 1, 2])
def test_a_copy_that_was_broken_off_is_made_anew(
    tmp_path, background, monkeypatch, calls
):
  """For want of room: an error in a line; then there is room."""
  checkpoints = Checkpoints(tmp_path / 'a', background)
  checkpoints.write(1, new_rows=4)
  ours, copytree, left = Vault(tmp_path / 'b'), shutil.copytree, [calls]

  def may_fail(source, target, *folders_below):
    copytree(source, target, *folders_below)
    if folders_below:
      return
    if not left[0]:
      os.remove(files_below(target)[0])
      raise shutil.Error([(source, target, 'No space left on device')])
    left[0] -= 1

  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'copytree', may_fail)
    with pytest.raises(Exception, match='No space left') as error:
      ours.copy_newest_of(Vault(tmp_path / 'a'))
  assert ours.newest() is None
  ours.copy_newest_of(Vault(tmp_path / 'a'))
  _assert_is(ours.newest(), 1)
  assert isinstance(error.value, ArchiveError)
