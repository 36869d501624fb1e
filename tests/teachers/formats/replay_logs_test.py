"""Replay logs of old Dopamine releases: exact, streamed, and never trusted."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from typing import NamedTuple, Optional

from absl import logging
import jax
import numpy as np
from paths import ROOT
from paths import TESTDATA
import pytest

from benchmarks import replay_log_writer
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay.frame_replay import BARRIER
from reincarnating_rl.replay.frame_replay import EXCLUDED
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED
from reincarnating_rl.teachers import TeacherError
from reincarnating_rl.teachers.formats import native
from reincarnating_rl.teachers.formats import replay_logs
from reincarnating_rl.teachers.formats import row_flags
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

SAMPLES = ('dopamine_406_small', 'dopamine_402_jax03', 'dopamine_315_prelinen')
ARRAYS = (
    '$store$_observation',
    '$store$_action',
    '$store$_reward',
    '$store$_terminal',
    'add_count',
    'episode_end_indices',
)
FRAME_SHAPE = (9, 5)
PADDING = 3


def open_log(folder, number=1) -> TeacherReplay:
  return replay_logs.open_replay(replay_logs.find(str(folder), number))


@pytest.fixture(name='sample', scope='module', params=SAMPLES)
def _sample(request):
  """A log of an old release, and what that release makes of it."""
  folder = TESTDATA / request.param
  with np.load(folder / 'expected.npz') as expected:
    return open_log(folder), dict(expected)


# -- against the old releases --------------------------------------------------


@pytest.mark.parametrize('n', [1, 3])
def test_transitions_are_those_of_the_old_release(sample, n):
  replay, expected = sample
  transitions = replay.transitions(expected['replay_indices'], n)
  for name in ('state', 'action', 'next_state', 'terminal'):
    got, wanted = getattr(transitions, name), expected[f'n{n}_{name}']
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted, err_msg=name)
  np.testing.assert_allclose(
      transitions.reward, expected[f'n{n}_reward'], rtol=0, atol=1e-6
  )


@pytest.mark.parametrize('n', [1, 3])
def test_valid_is_stricter_than_the_old_rule_by_the_padding_only(sample, n):
  replay, expected = sample
  lost = np.flatnonzero(expected[f'n{n}_valid_recomputed'] & ~replay.valid(n))
  assert not (replay.valid(n) & ~expected[f'n{n}_valid_recomputed']).any()
  if 906 in expected['terminal_indices']:  # No time limit in this one.
    wanted = []
  elif expected['episode_end_indices'].size:
    wanted = [49, 50, 51]
  else:  # The end at 48 is not recorded: three blank rows show it.
    wanted = list(range(49 - n, 52))
  assert lost.tolist() == wanted


@pytest.mark.parametrize('n', [1, 10])
def test_training_draws_the_valid_rows_and_no_others(sample, n):
  replay, expected = sample
  spec, state = replay.for_training(n)
  leaves = np.asarray(state.priorities.tree.leaves)[: len(replay)]
  valid = replay.valid(n)
  np.testing.assert_array_equal(leaves > 0, valid)
  assert int(state.add_count) % spec.slots == expected['cursor'] == replay.head
  batch, drawn = frame_replay.sample(
      spec, state.storage, state.priorities, jax.random.PRNGKey(0), 2048
  )
  assert valid[np.asarray(drawn)].all()
  rows = np.asarray(drawn)[:16]
  transitions = replay.transitions(rows, n)
  np.testing.assert_array_equal(batch.s_tm1[:16], transitions.state)
  goes_on = transitions.terminal == 0
  np.testing.assert_array_equal(
      batch.s_t[:16][goes_on], transitions.next_state[goes_on]
  )


def test_a_log_handed_over_for_training_is_read_anew(sample):
  replay, _ = sample
  _, state = replay.for_training(3)
  assert replay.storage is not state.storage
  again = replay.transitions(np.array([500]), 1)
  np.testing.assert_array_equal(
      again.state[0, ..., 3], state.storage.observation[500]
  )


# -- against a slow ring that knows what happened ------------------------------


class Step(NamedTuple):
  """What a row is."""

  episode: int
  time: int  # negative for padding
  end: str = ''  # 'terminal' or 'limit'


class SlowRing:
  """Dopamine's old ring, a row at a time, beside the truth about each row."""

  def __init__(self, num_rows: int):
    self.num_rows = num_rows
    self.frames = np.full((num_rows,) + FRAME_SHAPE, 77, np.uint8)
    self.action = np.full(num_rows, -123456, np.int32)  # nobody's memory
    self.reward = np.full(num_rows, np.nan, np.float32)
    self.terminal = np.full(num_rows, 9, np.uint8)
    self.steps: list[Optional[Step]] = [None] * num_rows
    self.ends: set[int] = set()
    self.add_count = 0

  def add_episode(self, rng, episode: int, length: int, kind: str) -> None:
    for time in range(-PADDING, 0):
      self._write(Step(episode, time), 0, 0, 0)
    for time in range(length):
      end = kind if time == length - 1 else ''
      row = self.add_count % self.num_rows
      (self.ends.add if end else self.ends.discard)(row)
      self._write(
          Step(episode, time, end),
          rng.integers(1, 256, FRAME_SHAPE),
          rng.integers(0, 4),
          rng.integers(-1, 2),
      )

  def _write(self, step: Step, frame, action, reward) -> None:
    row = self.add_count % self.num_rows
    self.frames[row], self.action[row], self.reward[row] = frame, action, reward
    self.terminal[row] = step.end == 'terminal'
    self.steps[row] = step
    self.add_count += 1

  def write(self, folder, number=1, with_ends=True) -> None:
    columns = replay_log_writer.Columns(
        self.action,
        self.reward,
        self.terminal,
        self.add_count,
        self.ends if with_ends else None,
    )
    replay_log_writer.write(
        str(folder), number, columns, [self.frames], FRAME_SHAPE, level=1
    )

  @property
  def is_full(self) -> bool:
    return self.add_count >= self.num_rows

  def age(self, row: int) -> int:
    """Rows that are older; the oldest one has 0."""
    head = self.add_count % self.num_rows if self.is_full else 0
    return (row - head) % self.num_rows

  def old_rule(self, row: int, n: int) -> bool:
    """What Dopamine 4.0.6 samples, with the range of n around the cursor."""
    written = min(self.add_count, self.num_rows)
    if self.is_full and self.age(row) < 4 or not self.is_full and row < PADDING:
      return False
    if self.age(row) >= written - n:
      return False
    if any(self.terminal[(row - lag) % self.num_rows] for lag in (1, 2, 3)):
      return False
    window = [(row + k) % self.num_rows for k in range(n)]
    return not any(w in self.ends and not self.terminal[w] for w in window)

  def is_valid(self, row: int, n: int) -> bool:
    """The old rule, and the truth: nothing that did not happen."""
    step = self.steps[row]
    if not self.old_rule(row, n) or step.time < 0:
      return False
    for k in range(n):
      current = self.steps[(row + k) % self.num_rows]
      assert current == Step(step.episode, step.time + k, current.end)
      if current.end:
        return current.end == 'terminal'
    return True

  def valid(self, n: int) -> np.ndarray:
    return np.array([self.is_valid(r, n) for r in range(self.num_rows)])


def play(ring: SlowRing, seed: int, num_rows: int, mean_length=6.0) -> None:
  """Episodes until so many rows were added; the last one goes on or not."""
  rng = np.random.default_rng(seed)
  episode = 0
  while ring.add_count < num_rows:
    kind = 'terminal' if rng.random() < 0.6 else 'limit'
    length = 1 + int(rng.geometric(1 / mean_length))
    left = num_rows - ring.add_count - PADDING
    if left < length:
      kind, length = '', left
    elif left <= length + PADDING:  # No room for a step of another episode.
      length = left
    ring.add_episode(rng, episode, length, kind)
    episode += 1


@pytest.mark.parametrize('n', [1, 3, 5, 10])
def test_valid_is_what_really_happened(tmp_path, n):
  """Rings that wrapped at every place, ends of all kinds everywhere."""
  num_valid = num_lost = 0
  for seed in range(50):
    ring = SlowRing(67)
    play(ring, seed, 140 + seed)
    ring.write(tmp_path)
    valid, wanted = open_log(tmp_path).valid(n), ring.valid(n)
    assert not (valid & ~wanted).any(), (seed, np.flatnonzero(valid & ~wanted))
    num_valid += wanted.sum()
    num_lost += (wanted & ~valid).sum()
  assert num_valid > 50 * (2 if n == 10 else 10)
  # An end that was overwritten by padding counts if the head took the end
  # before it: some rows beside the head are lost then.
  assert num_lost <= num_valid / 100


@pytest.mark.parametrize('n', [1, 3])
def test_blank_rows_show_the_limits_that_were_not_recorded(tmp_path, n):
  for seed in range(30):
    ring = SlowRing(67)
    play(ring, seed, 140 + seed)
    ring.ends = set()
    ring.write(tmp_path, with_ends=False)
    # A limit at the newest row shows nothing yet, and matters to no window.
    np.testing.assert_array_equal(open_log(tmp_path).valid(n), ring.valid(n))


@pytest.mark.parametrize('with_ends', [True, False])
@pytest.mark.parametrize('num_written', [6, 23, 64, 66, 67])
def test_a_ring_that_is_not_full(tmp_path, num_written, with_ends):
  """What nobody wrote may hold anything, and is not given out."""
  ring = SlowRing(67)
  play(ring, num_written, num_written)
  assert ring.add_count == num_written
  if not with_ends:
    ring.ends = set()
  ring.write(tmp_path, with_ends=with_ends)
  replay = open_log(tmp_path)
  assert len(replay) == num_written and replay.num_rows == 67
  assert replay.head == 0
  valid = replay.valid(1)
  np.testing.assert_array_equal(valid, ring.valid(1))
  rows = np.flatnonzero(valid)
  transitions = replay.transitions(rows, 1)
  np.testing.assert_array_equal(transitions.state[..., 3], ring.frames[rows])
  np.testing.assert_array_equal(
      transitions.state[..., 0], ring.frames[rows - 3]
  )
  np.testing.assert_array_equal(transitions.action, ring.action[rows])
  for row in (-1, num_written, 67):
    with pytest.raises(ValueError, match=f'Row {row} was never written.* 0 to'):
      replay.transitions(np.array([5, row]), 1)


# -- flags, by hand ------------------------------------------------------------


def flags_of(rows: str, ends=(), head=0, num_rows=None) -> str:
  """Flags of rows in a picture of a ring.

  '.' is a step, 'T' a terminal, '_' a blank row. In the result '_' is an
  excluded row, 'T' a terminal, 'L' a time limit, 'B' a limit that the file
  names but that is none, '?' a limit that only blank rows show.
  """
  flags = row_flags.row_flags(
      np.array([x == 'T' for x in rows]),
      np.array([x == '_' for x in rows]),
      np.array(ends, np.int64),
      head,
      len(rows) if num_rows is None else num_rows,
  )
  names = {
      0: '.',
      TERMINAL: 'T',
      TRUNCATED: '?',
      TRUNCATED | BARRIER: 'L',
      BARRIER: 'B',
      EXCLUDED: '_',
      EXCLUDED | TERMINAL: 't',
      EXCLUDED | TRUNCATED | BARRIER: 'l',
      EXCLUDED | BARRIER: 'b',
  }
  return ''.join(names[x] for x in flags)


@pytest.mark.parametrize(
    'rows, ends, head, expected',
    [
        ('......T___....', (), 0, '____..T___....'),
        ('......T___....', (), 6, '......t___....'),
        ('......T___....', (), 9, '......T..____.'),
        ('.......___....', (), 0, '____..?___....'),
        ('.......___....', (6,), 0, '____..L___....'),
        ('..............', (13,), 0, '____.........L'),
        # More than padding is blank: none of it is used.
        ('......._____..', (), 0, '____..?_____..'),
        ('......T_____..', (), 0, '____..T_____..'),
        ('......._____..', (8,), 0, '____..?_l___..'),
        # Two blank rows are a dark screen.
        ('.......__.....', (), 0, '____..........'),
        # The end at 8 was overwritten by padding, the one at 10 was not.
        ('......T___....', (8,), 0, '____..T_b_....'),
        ('......T___T___', (7, 10), 0, '____..Tb__T___'),
        ('......T___.___', (9, 10), 0, '____..T__bL___'),
        # Padding around the end of the ring; blank rows around its head.
        ('_....T......__', (), 3, '_..__t_....?__'),
        ('__..........._', (), 1, '.____.........'),
    ],
)
def test_flags_of_a_full_ring(rows, ends, head, expected):
  assert flags_of(rows, ends, head) == expected


def test_flags_of_a_ring_that_is_not_full():
  assert flags_of('___....T___...', num_rows=20) == '___....T___...'
  assert flags_of('___...........', num_rows=20) == '___...........'


# -- reading -------------------------------------------------------------------


@pytest.mark.parametrize('rows', [1, 7, 333, 999])
def test_chunks_make_the_same_as_one_piece(tmp_path, monkeypatch, rows):
  ring = SlowRing(1000)
  play(ring, 0, 1300)
  ring.write(tmp_path)
  whole = open_log(tmp_path).storage
  monkeypatch.setattr(replay_logs, '_CHUNK_BYTES', 9 * 5 * rows)
  for got, wanted in zip(open_log(tmp_path).storage[:4], whole):
    np.testing.assert_array_equal(got, wanted)


def test_frames_wait_until_they_are_needed(tmp_path):
  copy_sample(tmp_path)
  replay = open_log(tmp_path)
  assert len(replay) == replay.num_rows == 1000
  corrupt(tmp_path / file_name('$store$_observation'), -4)
  with pytest.raises(TeacherError, match='observation_ckpt.1.gz is damaged'):
    replay.read()


def test_short_loads_say_nothing(tmp_path, capfd):
  copy_sample(tmp_path)
  open_log(tmp_path).read()
  assert capfd.readouterr().err == ''


@pytest.mark.parametrize(
    'name, dtype',
    [
        ('action', np.uint8),
        ('action', np.int64),
        ('action', '>i4'),
        ('reward', np.float64),
        ('reward', np.float16),
        ('terminal', bool),
    ],
)
def test_other_widths_of_numbers(tmp_path, name, dtype):
  copy_sample(tmp_path)
  wanted = open_log(tmp_path).storage
  path = tmp_path / file_name(f'$store$_{name}')
  rewrite(path, lambda array: array.astype(dtype))
  for got, column in zip(open_log(tmp_path).storage[1:4], wanted[1:4]):
    assert got.dtype == column.dtype
    np.testing.assert_array_equal(got, column)


def test_headers_of_version_2(tmp_path):
  copy_sample(tmp_path)
  path = tmp_path / file_name('$store$_action')
  with gzip.open(path) as file:
    array = np.load(file)
  with gzip.open(path, 'wb') as file:
    np.lib.format.write_array(file, array, version=(2, 0))
  assert len(open_log(tmp_path)) == 1000


def test_the_benchmark_of_loading():
  command = [sys.executable, '-m', 'benchmarks.benchmark_replay_logs']
  done = subprocess.run(
      [*command, '--rows=200', '--json'],
      stdout=subprocess.PIPE,
      cwd=ROOT,
      check=True,
  )
  results = json.loads(done.stdout)['results']
  assert [r['name'].split('/')[2] for r in results] == [
      'load_a_row',
      'memory',
      'memory_over_data',
  ]
  assert all(r['ours'] > 0 for r in results)


def test_too_few_rows_are_no_replay(tmp_path, monkeypatch):
  warnings = record_warnings(monkeypatch)
  for add_count in (np.array(0), np.array(5)):
    copy_sample(tmp_path)
    rewrite(tmp_path / file_name('add_count'), lambda _, x=add_count: x)
    assert open_log(tmp_path) is None
  assert 'only 5 rows of it were ever written' in warnings[-1]


@pytest.mark.parametrize('num_written', [40, 100])
def test_a_log_can_be_kept_in_our_own_format(tmp_path, num_written):
  ring = SlowRing(67)
  play(ring, 0, num_written)
  ring.write(tmp_path)
  replay = open_log(tmp_path)
  path = str(tmp_path / 'native')
  native._write_replay(path, 7, replay)
  again = native._read_replay(os.path.join(path, '7'))
  assert (again.head, again.num_rows, again.spec) == (
      replay.head,
      replay.num_rows,
      replay.spec,
  )
  np.testing.assert_array_equal(again.valid(3), replay.valid(3))
  rows = np.arange(num_written - 20, num_written - 4) % 67
  for got, wanted in zip(
      again.transitions(rows, 3), replay.transitions(rows, 3)
  ):
    np.testing.assert_array_equal(got, wanted)


def test_a_head_outside_of_the_ring_is_refused():
  spec = frame_replay.ReplaySpec(20)
  for options in ({'head': 20}, {'head': -1}, {'num_rows': 19}):
    with pytest.raises(ValueError, match='A ring of .* has no head'):
      TeacherReplay(spec, lambda: None, **options)


# -- finding -------------------------------------------------------------------


def test_the_replay_beside_the_checkpoint_is_preferred(tmp_path):
  for folder, number in (('checkpoints', 7), ('replay_logs', 2)):
    os.makedirs(tmp_path / folder)
    touch(tmp_path / folder, number)
  find = lambda number: replay_logs.find(str(tmp_path), number)
  assert find(7) == (str(tmp_path / 'checkpoints'), 'ckpt', 7)
  for number in (8, 9, 10):
    assert find(number) == (str(tmp_path / 'replay_logs'), 'ckpt', 2)


def test_other_prefixes(tmp_path):
  touch(tmp_path, 3, 'other')
  assert replay_logs.find(str(tmp_path), 3).prefix == 'other'
  touch(tmp_path, 3, 'ckpt')
  assert replay_logs.find(str(tmp_path), 3).prefix == 'ckpt'
  assert replay_logs.find(str(tmp_path), 3, 'other').prefix == 'other'


def test_a_missing_number_is_said_in_one_sentence(tmp_path, monkeypatch):
  warnings = record_warnings(monkeypatch)
  os.makedirs(tmp_path / 'replay_logs')
  assert replay_logs.find(str(tmp_path), 399) is None
  assert 'replay_logs holds no number 100, only none.' in warnings[-1]
  for number in (5, 50):
    touch(tmp_path / 'replay_logs', number)
  assert replay_logs.find(str(tmp_path), 399) is None
  assert 'replay_logs holds no number 100, only 5, 50.' in warnings[-1]
  assert len(warnings) == 2


def test_a_run_without_replay_is_no_reason_to_warn(tmp_path, monkeypatch):
  warnings = record_warnings(monkeypatch)
  assert replay_logs.find(str(tmp_path), 399) is None
  assert not warnings


# -- damage --------------------------------------------------------------------


@pytest.mark.parametrize('name', ARRAYS[:-1])
def test_a_missing_file_is_named(tmp_path, name):
  copy_sample(tmp_path)
  os.remove(tmp_path / file_name(name))
  with pytest.raises(TeacherError) as error:
    open_log(tmp_path)
  assert f'{file_name(name)} is missing' in str(error.value)


@pytest.mark.parametrize(
    'name, change, words',
    [
        ('$store$_action', lambda x: x[:-1], 'shape .999,. beside 1000 frames'),
        ('$store$_action', lambda x: x + 251, 'actions from 251 to'),
        ('$store$_action', lambda x: x - 1, 'actions from -1 to'),
        ('$store$_action', lambda x: x.astype(np.float32), 'holds float32'),
        ('$store$_reward', lambda x: x * np.nan, 'not all rewards are finite'),
        ('$store$_reward', lambda x: x.astype(np.int32), 'holds int32'),
        ('$store$_terminal', lambda x: x.astype(np.float32), 'holds float32'),
        ('$store$_terminal', lambda x: x[:, None], r'shape .1000, 1.'),
        ('$store$_observation', lambda x: x[:, :, 0], 'bytes of .rows, height'),
        ('$store$_observation', lambda x: x.view(np.int8), 'are int8'),
        (
            '$store$_observation',
            lambda x: np.asfortranarray(x[:, :8, :8]),
            'not in C order',
        ),
        ('add_count', lambda x: x - 2000, 'counts -698 rows'),
        ('add_count', lambda x: np.array([1, 2]), 'no count'),
        ('add_count', lambda x: np.array(1.5), 'no count'),
        ('add_count', lambda x: np.array('abc'), 'numbers belong'),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, change, words):
  copy_sample(tmp_path)
  path = tmp_path / file_name(name)
  rewrite(path, change)
  check_refused(tmp_path, path, words)


@pytest.mark.parametrize(
    'content, words',
    [
        (b'', 'is damaged'),
        (b'nonsense', 'is damaged'),
        (pickle.dumps({3, 1000}), 'no set of rows below 1000'),
        (pickle.dumps({3, -1}), 'no set of rows'),
        (pickle.dumps({3, 'x'}), 'no set of rows'),
        (pickle.dumps({3: 4}), 'no set of rows'),
        (pickle.dumps(print), 'is refused'),
        (bytes(1 << 24), 'holds more than'),
    ],
    # Sets of text are pickled in another order in every process.
    ids=range(8),
)
def test_ends_that_are_no_rows(tmp_path, content, words):
  copy_sample(tmp_path)
  path = tmp_path / file_name('episode_end_indices')
  path.write_bytes(gzip.compress(content, 1))
  check_refused(tmp_path, path, words)


@pytest.mark.parametrize(
    'shape, words',
    [
        ((10**6, 84, 84), 'which do not fit its'),
        ((10**9, 84, 84), 'above the limit'),
        ((10**30, 84, 84), 'above the limit'),
        ((-1, 84, 84), 'negative size'),
        ((0, 84, 84), 'beside 0 frames'),
        ((1000, 0, 84), 'not bytes of .rows, height'),
    ],
)
def test_a_size_that_cannot_be(tmp_path, shape, words):
  """Nothing is allocated for what a header claims."""
  copy_sample(tmp_path)
  path = tmp_path / file_name('$store$_observation')
  content = io.BytesIO()
  header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
  np.lib.format.write_array_header_1_0(content, header)
  path.write_bytes(gzip.compress(content.getvalue() + bytes(100), 1))
  with pytest.raises(TeacherError, match=words) as error:
    open_log(tmp_path).read()
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ARRAYS)
def test_a_flood_behind_the_array_is_not_read(tmp_path, name):
  copy_sample(tmp_path)
  path = tmp_path / file_name(name)
  flood = gzip.compress(bytes(1 << 26), 1)
  path.write_bytes(path.read_bytes() + flood)
  with pytest.raises(TeacherError, match='damaged'):
    open_log(tmp_path).read()


@pytest.mark.parametrize('name', ARRAYS)
def test_damaged_files_are_refused_or_harmless(tmp_path, name):
  """Flipped bits and cut ends, wherever they are."""
  copy_sample(tmp_path)
  expected = open_log(tmp_path)
  path = tmp_path / file_name(name)
  content = path.read_bytes()
  rng = np.random.default_rng(0)
  num_refused = 0
  for _ in range(60 if len(content) < 10_000 else 25):
    path.write_bytes(mutated(content, rng))
    num_refused += not is_same_or_refused(tmp_path, expected, name)
  assert num_refused > 5


@pytest.mark.parametrize('name', ARRAYS)
def test_damage_that_no_checksum_shows(tmp_path, name):
  """The same inside: headers and pickles of nonsense, whole as gzip."""
  copy_sample(tmp_path)
  path = tmp_path / file_name(name)
  content = gzip.decompress(path.read_bytes())
  rng = np.random.default_rng(0)
  num_refused = 0
  for _ in range(60 if len(content) < 10_000 else 12):
    start = mutated(content[:160], rng)
    path.write_bytes(gzip.compress(start + content[160:], 1))
    try:
      open_log(tmp_path)
    except TeacherError as error:
      num_refused += 1
      assert file_name(name)[:9] in str(error)
  assert num_refused > 3


# -- helpers -------------------------------------------------------------------


def file_name(name: str, number: int = 1, prefix: str = 'ckpt') -> str:
  return f'{name}_{prefix}.{number}.gz'


def touch(folder: pathlib.Path, number: int, prefix: str = 'ckpt') -> None:
  (folder / file_name('$store$_action', number, prefix)).touch()


def copy_sample(folder: pathlib.Path) -> None:
  """The log of Dopamine 4.0.6, into a folder of its own."""
  for name in ARRAYS:
    source = TESTDATA / SAMPLES[0] / 'checkpoints' / file_name(name)
    shutil.copy(source, folder)


def rewrite(path: pathlib.Path, change) -> None:
  """Changes the array in a file."""
  with gzip.open(path) as file:
    array = np.load(file)
  with gzip.open(path, 'wb', 1) as file:
    np.save(file, change(array))


def corrupt(path: pathlib.Path, at: int) -> None:
  content = bytearray(path.read_bytes())
  content[at] ^= 0x10
  path.write_bytes(content)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
  """With a bit flipped, an end cut off, a piece lost or one put in."""
  kind = rng.integers(4)
  at = int(rng.integers(len(content)))
  if kind == 0:
    bit = 1 << int(rng.integers(8))
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
  if kind == 1:
    return content[:at]
  if kind == 2:
    return content[:at] + content[at + int(rng.integers(1, 9)) :]
  return content[:at] + rng.bytes(5) + content[at:]


def is_same_or_refused(folder, expected: TeacherReplay, name: str) -> bool:
  """Whether a log loads as before; if not, its damaged file is named."""
  try:
    replay = open_log(folder)
    replay.read()
  except TeacherError as error:
    assert file_name(name) in str(error) and '\n' not in str(error)
    return False
  for got, wanted in zip(replay.storage[:4], expected.storage):
    np.testing.assert_array_equal(got, wanted)
  return True


def check_refused(folder, path: pathlib.Path, words: str) -> None:
  with pytest.raises(TeacherError, match=words) as error:
    open_log(folder)
  assert str(path) in str(error.value)
  assert '\n' not in str(error.value)


def record_warnings(monkeypatch) -> list[str]:
  said: list[str] = []
  monkeypatch.setattr(
      logging, 'warning', lambda text, *args: said.append(text % args)
  )
  return said
