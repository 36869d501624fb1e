"""Numbers that change with time, as pure functions of counts."""

from __future__ import annotations


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
    teacher_normalized: float,
    online_agent_steps: int,
    decay_period: int,
) -> float:
  """lambda after an online evaluation (Agarwal et al., 2022, section 4.1).

  Args:
    lambda_: its value so far.
    teacher_normalized: the student's score, 1 being the teacher's.
    online_agent_steps: taken by the student so far.
    decay_period: agent steps after which lambda is 0; negative = never.

  Returns:
    max(1 - score, 0), and 0 for good once it is 0. Without an upper clip: a
    student below the random policy is pulled harder.
  """
  expired = 0 <= decay_period < online_agent_steps
  if lambda_ <= 0.0 or expired:
    return 0.0
  return max(1.0 - teacher_normalized, 0.0)
