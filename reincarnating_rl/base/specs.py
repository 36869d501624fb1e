"""Specifications of arrays: shapes and dtypes, without values."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ArraySpec:
  """Shape and dtype of one item, without batch dimensions.

  Attributes:
    shape: of the item, such as (84, 84).
    dtype: name of a numpy dtype, such as 'uint8'.
  """

  shape: tuple[int, ...]
  dtype: str
