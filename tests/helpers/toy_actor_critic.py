"""A small actor-critic learner: the second user of the learner protocol.

Discrete soft actor-critic without tricks: the critic bootstraps from the
policy's expected value, the actor maximises expected value plus entropy.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Policy
from reincarnating_rl.learner import UpdateExtra
from reincarnating_rl.learner.resets import shrink_and_perturb

OPTIMIZER = optax.scale_by_adam(eps=1e-4)
ENTROPY_WEIGHT = 0.1
PARTS = ('actor', 'critic')


class Linear(nn.Module):
  """One output for each action, linear in the pixels."""

  num_actions: int

  @nn.compact
  def __call__(self, states):
    pixels = states.reshape((states.shape[0], -1)) / 255.0
    return nn.Dense(self.num_actions)(pixels)


@dataclasses.dataclass(frozen=True)
class SoftmaxActor:
  """Samples from a softmax while training, else takes the likeliest action."""

  network: nn.Module

  def initial_carry(self, batch_size):
    return ()

  def act(self, params, observation, first, carry, epsilon, rng_keys, explore):
    states = jnp.moveaxis(observation, 1, -1)
    logits = self.network.apply({'params': params}, states)
    if explore:
      return jax.random.categorical(rng_keys[0], logits), carry
    return jnp.argmax(logits, axis=-1), carry


@dataclasses.dataclass(frozen=True)
class RememberingActor(SoftmaxActor):
  """Counts the steps of an episode, and shifts its actions by that count."""

  def initial_carry(self, batch_size):
    return jnp.zeros(batch_size, jnp.int32)

  def act(self, params, observation, first, carry, epsilon, rng_keys, explore):
    actions, _ = super().act(
        params, observation, first, (), epsilon, rng_keys, explore
    )
    carry = jnp.where(first, 0, carry)
    return (actions + carry) % self.network.num_actions, carry + 1


class State(NamedTuple):
  params: Any  # {'actor', 'critic'}
  target: Any  # of the critic
  opt_state: Any
  rng_key: jax.Array
  coefficients: Coefficients
  updates: jax.Array
  since_reset: jax.Array


@dataclasses.dataclass(frozen=True)
class ActorCritic:
  """See `learner.protocol.Learner`."""

  num_actions: int
  remembers: bool = False

  annealing = None
  needs_teacher = False

  @property
  def network(self):
    return Linear(self.num_actions)

  def init(self, rng_key, observation, coefficients=Coefficients()):
    rng_key, *keys = jax.random.split(rng_key, 3)
    states = jnp.zeros((1,) + observation.shape, observation.dtype)
    params = {
        part: self.network.init(key, states)['params']
        for part, key in zip(PARTS, keys)
    }
    return State(
        params,
        jax.tree.map(jnp.copy, params['critic']),
        OPTIMIZER.init(params),
        rng_key,
        coefficients.as_arrays(),
        jnp.int32(0),
        jnp.int32(0),
    )

  def update(self, state, batch):
    apply = lambda p, s: self.network.apply({'params': p}, s)

    def loss(params):
      policy_t = jax.nn.softmax(apply(params['actor'], batch.s_t))
      value_t = jnp.sum(policy_t * apply(state.target, batch.s_t), axis=-1)
      targets = jax.lax.stop_gradient(batch.r_t + batch.discount_t * value_t)
      q_tm1 = apply(params['critic'], batch.s_tm1)
      q_a = jnp.take_along_axis(q_tm1, batch.a_tm1[:, None], 1)[:, 0]
      critic_losses = (q_a - targets) ** 2
      log_policy = jax.nn.log_softmax(apply(params['actor'], batch.s_tm1))
      advantage = jax.lax.stop_gradient(q_tm1) - ENTROPY_WEIGHT * log_policy
      actor_loss = -jnp.mean(jnp.sum(jnp.exp(log_policy) * advantage, axis=-1))
      total = jnp.mean(batch.weight * critic_losses) + actor_loss
      metrics = {'loss': total, 'actor_loss': actor_loss}
      return total, UpdateExtra(metrics, jnp.sqrt(critic_losses + 1e-10))

    grads, extra = jax.grad(loss, has_aux=True)(state.params)
    direction, opt_state = OPTIMIZER.update(grads, state.opt_state)
    rate = state.coefficients.learning_rate
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    state = state._replace(
        params=params,
        opt_state=opt_state,
        updates=state.updates + 1,
        since_reset=state.since_reset + 1,
        rng_key=jax.random.split(state.rng_key)[0],
    )
    return state, extra

  def policy(self, state, use_target=False):
    actor = RememberingActor if self.remembers else SoftmaxActor
    return Policy(actor(self.network), state.params['actor'])

  def sync_target(self, state):
    return state._replace(target=jax.tree.map(jnp.copy, state.params['critic']))

  def restart_optimizer(self, state):
    return state._replace(opt_state=OPTIMIZER.init(state.params))

  def reset(self, state, schedule, rng_key, observation):
    shares = schedule.shares(state.params)
    fresh = self.init(rng_key, observation).params
    params = shrink_and_perturb(state.params, fresh, shares)
    state = state._replace(params=params, since_reset=jnp.int32(0))
    return self.sync_target(self.restart_optimizer(state))

  def check_resets(self, schedule, observation):
    schedule.shares(dict.fromkeys(PARTS))

  def identity(self):
    return {'learner': repr(self)}
