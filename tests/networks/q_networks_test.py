"""Tests of the Q-networks against direct computations in numpy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import networks

ACTIONS = 3
ATOMS = 5
FRAME = (20, 13, 4)
FEATURES = (3, 4, 5)
STACKS = (2, 3)
HIDDEN = 6
QUANTILES = 7

make_small = functools.partial(
    networks.make_network,
    ACTIONS,
    hidden_size=HIDDEN,
    features=FEATURES,
    stack_sizes=STACKS,
    num_blocks=1,
)
make_small_iqn = functools.partial(
    networks.make_iqn_network,
    ACTIONS,
    num_quantiles=QUANTILES,
    embedding_dim=8,
    hidden_size=HIDDEN,
    features=FEATURES,
    stack_sizes=STACKS,
    num_blocks=1,
)
RAINBOW = {'num_atoms': ATOMS, 'distributional': True}
NETWORKS = {
    'dqn': make_small(),
    'c51': make_small(**RAINBOW),
    'rainbow': make_small(noisy=True, dueling=True, **RAINBOW),
    'impala': make_small('impala'),
    'dueling_atoms': make_small(num_atoms=ATOMS, dueling=True),
    'iqn': make_small_iqn(),
}
each_network = pytest.mark.parametrize('name', sorted(NETWORKS))


@functools.cache
def params_of(network, frame=FRAME):
  """Random parameters, biases too: at zero a forgotten one is not missed."""
  states = jax.ShapeDtypeStruct((1,) + frame, jnp.uint8)
  shapes = jax.eval_shape(network.init, jax.random.PRNGKey(0), states)['params']
  rng = np.random.default_rng(0)

  def draw(x):
    scale = 1.0 / np.sqrt(np.prod(x.shape[:-1])) if len(x.shape) > 1 else 0.2
    return jnp.asarray(scale * rng.normal(size=x.shape), x.dtype)

  return jax.tree.map(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def _apply(network, params, states, rng_key=None):
  return network.apply({'params': params}, states, rng_key)


def apply(network, states, rng_key=None):
  return _apply(network, params_of(network), states, rng_key)


def make_states(*batch: int, frame=FRAME) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, batch + frame).astype(np.uint8)


# -- slow forms ----------------------------------------------------------------


def relu(x):
  return np.maximum(x, 0.0)


def as_float64(params):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def slow_convolution(x, kernel, bias, stride):
  """SAME padding: outputs ceil(size / stride), the odd pixel at the end."""
  size = kernel.shape[0]
  out = [-(-n // stride) for n in x.shape[:2]]
  pads = [max((o - 1) * stride + size - n, 0) for o, n in zip(out, x.shape)]
  padded = np.pad(x, [(p // 2, p - p // 2) for p in pads] + [(0, 0)])
  result = np.empty(out + [kernel.shape[3]])
  for i in range(out[0]):
    for j in range(out[1]):
      rows = slice(i * stride, i * stride + size)
      columns = slice(j * stride, j * stride + size)
      patch = padded[rows, columns]
      result[i, j] = np.einsum('hwc,hwco->o', patch, kernel) + bias
  return result


def slow_max_pool(x):
  """3 x 3, stride 2, SAME."""
  out = [-(-n // 2) for n in x.shape[:2]]
  pads = [max((o - 1) * 2 + 3 - n, 0) for o, n in zip(out, x.shape)]
  padded = np.pad(
      x,
      [(p // 2, p - p // 2) for p in pads] + [(0, 0)],
      constant_values=-np.inf,
  )
  result = np.empty(out + [x.shape[2]])
  for i in range(out[0]):
    for j in range(out[1]):
      patch = padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
      result[i, j] = patch.max(axis=(0, 1))
  return result


def slow_nature(state, params):
  x = state.astype(np.float64) / 255.0
  for name, stride in (('Conv_0', 4), ('Conv_1', 2), ('Conv_2', 1)):
    layer = params['encoder'][name]
    x = relu(slow_convolution(x, layer['kernel'], layer['bias'], stride))
  return x.reshape(-1)


def slow_impala(state, params):
  x = state.astype(np.float64) / 255.0
  for k in range(len(STACKS)):
    stack = params['encoder'][f'ImpalaStack_{k}']
    conv = lambda y, i, stack=stack: slow_convolution(
        y, stack[f'Conv_{i}']['kernel'], stack[f'Conv_{i}']['bias'], 1
    )
    x = slow_max_pool(conv(x, 0))
    x = x + conv(relu(conv(relu(x), 1)), 2)
  return relu(x).reshape(-1)


def slow_dense(x, layer):
  return x @ layer['kernel'] + layer['bias']


def slow_softmax(x):
  e = np.exp(x - x.max(axis=-1, keepdims=True))
  return e / e.sum(axis=-1, keepdims=True)


# -- values --------------------------------------------------------------------


@pytest.mark.parametrize('frame', [FRAME, (84, 84, 4)])
def test_nature_dqn_equals_a_direct_computation(frame):
  network = make_small(features=(2, 3, 2))
  states = make_states(2, frame=frame)
  params = params_of(network, frame)
  output = _apply(network, params, states)
  params = as_float64(params)
  for i, state in enumerate(states):
    hidden = relu(
        slow_dense(slow_nature(state, params), params['hidden']['dense'])
    )
    q_values = slow_dense(hidden, params['head']['advantage']['dense'])
    np.testing.assert_allclose(
        output.representation[i], hidden, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        output.q_values[i], q_values, rtol=1e-4, atol=1e-5
    )


def test_impala_equals_a_direct_computation():
  network = NETWORKS['impala']
  state = make_states()
  params = as_float64(params_of(network))
  hidden = relu(
      slow_dense(slow_impala(state, params), params['hidden']['dense'])
  )
  q_values = slow_dense(hidden, params['head']['advantage']['dense'])
  np.testing.assert_allclose(
      apply(network, state).q_values, q_values, rtol=1e-4, atol=1e-5
  )


def test_categorical_values_are_means_of_the_distribution():
  network = NETWORKS['c51']
  output = apply(network, make_states(2))
  params = as_float64(params_of(network))
  logits = slow_dense(
      np.asarray(output.representation, np.float64),
      params['head']['advantage']['dense'],
  ).reshape(2, ACTIONS, ATOMS)
  np.testing.assert_allclose(output.logits, logits, rtol=1e-5, atol=1e-5)
  atoms = np.linspace(-10.0, 10.0, ATOMS)
  np.testing.assert_allclose(network.atoms, atoms)
  assert network.atoms.dtype == np.float32
  q_values = (slow_softmax(logits) * atoms).sum(axis=-1)
  np.testing.assert_allclose(output.q_values, q_values, rtol=1e-5, atol=1e-5)


def test_the_support_ends_at_v_max():
  network = make_small(num_atoms=3, distributional=True, v_max=2.5)
  np.testing.assert_array_equal(network.atoms, [-2.5, 0.0, 2.5])


@pytest.mark.parametrize('distributional', [True, False])
def test_dueling_advantages_have_mean_zero(distributional):
  network = make_small(
      num_atoms=ATOMS, dueling=True, distributional=distributional
  )
  output = apply(network, make_states(2))
  head = as_float64(params_of(network))['head']
  x = np.asarray(output.representation, np.float64)
  value = slow_dense(x, head['value']['dense'])[:, None, :]
  advantage = slow_dense(x, head['advantage']['dense'])
  advantage = advantage.reshape(2, ACTIONS, ATOMS)
  out = value + advantage - advantage.mean(axis=1, keepdims=True)
  if distributional:
    np.testing.assert_allclose(output.logits, out, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        (output.logits - value).mean(axis=1), np.zeros((2, ATOMS)), atol=1e-5
    )
  else:
    assert output.logits is None
    np.testing.assert_allclose(
        output.q_values, out.sum(axis=-1), rtol=1e-5, atol=1e-5
    )


def test_a_common_advantage_does_not_change_dueling_values():
  network = NETWORKS['dueling_atoms']
  states = make_states(2)
  params = jax.tree.map(lambda x: x, params_of(network))
  before = _apply(network, params, states).q_values
  params['head']['advantage']['dense']['bias'] += 7.0
  after = _apply(network, params, states).q_values
  np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
  params['head']['value']['dense']['bias'] += 7.0
  np.testing.assert_allclose(
      _apply(network, params, states).q_values,
      before + 7.0 * ATOMS,
      rtol=1e-4,
  )


# -- shapes, types, names ------------------------------------------------------


@each_network
@pytest.mark.parametrize('batch', [(), (2,), (2, 3)])
def test_shapes_and_types(name, batch):
  network = NETWORKS[name]
  states = jax.ShapeDtypeStruct(batch + FRAME, jnp.uint8)
  params, key = params_of(network), jax.random.PRNGKey(0)
  output = jax.eval_shape(
      lambda x: network.apply({'params': params}, x, key), states
  )
  assert network.num_actions == ACTIONS
  assert output.q_values.shape == batch + (ACTIONS,)
  assert output.representation.shape == batch + (HIDDEN,)
  if name in ('c51', 'rainbow'):
    assert output.logits.shape == batch + (ACTIONS, ATOMS)
  else:
    assert output.logits is None
  if name == 'iqn':
    assert output.quantile_values.shape == batch + (QUANTILES, ACTIONS)
    assert output.quantiles.shape == batch + (QUANTILES,)
  else:
    assert output.quantile_values is output.quantiles is None
  for leaf in jax.tree.leaves((output, params)):
    assert leaf.dtype == jnp.float32


@each_network
def test_parameters_lie_under_the_names_of_the_parts(name):
  params = params_of(NETWORKS[name])
  if name == 'iqn':  # Its hidden layer stands behind the embedding.
    assert set(params) == {'encoder', 'head'}
    assert set(params['head']) == {'embedding', 'hidden', 'advantage'}
    return
  assert set(params) == {'encoder', 'hidden', 'head'}
  heads = (
      {'advantage', 'value'} if NETWORKS[name].head.dueling else {'advantage'}
  )
  assert set(params['head']) == heads
  kind = 'noisy' if name == 'rainbow' else 'dense'
  assert set(params['hidden']) == {kind}
  assert set(params['head']['advantage']) == {kind}


def test_sizes_of_the_networks_of_the_papers():
  """At 84 x 84: Nature ends in 11 x 11 x 64 here, Impala in 11 x 11 x 32."""
  states = jax.ShapeDtypeStruct((1, 84, 84, 4), jnp.uint8)
  count = lambda network: sum(
      x.size
      for x in jax.tree.leaves(
          jax.eval_shape(network.init, jax.random.PRNGKey(0), states)
      )
  )
  convolutions = 8 * 8 * 4 * 32 + 32 + 16 * 32 * 64 + 64 + 9 * 64 * 64 + 64
  dense = lambda fan_in, fan_out: fan_in * fan_out + fan_out
  nature = convolutions + dense(11 * 11 * 64, 512)
  assert count(networks.make_network(18)) == nature + dense(512, 18)
  rainbow = networks.make_network(
      18, num_atoms=51, distributional=True, dueling=True
  )
  heads = dense(512, 18 * 51) + dense(512, 51)
  assert count(rainbow) == nature + heads
  conv = lambda fan_in, fan_out: 9 * fan_in * fan_out + fan_out
  impala = (
      (conv(4, 16) + 4 * conv(16, 16))
      + (conv(16, 32) + 4 * conv(32, 32))
      + (conv(32, 32) + 4 * conv(32, 32))
      + dense(11 * 11 * 32, 512)
  )
  assert count(networks.make_network(18, 'impala')) == impala + dense(512, 18)


def test_nn_scale_multiplies_every_width():
  params = params_of(make_small('impala', nn_scale=2))['encoder']
  widths = [
      params[f'ImpalaStack_{k}']['Conv_0']['kernel'].shape[-1]
      for k in range(len(STACKS))
  ]
  assert widths == [2 * width for width in STACKS]


@each_network
def test_a_batch_is_its_examples_one_by_one(name):
  network = NETWORKS[name]
  states = make_states(2)
  together = apply(network, states)
  for i, state in enumerate(states):
    alone = apply(network, state)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone)):
      np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-5)


def test_plain_jitted_and_vmapped_agree():
  network = NETWORKS['rainbow']
  params, states = params_of(network), make_states(2)
  jitted = apply(network, states)
  plain = network.apply({'params': params}, states)
  vmapped = jax.jit(jax.vmap(lambda x: network.apply({'params': params}, x)))
  for other in (plain, vmapped(states)):
    for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(other)):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['dqn', 'c51'])
def test_a_key_means_nothing_where_nothing_is_random(name):
  network, states = NETWORKS[name], make_states(2)
  with_key = apply(network, states, jax.random.PRNGKey(0)).q_values
  np.testing.assert_array_equal(apply(network, states).q_values, with_key)


# -- noisy layers --------------------------------------------------------------


class TestNoisyDense:
  FAN_IN = 5
  FEATURES = 4
  BATCH = 3

  def _layer(self):
    layer = networks.NoisyDense(self.FEATURES)
    shape = (self.BATCH, self.FAN_IN)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    params = layer.init(jax.random.PRNGKey(1), x)['params']
    return layer, params, x

  def test_initial_values(self):
    _, params, _ = self._layer()
    bound = 1.0 / np.sqrt(self.FAN_IN)
    shapes = {k: v.shape for k, v in params.items()}
    assert shapes == {
        'kernel_mu': (self.FAN_IN, self.FEATURES),
        'kernel_sigma': (self.FAN_IN, self.FEATURES),
        'bias_mu': (self.FEATURES,),
        'bias_sigma': (self.FEATURES,),
    }
    for name in ('kernel', 'bias'):
      assert np.abs(params[f'{name}_mu']).max() <= bound
      assert np.std(params[f'{name}_mu']) > bound / 10
      np.testing.assert_allclose(params[f'{name}_sigma'], 0.1 * bound)

  def test_without_a_key_there_is_no_noise(self):
    layer, params, x = self._layer()
    expected = x @ params['kernel_mu'] + params['bias_mu'][None]
    np.testing.assert_allclose(
        layer.apply({'params': params}, x), expected, rtol=1e-6, atol=1e-6
    )

  def test_equals_the_explicit_matrix_form(self):
    """y = (mu_w + sigma_w * f(p) f(q)^T)^T x + mu_b + sigma_b * f(q)."""
    layer, params, x = self._layer()
    key = jax.random.PRNGKey(2)
    fast = layer.apply({'params': params}, x, key)
    p_key, q_key = jax.random.split(key)
    f = lambda noise: np.sign(noise) * np.sqrt(np.abs(noise))
    f_p = f(np.asarray(jax.random.normal(p_key, (self.BATCH, self.FAN_IN))))
    f_q = f(np.asarray(jax.random.normal(q_key, (self.BATCH, self.FEATURES))))
    params = as_float64(params)
    for i in range(self.BATCH):
      noise = np.outer(f_p[i], f_q[i])
      kernel = params['kernel_mu'] + params['kernel_sigma'] * noise
      bias = params['bias_mu'] + params['bias_sigma'] * f_q[i]
      np.testing.assert_allclose(
          fast[i], np.asarray(x[i]) @ kernel + bias, rtol=1e-5, atol=1e-5
      )

  def test_every_example_has_its_own_noise(self):
    layer, params, x = self._layer()
    same = jnp.broadcast_to(x[:1], x.shape)
    y = np.asarray(layer.apply({'params': params}, same, jax.random.PRNGKey(3)))
    assert len(np.unique(y.round(6), axis=0)) == self.BATCH

  def test_gradients_reach_all_four_parameters(self):
    layer, params, x = self._layer()
    loss = lambda p: layer.apply({'params': p}, x, jax.random.PRNGKey(4)).sum()
    for name, gradient in jax.grad(loss)(params).items():
      assert np.abs(gradient).min() > 0.0, name


def test_noise_of_a_network_depends_on_its_key():
  network, states = NETWORKS['rainbow'], make_states(2)
  quiet = apply(network, states).q_values
  noisy = [
      apply(network, states, jax.random.PRNGKey(seed)).q_values
      for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(noisy[0], noisy[1])
  assert (np.asarray(noisy[0]) != np.asarray(noisy[2])).all()
  assert (np.asarray(noisy[0]) != np.asarray(quiet)).all()
  np.testing.assert_array_equal(quiet, apply(network, states).q_values)


def test_noise_of_equal_states_differs():
  network = NETWORKS['rainbow']
  states = np.repeat(make_states(1), 2, axis=0)
  q_values = np.asarray(apply(network, states, jax.random.PRNGKey(0)).q_values)
  assert (q_values[0] != q_values[1]).all()


# -- implicit quantiles --------------------------------------------------------


def test_iqn_values_are_means_over_quantiles():
  network, states = NETWORKS['iqn'], make_states(2)
  output = apply(network, states, jax.random.PRNGKey(0))
  np.testing.assert_allclose(
      output.q_values, output.quantile_values.mean(axis=1), rtol=1e-5, atol=1e-6
  )
  quantiles = np.asarray(output.quantiles)
  assert (0.0 <= quantiles).all() and (quantiles < 1.0).all()
  assert len(np.unique(quantiles)) == quantiles.size


def test_iqn_without_a_key_uses_midpoints():
  output = apply(NETWORKS['iqn'], make_states(2))
  midpoints = (np.arange(QUANTILES) + 0.5) / QUANTILES
  np.testing.assert_allclose(
      output.quantiles, np.tile(midpoints, (2, 1)), rtol=1e-6
  )


def test_iqn_equals_a_direct_computation():
  """phi_j = relu(sum_i cos(pi i tau) w_ij + b_j), i from 1 (Dopamine's)."""
  network = make_small_iqn('nature')
  state = make_states()
  output = apply(network, state, jax.random.PRNGKey(5))
  params = as_float64(params_of(network))
  features = slow_nature(state, params)
  head = {k: v['dense'] for k, v in params['head'].items()}
  for tau, values in zip(output.quantiles, output.quantile_values):
    cosines = np.cos(np.pi * np.arange(1, 9) * float(tau))
    phi = relu(slow_dense(cosines, head['embedding']))
    hidden = relu(slow_dense(features * phi, head['hidden']))
    np.testing.assert_allclose(
        values, slow_dense(hidden, head['advantage']), rtol=1e-4, atol=1e-5
    )


def test_iqn_takes_another_number_of_quantiles():
  network = NETWORKS['iqn']
  params, key = params_of(network), jax.random.PRNGKey(0)
  output = jax.eval_shape(
      lambda x: network.apply({'params': params}, x, key, num_quantiles=3),
      make_states(2),
  )
  assert output.quantile_values.shape == (2, 3, ACTIONS)


# -- compute type --------------------------------------------------------------


@pytest.mark.parametrize(
    'make, options',
    [
        (make_small, {}),
        (make_small, {'encoder': 'impala', 'dueling': True, **RAINBOW}),
        (make_small, {'noisy': True}),
        (make_small_iqn, {}),
    ],
)
def test_bfloat16_computes_nearly_the_same(make, options):
  exact, fast = make(**options), make(dtype=jnp.bfloat16, **options)
  states, key = make_states(2), jax.random.PRNGKey(0)
  params = params_of(exact)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(params_of(fast)) == shapes(params)
  expected = _apply(exact, params, states, key)
  output = _apply(fast, params, states, key)
  assert output.q_values.dtype == jnp.float32
  np.testing.assert_allclose(
      output.q_values, expected.q_values, rtol=0.05, atol=0.05
  )
  assert (np.asarray(output.q_values) != np.asarray(expected.q_values)).any()
  for leaf in (output.logits, output.quantile_values):
    assert leaf is None or leaf.dtype == jnp.float32


# -- errors --------------------------------------------------------------------


@pytest.mark.parametrize(
    'make', [networks.make_network, networks.make_iqn_network]
)
def test_an_unknown_encoder_is_refused(make):
  with pytest.raises(ValueError, match="'resnet'.*'nature' or 'impala'"):
    make(ACTIONS, 'resnet')


def test_a_distribution_on_one_atom_is_refused():
  with pytest.raises(ValueError, match='num_atoms >= 2, got 1'):
    networks.make_network(ACTIONS, distributional=True)


def test_networks_of_equal_settings_are_equal():
  """What makes two of them share compiled code."""
  assert make_small() == make_small()
  assert hash(make_small()) == hash(make_small())
  assert make_small() != make_small(dueling=True)
  # Lists come from flags and gin files; they must not break the hash.
  assert hash(make_small(features=list(FEATURES))) == hash(make_small())
