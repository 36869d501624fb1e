"""Numbers that change with time, as pure functions of counts."""

from __future__ import annotations

import dataclasses
from typing import Optional

import jax
import jax.numpy as jnp


def linearly_decaying_epsilon(
    decay_period: int,
    training_steps: int,
    epsilon: float,
    warmup_steps: int = 0,
) -> float:
  """Falls from 1 to `epsilon` over `decay_period` training steps.

  Without a warm-up (Dopamine has one) a student that was pretrained longer
  than the decay explores at `epsilon` from its first online step.

  Args:
    decay_period: training steps until `epsilon` is reached; 0 = at once.
    training_steps: one per pretraining step and per agent step, so far.
    epsilon: final value.
    warmup_steps: training steps before the decay begins.

  Returns:
    The probability of a random action.
  """
  if decay_period <= 0:
    return epsilon
  left = (decay_period + warmup_steps - training_steps) / decay_period
  return epsilon + (1.0 - epsilon) * min(max(left, 0.0), 1.0)


def interpolated_learning_rate(
    initial: float, final: float, lambda_: float
) -> float:
  """lambda * initial + (1 - lambda) * final, following the distillation."""
  return lambda_ * initial + (1.0 - lambda_) * final


def next_distillation_weight(
    lambda_: float,
    teacher_normalized: Optional[float],
    online_agent_steps: int,
    decay_period: int,
) -> float:
  """lambda after an online evaluation (Agarwal et al., 2022, section 4.1).

  Args:
    lambda_: its value so far.
    teacher_normalized: the student's score, 1 being the teacher's; None beside
      a teacher no better than chance: no score counts then, but time does.
    online_agent_steps: taken by the student so far.
    decay_period: agent steps after which lambda is 0; negative = never.

  Returns:
    max(1 - score, 0), and 0 for good once it is 0. Without an upper clip: a
    student below the random policy is pulled harder.
  """
  expired = 0 <= decay_period < online_agent_steps
  if lambda_ <= 0.0 or expired:
    return 0.0
  if teacher_normalized is None:
    return lambda_
  return max(1.0 - teacher_normalized, 0.0)


@dataclasses.dataclass(frozen=True)
class Annealing:
  """n and gamma, at first and after every reset (Schwarzer et al., 2023).

  Returns of many steps teach a fresh network fast; then n falls, and gamma
  rises to look far ahead, both exponentially:
  n(t) = round(n0 (n1 / n0)^(t / T)) and
  gamma(t) = 1 - (1 - g0) ((1 - g1) / (1 - g0))^(t / T), constant from T on.

  Attributes:
    updates: T, gradient steps until the last values are reached.
    update_horizon: n of the n-step returns, first and last.
    gamma: discount of one agent step, first and last.
  """

  updates: int = 10_000
  update_horizon: tuple[int, int] = (10, 3)
  gamma: tuple[float, float] = (0.97, 0.997)

  def __post_init__(self):
    if self.updates < 1:
      raise ValueError(
          f'Annealing.updates must be positive, got {self.updates}.'
      )
    if len(self.update_horizon) != 2 or min(self.update_horizon) < 1:
      raise ValueError(
          'Annealing.update_horizon must be two numbers of steps, each at '
          f'least 1, got {self.update_horizon}.'
      )
    if len(self.gamma) != 2 or not all(0.0 < g < 1.0 for g in self.gamma):
      raise ValueError(
          'Annealing.gamma must be two discounts, each between 0 and 1 '
          f'exclusively, got {self.gamma}.'
      )

  @property
  def max_update_horizon(self) -> int:
    """The largest n that it asks for."""
    return max(self.update_horizon)

  def at(self, t: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """The values after so many updates.

    Args:
      t: [] gradient steps since the beginning or the last reset.

    Returns:
      n, [] int32, and gamma, [] float32.
    """
    progress = jnp.minimum(t, self.updates) / self.updates
    (n0, n1), (g0, g1) = self.update_horizon, self.gamma
    n = jnp.round(n0 * (n1 / n0) ** progress)
    gamma = 1.0 - (1.0 - g0) * ((1.0 - g1) / (1.0 - g0)) ** progress
    return n.astype(jnp.int32), gamma.astype(jnp.float32)
