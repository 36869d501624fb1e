"""Slots of a ring come back as they were, wherever they lie."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from replay_columns import both_kinds
from replay_columns import make_spec
from replay_columns import random_rows

from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import ring

SLOTS = 20


@both_kinds
@pytest.mark.parametrize('num_streams', [1, 3])
@pytest.mark.parametrize('start, stop', [(0, 20), (4, 11), (15, 27), (38, 43)])
@pytest.mark.parametrize('at_once', [5, 20])
def test_slots_come_back(at_once, start, stop, kind, num_streams):
  spec = make_spec(kind, SLOTS, num_streams, n=3)
  rows = random_rows(spec, 0, SLOTS)
  storage = frame_replay.from_rows(spec, rows).storage
  columns = blocks.read(spec, storage, start, stop, at_once)
  assert set(columns) == set(spec.columns)
  slots = np.arange(start, stop) % SLOTS
  for name, column in ring.by_name(rows).items():
    wanted = column[slots].reshape((-1,) + column.shape[2:])
    np.testing.assert_array_equal(columns[name], wanted)
    assert columns[name].dtype == spec.columns[name].dtype
  empty = jax.tree.map(jnp.zeros_like, storage)
  back = ring.by_name(blocks.write(spec, empty, start, columns))
  for name, column in ring.by_name(rows).items():
    expected = np.zeros_like(column)
    expected[slots] = column[slots]
    found = np.reshape(back[name], column.shape)
    np.testing.assert_array_equal(found, expected)
