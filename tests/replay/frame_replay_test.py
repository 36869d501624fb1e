"""Tests of the ring against a slow one that keeps everything in lists."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_columns import ACTIONS
from replay_columns import both_kinds
from replay_columns import each_kind
from replay_columns import FRAMES
from replay_columns import GAMMA
from replay_columns import KINDS
from replay_columns import make_spec
from replay_columns import random_rows
from replay_columns import slice_rows
from replay_columns import SlowReplay
from scipy import stats

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import ring
from reincarnating_rl.replay.frame_replay import BARRIER
from reincarnating_rl.replay.frame_replay import EXCLUDED
from reincarnating_rl.replay.frame_replay import FIRST
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Rows
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED

STACK = 4
SIGNIFICANCE = 1e-4
DRAWS = 4096

# One program per spec and size: the tests share specs to share these.
add = jax.jit(frame_replay.add, static_argnums=0, donate_argnums=1)
from_rows = jax.jit(frame_replay.from_rows, static_argnums=0)
transitions = jax.jit(frame_replay.transitions, static_argnums=0)
sample = jax.jit(frame_replay.sample, static_argnums=(0, 4))

some_horizons = pytest.mark.parametrize(
    'kind, n', [('frames', 1), ('frames', 3), ('vectors', 3)]
)
each_ring = pytest.mark.parametrize('num_streams', [1, 3])


def make_rows(flags, values=None) -> Rows:
  """One stream with given flags; frames show `values`, rewards are 1, 2..."""
  num_steps = len(flags)
  values = np.arange(1, num_steps + 1) if values is None else values
  frames = np.broadcast_to(
      np.reshape(values, (-1, 1, 1, 1)),
      (num_steps, 1) + FRAMES.observation.shape,
  )
  column = np.arange(num_steps)[:, None]
  return Rows(
      frames.astype(np.uint8),
      (column % ACTIONS).astype(np.int32),
      (column + 1).astype(np.float32),
      np.reshape(flags, (-1, 1)).astype(np.uint8),
      {'q_teacher': np.zeros((num_steps, 1, ACTIONS), np.float32)},
  )


def fill(spec: ReplaySpec, rows: Rows) -> frame_replay.ReplayState:
  """Adds rows one by one to an empty replay."""
  state = frame_replay.init(spec)
  for t in range(len(rows.reward)):
    state = add(spec, state, slice_rows(rows, t, t + 1))
  return state


def all_transitions(spec, state):
  """Transitions that start at each row of the ring, eligible or not."""
  batch = transitions(spec, state.storage, jnp.arange(spec.capacity))
  return jax.tree.map(np.asarray, batch)


def eligible_set(spec, state) -> set[int]:
  leaves = np.asarray(state.priorities.tree.leaves)
  assert not leaves[spec.capacity :].any()
  return set(np.flatnonzero(leaves).tolist())


def check_against(slow: SlowReplay, state: frame_replay.ReplayState) -> int:
  """Compares all that can be sampled; returns how much that is."""
  expected = slow.eligible()
  assert eligible_set(slow.spec, state) == set(expected)
  assert int(frame_replay.num_eligible(state.priorities)) == len(expected)
  return slow.check(all_transitions(slow.spec, state))


@pytest.mark.parametrize(
    'kind, n, num_streams',
    [('frames', n, num_streams) for n in (1, 3, 10) for num_streams in (1, 3)]
    + [(kind, 3, num_streams) for kind in KINDS for num_streams in (1, 3)][2:],
)
def test_equals_the_slow_replay(kind, n, num_streams):
  """Steps one by one and in long chunks, three times around the ring."""
  spec = make_spec(kind, num_streams=num_streams, n=n)
  # Long enough to overwrite a row and make it ready again in one call.
  chunk = n + STACK + 3
  rows = random_rows(spec, n, 3 * spec.slots + 2 * chunk, n + 6.0)
  slow = SlowReplay(spec, rows)
  state = frame_replay.init(spec)
  compared = 0
  while slow.count + chunk <= len(rows.reward):
    for size in [1] * (n + 2) + [chunk]:
      new = slice_rows(rows, slow.count, slow.count + size)
      state = add(spec, state, new)
      slow.count += size
      if size > 1 or slow.count % 3 == 0:
        compared += check_against(slow, state)
      if slow.count + chunk > len(rows.reward):
        break
  assert int(state.add_count) == slow.count > 2 * spec.slots
  assert compared > 100


@each_ring
def test_a_stack_of_one_frame(num_streams):
  """The shortest stack: a state is the newest frame, [H, W, 1]."""
  spec = make_spec(slots=11, num_streams=num_streams, n=2, stack_size=1)
  rows = random_rows(spec, 0, 30)
  slow = SlowReplay(spec, rows)
  state = frame_replay.init(spec)
  for t in range(30):
    state = add(spec, state, slice_rows(rows, t, t + 1))
    slow.count += 1
    if t % 5 == 4:
      check_against(slow, state)


# -- named cases ---------------------------------------------------------------


def test_empty():
  spec = make_spec()
  state = frame_replay.init(spec)
  assert eligible_set(spec, state) == set()
  assert frame_replay.num_eligible(state.priorities) == 0
  assert state.priorities.max_priority == 1.0
  assert frame_replay.oldest_first(spec, state).observation.shape[0] == 0


@pytest.mark.parametrize('n', [1, 3])
def test_a_row_waits_for_its_successors(n):
  spec = make_spec(n=n)
  rows = make_rows([FIRST] + [0] * 7)
  state = frame_replay.init(spec)
  for t in range(8):
    state = add(spec, state, slice_rows(rows, t, t + 1))
    assert eligible_set(spec, state) == set(range(max(0, t + 1 - n)))


def test_frames_before_an_episode_are_zero():
  spec = make_spec()
  state = fill(spec, make_rows([FIRST, 0, TERMINAL, FIRST, 0, 0, 0, 0]))
  np.testing.assert_array_equal(
      all_transitions(spec, state).s_tm1[:8, 0, 0],
      [
          [0, 0, 0, 1],
          [0, 0, 1, 2],
          [0, 1, 2, 3],
          [0, 0, 0, 4],
          [0, 0, 4, 5],
          [0, 4, 5, 6],
          [4, 5, 6, 7],
          [5, 6, 7, 8],
      ],
  )


def test_a_terminal_cuts_the_return_and_the_bootstrap():
  spec = make_spec(n=3)
  state = fill(spec, make_rows([FIRST, 0, 0, TERMINAL, FIRST, 0, 0, 0]))
  assert eligible_set(spec, state) == {0, 1, 2, 3, 4}
  batch = all_transitions(spec, state)
  g = GAMMA
  np.testing.assert_allclose(
      batch.r_t[:5],
      [
          1 + g * 2 + g**2 * 3,
          2 + g * 3 + g**2 * 4,
          3 + g * 4,
          4,
          5 + g * 6 + g**2 * 7,
      ],
      rtol=1e-6,
  )
  np.testing.assert_allclose(
      batch.discount_t[:5], [g**3, 0, 0, 0, g**3], rtol=1e-6
  )


def test_a_truncation_is_no_terminal():
  """Nothing bootstraps across a time limit, and nothing ends there."""
  spec = make_spec(n=3)
  state = fill(spec, make_rows([FIRST, 0, 0, TRUNCATED, FIRST] + [0] * 5))
  # Rows 1 to 3 lie within three steps of the limit.
  assert eligible_set(spec, state) == {0, 4, 5, 6}
  discount_t = all_transitions(spec, state).discount_t[[0, 4, 5, 6]]
  np.testing.assert_allclose(discount_t, np.full(4, GAMMA**3), rtol=1e-6)


def test_a_terminal_at_the_time_limit_is_a_terminal():
  spec = make_spec(n=3)
  both = TERMINAL | TRUNCATED
  state = fill(spec, make_rows([FIRST, 0, 0, both, FIRST] + [0] * 5))
  assert eligible_set(spec, state) == set(range(7))
  discount_t = all_transitions(spec, state).discount_t[:4]
  np.testing.assert_allclose(discount_t, [GAMMA**3, 0, 0, 0], rtol=1e-6)


def test_a_time_limit_behind_a_terminal_does_not_matter():
  """Two ends within n steps: the first decides."""
  spec = make_spec(n=3)
  flags = [FIRST, TERMINAL, FIRST, TRUNCATED, FIRST, TERMINAL, FIRST]
  state = fill(spec, make_rows(flags + [0] * 5))
  assert eligible_set(spec, state) == {0, 1, 4, 5, 6, 7, 8}


def test_episodes_of_one_step():
  spec = make_spec(n=3)
  state = fill(spec, make_rows([FIRST | TERMINAL] * 6))
  assert eligible_set(spec, state) == {0, 1, 2}
  batch = all_transitions(spec, state)
  np.testing.assert_array_equal(batch.r_t[:3], [1, 2, 3])
  np.testing.assert_array_equal(batch.discount_t[:3], [0, 0, 0])
  np.testing.assert_array_equal(batch.s_tm1[2, 0, 0], [0, 0, 0, 3])


@pytest.mark.parametrize('n', [1, 3])
def test_an_overwritten_stack_is_never_sampled(n):
  """One endless episode whose frames count its steps."""
  spec = make_spec(n=n)
  rows = make_rows([FIRST] + [0] * 99)
  state = frame_replay.init(spec)
  for t in range(100):
    state = add(spec, state, slice_rows(rows, t, t + 1))
    if t < n:
      continue
    batch, _ = sample(
        spec, state.storage, state.priorities, jax.random.PRNGKey(t), DRAWS
    )
    newest = np.asarray(batch.s_tm1[:, 0, 0, -1], np.int64)
    lags = np.arange(STACK - 1, -1, -1)
    expected = np.maximum(newest[:, None] - lags, 0)
    np.testing.assert_array_equal(batch.s_tm1[:, 0, 0], expected)
    expected = np.maximum(newest[:, None] + n - lags, 0)
    np.testing.assert_array_equal(batch.s_t[:, 0, 0], expected)


@pytest.mark.parametrize('n', [1, 3])
def test_no_transition_holds_two_episodes(n):
  spec = make_spec(n=n)
  rows = random_rows(spec, 1, 150, mean_length=5.0)
  episode = np.cumsum(rows.flags[:, 0] & FIRST)
  assert episode.max() < 256
  state = fill(spec, make_rows(rows.flags, episode))
  batch, _ = sample(
      spec, state.storage, state.priorities, jax.random.PRNGKey(0), DRAWS
  )
  s_tm1, s_t = np.asarray(batch.s_tm1[:, 0, 0]), np.asarray(batch.s_t[:, 0, 0])
  continues = np.asarray(batch.discount_t) > 0
  assert continues.any() and not continues.all()
  for before, after, goes_on in zip(s_tm1, s_t, continues):
    seen = set(before) | (set(after) if goes_on else set())
    assert len(seen - {0}) == 1


# -- fixed data ----------------------------------------------------------------


@each_ring
@pytest.mark.parametrize(
    'kind, n', [('frames', 1), ('frames', 3), ('vectors', 3)]
)
def test_from_rows_equals_adding_one_by_one(kind, n, num_streams):
  spec = make_spec(kind, num_streams=num_streams, n=n)
  rows = random_rows(spec, 2, spec.slots)
  whole = from_rows(spec, rows)
  steps = fill(spec, rows)
  assert whole.add_count == steps.add_count == spec.slots
  columns = ring.by_name(whole.storage)
  assert list(columns) == list(spec.columns)
  for name, column in ring.by_name(steps.storage).items():
    assert columns[name].dtype == column.dtype == spec.columns[name].dtype
    np.testing.assert_array_equal(columns[name], column)
  # Adding has gone on as if its stacks reached behind the first rows.
  behind = (spec.stack_size - 1) * num_streams
  extra = eligible_set(spec, whole) - eligible_set(spec, steps)
  assert extra <= set(range(behind))
  assert bool(extra) == (kind == 'frames')
  assert eligible_set(spec, steps) <= eligible_set(spec, whole)
  # Every stream begins with an episode, so nothing is missing there.
  unbounded = SlowReplay(dataclasses.replace(spec, capacity=999_999), rows)
  unbounded.count = spec.slots
  assert {
      age * num_streams + stream
      for age in range(spec.slots)
      for stream in range(num_streams)
      if unbounded.is_eligible(age, stream)
  } == eligible_set(spec, whole)


def test_from_rows_that_begin_within_an_episode():
  """The first stacks are incomplete until an episode starts."""
  spec = make_spec(slots=10)
  whole = from_rows(spec, make_rows([0] * 10))
  assert eligible_set(spec, whole) == set(range(STACK - 1, 9))
  whole = from_rows(spec, make_rows([0, FIRST] + [0] * 8))
  assert eligible_set(spec, whole) == set(range(1, 9))


@each_ring
@pytest.mark.parametrize('chunk', [1, 4])
@pytest.mark.parametrize(
    'kind, n', [('frames', 1), ('frames', 3), ('vectors', 3)]
)
def test_adding_to_fixed_data_overwrites_it(kind, n, chunk, num_streams):
  """Exactly, from the first step on and more than once around."""
  spec = make_spec(kind, num_streams=num_streams, n=n)
  rows = random_rows(spec, 3, 2 * spec.slots + 12, mean_length=4.0)
  slow = SlowReplay(spec, rows, spec.slots)
  state = from_rows(spec, slice_rows(rows, 0, spec.slots))
  while slow.count + chunk <= len(rows.reward):
    new = slice_rows(rows, slow.count, slow.count + chunk)
    state = add(spec, state, new)
    slow.count += chunk
    assert check_against(slow, state) > spec.capacity // 4


@each_ring
@pytest.mark.parametrize('chunk', [1, 4])
def test_adding_at_a_head_anywhere(chunk, num_streams):
  """Data whose oldest slot is in the middle."""
  head = 5
  spec = make_spec(num_streams=num_streams, n=3)
  rows = random_rows(spec, 4, head + spec.slots + 20, mean_length=4.0)
  slow = SlowReplay(spec, rows, head + spec.slots)
  data = slice_rows(rows, head, head + spec.slots)
  turned = jax.tree.map(lambda x: np.roll(x, head, axis=0), data)
  storage = from_rows(spec, turned).storage
  state = frame_replay.from_storage(spec, storage, head)
  assert int(state.add_count) == slow.count
  while slow.count + chunk <= len(rows.reward):
    new = slice_rows(rows, slow.count, slow.count + chunk)
    state = add(spec, state, new)
    slow.count += chunk
    assert check_against(slow, state) > spec.capacity // 4


@pytest.mark.parametrize('chunk', [1, 4])
def test_no_stack_mixes_what_is_added_with_fixed_data(chunk):
  """One episode of 40 steps, and another that is written over it."""
  spec = make_spec(slots=40)
  state = from_rows(spec, make_rows([FIRST] + [0] * 39))
  rows = make_rows([FIRST] + [0] * 19, np.arange(200, 220))
  for t in range(0, 20, chunk):
    state = add(spec, state, slice_rows(rows, t, t + chunk))
    drawn = sorted(eligible_set(spec, state))
    stacks = all_transitions(spec, state).s_tm1[drawn, 0, 0]
    for stack in stacks.astype(int):
      shown = stack[stack > 0]
      np.testing.assert_array_equal(np.diff(shown), np.ones(len(shown) - 1))
    # None of the slots just behind the write head can be drawn.
    head = t + chunk
    assert not set(range(head, head + STACK - 1)) & set(drawn)


def test_from_storage_refuses_another_capacity():
  spec = make_spec(slots=10)
  state = from_rows(spec, make_rows([FIRST] + [0] * 9))
  with pytest.raises(AssertionError):
    frame_replay.from_storage(make_spec(slots=11), state.storage)


# -- data that others wrote ----------------------------------------------------


def eligible_of(flags, n=1, head=0) -> list[int]:
  """Eligible rows of one stream with given flags."""
  spec = make_spec(slots=len(flags), n=n)
  flags = jnp.array(flags, jnp.uint8)
  rows = frame_replay.eligible_rows(spec, flags, head)
  return np.flatnonzero(rows).tolist()


@each_ring
@both_kinds
@pytest.mark.parametrize('head', [0, 1, 20, 36])
def test_a_head_anywhere_is_the_same_ring_turned(head, kind, num_streams):
  spec = make_spec(kind, num_streams=num_streams, n=3)
  rows = random_rows(spec, 8, spec.slots, mean_length=5.0)
  storage = from_rows(spec, rows).storage
  turned = lambda x: np.roll(np.asarray(x), head * num_streams, axis=0)
  state = frame_replay.from_storage(spec, jax.tree.map(turned, storage), head)
  assert int(state.add_count) % spec.slots == head
  leaves = lambda state: np.asarray(state.priorities.tree.leaves)
  expected = leaves(from_rows(spec, rows))[: spec.capacity]
  np.testing.assert_array_equal(
      leaves(state)[: spec.capacity], turned(expected)
  )
  # The stacks turn with their rows.
  batch = all_transitions(spec, state)
  expected = all_transitions(spec, from_rows(spec, rows))
  for got, wanted in zip(jax.tree.leaves(batch), jax.tree.leaves(expected)):
    np.testing.assert_array_equal(got, turned(wanted))


@pytest.mark.parametrize('end', [TERMINAL, TRUNCATED])
def test_a_stack_across_an_end_is_left_out(end):
  """Without FIRST the frames behind an end are in the stack, as stored."""
  flags = [0] * 5 + [end] + [0] * 9
  before = [3, 4] + [5] * (end == TERMINAL)
  assert eligible_of(flags) == before + [9, 10, 11, 12, 13]
  # With FIRST they are not.
  flags[6] = FIRST
  assert eligible_of(flags) == before + list(range(6, 14))


def test_an_excluded_row_is_only_left_out_itself():
  flags = [FIRST] + [0] * 4 + [EXCLUDED] + [0] * 9
  assert eligible_of(flags, n=3) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_no_window_holds_a_barrier():
  """Not even behind a terminal, which cuts the return before it."""
  flags = [FIRST] + [0] * 4 + [TERMINAL, BARRIER | FIRST] + [0] * 8
  assert eligible_of(flags, n=3) == [0, 1, 2, 3, 7, 8, 9, 10, 11]
  assert eligible_of(flags, n=1) == [0, 1, 2, 3, 4, 5] + list(range(7, 14))


@each_ring
def test_successors_stop_at_a_terminal(num_streams):
  spec = make_spec(slots=10, num_streams=num_streams, n=3)
  flags = np.zeros((10, num_streams), np.uint8)
  flags[4] = TERMINAL
  flags[7] = TRUNCATED
  rows = np.arange(10) * num_streams + num_streams - 1
  found = frame_replay.successors(
      spec, jnp.asarray(flags.reshape(-1)), jnp.asarray(rows)
  )
  expected = np.array([3, 4, 5, 5, 5, 8, 9, 0, 1, 2])
  np.testing.assert_array_equal(found, rows[expected])


@each_ring
@both_kinds
@pytest.mark.parametrize('num_steps', [5, 37, 91])
def test_oldest_first(num_steps, kind, num_streams):
  """Partly filled, exactly full, and wrapped around."""
  spec = make_spec(kind, num_streams=num_streams, n=3)
  rows = random_rows(spec, 4, num_steps)
  storage = frame_replay.oldest_first(spec, fill(spec, rows))
  kept = slice_rows(rows, max(0, num_steps - 37), num_steps)
  for name, column in ring.by_name(kept).items():
    flat = column.reshape((-1,) + column.shape[2:])
    np.testing.assert_array_equal(ring.by_name(storage)[name], flat)


# -- sampling and priorities ---------------------------------------------------


def test_sampling_follows_the_priorities():
  spec = make_spec(num_streams=3, n=3)
  state = fill(spec, random_rows(spec, 5, 60))
  rows = np.array(sorted(eligible_set(spec, state)))
  values = np.random.default_rng(0).exponential(size=len(rows)) + 0.1
  priorities = frame_replay.update_priorities(
      state.priorities, jnp.asarray(rows), jnp.asarray(values, jnp.float32)
  )
  batch, indices = sample(
      spec, state.storage, priorities, jax.random.PRNGKey(1), DRAWS
  )
  counts = np.bincount(indices, minlength=spec.capacity)
  assert counts.sum() == counts[rows].sum()
  expected = values / values.sum() * DRAWS
  assert stats.chisquare(counts[rows], expected).pvalue > SIGNIFICANCE
  leaf = np.zeros(spec.capacity)
  leaf[rows] = values
  weight = 1.0 / np.sqrt(leaf[indices])
  np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-5)
  assert batch.weight.max() == 1.0


def test_without_updates_sampling_is_uniform():
  spec = make_spec(n=3)
  state = fill(spec, random_rows(spec, 6, 60))
  rows = np.array(sorted(eligible_set(spec, state)))
  batch, indices = sample(
      spec, state.storage, state.priorities, jax.random.PRNGKey(2), DRAWS
  )
  counts = np.bincount(indices, minlength=spec.capacity)[rows]
  assert counts.sum() == DRAWS
  assert stats.chisquare(counts).pvalue > SIGNIFICANCE
  np.testing.assert_array_equal(batch.weight, np.ones(DRAWS))


@both_kinds
def test_a_sample_is_the_transitions_of_its_indices(kind):
  spec = make_spec(kind, num_streams=3, n=3)
  state = fill(spec, random_rows(spec, 7, 60))
  batch, indices = sample(
      spec, state.storage, state.priorities, jax.random.PRNGKey(3), DRAWS
  )
  direct = transitions(spec, state.storage, indices)
  jax.tree.map(
      np.testing.assert_array_equal,
      batch._replace(weight=0),
      direct._replace(weight=0),
  )
  assert batch.s_tm1.shape == batch.s_t.shape == (DRAWS,) + spec.state.shape
  assert batch.s_tm1.dtype == batch.s_t.dtype == spec.state.dtype
  assert batch.r_t.dtype == batch.discount_t.dtype == jnp.float32


def test_types_of_a_batch_of_frames():
  """Discrete actions are int32, however they are stored."""
  spec = make_spec(num_streams=3, n=3)
  batch = all_transitions(spec, frame_replay.init(spec))
  assert spec.state == ArraySpec((2, 3, STACK), 'uint8')
  assert batch.a_tm1.dtype == np.int32
  assert batch.q_teacher.shape == (spec.capacity, ACTIONS)
  assert batch.extras is None


def test_types_of_a_batch_of_vectors():
  spec = make_spec('vectors', num_streams=3, n=3)
  batch = all_transitions(spec, frame_replay.init(spec))
  assert spec.state == spec.observation
  assert batch.a_tm1.shape == (spec.capacity, 2)
  assert batch.a_tm1.dtype == np.float32
  assert batch.q_teacher is None
  shapes = {name: column.shape for name, column in batch.extras.items()}
  rows = spec.capacity
  assert shapes == {'carry': (rows, 2, 3), 'log_prob': (rows,)}


def test_new_rows_enter_with_the_largest_priority_ever():
  spec = make_spec()
  rows = make_rows([FIRST] + [0] * 7)
  state = fill(spec, slice_rows(rows, 0, 4))
  leaves = lambda state: np.asarray(state.priorities.tree.leaves[:8])
  np.testing.assert_array_equal(leaves(state), [1, 1, 1, 0, 0, 0, 0, 0])
  for index, value in ((1, 0.25), (2, 5.0), (2, 0.5)):
    state = state._replace(
        priorities=frame_replay.update_priorities(
            state.priorities, jnp.array([index]), jnp.array([value])
        )
    )
  assert state.priorities.max_priority == 5.0
  state = add(spec, state, slice_rows(rows, 4, 6))
  np.testing.assert_array_equal(leaves(state), [1, 0.25, 0.5, 5, 5, 0, 0, 0])


def test_small_priorities_do_not_lower_the_largest():
  state = fill(make_spec(), make_rows([FIRST, 0, 0]))
  priorities = frame_replay.update_priorities(
      state.priorities, jnp.array([0, 1]), jnp.array([0.1, 0.2])
  )
  assert priorities.max_priority == 1.0
  np.testing.assert_allclose(priorities.tree.leaves[:3], [0.1, 0.2, 0.0])
  np.testing.assert_allclose(priorities.tree.total, 0.3, rtol=1e-6)


# -- memory --------------------------------------------------------------------


ATARI = ReplaySpec(2_000)
# As many bytes, of small rows.
CONTROL = dataclasses.replace(KINDS['vectors'], capacity=200_000)
of_some_size = pytest.mark.parametrize('spec', [ATARI, CONTROL])


@of_some_size
@pytest.mark.parametrize('num_steps', [1, 4])
def test_a_donated_add_writes_in_place(num_steps, spec):
  # On the device already, or the test would count copies of its own.
  rows = jax.tree.map(jnp.asarray, random_rows(spec, 0, num_steps))
  state = frame_replay.init(spec)
  pointers = lambda state: [
      x.unsafe_buffer_pointer() for x in jax.tree.leaves(state.storage)
  ]
  before, expected = state, pointers(state)
  for _ in range(3):
    state = add(spec, state, rows)
  assert pointers(state) == expected
  assert before.storage.observation.is_deleted()
  memory = add.lower(spec, state, rows).compile().memory_analysis()
  assert memory.temp_size_in_bytes < spec.nbytes / 100


@of_some_size
def test_sampling_copies_no_more_than_its_batch(spec):
  state = frame_replay.init(spec)
  lowered = sample.lower(
      spec, state.storage, state.priorities, jax.random.PRNGKey(0), 2
  )
  memory = lowered.compile().memory_analysis()
  assert memory.temp_size_in_bytes < spec.nbytes / 100


def test_a_million_rows_fit_where_they_should():
  spec = ReplaySpec(1_000_000)
  assert 84 * 84 * 1_000_000 < spec.nbytes < 7.1e9 * 1.05


@each_ring
@each_kind
def test_nbytes_is_what_is_allocated(kind, num_streams):
  spec = make_spec(kind, slots=999, num_streams=num_streams)
  state = frame_replay.init(spec)
  allocated = sum(x.nbytes for x in jax.tree.leaves(state))
  assert abs(spec.nbytes - allocated) < 4096


# -- errors --------------------------------------------------------------------

ONE = ArraySpec((), 'float32')


@pytest.mark.parametrize(
    'changes, numbers',
    [
        ({'capacity': 100, 'num_streams': 3}, ('100', '3')),
        ({'capacity': 8, 'update_horizon': 10}, ('8', '10')),
        ({'capacity': 24, 'num_streams': 3, 'update_horizon': 5}, ('24', '8')),
        ({'capacity': 100, 'num_streams': 0}, ('0',)),
        ({'capacity': 100, 'update_horizon': 0}, ('0',)),
        ({'capacity': 100, 'stack_size': 0}, ('0',)),
        ({'capacity': 0}, ('0',)),
        ({'action': ArraySpec((), 'bool')}, ('bool',)),
        ({'extras': (('a', ONE), ('flags', ONE))}, ("'flags']",)),
        ({'extras': (('b', ONE), ('a', ONE))}, ("['b',", "'a']")),
        ({'extras': (('a', ONE), ('a', ONE))}, ("['a',", "'a']")),
    ],
)
def test_a_bad_spec_is_refused(changes, numbers):
  with pytest.raises(ValueError) as error:
    ReplaySpec(**({'capacity': 100} | changes))
  for number in numbers:
    assert number in str(error.value).replace('.', ' ').split()


def add_others(spec: ReplaySpec, other: ReplaySpec):
  """Adds a step of another replay."""
  frame_replay.add(spec, frame_replay.init(spec), random_rows(other, 0, 1))


def test_rows_of_other_streams_are_refused():
  with pytest.raises(ValueError, match='2 streams .* of 3'):
    add_others(make_spec(num_streams=3), make_spec(num_streams=2))


def test_rows_of_other_columns_are_refused():
  with pytest.raises(ValueError, match='flags, q_teacher was given .*, flags.'):
    add_others(make_spec(), make_spec(extras=()))
  floats = make_spec(action=ArraySpec((), 'float32'))
  with pytest.raises(ValueError, match='column action is uint8; got float32'):
    add_others(make_spec(), floats)


def test_more_steps_than_fit_are_refused():
  spec = make_spec(slots=20, n=3)
  state = frame_replay.init(spec)
  add_to = functools.partial(frame_replay.add, spec)
  most = spec.slots - spec.update_horizon - spec.stack_size
  jax.eval_shape(add_to, state, random_rows(spec, 0, most))
  with pytest.raises(ValueError, match=f'{most + 1} steps .* 20 slots'):
    jax.eval_shape(add_to, state, random_rows(spec, 0, most + 1))


def test_frames_of_another_shape_are_refused():
  with pytest.raises(AssertionError):
    add_others(make_spec(observation=ArraySpec((3, 3), 'uint8')), make_spec())


@both_kinds
def test_grown_replay_is_the_one_that_was_large_from_the_start(kind):
  small, large = (make_spec(kind, slots, 2, 3) for slots in (20, 45))
  rows = random_rows(small, 3, 16)
  grown, expected = fill(small, rows), fill(large, rows)
  small, grown = frame_replay.grow(small, grown, 90)
  assert small == large
  for got, wanted in zip(
      jax.tree.leaves(grown), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_array_equal(got, wanted)


def test_wrapped_replay_cannot_grow():
  spec = make_spec(slots=10, num_streams=2, n=3)
  state = frame_replay.init(spec)._replace(add_count=jnp.int32(11))
  with pytest.raises(ValueError, match='has wrapped around'):
    frame_replay.grow(spec, state, 90)
