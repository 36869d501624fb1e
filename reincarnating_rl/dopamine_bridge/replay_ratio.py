"""Updates per agent step, from the bindings of agent and runner (layer 5)."""

from __future__ import annotations

from fractions import Fraction
import math
from typing import Any, Optional

from reincarnating_rl.dopamine_bridge import settings


def fraction(replay_ratio: float | str | Fraction) -> Fraction:
  """The ratio nearest to a float: 0.333333 is a third.

  Raises:
    ValueError: if it is no number.
  """
  try:
    return Fraction(replay_ratio).limit_denominator(100_000)
  except (ValueError, ZeroDivisionError, OverflowError) as e:
    raise ValueError(
        f'RunnerWithTeacher.replay_ratio is {replay_ratio!r}, which is no '
        "number: give updates per agent step, as 0.25 or '1/3'."
    ) from e


def of_agent(num_updates: float, update_period: float) -> Fraction:
  """The ratio of an agent's bindings.

  Args:
    num_updates: updates at one time.
    update_period: agent steps from one time to the next.

  Raises:
    ValueError: if one of them is no positive number.
  """
  for name, value in (
      ('num_updates_per_train_step', num_updates),
      ('update_period', update_period),
  ):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
      raise ValueError(
          f"The agent's {name} must be a positive number, got {value!r}."
      )
  return Fraction(num_updates) / Fraction(update_period)


def check(agent: Any, of_agent: Fraction, bound: Optional[Fraction]) -> None:
  """Refuses two bindings that contradict each other.

  Args:
    agent: agent whose bindings also define a ratio.
    of_agent: ratio of the agent's bindings.
    bound: ratio of the runner's binding; None = not bound.

  Raises:
    ValueError: one sentence, with both.
  """
  if bound in (None, of_agent):
    return
  others = settings.bound(
      ['JaxDQNAgent.update_period']
      + [
          f'{c.__name__}.num_updates_per_train_step'
          for c in type(agent).__mro__
      ]
  )
  if others:
    listed = ', '.join(f'{k} = {v}' for k, v in others.items())
    raise ValueError(
        f'RunnerWithTeacher.replay_ratio = {bound} contradicts {listed}, '
        f'which make {of_agent} updates per agent step: bind one of the two.'
    )
