"""Descriptions of the arrays that the layers hand to each other."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ArraySpec:
  """Shape and dtype of one array, without batch axes.

  Attributes:
    shape: lengths of the axes.
    dtype: name of a NumPy dtype, such as 'uint8'.
  """

  shape: tuple[int, ...]
  dtype: str
