"""Tests of the image augmentation: every shift is a crop, every key counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from reincarnating_rl.learner import augmentation

SHAPE = (6, 5, 3)  # H, W, C
PIXELS = 2
SIGNIFICANCE = 1e-4

random_shift = jax.jit(augmentation.random_shift, static_argnums=2)
random_intensity = jax.jit(augmentation.random_intensity)
augment = jax.jit(augmentation.augment)


def make_states(batch=4, dtype=np.uint8, same=False) -> np.ndarray:
  rng = np.random.default_rng(0)
  states = rng.integers(1, 256, (batch,) + SHAPE).astype(dtype)
  return np.repeat(states[:1], batch, axis=0) if same else states


def find_corner(state, shifted, pixels):
  """The crop of the padded state that equals `shifted`, or None."""
  pads = ((pixels, pixels), (pixels, pixels), (0, 0))
  padded = np.pad(state, pads, mode='edge')
  height, width, _ = state.shape
  for i in range(2 * pixels + 1):
    for j in range(2 * pixels + 1):
      if np.array_equal(padded[i : i + height, j : j + width], shifted):
        return i, j
  return None


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_a_shift_is_one_crop_of_the_whole_stack(dtype):
  states = make_states(16, dtype)
  shifted = random_shift(jax.random.PRNGKey(0), states, PIXELS)
  assert shifted.shape == states.shape
  assert shifted.dtype == dtype
  for before, after in zip(states, np.asarray(shifted)):
    assert find_corner(before, after, PIXELS) is not None


def test_every_shift_is_as_likely():
  states = make_states(2000, same=True)
  shifted = np.asarray(random_shift(jax.random.PRNGKey(1), states, PIXELS))
  corners = [find_corner(states[0], after, PIXELS) for after in shifted]
  assert None not in corners
  side = 2 * PIXELS + 1
  counts = np.zeros((side, side))
  for corner in corners:
    counts[corner] += 1
  assert stats.chisquare(counts.reshape(-1)).pvalue > SIGNIFICANCE


def test_a_shift_by_no_pixels_changes_nothing():
  states = make_states()
  shifted = random_shift(jax.random.PRNGKey(0), states, 0)
  np.testing.assert_array_equal(shifted, states)


def test_intensity_is_one_factor_within_ten_percent():
  states = make_states(400)
  scaled = np.asarray(random_intensity(jax.random.PRNGKey(0), states))
  assert scaled.dtype == np.float32
  ratio = (scaled / states).reshape(len(states), -1)
  np.testing.assert_allclose(
      ratio, ratio[:, :1] * np.ones_like(ratio), rtol=1e-5
  )
  factor = ratio[:, 0]
  assert 0.9 - 1e-5 <= factor.min() and factor.max() <= 1.1 + 1e-5
  # 1 + 0.05 clip(N(0, 1), -2, 2): its ends, and its middle, are as expected.
  at_ends = np.mean(np.abs(factor - 1.0) > 0.1 - 1e-5)
  assert 0.02 < at_ends < 0.08  # 4.6% of a normal lies beyond 2.
  within = np.mean(np.abs(factor - 1.0) < 0.05)
  assert 0.6 < within < 0.76  # 68% lies within 1.


def test_augmenting_is_shifting_then_scaling():
  states = make_states(6)
  key = jax.random.PRNGKey(5)
  shift_key, intensity_key = jax.random.split(key)
  expected = random_intensity(
      intensity_key, random_shift(shift_key, states, augmentation.SHIFT_PIXELS)
  )
  result = augment(key, states)
  assert result.shape == states.shape
  assert result.dtype == jnp.float32
  np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_equal_states_of_a_batch_are_augmented_differently():
  states = make_states(8, same=True)
  result = np.asarray(augment(jax.random.PRNGKey(0), states))
  assert len({x.tobytes() for x in result}) == 8


def test_the_key_decides():
  states = make_states()
  result = lambda seed: np.asarray(augment(jax.random.PRNGKey(seed), states))
  np.testing.assert_array_equal(result(2), result(2))
  assert (result(2) != result(3)).any()


def test_batch_of_one():
  states = make_states(1)
  result = np.asarray(augment(jax.random.PRNGKey(0), states))
  assert result.shape == (1,) + SHAPE
  assert np.isfinite(result).all() and result.max() <= 255 * 1.1


def test_one_channel():
  states = make_states()[..., :1]
  shifted = np.asarray(random_shift(jax.random.PRNGKey(0), states, 1))
  for before, after in zip(states, shifted):
    assert find_corner(before, after, 1) is not None
