"""The replays of a run as they go into its checkpoints (`archive.rows`).

What of a replay is not in its rows (priorities, steps that wait) is saved with
the rest of the run (`state`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from reincarnating_rl.loop.acting.env_player import Collection
from reincarnating_rl.loop.acting.replay_writer import COLLECTED_ROWS
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState

# Rows of one segment on the disk: some tens of megabytes, a megabyte packed.
_SEGMENT_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class DeviceRing:
  """A replay as `archive.rows` sees it."""

  spec: ReplaySpec
  state: ReplayState
  written: int

  @property
  def slots(self) -> int:
    return self.spec.slots

  @property
  def segment_slots(self) -> int:
    wanted = _SEGMENT_ROWS // self.spec.num_streams
    return max(min(wanted, self.spec.slots // 2), 1)

  def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
    return blocks.read(
        self.spec, self.state.storage, start, stop, self.segment_slots
    )


def of_run(run: Run) -> dict[str, DeviceRing]:
  """The replays of a run that a checkpoint needs, by the name of their rows."""
  found = {}
  if run.player is not None:
    found[run.trainer.writer.name] = _ring(run.trainer.writer)
  if isinstance(run.stage.activity, Collection):
    found[COLLECTED_ROWS] = _ring(run.stage.activity.writer)
  elif run.collected is not None:
    spec, state = run.teacher_data
    found[COLLECTED_ROWS] = DeviceRing(spec, state, spec.slots)
  return found


def _ring(writer: ReplayWriter) -> DeviceRing:
  return DeviceRing(writer.spec, writer.state, writer.slots_written)
