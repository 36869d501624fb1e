"""A ring's rows on a disk: each written once, and all of them there again."""

from __future__ import annotations

import os
import shutil

from damages import each_damage
from damages import files_below
from damages import truncate
import numpy as np
import pytest
from rings import Ring
from rings import SEGMENT
from rings import SLOTS

from reincarnating_rl.base import files
from reincarnating_rl.storage.checkpoints import arrays
from reincarnating_rl.storage.checkpoints import row_segments
from reincarnating_rl.storage.checkpoints.background import Background
from reincarnating_rl.storage.checkpoints.errors import ArchiveError


class Later:
  """A background that is behind: jobs are done when the test says so."""

  def __init__(self):
    self.jobs = []

  def submit(self, job):
    self.jobs.append(job)

  def do(self, count=None):
    for _ in range(len(self.jobs) if count is None else count):
      self.jobs.pop(0)()


@pytest.fixture
def background():
  worker = Background()
  yield worker
  worker.close()


def _log(tmp_path, background):
  return row_segments.RowLog(str(tmp_path), background)


def _sealed(tmp_path, background, ring):
  """Its segments, everything written."""
  log = _log(tmp_path, background)
  log.seal(ring)
  background.wait()
  return log.covering(*ring.window)


def _names(folder):
  return sorted({n.split('.')[0] for n in os.listdir(folder)})


def _spans(segments):
  return [(s.start, s.stop) for s in segments]


def _brought_back(folder, segments, ring):
  """A ring like the other, as it is put together again from segments."""
  back = Ring(ring.slots, ring.segment_slots)
  for segment in segments:
    columns = row_segments.read(str(folder), segment)
    at = np.arange(segment.start, segment.stop) % ring.slots
    back.frames[at], back.action[at] = columns['frames'], columns['action']
  back.written = ring.written
  return back


def _assert_comes_back(folder, segments, ring):
  back = _brought_back(folder, segments, ring)
  np.testing.assert_array_equal(back.action, ring.action)
  np.testing.assert_array_equal(back.frames, ring.frames)


# -- writing -------------------------------------------------------------------


def test_following_hands_on_whole_segments_and_sealing_the_rest(
    tmp_path, background
):
  ring, log = Ring(), _log(tmp_path, background)
  seen = []
  for count in (0, 3, 1, 9):
    log.follow(ring.add(count))
    background.wait()
    seen.append(len(os.listdir(tmp_path)) // len(row_segments.COPIES))
  assert seen == [0, 0, 1, 3]
  with pytest.raises(ArchiveError):
    log.covering(*ring.window)
  log.seal(ring)
  background.wait()
  segments = log.covering(*ring.window)
  assert _spans(segments) == [(0, 4), (4, 8), (8, 12), (12, 13)]
  log.seal(ring)
  assert log.covering(*ring.window) == segments


def test_an_empty_ring_needs_no_segment(tmp_path, background):
  assert not _sealed(tmp_path, background, Ring())


@pytest.mark.parametrize('segment_slots', [3, SEGMENT, SLOTS // 2])
def test_what_is_sealed_comes_back_however_often_the_ring_wraps(
    tmp_path, background, segment_slots
):
  ring = Ring(segment_slots=segment_slots)
  log = _log(tmp_path, background)
  rng = np.random.default_rng(segment_slots)
  while ring.written < 3 * SLOTS:
    for _ in range(rng.integers(1, 6)):
      log.follow(ring.add(int(rng.integers(1, 5))))
    log.seal(ring)
    background.wait()
    segments = log.covering(*ring.window)
    starts = [s.start for s in segments]
    assert starts == sorted(set(starts))
    assert not segments or segments[0].stop > ring.window[0]
    _assert_comes_back(tmp_path, segments, ring)
    log.remove_all_but(set())


def test_a_log_that_goes_on_writes_only_what_is_new(tmp_path, background):
  ring = Ring().add(10)
  segments = _sealed(tmp_path, background, ring)
  before = set(os.listdir(tmp_path))
  log = row_segments.RowLog(str(tmp_path), background, segments)
  log.seal(ring.add(15))
  background.wait()
  new = {n.split('.')[0] for n in set(os.listdir(tmp_path)) - before}
  assert min(new) == f'{10:012d}-{14:012d}'
  _assert_comes_back(tmp_path, log.covering(*ring.window), ring)


@pytest.mark.parametrize('slots', [40, 4000])
def test_a_checkpoint_costs_what_is_new_however_large_the_ring(
    tmp_path, background, slots
):
  ring = Ring(slots, segment_slots=10)
  log = _log(tmp_path, background)
  costs, seen = [], set()
  for _ in range(3):
    log.seal(ring.add(10))
    background.wait()
    log.covering(*ring.window)
    there = set(files_below(tmp_path))
    costs.append((len(there - seen), sum(map(os.path.getsize, there - seen))))
    seen |= there
  assert len({count for count, _ in costs}) == 1
  sizes = [size for _, size in costs]
  assert max(sizes) < 1.1 * min(sizes)


def test_rows_that_were_overwritten_before_anybody_looked_are_left_out(
    tmp_path, background
):
  ring = Ring().add(2 * SLOTS + 3)
  segments = _sealed(tmp_path, background, ring)
  assert segments[0].start == SLOTS + 3
  _assert_comes_back(tmp_path, segments, ring)


# -- a disk that is full -------------------------------------------------------


@pytest.fixture
def full(monkeypatch):
  """`full(n)` lets the next n writes fail."""
  write, left = arrays.write, [0]

  def may_fail(folder, columns):
    if left[0]:
      left[0] -= 1
      raise ArchiveError(f'{folder} cannot be written: No space left')
    write(folder, columns)

  monkeypatch.setattr(arrays, 'write', may_fail)

  def set_left(count):
    left[0] = count

  return set_left


def test_a_gap_is_written_at_the_next_seal(tmp_path, background, full, caplog):
  ring, log = Ring().add(2), _log(tmp_path, background)
  log.seal(ring)
  background.wait()
  full(1)
  log.seal(ring.add(3))
  background.wait()
  assert 'The replay was not written' in caplog.text
  assert 'No space left' in caplog.text
  with pytest.raises(ArchiveError, match='could not be written'):
    log.covering(*ring.window)
  assert _names(tmp_path) == [f'{0:012d}-{2:012d}']
  log.seal(ring.add(1))
  background.wait()
  segments = log.covering(*ring.window)
  assert _spans(segments)[0] == (0, 2)
  _assert_comes_back(tmp_path, segments, ring)


def test_a_gap_does_not_matter_once_it_was_overwritten(
    tmp_path, background, full
):
  ring, log = Ring(), _log(tmp_path, background)
  full(1)
  log.follow(ring.add(4))
  background.wait()
  log.seal(ring.add(SLOTS))
  background.wait()
  _assert_comes_back(tmp_path, log.covering(*ring.window), ring)


@pytest.mark.parametrize('done', [1, 2, 3])
def test_a_gap_is_written_again_while_later_rows_wait(tmp_path, full, done):
  """What was handed on behind a gap is written after the gap is known."""
  later = Later()
  ring, log = Ring().add(12), _log(tmp_path, later)
  log.follow(ring)
  assert len(later.jobs) == 3
  full(1)
  later.do(done)
  log.seal(ring.add(2))
  later.do()
  segments = log.covering(*ring.window)
  for segment in segments:
    assert row_segments.check(str(tmp_path), segment) is None
  _assert_comes_back(tmp_path, segments, ring)
  log.seal(ring.add(11))
  later.do()
  _assert_comes_back(tmp_path, log.covering(*ring.window), ring)


def test_a_second_copy_that_fails_is_a_gap_too(
    tmp_path, background, monkeypatch
):
  def no_room(source, target):
    os.makedirs(target)
    raise OSError(28, 'No space left on device')

  ring, log = Ring().add(3), _log(tmp_path, background)
  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'copytree', no_room)
    log.seal(ring)
    background.wait()
  assert not [n for n in os.listdir(tmp_path) if n.endswith('.part')]
  with pytest.raises(ArchiveError):
    log.covering(*ring.window)
  log.seal(ring)
  background.wait()
  segments = log.covering(*ring.window)
  assert row_segments.check(str(tmp_path), segments[0]) is None
  _assert_comes_back(tmp_path, segments, ring)


# -- damage --------------------------------------------------------------------


def _copy_folder(tmp_path, segment, copy):
  return os.path.join(tmp_path, f'{segment.name}.{copy}')


@pytest.mark.parametrize('copy', row_segments.COPIES)
@pytest.mark.parametrize('which', [0, -1])
@each_damage
def test_a_damaged_copy_is_mended_by_the_other(
    tmp_path, background, caplog, damage, which, copy
):
  ring = Ring().add(SEGMENT)
  (segment,) = _sealed(tmp_path, background, ring)
  path = files_below(_copy_folder(tmp_path, segment, copy))[which]
  damage(path)
  assert row_segments.check(str(tmp_path), segment) is None
  assert f'{path} ' in caplog.text and 'second copy is taken' in caplog.text
  caplog.clear()
  assert row_segments.check(str(tmp_path), segment) is None
  assert not caplog.text
  for each in row_segments.COPIES:
    folder = _copy_folder(tmp_path, segment, each)
    assert files.listing(folder) == segment.files
  _assert_comes_back(tmp_path, [segment], ring)


@pytest.mark.parametrize('copy', row_segments.COPIES)
def test_a_copy_that_is_gone_is_mended_by_the_other(
    tmp_path, background, caplog, copy
):
  ring = Ring().add(SEGMENT)
  (segment,) = _sealed(tmp_path, background, ring)
  shutil.rmtree(_copy_folder(tmp_path, segment, copy))
  assert row_segments.check(str(tmp_path), segment) is None
  assert 'second copy is taken' in caplog.text
  _assert_comes_back(tmp_path, [segment], ring)


@each_damage
def test_two_damaged_copies_are_told_with_both_files(
    tmp_path, background, damage
):
  ring = Ring().add(SEGMENT)
  (segment,) = _sealed(tmp_path, background, ring)
  paths = [
      files_below(_copy_folder(tmp_path, segment, c))[0]
      for c in row_segments.COPIES
  ]
  for path in paths:
    damage(path)
  problem = row_segments.check(str(tmp_path), segment)
  assert all(path in problem for path in paths)
  assert '\n' not in problem


@pytest.mark.parametrize('copy', row_segments.COPIES)
def test_a_copy_that_cannot_be_mended_for_want_of_room_is_no_damage(
    tmp_path, background, monkeypatch, caplog, copy
):
  """The other one is whole: a run can go on from it."""

  def no_room(source, target):
    os.makedirs(target)
    raise shutil.Error([(source, target, 'No space left on device')])

  ring = Ring().add(SEGMENT)
  (segment,) = _sealed(tmp_path, background, ring)
  truncate(files_below(_copy_folder(tmp_path, segment, copy))[0])
  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'copytree', no_room)
    assert row_segments.check(str(tmp_path), segment) is None
  assert 'No space left' in caplog.text
  _assert_comes_back(tmp_path, [segment], ring)
  # And is mended when there is room.
  assert row_segments.check(str(tmp_path), segment) is None
  folder = _copy_folder(tmp_path, segment, copy)
  assert files.listing(folder) == segment.files


# -- removing and copying ------------------------------------------------------


def test_only_what_nobody_needs_is_removed(tmp_path, background):
  ring, log = Ring(), _log(tmp_path, background)
  log.seal(ring.add(6))
  background.wait()
  old = log.covering(*ring.window)
  log.seal(ring.add(SLOTS))
  background.wait()
  now = log.covering(*ring.window)
  os.makedirs(tmp_path / f'{now[-1].stop:012d}-{99:012d}.a.part')  # a crash
  log.remove_all_but({old[-1].name})
  assert _names(tmp_path) == sorted({old[-1].name, *(s.name for s in now)})
  assert len(os.listdir(tmp_path)) == 2 * len(_names(tmp_path))
  _assert_comes_back(tmp_path, now, ring)
  log.remove_all_but(set())
  assert _names(tmp_path) == sorted(s.name for s in now)


def test_segments_are_copied_with_both_copies(tmp_path, background):
  ring = Ring().add(SEGMENT + 1)
  here, there = tmp_path / 'here', tmp_path / 'there'
  segments = _sealed(here, background, ring)
  row_segments.copy(str(here), str(there), segments)
  assert files.listing(str(here)) == files.listing(str(there))
  _assert_comes_back(there, segments, ring)
