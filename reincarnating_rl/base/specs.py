"""Specifications of arrays: shapes and dtypes, without values."""

from __future__ import annotations

import dataclasses
from typing import Union


@dataclasses.dataclass(frozen=True)
class ArraySpec:
  """Shape and dtype of one item, without batch dimensions.

  Attributes:
    shape: of the item, such as (84, 84).
    dtype: name of a numpy dtype, such as 'uint8'.
  """

  shape: tuple[int, ...]
  dtype: str


@dataclasses.dataclass(frozen=True)
class DiscreteActions:
  """Actions are the integers 0 to `num_actions` - 1.

  Attributes:
    num_actions: A.
  """

  num_actions: int


@dataclasses.dataclass(frozen=True)
class ContinuousActions:
  """Actions are float32 vectors in a box.

  Attributes:
    low: smallest value of each component.
    high: largest value of each component.
  """

  low: tuple[float, ...]
  high: tuple[float, ...]

  @property
  def spec(self) -> ArraySpec:
    """Shape and type of one action."""
    return ArraySpec((len(self.low),), 'float32')


ActionSpec = Union[DiscreteActions, ContinuousActions]
