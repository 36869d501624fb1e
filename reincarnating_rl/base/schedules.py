"""Schedules of epsilon, learning rate, lambda, n and gamma; pure functions."""

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
  """Probability of a random action; decays linearly from 1 to `epsilon`.

  Pretraining steps count as training steps. So without a warm-up (Dopamine has
  one) a student whose pretraining is longer than the decay explores at
  `epsilon` from its first online step.

  Args:
    decay_period: training steps until `epsilon` is reached; 0 = at once.
    training_steps: pretraining steps and agent steps so far.
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
  """Learning rate that follows lambda: lambda initial + (1 - lambda) final."""
  return lambda_ * initial + (1.0 - lambda_) * final


def next_distillation_weight(
    lambda_: float,
    teacher_normalized: Optional[float],
    online_agent_steps: int,
    decay_period: int,
) -> float:
  """Returns lambda after an online evaluation (Agarwal et al., 2022, 4.1).

  Args:
    lambda_: value before the evaluation.
    teacher_normalized: score of the student, random policy = 0 and teacher = 1.
      None if the teacher is no better than the random policy; lambda then
      depends on `decay_period` alone.
    online_agent_steps: online agent steps of the student so far.
    decay_period: agent steps after which lambda is 0; negative = never.

  Returns:
    max(1 - score, 0); once lambda is 0 it stays 0. There is no upper clip, so
    a student below the random policy has lambda > 1.
  """
  expired = 0 <= decay_period < online_agent_steps
  if lambda_ <= 0.0 or expired:
    return 0.0
  if teacher_normalized is None:
    return lambda_
  return max(1.0 - teacher_normalized, 0.0)


@dataclasses.dataclass(frozen=True)
class Annealing:
  """Schedule of n and gamma after each reset (Schwarzer et al., 2023).

  It also holds from the beginning of the run. A fresh network learns faster
  from returns of many steps. Then n falls and gamma rises, exponentially, and
  both are constant from T on:

    n(t) = round(n0 (n1 / n0)^(t / T))
    gamma(t) = 1 - (1 - g0) ((1 - g1) / (1 - g0))^(t / T)

  Attributes:
    updates: T, gradient steps until the last values are reached.
    update_horizon: first and last n of the n-step returns.
    gamma: first and last discount of one agent step.
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
    """Largest n of the schedule."""
    return max(self.update_horizon)

  def at(self, t: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Returns the values after t updates.

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
