"""A replay of any columns goes through the files of a checkpoint."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from replay_columns import both_kinds
from replay_columns import make_spec
from replay_columns import random_rows

from reincarnating_rl.loop.saving import replays
from reincarnating_rl.loop.saving import state as state_lib
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.storage.checkpoints import row_segments
from reincarnating_rl.storage.checkpoints.background import Background


@both_kinds
def test_rows_come_back_from_a_checkpoints_files(tmp_path, kind):
  """A ring that has wrapped around, in segments of half of it."""
  spec = make_spec(kind, 20, 2, 3)
  state = frame_replay.from_rows(spec, random_rows(spec, 0, 20))
  ring = replays.DeviceRing(spec, state, written=33)
  background = Background()
  log = row_segments.RowLog(str(tmp_path), background)
  log.seal(ring)
  background.wait()
  background.close()
  storage = frame_replay.init(spec).storage
  for segment in log.covering(33 - 20, 33):
    columns = row_segments.read(str(tmp_path), segment)
    state_lib._check_columns(spec, columns)
    storage = blocks.write(spec, storage, segment.start, columns)
  jax.tree.map(np.testing.assert_array_equal, storage, state.storage)


def test_rows_of_other_columns_are_refused():
  """By name, shape or type, each in words."""
  spec = make_spec('vectors')
  other = make_spec('frames')
  state = frame_replay.init(spec)
  columns = blocks.read(spec, state.storage, 0, 4, 4)
  state_lib._check_columns(spec, columns)
  for changed, words in (
      (other, r'action of the replay was float32\[2\], is uint8\[\]'),
      (spec.with_q_teacher(2), r'q_teacher .* was not there, is float32\[2\]'),
  ):
    with pytest.raises(state_lib.StateMismatchError, match=words):
      state_lib._check_columns(changed, columns)
  columns['frames'] = columns.pop('observation')
  with pytest.raises(state_lib.StateMismatchError, match='frames .* not there'):
    state_lib._check_columns(spec, columns)
