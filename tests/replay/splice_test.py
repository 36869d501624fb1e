"""A replay that goes on from another's rows mixes the two in no transition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_columns import both_kinds
from replay_columns import make_spec
from replay_columns import random_rows

from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import splice

ENVS = 2
_add = functools.partial(jax.jit, static_argnums=0)(frame_replay.add)


def _spec(kind, slots, horizon):
  return make_spec(kind, slots, ENVS, horizon)


def _steps(spec, rng, num, first, end_share):
  """[num, E] steps of short episodes, each observation like no other.

  Args:
    spec: of the replay.
    rng: draws them.
    num: T.
    first: [E] bool, whether the first step begins an episode.
    end_share: probability that a step ends one.

  Returns:
    The rows, and whether the step after them begins an episode.
  """
  flags = np.zeros((num, ENVS), np.uint8)
  for t in range(num):
    flags[t] = frame_replay.FIRST * first
    ends = rng.random(ENVS) < end_share
    how = rng.choice([frame_replay.TERMINAL, frame_replay.TRUNCATED], ENVS)
    flags[t] += (ends * how).astype(np.uint8)
    first = ends
  rows = random_rows(spec, int(rng.integers(2**31)), num)
  reward = rng.normal(size=(num, ENVS)).astype(np.float32)
  return rows._replace(reward=reward, flags=flags), first


def _filled(spec, seed, num, end_share):
  rng = np.random.default_rng(seed)
  state, first = frame_replay.init(spec), np.ones(ENVS, np.bool_)
  for _ in range(num):
    rows, first = _steps(spec, rng, 1, first, end_share)
    state = _add(spec, state, rows)
  return state, first


def _transitions(spec, state):
  """Every row's, by row; and whether it can be drawn."""
  rows = jnp.arange(spec.capacity)
  found = frame_replay.transitions(spec, state.storage, rows)
  found = found._replace(weight=None)
  drawn = np.asarray(state.priorities.tree.leaves[: spec.capacity]) > 0
  found = jax.device_get(found)
  # Behind a terminal there is nothing.
  s_t = np.array(found.s_t)
  s_t[found.discount_t == 0] = 0
  return found._replace(s_t=s_t), drawn


def _row(tree, row):
  return jax.tree.map(lambda x: x[row], tree)


@both_kinds
@pytest.mark.parametrize('horizon', [1, 3, 6])
@pytest.mark.parametrize('num', [11, 14, 40])
@pytest.mark.parametrize('end_share', [0.0, 0.2, 0.6])
def test_no_transition_mixes_the_two(kind, horizon, num, end_share):
  spec = _spec(kind, 20, horizon)
  source, _ = _filled(spec, 1, num, end_share)
  own, first = _filled(spec, 2, num, end_share)
  made = splice.splice(spec, source, splice.newest(spec, own))
  assert int(made.add_count) == num
  theirs, _ = _transitions(spec, source)
  more, _ = _steps(spec, np.random.default_rng(3), 1, first, end_share)
  for extra in range(9):
    ours, drawn_here = _transitions(spec, own)
    found, drawn = _transitions(spec, made)
    for row in np.flatnonzero(drawn):
      new = _is_new(spec, row, num, extra)
      expected = ours if new else theirs
      # The source's that wait for a successor may have ended before it.
      assert drawn_here[row] or not new
      for x, y in zip(
          jax.tree.leaves(_row(found, row)),
          jax.tree.leaves(_row(expected, row)),
          strict=True,
      ):
        np.testing.assert_array_equal(x, y)
    # Nothing of what is new is left out.
    for row in np.flatnonzero(drawn_here):
      if _is_new(spec, row, num, extra):
        assert drawn[row]
    made, own = _add(spec, made, more), _add(spec, own, more)
    more, _ = _steps(
        spec,
        np.random.default_rng(4 + extra),
        1,
        np.asarray(more.flags[-1]) > frame_replay.FIRST,
        end_share,
    )


def _is_new(spec, row, num, extra):
  """True if a row was written after the splice."""
  slots = [age % spec.slots for age in range(num, num + extra)]
  return row // ENVS in slots


@both_kinds
def test_nothing_is_shared_with_the_source(kind):
  """Whoever writes to what is made gives up its arrays."""
  spec = _spec(kind, 20, 2)
  source, _ = _filled(spec, 1, 14, 0.2)
  own, _ = _filled(spec, 2, 14, 0.2)
  made = splice.splice(spec, source, splice.newest(spec, own))
  jax.tree.map(lambda x: x.delete(), made)
  assert not any(x.is_deleted() for x in jax.tree.leaves((source, own)))


@pytest.mark.parametrize('kind, replaced', [('frames', 3), ('vectors', 1)])
def test_most_rows_can_still_be_drawn(kind, replaced):
  spec = _spec(kind, 40, 2)
  source, _ = _filled(spec, 1, 30, 0.0)
  own, _ = _filled(spec, 2, 30, 0.0)
  made = splice.splice(spec, source, splice.newest(spec, own))
  before, after = (
      int(frame_replay.num_eligible(s.priorities)) for s in (source, made)
  )
  assert before == 28 * ENVS
  assert after == (30 - replaced - 2) * ENVS
