"""Image augmentation of DrQ (Kostrikov et al., 2021), on batches of states."""

from __future__ import annotations

import jax
import jax.numpy as jnp

SHIFT_PIXELS = 4
INTENSITY_SCALE = 0.05
INTENSITY_CLIP = 2.0


def augment(rng_key: jax.Array, states: jax.Array) -> jax.Array:
  """Shifts each state, then scales its intensity.

  Args:
    rng_key: consumed.
    states: [B, H, W, C] uint8 or float32, values in [0, 255].

  Returns:
    [B, H, W, C] float32.
  """
  shift_key, intensity_key = jax.random.split(rng_key)
  return random_intensity(intensity_key, random_shift(shift_key, states))


def random_shift(
    rng_key: jax.Array, states: jax.Array, pixels: int = SHIFT_PIXELS
) -> jax.Array:
  """Pads with edge pixels and crops at random; a stack moves as a whole.

  Args:
    rng_key: consumed.
    states: [B, H, W, C] of any type.
    pixels: padding on each side.

  Returns:
    [B, H, W, C] of the same type.
  """
  padding = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
  padded = jnp.pad(states, padding, mode='edge')
  corners = jax.random.randint(rng_key, (states.shape[0], 2), 0, 2 * pixels + 1)
  crop = lambda image, corner: jax.lax.dynamic_slice(
      image, (corner[0], corner[1], 0), states.shape[1:]
  )
  return jax.vmap(crop)(padded, corners)


def random_intensity(
    rng_key: jax.Array, states: jax.Array, scale: float = INTENSITY_SCALE
) -> jax.Array:
  """Multiplies each state by 1 + scale * clip(N(0, 1), -2, 2).

  Args:
    rng_key: consumed.
    states: [B, H, W, C] of any type.
    scale: standard deviation of the factor before clipping.

  Returns:
    [B, H, W, C] float32.
  """
  noise = jax.random.normal(rng_key, (states.shape[0], 1, 1, 1))
  factor = 1.0 + scale * jnp.clip(noise, -INTENSITY_CLIP, INTENSITY_CLIP)
  return states.astype(jnp.float32) * factor
