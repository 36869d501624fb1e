"""What runs know of their teacher, and share of it."""

from __future__ import annotations

import dataclasses
from typing import Callable, Optional

from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.replay_writer import Data


@dataclasses.dataclass
class Shared:
  """What runs side by side find out about their teacher once.

  Attributes:
    evaluation: its episodes.
    collection: the data that it collected, and its episodes meanwhile.
    read: the data that it left.
  """

  evaluation: Optional[Episodes] = None
  collection: Optional[tuple[Data, Episodes]] = None
  read: Optional[Data] = None

  def forget_data(self) -> None:
    """Frees the data, unless a run still holds it."""
    self.collection = self.read = None


@dataclasses.dataclass(frozen=True)
class Teacher:
  """What a run needs to know of a teacher.

  Attributes:
    policy: its network and parameters.
    score: its mean return where known, else None (it is then evaluated).
    read_data: reads the data it left, Q-values included, onto the device;
      None if it left none.
    shared: what its runs have found out about it; give runs one teacher, and
      they share its data.
  """

  policy: Policy
  score: Optional[float] = None
  read_data: Optional[Callable[[], Data]] = None
  shared: Shared = dataclasses.field(default_factory=Shared)
