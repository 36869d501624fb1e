"""Tests of writing to a replay, and of one that begins with given rows.

The latter against slow forms: a line of rows per source stream, walked one by
one.
"""

from __future__ import annotations

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_columns import both_kinds
from replay_columns import make_spec
from replay_columns import random_rows
from replay_columns import slice_rows
from replay_columns import SlowReplay

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.learner.policy import value_policy
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


def _spec(slots, num_streams, n, kind='frames') -> ReplaySpec:
  return make_spec(kind, slots, num_streams, n)


def _rows(spec, num_steps, seed=0) -> Rows:
  """Episodes that end by themselves or by a limit; each reward is its own."""
  rows = random_rows(spec, seed, num_steps, mean_length=6.0)
  rng = np.random.default_rng(seed)
  reward = rng.normal(size=rows.reward.shape).astype(np.float32)
  # Of the ends none is both.
  flags = np.where(
      rows.flags & TERMINAL, rows.flags & (255 - TRUNCATED), rows.flags
  )
  return rows._replace(reward=reward, flags=flags.astype(np.uint8))


@functools.partial(jax.jit, static_argnums=0)
def _add_one(spec, state, rows):
  return frame_replay.add(spec, state, rows)


_transitions = jax.jit(frame_replay.transitions, static_argnums=0)


def _add(spec, state, rows):
  """Writes rows one step at a time."""
  for t in range(len(rows.reward)):
    state = _add_one(spec, state, slice_rows(rows, t, t + 1))
  return state


def _ring(spec, num_steps, seed=0):
  """A ring that was written to, and whose priorities were learned from."""
  state = frame_replay.init(spec)
  state = _add(spec, state, _rows(spec, num_steps, seed))
  rng = np.random.default_rng(seed)
  leaves = np.asarray(state.priorities.tree.leaves)
  weights = rng.uniform(0.5, 2.0, leaves.shape).astype(np.float32)
  tree = sum_tree.from_leaves(jnp.where(leaves > 0, weights, 0.0))
  priorities = frame_replay.Priorities(tree, jnp.float32(2.5))
  return state._replace(priorities=priorities)


# -- writing -------------------------------------------------------------------


def _append(writer, rows: Rows, first_step=0, without=()):
  """Hands steps to a writer as the loop does: whole states, one by one."""
  slow = SlowReplay(writer.spec, rows)
  for t in range(first_step, len(rows.reward)):
    states = [slow.state(t, e) for e in range(writer.spec.num_streams)]
    observation = np.stack(states)
    if writer.spec.has_stack_axis:
      observation = np.moveaxis(observation, -1, 1)
    writer.append(
        observation,
        rows.action[t],
        rows.reward[t],
        first=(rows.flags[t] & FIRST) > 0,
        terminal=(rows.flags[t] & TERMINAL) > 0,
        truncated=(rows.flags[t] & TRUNCATED) > 0,
        extras={k: v[t] for k, v in rows.extras.items() if k not in without},
    )


@both_kinds
@pytest.mark.parametrize('chunk', [1, 4])
def test_a_writer_adds_the_steps_that_it_is_given(chunk, kind):
  """In chunks, and the rest one by one; unclipped where that is wanted."""
  spec = _spec(30, 2, 3, kind)
  rows = _rows(spec, 41)
  rows = rows._replace(reward=3 * rows.reward)
  writer = replay_writer.ReplayWriter(spec, chunk=chunk, reward_clip=None)
  _append(writer, rows)
  assert len(writer.pending) == 41 % chunk
  writer.flush()
  assert (writer.pending, writer.slots_written) == ([], 41)
  expected = _add(spec, frame_replay.init(spec), rows)
  jax.tree.map(np.testing.assert_array_equal, writer.state, expected)


@pytest.mark.parametrize('clip, kept', [(1.0, 1.0), (0.5, 0.5), (None, 7.0)])
def test_rewards_are_clipped_if_the_writer_clips(clip, kept):
  spec = _spec(30, 2, 1)
  writer = replay_writer.ReplayWriter(spec, reward_clip=clip)
  rows = _rows(spec, 1)
  rows = rows._replace(reward=np.array([[7.0, -7.0]], np.float32))
  _append(writer, rows)
  np.testing.assert_array_equal(writer.state.storage.reward[:2], [kept, -kept])


@pytest.mark.parametrize(
    'action, words',
    [
        ([3, 300], 'Action 300 does not fit .* as uint8'),
        ([-1, 3], 'Action -1 does not fit .* as uint8'),
        ([0.0, 1.0], 'keeps uint8 actions, not float64'),
    ],
)
def test_an_action_that_does_not_fit_is_refused(action, words):
  spec = _spec(30, 2, 1)
  writer = replay_writer.ReplayWriter(spec)
  rows = _rows(spec, 1)._replace(action=np.array([action]))
  with pytest.raises(ValueError, match=words):
    _append(writer, rows)
  assert not writer.pending and writer.slots_written == 0
  # The largest that fits.
  _append(writer, rows._replace(action=np.array([[255, 0]])))
  np.testing.assert_array_equal(writer.state.storage.action[:2], [255, 0])


def test_actions_of_control_are_kept_in_single_precision():
  spec = _spec(30, 2, 1, 'vectors')
  writer = replay_writer.ReplayWriter(spec)
  rows = _rows(spec, 1)
  action = np.array([[[0.1, -7.5], [1e9, 0.0]]])
  _append(writer, rows._replace(action=action))
  np.testing.assert_array_equal(
      writer.state.storage.action[:2], action[0].astype(np.float32)
  )


def test_missing_and_unknown_columns_are_refused():
  spec = _spec(30, 2, 1, 'vectors')
  rows = _rows(spec, 1)
  writer = replay_writer.ReplayWriter(spec)
  with pytest.raises(ValueError, match=r"prob'\], the step \['carry'\]"):
    _append(writer, rows, without=('log_prob',))
  writer = replay_writer.ReplayWriter(dataclasses.replace(spec, extras=()))
  with pytest.raises(ValueError, match=r'extra columns \[\], .*log_prob'):
    _append(writer, rows)


class _Linear(nn.Module):
  """Values that are linear in the state."""

  num_actions: int = 3

  @nn.compact
  def __call__(self, x, rng_key=None):
    flat = x.reshape((x.shape[0], -1)).astype(jnp.float32)
    return NetworkOutput(nn.Dense(self.num_actions)(flat), flat)


@both_kinds
def test_a_teachers_values_stand_beside_each_state(kind):
  """And beside the columns that are given."""
  spec = _spec(30, 2, 3, kind)
  states = jnp.zeros((1,) + spec.state.shape)
  params = _Linear().init(jax.random.PRNGKey(0), states)['params']
  teacher = value_policy(_Linear(), params)
  writer = replay_writer.ReplayWriter(spec, teacher, chunk=4)
  assert writer.spec == spec.with_q_teacher(3)
  rows = _rows(writer.spec, 10)
  _append(writer, rows, without=('q_teacher',))
  writer.flush()
  slow, storage = SlowReplay(writer.spec, rows), writer.state.storage
  states = np.stack([slow.state(t, e) for t in range(10) for e in range(2)])
  np.testing.assert_allclose(
      storage.extras['q_teacher'][:20], teacher.q_values(states), atol=1e-4
  )
  for name in rows.extras.keys() - {'q_teacher'}:
    given = rows.extras[name].reshape((20,) + rows.extras[name].shape[2:])
    np.testing.assert_array_equal(storage.extras[name][:20], given)


# -- replays that begin with given rows ----------------------------------------


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


def _may_be_drawn(flags, run, at, n, stack_size) -> bool:
  """True if stack and n steps of a row lie in its run, in one episode."""
  for lag in range(stack_size):
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
  state = replay_writer.cut_into_streams(source_spec, source, spec)
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
        if _may_be_drawn(flags, run, at, spec.update_horizon, spec.stack_size):
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
  ongoing = np.asarray(found.discount_t) > 0  # Else s_t is undefined.
  found, wanted = (b._replace(s_t=b.s_t[ongoing]) for b in (found, wanted))
  jax.tree.map(np.testing.assert_array_equal, found, wanted)
  return state, expected


@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('source_streams, num_envs', [(1, 1), (1, 2), (4, 3)])
@pytest.mark.parametrize('num_steps', [25, 71])
@both_kinds
def test_given_rows_are_the_sources(
    kind, n, num_envs, source_streams, num_steps
):
  """Rings that are half full, and overwritten in part."""
  source_spec = _spec(40, source_streams, 1, kind)
  source = _ring(source_spec, num_steps)
  spec = _spec(60, num_envs, n, kind)
  state, expected = _check_cut(source_spec, source, spec)
  assert (expected > 0).any()
  assert float(state.priorities.max_priority) == 2.5


@pytest.mark.parametrize('n, num_envs', [(1, 1), (3, 2)])
def test_the_students_steps_do_not_change_what_is_given(n, num_envs):
  source_spec, spec = _spec(40, 1, n=1), _spec(60, num_envs, n)
  source = _ring(source_spec, 40)
  state, expected = _check_cut(source_spec, source, spec)
  start = int(state.add_count)
  assert start == 40 // num_envs + n
  rows = _rows(spec, 12, seed=5)
  state = _add(spec, state, rows)
  leaves = np.asarray(state.priorities.tree.leaves)[: spec.capacity]
  own = np.arange(spec.capacity) // num_envs >= start
  np.testing.assert_array_equal(leaves[~own], expected[~own])
  # The student's steps are drawn as if they stood alone.
  alone = _add(spec, frame_replay.init(spec), rows)
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
  state = replay_writer.cut_into_streams(source_spec, source, spec)
  assert int(state.add_count) == 20
  rows = _rows(spec, 30, seed=5)
  state = _add(spec, state, rows)
  alone = _add(spec, frame_replay.init(spec), rows)
  np.testing.assert_array_equal(
      state.storage.observation, alone.storage.observation
  )
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
  rows = _rows(source_spec, 40)._replace(flags=flags)
  source = frame_replay.from_rows(source_spec, rows)
  state, expected = _check_cut(source_spec, source, spec)
  assert (expected > 0).sum() > 20
  state = _add(spec, state, _rows(spec, 12, seed=2))
  leaves = np.asarray(state.priorities.tree.leaves)[: spec.capacity]
  given = (40 // num_envs + n) * num_envs
  np.testing.assert_array_equal(leaves[:given], expected[:given])


def test_the_teachers_values_come_along_only_if_wanted():
  source_spec, spec = _spec(30, 1, n=1), _spec(40, 1, n=1)
  source = _ring(source_spec, 30)
  cut = replay_writer.cut_into_streams
  untaught = dataclasses.replace(spec, extras=())
  assert not cut(source_spec, source, untaught).storage.extras
  without = source._replace(storage=source.storage._replace(extras={}))
  source_spec = dataclasses.replace(source_spec, extras=())
  assert not cut(source_spec, without, untaught).storage.extras
  with pytest.raises(ValueError, match="lacks the teacher's Q-values"):
    cut(source_spec, without, spec)
  other = untaught.with_extra('log_prob', ArraySpec((), 'float32'))
  with pytest.raises(ValueError, match='lacks column log_prob'):
    cut(source_spec, without, other)


def test_the_source_survives_the_students_updates():
  """Which donate the student's state."""
  source_spec, spec = _spec(30, 1, n=1), _spec(40, 1, n=1)
  source = _ring(source_spec, 30)
  kept = jax.tree.map(np.array, source)
  writer = replay_writer.ReplayWriter(spec, given=(source_spec, source))
  _append(writer, _rows(spec, 1))
  assert int(writer.state.add_count) == 30 + 1 + 1
  jax.tree.map(np.testing.assert_array_equal, source, kept)


def test_what_does_not_fit_is_refused():
  source_spec, spec = _spec(30, 1, n=1), _spec(40, 1, n=1)
  empty = frame_replay.init(source_spec)
  with pytest.raises(ValueError, match='is empty'):
    replay_writer.cut_into_streams(source_spec, empty, spec)
  source = _ring(source_spec, 30)
  other = dataclasses.replace(spec, observation=ArraySpec((3, 3), 'uint8'))
  with pytest.raises(ValueError, match=r'observation .*\(2, 3\).* \(3, 3\)'):
    replay_writer.cut_into_streams(source_spec, source, other)
  other = dataclasses.replace(spec, action=ArraySpec((), 'int32'))
  with pytest.raises(ValueError, match=r'action .*\(uint8\).* \(int32\)'):
    replay_writer.cut_into_streams(source_spec, source, other)
  other = dataclasses.replace(spec, stack_size=3)
  with pytest.raises(ValueError, match='stack_size 4, the student has 3'):
    replay_writer.cut_into_streams(source_spec, source, other)
  tree = sum_tree.zeros(source_spec.capacity)
  priorities = source.priorities._replace(tree=tree)
  with pytest.raises(ValueError, match='None of the 30 given rows'):
    replay_writer.cut_into_streams(
        source_spec, source._replace(priorities=priorities), spec
    )
