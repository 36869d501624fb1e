"""Teacher of a run: policy, score, data, and results that runs share."""

from __future__ import annotations

import dataclasses
from typing import Callable, Optional

from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.replay_writer import Data


@dataclasses.dataclass
class Shared:
  """Results about a teacher that runs in one process share.

  Attributes:
    evaluation: episodes of the teacher's evaluation.
    collection: data that the teacher collected, and the episodes in it.
    read: data that was read from the teacher's directory.
  """

  evaluation: Optional[Episodes] = None
  collection: Optional[tuple[Data, Episodes]] = None
  read: Optional[Data] = None

  def forget_data(self) -> None:
    """Drops the data; the memory is free once no run holds it."""
    self.collection = self.read = None


@dataclasses.dataclass(frozen=True)
class Teacher:
  """Teacher, as a run needs it.

  Attributes:
    policy: network and parameters.
    score: mean return; None = the run evaluates the teacher.
    read_data: reads the teacher's data, with its Q-values, onto the device;
      None if there is no data.
    shared: results that runs share; runs with the same `Teacher` object share
      its data.
  """

  policy: Policy
  score: Optional[float] = None
  read_data: Optional[Callable[[], Data]] = None
  shared: Shared = dataclasses.field(default_factory=Shared)
