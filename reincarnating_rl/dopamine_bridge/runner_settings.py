"""Settings under the gin names of the runners.

`RunnerWithTeacher.X` and `ReincarnationRunner.X` fill a `RunnerSettings`: the
fields of a plan that the runner decides (`loop.config.parts`), and how the run
is kept.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any, Optional

import gin

from reincarnating_rl.dopamine_bridge import replay_ratio as replay_ratio_lib
from reincarnating_rl.dopamine_bridge import signatures
from reincarnating_rl.loop.config import parts
from reincarnating_rl.loop.saving.checkpoint import CHECKPOINTS_KEPT
from reincarnating_rl.loop.saving.supervisor import MINUTES_BETWEEN_CHECKPOINTS
from reincarnating_rl.loop.saving.supervisor import MINUTES_UNTIL_STALL

_MODULE = 'reincarnating_rl.runner'  # in gin files of users


@dataclasses.dataclass(frozen=True)
class KeepingSettings(parts.Settings):
  """How a run is saved, watched, logged and cut short.

  Attributes:
    checkpoint_every: minutes between checkpoints within a phase; None = only
      after phases.
    keep: number of checkpoints that are kept.
    stall_minutes: minutes without any step after which the process ends with
      an error; None = never.
    stop_after: online iterations after which the run ends, although its plan
      goes on; None = at the plan's end. A larger value continues the run.
    wandb_project: project of Weights & Biases to log to; None = no such log.
  """

  checkpoint_every: Optional[float] = MINUTES_BETWEEN_CHECKPOINTS
  keep: int = CHECKPOINTS_KEPT
  stall_minutes: Optional[float] = MINUTES_UNTIL_STALL
  stop_after: Optional[int] = parts.count(None)
  wandb_project: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class RunnerSettings(parts.ReincarnationSettings, KeepingSettings):
  """Everything that a runner can be bound to.

  Attributes:
    num_pretraining_iterations: offline iterations; RunnerWithTeacher has none.
    replay_ratio: updates per agent step, a number or '1/3'; None = the agent's
      num_updates_per_train_step over its update_period.
    evaluate_teacher: True to measure the teacher's score.
    teacher_score: mean return of the teacher, which then is not measured.
  """

  num_pretraining_iterations: int = parts.count(10)
  replay_ratio: Optional[float | str | Fraction] = None
  evaluate_teacher: bool = True
  teacher_score: Optional[float] = None

  def __post_init__(self):
    super().__post_init__()
    object.__setattr__(self, 'replay_ratio', self.ratio)

  @property
  def ratio(self) -> Optional[Fraction]:
    """`replay_ratio` as an exact fraction."""
    ratio = self.replay_ratio
    return None if ratio is None else replay_ratio_lib.fraction(ratio)

  def known_teacher_score(self, recorded: Optional[float]) -> Optional[float]:
    """Score of the teacher if it is not to be measured, else None.

    Args:
      recorded: score that the teacher's own files tell, or None.

    Raises:
      ValueError: if it is neither known nor to be measured.
    """
    if self.teacher_score is not None or self.evaluate_teacher:
      return self.teacher_score
    if recorded is None:
      raise ValueError(
          'RunnerWithTeacher.evaluate_teacher is False and the score of '
          'the teacher is not recorded: bind RunnerWithTeacher.teacher_score.'
      )
    return recorded


runner_with_teacher = gin.external_configurable(
    RunnerSettings, 'RunnerWithTeacher', module=_MODULE
)


def _reincarnation_runner(**overrides: Any) -> RunnerSettings:
  return runner_with_teacher(**overrides)


# Its bindings win over those of RunnerWithTeacher.
reincarnation_runner = gin.external_configurable(
    signatures.passing_on(_reincarnation_runner, RunnerSettings),
    'ReincarnationRunner',
    module=_MODULE,
)


def bound(pretrains: bool) -> RunnerSettings:
  """Settings as gin binds them.

  Args:
    pretrains: True for ReincarnationRunner, which begins offline.

  Raises:
    ValueError: one sentence, for values that make no sense.
  """
  if pretrains:
    return reincarnation_runner()
  return dataclasses.replace(
      runner_with_teacher(), num_pretraining_iterations=0
  )
