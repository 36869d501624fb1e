"""Settings of a run by topic.

A field is declared once: its default, its check and its meaning stand here.
Whoever configures runs (gin, flags, Python) fills these classes, and
`plan.RunConfig` is composed of them. Every count says its unit.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import math
from typing import Any, Callable, Optional

from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.config.guide_config import GuideConfig

# No fixed end of the decay: the score alone decides.
NEVER_DECAY = -1
_CHECK = 'check'


def _checked(default: Any, ok: Callable[[Any], bool], rule: str) -> Any:
  return dataclasses.field(default=default, metadata={_CHECK: (ok, rule)})


def positive(default: Any) -> Any:
  """Declares a field that must be positive."""
  return _checked(default, lambda value: value > 0, 'positive')


def count(default: Any) -> Any:
  """Declares a field that must be zero or more."""
  return _checked(default, lambda value: value >= 0, 'zero or more')


def probability(default: float) -> Any:
  """Declares a field that must be between 0 and 1."""
  return _checked(default, lambda value: 0 <= value <= 1, 'between 0 and 1')


@dataclasses.dataclass(frozen=True)
class Settings:
  """Base of all settings: checks each field as it is declared.

  Raises:
    ValueError: one sentence, with the field and its value.
  """

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if value is None and field.type.startswith('Optional'):
        continue
      if field.type in ('int', 'Optional[int]'):
        self._make_whole(field.name)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if _CHECK in field.metadata and value is not None:
        ok, rule = field.metadata[_CHECK]
        _require(ok(value), field.name, value, rule)

  def _make_whole(self, name: str) -> None:
    """Takes 4.0 for 4 and refuses fractions."""
    value = getattr(self, name)
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    is_whole = is_number and value == int(value)
    _require(is_whole, name, repr(value), 'a whole number')
    object.__setattr__(self, name, int(value))


def _require(ok: bool, name: str, value: object, rule: str) -> None:
  if not ok:
    raise ValueError(f'{name} must be {rule}, got {value}.')


@dataclasses.dataclass(frozen=True)
class EnvironmentSettings(Settings):
  """The environment that is played.

  Attributes:
    game: name in the registry of environments, such as 'Pong'.
    max_agent_steps_per_episode: time limit.
    sticky_actions: probability that the last action is repeated.
    frame_shape: (H, W) of a frame.
  """

  game: str = 'Pong'
  max_agent_steps_per_episode: int = positive(27_000)
  sticky_actions: float = probability(0.25)
  frame_shape: tuple[int, int] = (84, 84)


@dataclasses.dataclass(frozen=True)
class OnlineSettings(Settings):
  """Length of the online phases and of evaluations.

  Attributes:
    num_iterations: online iterations.
    training_steps: agent steps of an online iteration.
    evaluation_steps: agent steps of an evaluation, at least.
  """

  num_iterations: int = count(10)
  training_steps: int = positive(250_000)
  evaluation_steps: int = positive(125_000)


@dataclasses.dataclass(frozen=True)
class ReincarnationSettings(Settings):
  """Teacher's data, pretraining, and the environments side by side.

  Attributes:
    teacher_steps: agent steps that the teacher collects before training; 0 =
      the teacher's own replay is used.
    teacher_epsilon: exploration of the teacher while it collects.
    teacher_seed: seed of the teacher's evaluation and of the data it collects.
      Both are the same for every seed of the student.
    num_pretraining_iterations: offline iterations before the online ones.
    num_pretraining_steps: pretraining steps of an offline iteration.
    num_envs: environments that train online, side by side.
    num_eval_envs: environments that evaluate and collect, side by side.
    updates_per_call: updates made in one call, as soon as that many are due;
      None = as many as are due in one step of all environments.
    overlap: True to make the updates that are due before an action while the
      environments play it. The action is then chosen before these updates.
  """

  teacher_steps: int = count(0)
  teacher_epsilon: float = probability(0.01)
  teacher_seed: int = 1
  num_pretraining_iterations: int = count(0)
  num_pretraining_steps: int = count(100_000)
  num_envs: int = positive(1)
  num_eval_envs: int = positive(8)
  updates_per_call: Optional[int] = positive(None)
  overlap: bool = False


@dataclasses.dataclass(frozen=True)
class StudentSettings(Settings):
  """Replay, updates, exploration and decays of the student: the agent's part.

  Attributes:
    batch_size: transitions of an update.
    update_horizon: n of the student's online returns.
    gamma: discount of one agent step.
    replay_capacity: agent steps that the student's replay keeps.
    min_replay_history: agent steps in the replay before online updates start.
    replay_ratio: updates per agent step, any positive rational.
    updates_per_pretraining_step: updates of a pretraining step.
    resets: when the network gives up a part of its weights; None = never.
    act_with_target: True if the target network acts, not the online one.
    target_update_period: training steps between copies of the target.
    prioritized: True if the online phase samples by priority.
    teacher_data_ratio: probability that an online sample is taken from the
      teacher's data instead of the student's (rehearsal).
    guide: how the teacher acts in the student's episodes; None = it does not.
    epsilon_train: final exploration.
    epsilon_eval: exploration in evaluation.
    epsilon_decay_period: training steps of the decay from 1.
    epsilon_warmup_steps: training steps before that decay begins.
    learning_rate: learning rate while lambda is 1.
    final_learning_rate: learning rate once lambda is 0; None = the same.
    distill_decay_period: online agent steps after which lambda is 0;
      NEVER_DECAY = only the score decides.
    wean: True if lambda falls at all.
  """

  batch_size: int = positive(32)
  update_horizon: int = positive(1)
  gamma: float = 0.99
  replay_capacity: int = positive(1_000_000)
  min_replay_history: int = count(20_000)
  replay_ratio: Fraction = positive(Fraction(1, 4))
  updates_per_pretraining_step: int = positive(1)
  resets: Optional[ResetSchedule] = None
  act_with_target: bool = False
  target_update_period: int = positive(8_000)
  prioritized: bool = False
  teacher_data_ratio: float = probability(0.0)
  guide: Optional[GuideConfig] = None
  epsilon_train: float = probability(0.01)
  epsilon_eval: float = probability(0.001)
  epsilon_decay_period: int = count(50_000)
  epsilon_warmup_steps: int = count(0)
  learning_rate: float = 6.25e-5
  final_learning_rate: Optional[float] = None
  distill_decay_period: int = NEVER_DECAY
  wean: bool = True

  def __post_init__(self):
    object.__setattr__(self, 'replay_ratio', Fraction(self.replay_ratio))
    super().__post_init__()
