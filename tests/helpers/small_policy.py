"""An untrained narrow network that plays, made in milliseconds."""

import functools

import jax
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.learner.policy import value_policy


@functools.cache
def make(num_actions=6, seed=0):
  """A narrow Nature DQN; the seed decides what it prefers."""
  network = networks.make_network(
      num_actions, features=(2, 2, 2), hidden_size=4
  )
  states = np.zeros((1, 84, 84, 4), np.uint8)
  # In one program: operation by operation takes seconds.
  params = jax.jit(network.init)(jax.random.PRNGKey(seed), states)['params']
  return value_policy(network, params)
