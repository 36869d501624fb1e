"""Members of a population, stacked on one axis.

A member is a learner state with its own replay. Members differ in seeds or in
settings that are array leaves. On an accelerator their states are stacked and
updated in one dispatch (`make_updater` with `num_members`). A CPU is faster
with one member after the other and does not need this module. The results are
the same.
"""

from __future__ import annotations

from typing import Any, Sequence

import jax
import jax.numpy as jnp


def stack(trees: Sequence[Any]) -> Any:
  """Stacks S trees of equal structure into one with leaves [S, ...]."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, size: int) -> list[Any]:
  """Splits a stacked tree into its S trees."""
  return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(size)]
