"""Ways of reincarnation, as data: objective, coefficients, schedule."""

from __future__ import annotations

from typing import NamedTuple, Optional

from reincarnating_rl.dopamine_bridge.settings import OptimizerSettings
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.config.parts import NEVER_DECAY

# method_type -> (has TD, lambda and learning rate decay).
METHOD_TYPES = {
    'reincarnation': (True, True),
    'q_learning_and_dagger': (True, False),
    'dagger': (False, False),
}


class Offline(NamedTuple):
  """A pretraining with another loss than the online phase.

  Attributes:
    objective: terms of its loss.
    coefficients: weights of the terms.
    optimizer: optimizer of the pretraining; the online phase then starts with
      a fresh one. None = the online optimizer, which keeps its moments.
  """

  objective: Objective
  coefficients: Coefficients
  optimizer: Optional[OptimizerSettings] = None


class Reload(NamedTuple):
  """Parts of the teacher's checkpoint that a continuation takes over.

  Attributes:
    replay: True if the student's replay starts with the teacher's.
    optimizer: True if the optimizer keeps the teacher's moments.
  """

  replay: bool = True
  optimizer: bool = True


class Method(NamedTuple):
  """One way of learning.

  Attributes:
    objective: terms of the loss.
    coefficients: weights of the terms that do not decay.
    distill_decay_period: online agent steps after which lambda is 0.
    lr_decay: True if the learning rate follows lambda.
    wean: True if lambda falls as the student catches up.
    offline: pretraining with another loss; None = as online.
    teacher_data_ratio: share of online samples from the teacher's data.
    guide: how the teacher acts along; None = it does not.
    reload: parts taken over from the teacher's checkpoint; None = none.
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
