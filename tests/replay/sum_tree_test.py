"""Tests of the sum tree against plain arrays of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from reincarnating_rl.replay import sum_tree

SIGNIFICANCE = 1e-4
MILLION = 1_000_000

set_leaves = jax.jit(sum_tree.set_leaves)
sample = jax.jit(sum_tree.sample, static_argnums=2)


def _check_sums(tree: sum_tree.SumTree, leaves: np.ndarray) -> None:
  """Every node must be the sum of its leaves, as added up afresh."""
  levels = [np.asarray(level) for level in tree.levels]
  np.testing.assert_array_equal(levels[0][: len(leaves)], leaves)
  assert not levels[0][len(leaves) :].any()
  assert len(levels[-1]) == sum_tree.ARITY
  for k, level in enumerate(levels):
    assert len(level) % sum_tree.ARITY == 0
    span = sum_tree.ARITY**k
    for node, value in enumerate(level):
      np.testing.assert_allclose(
          value,
          np.float64(leaves[node * span : (node + 1) * span]).sum(),
          rtol=1e-6,
      )
  np.testing.assert_allclose(tree.total, np.float64(leaves).sum(), rtol=1e-6)


def _chi_square(counts: np.ndarray, weights: np.ndarray) -> float:
  """p-value of counts that were drawn in proportion to weights."""
  expected = weights / weights.sum() * counts.sum()
  return stats.chisquare(counts, expected).pvalue


@pytest.mark.parametrize('capacity', [1, 15, 16, 17, 256, 257, 700])
def test_nodes_are_sums_of_their_leaves(capacity):
  leaves = np.random.default_rng(capacity).random(capacity, np.float32)
  _check_sums(sum_tree.from_leaves(jnp.asarray(leaves)), leaves)


def test_an_empty_tree_weighs_nothing():
  tree = sum_tree.zeros(40)
  _check_sums(tree, np.zeros(40, np.float32))
  assert tree.leaves.dtype == jnp.float32


def test_setting_leaves_equals_building_anew():
  rng = np.random.default_rng(0)
  leaves = rng.random(700, np.float32)
  tree = sum_tree.from_leaves(jnp.asarray(leaves))
  for _ in range(20):
    indices = rng.choice(700, size=8, replace=False)
    weights = rng.random(8, np.float32) * (rng.random(8) > 0.3)
    weights = weights.astype(np.float32)
    tree = set_leaves(tree, jnp.asarray(indices), jnp.asarray(weights))
    leaves[indices] = weights
  _check_sums(tree, leaves)


def test_rounding_does_not_drift():
  """A thousand large weights that come and go leave nothing behind."""
  tree = sum_tree.from_leaves(jnp.full((300,), 1e-3))
  index = jnp.array([7])
  for weight in np.random.default_rng(1).random(300) * 1e6:
    tree = set_leaves(tree, index, jnp.array([weight], jnp.float32))
  tree = set_leaves(tree, index, jnp.array([1e-3]))
  _check_sums(tree, np.full(300, 1e-3, np.float32))


def test_of_a_repeated_index_the_largest_weight_counts():
  tree = sum_tree.from_leaves(jnp.full((40,), 9.0))
  tree = set_leaves(
      tree, jnp.array([3, 20, 3, 3]), jnp.array([1.0, 5.0, 4.0, 2.0])
  )
  expected = np.full(40, 9.0, np.float32)
  expected[[3, 20]] = [4.0, 5.0]
  _check_sums(tree, expected)


def test_an_index_out_of_range_is_dropped():
  tree = sum_tree.from_leaves(jnp.ones(300))
  after = set_leaves(tree, jnp.array([4096, 304]), jnp.array([5.0, 6.0]))
  _check_sums(after, np.ones(300, np.float32))


def test_batches_where_lists_belong_are_refused():
  with pytest.raises(AssertionError):
    sum_tree.from_leaves(jnp.ones((2, 3)))
  with pytest.raises(AssertionError):
    sum_tree.set_leaves(sum_tree.zeros(3), jnp.zeros((1, 1), int), jnp.ones(1))


@pytest.mark.parametrize('capacity', [1, 5, 40, 300])
def test_frequencies_follow_the_weights(capacity):
  rng = np.random.default_rng(capacity)
  weights = rng.exponential(size=capacity).astype(np.float32) + 0.05
  tree = sum_tree.from_leaves(jnp.asarray(weights))
  drawn = np.asarray(sample(tree, jax.random.PRNGKey(capacity), 30_000))
  assert drawn.dtype == np.int32
  counts = np.bincount(drawn, minlength=capacity)
  assert len(counts) == capacity
  if capacity > 1:
    assert _chi_square(counts, np.float64(weights)) > SIGNIFICANCE


def test_a_leaf_of_weight_zero_is_never_drawn():
  rng = np.random.default_rng(2)
  weights = rng.random(600, np.float32) * (rng.random(600) > 0.7)
  tree = sum_tree.from_leaves(jnp.asarray(weights, jnp.float32))
  drawn = np.asarray(sample(tree, jax.random.PRNGKey(0), 100_000))
  assert (weights[drawn] > 0).all()


@pytest.mark.parametrize('only', [0, 15, 16, 599])
def test_the_only_leaf_is_always_drawn(only):
  tree = set_leaves(sum_tree.zeros(600), jnp.array([only]), jnp.array([1e-6]))
  drawn = sample(tree, jax.random.PRNGKey(0), 1000)
  np.testing.assert_array_equal(drawn, np.full(1000, only))


def test_weights_of_very_different_size():
  weights = jnp.array([1e-10, 1e10, 1e-10, 1e10, 0.0])
  tree = sum_tree.from_leaves(weights)
  drawn = np.asarray(sample(tree, jax.random.PRNGKey(0), 4000))
  counts = np.bincount(drawn, minlength=5)
  assert counts[0] == counts[2] == counts[4] == 0
  assert _chi_square(counts[[1, 3]], np.ones(2)) > SIGNIFICANCE


def test_the_same_key_draws_the_same_leaves():
  tree = sum_tree.from_leaves(jnp.ones(600))
  draw = lambda seed: np.asarray(sample(tree, jax.random.PRNGKey(seed), 64))
  np.testing.assert_array_equal(draw(3), draw(3))
  assert (draw(3) != draw(4)).any()


class TestAMillionLeaves:
  """Where one float32 uniform would have too few bits."""

  def _draw(self, weights: np.ndarray, num_calls: int = 4) -> np.ndarray:
    tree = sum_tree.from_leaves(jnp.asarray(weights))
    keys = jax.random.split(jax.random.PRNGKey(5), num_calls)
    return np.concatenate([sample(tree, key, 1 << 17) for key in keys])

  def test_equal_weights_are_drawn_equally_at_every_scale(self):
    drawn = self._draw(np.ones(MILLION, np.float32))
    every_leaf = np.arange(MILLION)
    for span in (1, 16, 256, 4096, 65536):
      group = lambda leaves, span=span: np.bincount(leaves // span % 16)
      p_value = _chi_square(group(drawn), group(every_leaf))
      assert p_value > SIGNIFICANCE, span

  def test_no_leaf_gains_from_the_grid_of_float32(self):
    """2**23 numbers, all that one uniform can be, fall on leaves unevenly."""
    drawn = self._draw(np.ones(MILLION, np.float32))
    grid = np.arange(1 << 23, dtype=np.int64) * MILLION >> 23
    numbers = np.bincount(grid, minlength=MILLION)  # 8 or 9 a leaf.
    counts = np.bincount(numbers[drawn])[8:]
    assert _chi_square(counts, np.bincount(numbers)[8:]) > SIGNIFICANCE

  def test_unequal_weights_are_drawn_in_proportion(self):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 8, MILLION)  # Leaves of kind k weigh k.
    drawn = self._draw(kind.astype(np.float32))
    counts = np.bincount(kind[drawn], minlength=8)
    assert counts[0] == 0
    expected = np.bincount(kind, weights=kind, minlength=8)
    assert _chi_square(counts[1:], expected[1:]) > SIGNIFICANCE

  def test_three_leaves_among_a_million_zeros(self):
    weights = np.zeros(MILLION, np.float32)
    weights[[0, 499_999, MILLION - 1]] = [1.0, 2.0, 3.0]
    drawn, counts = np.unique(self._draw(weights, 1), return_counts=True)
    np.testing.assert_array_equal(drawn, [0, 499_999, MILLION - 1])
    assert _chi_square(counts, np.array([1.0, 2.0, 3.0])) > SIGNIFICANCE
