"""Members on one axis: seeds, or settings that are array leaves.

A member is a `LearnerState` with a replay of its own. On an accelerator the
states of many are stacked and updated in one dispatch (`make_updater` with
`num_members`); a CPU is faster with one after the other, and then none of this
is needed. The results do not depend on that.
"""

from __future__ import annotations

from typing import Any, Sequence

import jax
import jax.numpy as jnp


def stack(trees: Sequence[Any]) -> Any:
  """S trees of one structure as one, whose leaves are [S, ...]."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, size: int) -> list[Any]:
  """The S trees that were stacked."""
  return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(size)]
