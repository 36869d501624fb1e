"""A 16-ary sum tree: sampling in proportion to weight, inside jit.

Level 0 holds the leaves, each level above the sums of 16 neighbours, the last
at most 16 nodes. Parents are always recomputed from their children, so
rounding does not drift. Not here: the meaning of the weights.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

ARITY = 16


class SumTree(NamedTuple):
  """Levels from the leaves up; sizes are rounded up to a multiple of ARITY."""

  levels: tuple[jax.Array, ...]  # [size_k] float32 each

  @property
  def leaves(self) -> jax.Array:
    """[capacity rounded up] float32."""
    return self.levels[0]

  @property
  def total(self) -> jax.Array:
    """[] float32, the sum of all leaves."""
    return self.levels[-1].sum()


def from_leaves(leaves: jax.Array) -> SumTree:
  """Builds the tree over given leaf weights.

  Args:
    leaves: [capacity] float32, zero or more.

  Returns:
    The tree; padding leaves weigh nothing.
  """
  chex.assert_rank(leaves, 1)
  levels = [_pad(leaves.astype(jnp.float32))]
  while levels[-1].shape[0] > ARITY:
    levels.append(_pad(levels[-1].reshape(-1, ARITY).sum(axis=1)))
  return SumTree(tuple(levels))


def zeros(capacity: int) -> SumTree:
  """A tree of `capacity` leaves of weight zero."""
  return from_leaves(jnp.zeros((capacity,), jnp.float32))


def set_leaves(
    tree: SumTree, indices: jax.Array, weights: jax.Array
) -> SumTree:
  """Sets some leaves and the sums above them.

  Args:
    tree: the tree.
    indices: [B] int32; an index out of range is dropped.
    weights: [B] float32, zero or more; where an index repeats, its largest
      weight counts, so that the result is the same on every device.

  Returns:
    The new tree.
  """
  chex.assert_rank([indices, weights], 1)
  cleared = tree.levels[0].at[indices].set(0.0, mode='drop')
  levels = [cleared.at[indices].max(weights, mode='drop')]
  for parents in tree.levels[1:]:
    indices = indices // ARITY
    children = indices[:, None] * ARITY + jnp.arange(ARITY)[None, :]
    sums = levels[-1].at[children].get(mode='fill', fill_value=0.0).sum(axis=1)
    levels.append(parents.at[indices].set(sums, mode='drop'))
  return SumTree(tuple(levels))


def sample(tree: SumTree, rng_key: jax.Array, batch_size: int) -> jax.Array:
  """Draws leaves with replacement, in proportion to their weights.

  Each level uses a fresh uniform: one float32 uniform has too few bits to
  address a million leaves evenly.

  Args:
    tree: the tree; its total must be positive.
    rng_key: consumed.
    batch_size: B.

  Returns:
    [B] int32 leaf indices, each of positive weight.
  """
  uniforms = jax.random.uniform(rng_key, (len(tree.levels), batch_size))
  nodes = jnp.zeros((batch_size,), jnp.int32)
  for level, uniform in zip(reversed(tree.levels), uniforms):
    children = nodes[:, None] * ARITY + jnp.arange(ARITY)[None, :]
    weights = level[children]  # [B, ARITY]
    cumulative = jnp.cumsum(weights, axis=1)
    threshold = uniform * cumulative[:, -1]
    positive = weights > 0
    ahead = positive & (cumulative > threshold[:, None])
    # Rounding can put the threshold on the total: stay on a positive child.
    last = ARITY - 1 - jnp.argmax(positive[:, ::-1], axis=1)
    chosen = jnp.where(ahead.any(axis=1), jnp.argmax(ahead, axis=1), last)
    nodes = nodes * ARITY + chosen.astype(jnp.int32)
  return nodes


def _pad(x: jax.Array) -> jax.Array:
  return jnp.pad(x, (0, -x.shape[0] % ARITY))
