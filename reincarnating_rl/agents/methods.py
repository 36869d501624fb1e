"""What distinguishes one way of reincarnation from another, as data."""

from __future__ import annotations

from typing import NamedTuple, Optional

from reincarnating_rl.dopamine_bridge.settings import OptimizerSettings
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.config.plan import NEVER_DECAY

# method_type -> (has TD, lambda and learning rate decay).
METHOD_TYPES = {
    'reincarnation': (True, True),
    'q_learning_and_dagger': (True, False),
    'dagger': (False, False),
}


class Offline(NamedTuple):
  """A pretraining that minimises something else than the online phase.

  Attributes:
    objective: terms of its loss.
    coefficients: their weights.
    optimizer: its own, the online phase then starts with a fresh one; None =
      the one of the online phase, which goes on with its moments.
  """

  objective: Objective
  coefficients: Coefficients
  optimizer: Optional[OptimizerSettings] = None


class Reload(NamedTuple):
  """What a student that is the teacher's continuation takes over.

  Attributes:
    replay: whether its data start the student's replay.
    optimizer: whether the optimizer goes on with its moments.
  """

  replay: bool = True
  optimizer: bool = True


class Method(NamedTuple):
  """One way of learning.

  Attributes:
    objective: terms of the loss.
    coefficients: their weights, those that do not decay.
    distill_decay_period: online agent steps after which lambda is 0.
    lr_decay: whether the learning rate follows lambda.
    wean: whether lambda falls as the student catches up.
    offline: a pretraining of its own; None = as online.
    teacher_data_ratio: share of online samples from the teacher's data.
    guide: how the teacher acts along; None = it does not.
    reload: what is taken over from the teacher's checkpoint; None = nothing.
  """

  objective: Objective
  coefficients: Coefficients = Coefficients()
  distill_decay_period: int = NEVER_DECAY
  lr_decay: bool = False
  wean: bool = True
  offline: Optional[Offline] = None
  teacher_data_ratio: float = 0.0
  guide: Optional[GuideConfig] = None
  reload: Optional[Reload] = None
