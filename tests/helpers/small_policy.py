"""An untrained narrow network that plays, made in milliseconds."""

import jax
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.learner.policy import value_policy


def make(num_actions=6, seed=0):
  """A narrow Nature DQN; other seeds think otherwise."""
  network = networks.make_network(
      num_actions, features=(4, 8, 8), hidden_size=16
  )
  states = np.zeros((1, 84, 84, 4), np.uint8)
  params = network.init(jax.random.PRNGKey(seed), states)['params']
  return value_policy(network, params)
