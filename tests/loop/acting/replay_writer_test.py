"""Tests of a replay that begins with what another one holds.

Against slow forms: a line of rows per source stream, walked one by one.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl.loop.acting import replay_writer
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.frame_replay import BARRIER
from reincarnating_rl.replay.frame_replay import EXCLUDED
from reincarnating_rl.replay.frame_replay import FIRST
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Rows
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

NUM_ACTIONS = 3
FRAME_SHAPE = (2, 2)


def _spec(slots, num_streams, n) -> ReplaySpec:
  return ReplaySpec(
      slots * num_streams, num_streams, n, 0.9, frame_shape=FRAME_SHAPE
  )


def _rows(num_steps, num_streams, seed=0, mean_length=6.0) -> Rows:
  """Episodes that end by themselves or by a limit; each frame is its own."""
  rng = np.random.default_rng(seed)
  shape = (num_steps, num_streams)
  ends = rng.random(shape) < 1 / mean_length
  flags = np.where(ends, rng.choice([TERMINAL, TRUNCATED], shape), 0)
  flags[0] |= FIRST
  flags[1:][ends[:-1]] |= FIRST
  return Rows(
      rng.integers(1, 256, shape + FRAME_SHAPE).astype(np.uint8),
      rng.integers(0, NUM_ACTIONS, shape).astype(np.int32),
      rng.normal(size=shape).astype(np.float32),
      flags.astype(np.uint8),
      rng.normal(size=shape + (NUM_ACTIONS,)).astype(np.float32),
  )


@functools.partial(jax.jit, static_argnums=0)
def _add_one(spec, state, rows):
  return frame_replay.add(spec, state, rows)


_transitions = jax.jit(frame_replay.transitions, static_argnums=0)


def _add(spec, state, rows):
  """Writes rows one step at a time."""
  for t in range(len(rows.action)):
    step = jax.tree.map(lambda x: x[t : t + 1], rows)  # noqa: B023
    state = _add_one(spec, state, step)
  return state


def _ring(spec, num_steps, seed=0):
  """A ring that was written to, and whose priorities were learned from."""
  state = frame_replay.init(spec, NUM_ACTIONS)
  state = _add(spec, state, _rows(num_steps, spec.num_streams, seed))
  rng = np.random.default_rng(seed)
  leaves = np.asarray(state.priorities.tree.leaves)
  weights = rng.uniform(0.5, 2.0, leaves.shape).astype(np.float32)
  tree = sum_tree.from_leaves(jnp.where(leaves > 0, weights, 0.0))
  priorities = frame_replay.Priorities(tree, jnp.float32(2.5))
  return state._replace(priorities=priorities)


def _line(spec, state) -> list[list[int]]:
  """Rows of each stream, oldest first."""
  written = min(int(state.add_count), spec.slots)
  start = int(state.add_count) - written
  return [
      [
          (start + t) % spec.slots * spec.num_streams + stream
          for t in range(written)
      ]
      for stream in range(spec.num_streams)
  ]


def _segments(streams, num_streams) -> list[list[list[int]]]:
  """For each new stream, the runs of neighbouring source rows in it."""
  rows = [(i, row) for i, stream in enumerate(streams) for row in stream]
  length = -(-len(rows) // num_streams)
  segments = []
  for k in range(num_streams):
    runs = {}
    for i, row in rows[k * length : (k + 1) * length]:
      runs.setdefault(i, []).append(row)
    segments.append(list(runs.values()))
  return segments


def _may_be_drawn(flags, run, at, n) -> bool:
  """Whether stack and n steps of a row lie in its run, in one episode."""
  for lag in range(4):
    if at - lag < 0:
      return False
    flag = flags[run[at - lag]]
    if lag and flag & (TERMINAL | TRUNCATED):
      return False
    if flag & FIRST:
      break
  for step in range(n):
    if at + step >= len(run):
      return False
    flag = flags[run[at + step]]
    if flag & TERMINAL:
      return not any(flags[row] & BARRIER for row in run[at : at + n])
    if flag & TRUNCATED:
      return False
  return at + n < len(run)


def _check_cut(source_spec, source, spec, streams=None):
  """Compares every row with the source's, and what may be drawn."""
  state = replay_writer.cut_into_streams(source_spec, source, spec, True)
  streams = streams or _line(source_spec, source)
  as_source = dataclasses.replace(
      source_spec, update_horizon=spec.update_horizon
  )
  flags = np.asarray(source.storage.flags)
  old_leaves = np.asarray(source.priorities.tree.leaves)
  expected = np.zeros(spec.capacity, np.float32)
  pairs = []
  for stream, runs in enumerate(_segments(streams, spec.num_streams)):
    slot = 0
    for run in runs:
      for at, row in enumerate(run):
        place = slot * spec.num_streams + stream
        if _may_be_drawn(flags, run, at, spec.update_horizon):
          expected[place] = old_leaves[row]
        if expected[place]:
          pairs.append((place, row))
        slot += 1
  leaves = np.asarray(state.priorities.tree.leaves)[: spec.capacity]
  np.testing.assert_array_equal(leaves, expected)
  # As many as ever, so that one program does for all.
  pairs += pairs[:1] * (source_spec.capacity - len(pairs))
  new, old = (np.array(side) for side in zip(*pairs))
  found = _transitions(spec, state.storage, new)
  wanted = _transitions(as_source, source.storage, old)
  for name, x, y in zip(found._fields, found, wanted):
    if name == 's_t':  # Undefined after a terminal.
      ongoing = np.asarray(found.discount_t) > 0
      x, y = np.asarray(x)[ongoing], np.asarray(y)[ongoing]
    np.testing.assert_array_equal(x, y, err_msg=name)
  return state, expected


@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('source_streams, num_envs', [(1, 1), (1, 2), (4, 3)])
@pytest.mark.parametrize('num_steps', [25, 71])
def test_given_rows_are_the_sources(n, num_envs, source_streams, num_steps):
  """Rings that are half full, and overwritten in part."""
  source_spec = _spec(40, source_streams, n=1)
  source = _ring(source_spec, num_steps)
  state, expected = _check_cut(source_spec, source, _spec(60, num_envs, n))
  assert (expected > 0).any()
  assert float(state.priorities.max_priority) == 2.5


@pytest.mark.parametrize('n, num_envs', [(1, 1), (3, 2)])
def test_the_students_steps_do_not_change_what_is_given(n, num_envs):
  source_spec, spec = _spec(40, 1, n=1), _spec(60, num_envs, n)
  source = _ring(source_spec, 40)
  state, expected = _check_cut(source_spec, source, spec)
  start = int(state.add_count)
  assert start == 40 // num_envs + n
  rows = _rows(12, num_envs, seed=5)
  state = _add(spec, state, rows)
  leaves = np.asarray(state.priorities.tree.leaves)[: spec.capacity]
  own = np.arange(spec.capacity) // num_envs >= start
  np.testing.assert_array_equal(leaves[~own], expected[~own])
  # The student's steps are drawn as if they stood alone.
  alone = _add(spec, frame_replay.init(spec, NUM_ACTIONS), rows)
  alone_leaves = np.asarray(alone.priorities.tree.leaves)[: 12 * num_envs]
  np.testing.assert_array_equal(
      leaves[start * num_envs :][: 12 * num_envs] > 0, alone_leaves > 0
  )
  assert set(leaves[own]) == {0.0, 2.5}  # As the largest so far.
  places = np.flatnonzero(alone_leaves)
  found = _transitions(spec, state.storage, places + start * num_envs)
  wanted = _transitions(spec, alone.storage, places)
  np.testing.assert_array_equal(found.s_tm1, wanted.s_tm1)
  np.testing.assert_array_equal(found.r_t, wanted.r_t)


def test_the_newest_rows_are_kept_where_room_is_short():
  n = 3
  source_spec, spec = _spec(40, 2, n=1), _spec(20, 3, n)
  source = _ring(source_spec, 55)
  kept = replay_writer.num_rows_kept(source_spec, 80, spec)
  assert kept == (20 - n) * 3 // 2 * 2
  newest = [stream[-kept // 2 :] for stream in _line(source_spec, source)]
  _check_cut(source_spec, source, spec, newest)
  assert replay_writer.num_rows_kept(source_spec, 10, spec) == 10
  assert replay_writer.num_rows(source_spec, source) == 80


def test_a_full_ring_goes_on_at_its_oldest_rows():
  """After as many steps as it has rows nothing of them is left."""
  source_spec, spec = _spec(40, 2, n=1), _spec(20, 3, n=3)
  source = _ring(source_spec, 55)
  state = replay_writer.cut_into_streams(source_spec, source, spec, True)
  assert int(state.add_count) == 20
  rows = _rows(30, 3, seed=5)
  state = _add(spec, state, rows)
  alone = _add(spec, frame_replay.init(spec, NUM_ACTIONS), rows)
  np.testing.assert_array_equal(state.storage.frames, alone.storage.frames)
  np.testing.assert_array_equal(
      np.asarray(state.priorities.tree.leaves) > 0,
      np.asarray(alone.priorities.tree.leaves) > 0,
  )


@pytest.mark.parametrize('n, num_envs', [(1, 1), (3, 2)])
def test_what_others_excluded_stays_excluded(n, num_envs):
  """Also at the end, when the student's steps follow."""
  source_spec, spec = _spec(40, 1, n=1), _spec(60, num_envs, n)
  flags = np.zeros((40, 1), np.uint8)
  flags[0] = FIRST
  flags[[7, 38, 39]] = EXCLUDED
  flags[9] = TERMINAL
  flags[10] = BARRIER | FIRST
  rows = _rows(40, 1)._replace(flags=flags)
  source = frame_replay.from_rows(source_spec, rows)
  state, expected = _check_cut(source_spec, source, spec)
  assert (expected > 0).sum() > 20
  state = _add(spec, state, _rows(12, num_envs, seed=2))
  leaves = np.asarray(state.priorities.tree.leaves)[: spec.capacity]
  given = (40 // num_envs + n) * num_envs
  np.testing.assert_array_equal(leaves[:given], expected[:given])


def test_the_teachers_values_come_along_only_if_wanted():
  source_spec, spec = _spec(30, 1, n=1), _spec(40, 1, n=1)
  source = _ring(source_spec, 30)
  state = replay_writer.cut_into_streams(source_spec, source, spec, False)
  assert state.storage.q_teacher is None
  without = source._replace(storage=source.storage._replace(q_teacher=None))
  state = replay_writer.cut_into_streams(source_spec, without, spec, False)
  with pytest.raises(ValueError, match="lacks the teacher's Q-values"):
    replay_writer.cut_into_streams(source_spec, without, spec, True)


def test_the_source_survives_the_students_updates():
  """Which donate the student's state."""
  source_spec, spec = _spec(30, 1, n=1), _spec(40, 1, n=1)
  source = _ring(source_spec, 30)
  kept = jax.tree.map(np.array, source)
  writer = replay_writer.ReplayWriter(spec, given=(source_spec, source))
  step = jax.tree.map(lambda x: x[0], _rows(1, 1))
  stacks = np.repeat(step.frames[:, None], 4, axis=1)
  no = np.zeros(1, np.bool_)
  writer.append(
      stacks, step.action, step.reward, first=~no, terminal=no, truncated=no
  )
  assert int(writer.state.add_count) == 30 + 1 + 1
  jax.tree.map(np.testing.assert_array_equal, source, kept)


def test_what_does_not_fit_is_refused():
  source_spec, spec = _spec(30, 1, n=1), _spec(40, 1, n=1)
  empty = frame_replay.init(source_spec)
  with pytest.raises(ValueError, match='is empty'):
    replay_writer.cut_into_streams(source_spec, empty, spec, False)
  source = _ring(source_spec, 30)
  other = dataclasses.replace(spec, frame_shape=(3, 2))
  with pytest.raises(ValueError, match=r'frame_shape \(2, 2\), .* \(3, 2\)'):
    replay_writer.cut_into_streams(source_spec, source, other, False)
  tree = sum_tree.zeros(source_spec.capacity)
  priorities = source.priorities._replace(tree=tree)
  with pytest.raises(ValueError, match='None of the 30 given rows'):
    replay_writer.cut_into_streams(
        source_spec, source._replace(priorities=priorities), spec, False
    )
