"""Replays of a run, as its checkpoints store them (`checkpoints.row_segments`).

Here are the rows. Priorities and steps that are not written yet are saved with
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

# Rows of one segment on disk. Of frames: some 60 megabytes, about one packed.
_SEGMENT_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class DeviceRing:
  """A replay with the interface of `row_segments.Ring`.

  Attributes:
    spec: static description.
    state: the replay on the device.
    written: slots written since it was empty.
  """

  spec: ReplaySpec
  state: ReplayState
  written: int

  @property
  def slots(self) -> int:
    """Slots that it holds."""
    return self.spec.slots

  @property
  def segment_slots(self) -> int:
    """Slots of one segment."""
    wanted = _SEGMENT_ROWS // self.spec.num_streams
    return max(min(wanted, self.spec.slots // 2), 1)

  def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
    """Copies of the columns of some slots, by name."""
    return blocks.read(
        self.spec, self.state.storage, start, stop, self.segment_slots
    )


def of_run(run: Run) -> dict[str, DeviceRing]:
  """Replays of a run that a checkpoint needs, by the name of their rows."""
  found, writer = {}, run.trainer.writer
  if run.player is not None and writer is not None:
    found[writer.name] = _ring(writer)
  if isinstance(run.stage.activity, Collection):
    found[COLLECTED_ROWS] = _ring(run.stage.activity.writer)
  elif run.collected is not None and run.teacher_data is not None:
    spec, state = run.teacher_data
    found[COLLECTED_ROWS] = DeviceRing(spec, state, spec.slots)
  return found


def _ring(writer: ReplayWriter) -> DeviceRing:
  return DeviceRing(writer.spec, writer.state, writer.slots_written)
