"""Old parameters in our networks: the same values as Dopamine's own."""

import pickle

import jax
import numpy as np
import pytest

from reincarnating_rl.dopamine_bridge import compat
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats import dopamine_params
from reincarnating_rl.teachers.formats import safe_pickle

compat.prepare_dopamine()

from dopamine.jax import networks as dopamine_networks
import jax.numpy as jnp

# Dopamine's own networks broadcast silently.
pytestmark = pytest.mark.usefixtures('silent_broadcasting')
NUM_ACTIONS = 4
SUPPORT = jnp.linspace(-10.0, 10.0, 51)


@pytest.fixture(name='silent_broadcasting')
def _silent_broadcasting():
  with jax.numpy_rank_promotion('allow'):
    yield


def _states(batch_size=3):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (batch_size, 84, 84, 4), np.uint8)


def _init(module, *args, **kwargs):
  state = jnp.asarray(_states()[0])
  return module.init(jax.random.PRNGKey(0), state, *args, **kwargs)


def _stored(tree):
  """A tree as it comes out of a checkpoint."""
  return safe_pickle.loads(pickle.dumps(tree), 'ckpt.1')


def _rainbow(**options):
  module = dopamine_networks.FullRainbowNetwork(NUM_ACTIONS, 51, **options)
  key = jax.random.PRNGKey(1)
  tree = _init(module, SUPPORT, eval_mode=True, key=key)
  apply = lambda s: module.apply(tree, s, SUPPORT, True, key).q_values
  return tree, apply


CASES = {
    'nature': (
        'dqn',
        lambda: dopamine_networks.NatureDQNNetwork(NUM_ACTIONS),
    ),
    'impala': (
        'dqn',
        lambda: dopamine_networks.ImpalaDQNNetwork(NUM_ACTIONS),
    ),
    'wide impala': (
        'dqn',
        lambda: dopamine_networks.ImpalaDQNNetwork(NUM_ACTIONS, nn_scale=2),
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_plain_networks(name):
  agent, make = CASES[name]
  module = make()
  tree = _init(module)
  converted = dopamine_params.from_flax(_stored(tree), 'ckpt.1')
  assert converted.agent == agent
  expected = jax.vmap(lambda s: module.apply(tree, s).q_values)(_states())
  _check(converted, expected)


@pytest.mark.parametrize('noisy', [False, True])
@pytest.mark.parametrize('dueling', [False, True])
def test_full_rainbow(noisy, dueling):
  tree, apply = _rainbow(noisy=noisy, dueling=dueling)
  converted = dopamine_params.from_flax(_stored(tree), 'ckpt.1')
  assert converted.agent == 'rainbow'
  _check(converted, jax.vmap(apply)(_states()))


def test_c51():
  module = dopamine_networks.RainbowNetwork(NUM_ACTIONS, 51)
  tree = _init(module, SUPPORT)
  converted = dopamine_params.from_flax(_stored(tree), 'ckpt.1', 'rainbow')
  apply = lambda s: module.apply(tree, s, SUPPORT).q_values
  _check(converted, jax.vmap(apply)(_states()))


def test_implicit_quantiles():
  module = dopamine_networks.ImplicitQuantileNetwork(NUM_ACTIONS, 64)
  tree = _init(module, 8, jax.random.PRNGKey(2))
  converted = dopamine_params.from_flax(_stored(tree), 'ckpt.1')
  assert converted.agent == 'iqn'
  # Dopamine draws quantiles; ours answers for those that Dopamine drew.
  state = jnp.asarray(_states()[0])
  key = jax.random.PRNGKey(3)
  theirs = module.apply(tree, state, 8, key)
  features = converted.network.bind({'params': converted.params})
  x = features.encoder(state.astype(jnp.float32) / 255.0).reshape(-1)
  ours = features.head(x, theirs.quantiles[:, 0])
  np.testing.assert_allclose(
      ours.quantile_values, theirs.quantile_values, atol=1e-5
  )


def _check(converted, expected):
  network, params = converted.network, converted.params
  shapes = lambda tree: jax.tree.map(np.shape, tree)
  wanted = jax.eval_shape(network.init, jax.random.PRNGKey(0), _states())
  assert shapes(params) == shapes(wanted['params'])
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}
  got = network.apply({'params': params}, _states()).q_values
  np.testing.assert_allclose(got, expected, atol=1e-5)


# -- what is refused -----------------------------------------------------------


def _nature_tree():
  shapes = {
      'Conv_0': (8, 8, 4, 4),
      'Conv_1': (4, 4, 4, 8),
      'Conv_2': (3, 3, 8, 8),
      'Dense_0': (968, 16),
      'Dense_1': (16, 6),
  }
  rng = np.random.default_rng(1)
  return {
      name: {
          'kernel': rng.standard_normal(shape).astype(np.float32),
          'bias': np.zeros(shape[-1], np.float32),
      }
      for name, shape in shapes.items()
  }


def test_the_tree_that_the_refused_ones_are_made_from():
  assert dopamine_params.from_flax(_nature_tree(), 'f').agent == 'dqn'


def _changed(layer, what, value):
  tree = _nature_tree()
  tree[layer][what] = value
  return tree


def _without(layer):
  tree = _nature_tree()
  del tree[layer]
  return tree


@pytest.mark.parametrize(
    'tree, agent, words',
    [
        (None, None, 'no parameters'),
        ({}, None, 'no parameters'),
        ([], None, 'no parameters'),
        ({'a': 1}, None, 'layers called a'),
        (_without('Conv_1'), None, '2 convolutions instead of 3'),
        (_without('Dense_1'), None, '1 fully connected layers'),
        (_nature_tree() | {'LSTM_0': {}}, None, 'layers called LSTM'),
        (_nature_tree() | {'Conv_3': {}}, None, 'holds  instead of kernel'),
        (_changed('Conv_0', 'bias', np.zeros((2, 2))), None, 'convolution 0'),
        (_changed('Dense_1', 'bias', np.zeros(5)), None, r'shape \(5,\)'),
        (_changed('Dense_0', 'kernel', np.ones(3)), None, r'shape \(3,\)'),
        (_changed('Dense_0', 'kernel', np.ones((968, 9))), None, 'instead of'),
        (_changed('Dense_1', 'bias', 'text'), None, 'not an array'),
        (_changed('Dense_1', 'bias', np.zeros(6, int)), None, 'real numbers'),
        (_changed('Dense_1', 'bias', np.full(6, np.nan)), None, 'not finite'),
        (_changed('Dense_1', 'bias', np.full(6, 1e300)), None, 'not finite'),
        (_nature_tree(), 'rainbow', '6 outputs are no Q-values'),
        (_nature_tree(), 'iqn', 'the agent dqn, not of iqn'),
    ],
)
def test_what_is_no_network_is_refused_with_its_reason(tree, agent, words):
  with pytest.raises(TeacherError, match=words) as e:
    dopamine_params.from_flax(tree, 'ckpt.1', agent)
  assert str(e.value).startswith('ckpt.1 does not hold a network')


def test_valid_padding_is_refused():
  tree = _changed('Dense_0', 'kernel', np.ones((7 * 7 * 8, 16)))
  with pytest.raises(TeacherError, match=r'\(392, 16\) instead of \(968, 16\)'):
    dopamine_params.from_flax(tree, 'ckpt.1')
