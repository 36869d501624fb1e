"""Settings of jump-start acting: turns of teacher and student."""

from __future__ import annotations

import dataclasses

# Factor of H after an iteration, if it decays (Agarwal et al., 2022).
ROLL_IN_DECAY = 0.8


@dataclasses.dataclass(frozen=True)
class GuideConfig:
  """Turns of the guide (the teacher) and the student in an episode.

  Attributes:
    max_roll_in_steps: H, agent steps; an episode rolls in for h ~ U{1..H}.
    roll_in_guide: True if the guide rolls in, else the student does.
    decay_roll_in_steps: factor of H after each online iteration (rounded
      down, 0 in the end); True = ROLL_IN_DECAY, False = H stays.
    roll_out_guide_prob: probability that the guide takes a step after those.
    roll_out_decay_period: online agent steps in which that probability falls
      to 0, linearly; 0 = at once, negative = never.
  """

  max_roll_in_steps: int = 1000
  roll_in_guide: bool = True
  decay_roll_in_steps: bool | float = True
  roll_out_guide_prob: float = 0.0
  roll_out_decay_period: int = 2_500_000

  def __post_init__(self):
    if self.max_roll_in_steps < 0:
      raise ValueError(
          f'max_roll_in_steps must be zero or more, got '
          f'{self.max_roll_in_steps}.'
      )
    for name in ('decay_roll_in_steps', 'roll_out_guide_prob'):
      if not 0.0 <= getattr(self, name) <= 1.0:
        raise ValueError(
            f'{name} must be between 0 and 1, got {getattr(self, name)}.'
        )

  @property
  def roll_in_decay(self) -> float:
    """Factor of H after an iteration."""
    if isinstance(self.decay_roll_in_steps, bool):
      return ROLL_IN_DECAY if self.decay_roll_in_steps else 1.0
    return self.decay_roll_in_steps

  def guide_prob(self, agent_steps: int) -> float:
    """Probability of the guide in roll-outs after so many online steps."""
    period = self.roll_out_decay_period
    if period < 0:
      return self.roll_out_guide_prob
    left = 1.0 - agent_steps / period if period else 0.0
    return self.roll_out_guide_prob * max(left, 0.0)
