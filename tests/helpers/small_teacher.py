"""A teacher directory of a tiny, untrained network, made in milliseconds."""

import functools

import jax
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.teachers.formats import native


@functools.cache
def _params(network, seed):
  states = np.zeros((1, 84, 84, 4), np.uint8)
  # In one program: operation by operation takes seconds.
  return jax.jit(network.init)(jax.random.PRNGKey(seed), states)['params']


def write(directory, game='Pong', num_actions=6, score=None, seed=0):
  """Writes checkpoint 3 of an untrained narrow Nature DQN.

  Args:
    directory: directory of the teacher.
    game: game in the manifest.
    num_actions: A.
    score: score in the manifest; None for none.
    seed: seed of the parameters.
  """
  options = {
      'num_actions': num_actions,
      'encoder': 'nature',
      'features': [4, 8, 8],
      'hidden_size': 16,
  }
  params = _params(networks.make_network(**options), seed)
  scores = {} if score is None else {'3': score}
  manifest = native.Manifest(game, options, 1, scores)
  native.write_checkpoint(str(directory), manifest, 3, params)
  return str(directory)
