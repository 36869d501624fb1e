"""A replay of any columns goes through the files of a checkpoint."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from replay_columns import both_kinds
from replay_columns import make_spec
from replay_columns import random_rows

from reincarnating_rl.base.stateful import StateMismatchError
from reincarnating_rl.loop.acting.replay_writer import replay_state
from reincarnating_rl.loop.acting.replay_writer import restored_replay
from reincarnating_rl.loop.saving import replays
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
  segments = (
      (segment.start, row_segments.read(str(tmp_path), segment))
      for segment in log.covering(33 - 20, 33)
  )
  saved = replay_state(state) | {'segments': segments}
  back = restored_replay(spec, frame_replay.init(spec), saved)
  jax.tree.map(np.testing.assert_array_equal, back, state)


def test_rows_of_other_columns_are_refused():
  """By name, shape or type, each in words."""
  spec = make_spec('vectors')
  state = frame_replay.init(spec)
  columns = blocks.read(spec, state.storage, 0, 4, 4)

  def restore(spec, columns):
    saved = replay_state(state) | {'segments': [(0, columns)]}
    restored_replay(spec, frame_replay.init(spec), saved)

  restore(spec, columns)
  for changed, words in (
      (make_spec(), r'action of the replay was float32\[2\], is uint8\[\]'),
      (spec.with_q_teacher(2), r'q_teacher .* was not there, is float32\[2\]'),
  ):
    with pytest.raises(StateMismatchError, match=words):
      restore(changed, columns)
  columns['frames'] = columns.pop('observation')
  with pytest.raises(StateMismatchError, match='frames .* not there'):
    restore(spec, columns)
