"""Policies: actions from parameters and batches of observations.

An `Actor` is static (hashable, without arrays): jit sees it as a constant. The
carry holds what an actor remembers from step to step, such as a recurrent
state. Feed-forward actors have the empty carry `()`.

Shape letters: B batch (environments), A actions, H W C as in `base.types`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, cast, NamedTuple, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp

# Memory of an actor: a pytree of [B, ...] arrays.
Carry = Any


class Actor(Protocol):
  """Static half of a policy."""

  def initial_carry(self, batch_size: int) -> Carry:
    """Returns the carry at the first step of B episodes."""

  def act(
      self,
      params: Any,
      observation: jax.Array,
      first: jax.Array,
      carry: Carry,
      epsilon: jax.Array,
      rng_keys: jax.Array,
      explore: bool,
  ) -> tuple[jax.Array, Carry]:
    """Chooses one action for each observation.

    Args:
      params: parameters of the networks.
      observation: [B, ...], as vector environments return it.
      first: [B] bool, True where the observation begins an episode; the carry
        is reset there.
      carry: result of the previous step, or `initial_carry`.
      epsilon: [] strength of exploration: for discrete actions the probability
        of a uniformly random one.
      rng_keys: [3] keys, consumed.
      explore: True while training (noisy layers draw noise); static.

    Returns:
      [B, ...] actions, and the next carry.
    """


@dataclasses.dataclass(frozen=True)
class EpsilonGreedy:
  """Takes the action of the largest Q-value, or a random one (epsilon).

  Attributes:
    network: module that returns a `NetworkOutput`.
  """

  network: nn.Module

  def initial_carry(self, batch_size: int) -> Carry:
    del batch_size
    return ()

  def act(
      self,
      params: Any,
      observation: jax.Array,
      first: jax.Array,
      carry: Carry,
      epsilon: jax.Array,
      rng_keys: jax.Array,
      explore: bool,
  ) -> tuple[jax.Array, Carry]:
    """See `Actor.act`; observation is [B, C, H, W] uint8, actions [B] int32."""
    del first
    explore_key, action_key, noise_key = rng_keys
    states = jnp.moveaxis(observation, 1, -1)
    out: Any = self.network.apply(
        {'params': params}, states, noise_key if explore else None
    )
    batch_size, num_actions = out.q_values.shape
    random = jax.random.randint(action_key, (batch_size,), 0, num_actions)
    is_random = jax.random.uniform(explore_key, (batch_size,)) < epsilon
    greedy = jnp.argmax(out.q_values, axis=-1)
    return jnp.where(is_random, random, greedy).astype(jnp.int32), carry


class Policy(NamedTuple):
  """An actor with its parameters."""

  actor: Actor
  params: Any

  @property
  def network(self) -> nn.Module:
    """Network of a value-based actor."""
    return cast(EpsilonGreedy, self.actor).network

  def q_values(self, states: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] uint8 states to [B, A] float32 values; no noise."""
    return _q_values(self.network, self.params, states)


def value_policy(network: nn.Module, params: Any) -> Policy:
  """Returns a policy that is epsilon-greedy on the Q-values of a network."""
  return Policy(EpsilonGreedy(network), params)


@functools.partial(jax.jit, static_argnums=0)
def _q_values(network: nn.Module, params: Any, states: jax.Array) -> jax.Array:
  out: Any = network.apply({'params': params}, states)
  return out.q_values


@functools.partial(jax.jit, static_argnums=(0, 7))
def act(
    actor: Actor,
    params: Any,
    observation: jax.Array,
    first: jax.Array,
    carry: Carry,
    epsilon: jax.Array,
    rng_key: jax.Array,
    explore: bool = False,
) -> tuple[jax.Array, Carry, jax.Array]:
  """Chooses actions in one dispatch.

  Args:
    actor: static half of the policy.
    params: parameters of the policy.
    observation: [B, ...], as vector environments return it.
    first: [B] bool, True where the observation begins an episode.
    carry: result of the previous step, or `actor.initial_carry`.
    epsilon: [] strength of exploration; see `Actor.act`.
    rng_key: consumed.
    explore: True while training; static.

  Returns:
    [B, ...] actions, the next carry, and the next key.
  """
  keys = jax.random.split(rng_key, 4)
  actions, carry = actor.act(
      params, observation, first, carry, epsilon, keys[1:], explore
  )
  return actions, carry, keys[0]
