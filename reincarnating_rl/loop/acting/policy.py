"""Epsilon-greedy acting for a batch of states, and teachers as policies."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp


class Policy(NamedTuple):
  """A network with parameters: something that can act."""

  network: nn.Module
  params: Any

  def q_values(self, states: jax.Array) -> jax.Array:
    """[B, H, W, C] uint8 states to [B, A] float32 values, without noise."""
    return _q_values(self.network, self.params, states)


@functools.partial(jax.jit, static_argnums=0)
def _q_values(network: nn.Module, params: Any, states: jax.Array) -> jax.Array:
  return network.apply({'params': params}, states).q_values


@functools.partial(jax.jit, static_argnums=(0, 5))
def act(
    network: nn.Module,
    params: Any,
    observation: jax.Array,
    epsilon: jax.Array,
    rng_key: jax.Array,
    noise: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Epsilon-greedy actions.

  Args:
    network: static.
    params: of the network.
    observation: [B, C, H, W] uint8, as vector environments give it.
    epsilon: [] probability of a uniformly random action.
    rng_key: consumed.
    noise: whether noisy layers draw noise (static; training only).

  Returns:
    [B] int32 actions, and the next key.
  """
  next_key, explore_key, action_key, noise_key = jax.random.split(rng_key, 4)
  states = jnp.moveaxis(observation, 1, -1)
  out = network.apply({'params': params}, states, noise_key if noise else None)
  batch_size, num_actions = out.q_values.shape
  explore = jax.random.uniform(explore_key, (batch_size,)) < epsilon
  random = jax.random.randint(action_key, (batch_size,), 0, num_actions)
  greedy = jnp.argmax(out.q_values, axis=-1)
  return jnp.where(explore, random, greedy).astype(jnp.int32), next_key
