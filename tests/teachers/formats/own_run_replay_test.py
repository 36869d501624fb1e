"""The replay that a run left, row by row as the run itself had it."""

from __future__ import annotations

import shutil

import jax
import numpy as np
import pytest
import small_runs

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import teachers
from reincarnating_rl.loop.saving import replays
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.storage.checkpoints.row_segments import Segment
from reincarnating_rl.teachers.formats import own_run_replay


@pytest.fixture(name='finished', scope='module')
def _finished(tmp_path_factory):
  """The directory of a run of two phases, and the run."""
  run = small_runs.make_run()
  path = tmp_path_factory.mktemp('runs') / 'run'
  return small_runs.save_all(path, run), run


@pytest.fixture(name='copy')
def _copy(finished, tmp_path):
  """A copy of that directory, that may be spoilt."""
  return shutil.copytree(finished[0], tmp_path / 'run')


def live(run):
  """What can be drawn in the run itself: its replay, and [R] bool."""
  writer = run.trainer.writer
  rows = writer.spec.capacity
  leaves = writer.state.priorities.tree.leaves[:rows]
  return writer.spec, writer.state.storage, np.asarray(leaves) > 0


@pytest.mark.parametrize(
    'num_envs, iterations, segment_rows',
    [(1, 4, 16), (2, 1, 8192), (3, 4, 16), (3, 5, 8192)],
)
def test_the_replay_that_it_left(
    tmp_path, monkeypatch, num_envs, iterations, segment_rows
):
  """Partly filled and written over, in many segments and in few."""
  monkeypatch.setattr(replays, '_SEGMENT_ROWS', segment_rows)
  run = small_runs.make_run(
      num_envs=num_envs, num_iterations=iterations, replay_ratio='1/999'
  )
  replay = small_runs.load(small_runs.save_all(tmp_path, run)).replay
  spec, storage, drawn = live(run)
  written = int(run.trainer.writer.state.add_count)
  is_full = written >= spec.slots
  assert is_full == (iterations > 1)
  assert replay.spec.num_streams == num_envs
  assert replay.num_rows == spec.capacity
  assert replay.head == (written % spec.slots if is_full else 0)
  assert len(replay) == min(written, spec.slots) * num_envs

  n = spec.update_horizon
  valid = replay.valid(n)
  assert drawn.sum() > 10
  assert not (drawn & ~valid).any()
  # The run cannot draw the oldest rows; here those are valid that begin an
  # episode, and those whose stack goes back no further.
  ages = (np.arange(spec.capacity) // num_envs - written) % spec.slots
  oldest = ages < spec.stack_size - 1
  assert not ((valid & ~drawn) & ~(is_full & oldest)).any()

  rows = np.flatnonzero(valid)
  ours = replay.transitions(rows, n)
  gather = jax.jit(frame_replay.transitions, static_argnums=0)
  theirs = gather(spec, storage, rows)
  np.testing.assert_array_equal(ours.state, theirs.s_tm1)
  np.testing.assert_array_equal(ours.action, theirs.a_tm1)
  np.testing.assert_array_equal(ours.reward, theirs.r_t)
  terminal = np.asarray(theirs.discount_t) == 0
  np.testing.assert_array_equal(ours.terminal, terminal)
  going = ~terminal
  np.testing.assert_array_equal(ours.next_state[going], theirs.s_t[going])
  if is_full:
    flags = np.asarray(storage.flags)
    assert terminal.any() and (flags & frame_replay.TRUNCATED).any()


def test_it_is_trained_on_as_any_other(finished):
  directory, run = finished
  teacher = small_runs.load(directory)
  spec, state = teacher.replay_with_q_values(2)
  valid = teacher.replay.valid(2)
  leaves = np.asarray(state.priorities.tree.leaves[: spec.capacity])
  np.testing.assert_array_equal(leaves > 0, valid)
  rows = np.flatnonzero(valid)
  expected = teacher.q_values(teacher.replay.transitions(rows, 2).state)
  np.testing.assert_allclose(
      state.storage.extras['q_teacher'][rows], expected, atol=1e-5
  )


def test_values_of_the_teacher_before_are_left_out(finished, tmp_path):
  teacher = small_runs.load(finished[0])
  run = small_runs.make_run(
      objective=learner_lib.Objective('huber', distill='policy'),
      teacher=small_runs.as_teacher(teacher),
      num_pretraining_iterations=1,
  )
  directory = small_runs.save_all(tmp_path, run)
  assert list(run.trainer.writer.state.storage.extras) == ['q_teacher']
  assert not small_runs.load(directory).replay.storage.extras
  # There is no replay before the online phases.
  assert small_runs.load(directory, 1).replay is None


def test_too_few_steps_are_no_replay(tmp_path, caplog):
  run = small_runs.make_run(
      training_steps=4, min_replay_history=1, num_iterations=1
  )
  teacher = small_runs.load(small_runs.save_all(tmp_path, run))
  assert teacher.replay is None
  assert 'only 2 steps of 2 environments were written' in caplog.text


@pytest.mark.parametrize('oldest', [0, 3, 12, 25, 31, 34])
def test_pieces_fill_the_ring(oldest):
  """Against slots that are written one by one."""
  slots, written = 10, oldest + 10
  edges = [0, 4, 9, 13, 19, 20, 24, 33, 41, 45]
  segments = [Segment(a, b, {}) for a, b in zip(edges, edges[1:])]
  needed = [s for s in segments if s.stop > oldest and s.start < written]
  ring = np.zeros(slots, int)
  for slot in range(oldest, written):
    ring[slot % slots] = slot
  found = own_run_replay.pieces(needed, oldest, written, slots)
  laid = [s for piece in found for s in range(piece.start, piece.stop)]
  np.testing.assert_array_equal(laid, ring)
  assert all(
      p.segment.start <= p.start < p.stop <= p.segment.stop for p in found
  )


def test_rows_are_read_when_they_are_needed(copy):
  teacher = small_runs.load(copy, read_replay=False)
  shutil.rmtree(copy / 'checkpoints' / 'rows')
  with pytest.raises(teachers.TeacherError, match='replay cannot be read'):
    teacher.replay.read()


def test_a_damaged_copy_of_rows_is_left_as_it_is(copy):
  folder = copy / 'checkpoints' / 'rows' / 'student'
  before = {}
  for path in sorted(folder.glob('*.a/manifest.ocdbt')):
    path.write_bytes(b'damaged')
    before[path] = path.stat().st_mtime_ns
  assert before
  assert small_runs.load(copy).replay.valid(1).any()
  assert {p: p.stat().st_mtime_ns for p in before} == before
