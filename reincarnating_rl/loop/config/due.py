"""Schedule of updates and copies: exact arithmetic on counts, no state."""

from __future__ import annotations

from fractions import Fraction
import math


def due(first_step: int, num_steps: int, rate: Fraction) -> int:
  """Multiples of 1 / rate among `num_steps` counts from `first_step` on.

  How many updates (rate = replay ratio) or target copies (rate = 1 / period)
  are due in these training steps: exact for any rational rate.
  """
  return math.ceil(rate * (first_step + num_steps)) - math.ceil(
      rate * first_step
  )


def nth_due(first_step: int, rate: Fraction, index: int) -> int:
  """The step at which the multiple with an index (from 0 on) is due.

  Args:
    first_step: the first step that counts.
    rate: multiples a step, as in `due`.
    index: index of the multiple among those from that step on.
  """
  return math.floor((math.ceil(rate * first_step) + index) / rate)
