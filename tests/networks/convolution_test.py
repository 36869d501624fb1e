"""Convolutions: every form computes what flax's do."""

import itertools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import networks
from reincarnating_rl.networks import convolution
from reincarnating_rl.networks.convolution import Form

FORMS = [Form(*flags) for flags in itertools.product((False, True), repeat=2)]
# (k, s) of Nature's and Impala's layers, and one that blocks cannot take.
LAYERS = [(8, 4), (4, 2), (3, 1), (3, 2)]


@pytest.fixture
def use(monkeypatch):
  """Lets the encoders have a form."""
  return lambda form: monkeypatch.setattr(
      convolution, 'best', lambda encoder: form
  )


def _images(height=21, width=18, channels=3, lead=(2,)):
  rng = np.random.default_rng(0)
  shape = lead + (height, width, channels)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _slow(images, kernel, stride):
  """The sum over every kernel position, in float64."""
  size = kernel.shape[0]
  pads = [convolution.same_padding(n, size, stride) for n in images.shape[1:3]]
  x = np.pad(np.asarray(images, np.float64), [(0, 0), *pads, (0, 0)])
  rows, columns = (-(-n // stride) for n in images.shape[1:3])
  out = np.zeros((images.shape[0], rows, columns, kernel.shape[3]))
  for i, j in itertools.product(range(rows), range(columns)):
    top, left = i * stride, j * stride
    patch = x[:, top : top + size, left : left + size]
    out[:, i, j] = np.einsum('nhwc,hwck->nk', patch, kernel)
  return out


@pytest.mark.parametrize('size,stride', LAYERS)
@pytest.mark.parametrize('form', FORMS)
def test_every_form_sums_over_the_kernel(form, size, stride):
  images = _images()
  kernel = np.random.default_rng(1).normal(size=(size, size, 3, 5))
  out = convolution.convolve(images, jnp.float32(kernel), stride, form)
  np.testing.assert_allclose(out, _slow(images, kernel, stride), atol=1e-4)


@pytest.mark.parametrize('size,stride', LAYERS)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_layer_equals_flax(size, stride, dtype):
  ours = convolution.Conv(5, size, stride, dtype)
  flax_s = nn.Conv(5, (size, size), stride, dtype=dtype)
  images = _images(lead=(2, 3))
  key = jax.random.PRNGKey(0)
  params = ours.init(key, images)
  jax.tree.map(np.testing.assert_array_equal, params, flax_s.init(key, images))
  np.testing.assert_array_equal(
      np.float32(ours.apply(params, images)),
      np.float32(flax_s.apply(params, images)),
  )


@pytest.mark.parametrize('encoder', ['nature', 'impala'])
def test_networks_and_their_gradients_are_the_same_in_every_form(use, encoder):
  network = networks.make_network(
      3, encoder, features=(4, 6, 6), stack_sizes=(4, 6), hidden_size=8
  )
  rng = np.random.default_rng(0)
  states = jnp.asarray(rng.integers(0, 256, (2, 84, 84, 4)), jnp.uint8)
  use(Form())
  params = network.init(jax.random.PRNGKey(0), states)

  def value_and_slope():
    loss = lambda p: jnp.sum(network.apply(p, states).q_values ** 2)
    return jax.jit(jax.value_and_grad(loss))(params)

  wanted = value_and_slope()
  for form in FORMS[1:]:
    use(form)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        value_and_slope(),
        wanted,
    )


def test_forms_survive_vmap():
  images = _images(lead=(3, 2))
  kernels = jnp.float32(np.random.default_rng(1).normal(size=(3, 4, 4, 3, 5)))
  many = jax.vmap(convolution.convolve, in_axes=(0, 0, None, None))
  for form in (Form(blocks=True), Form(blocks=True, products=True)):
    out = many(images, kernels, 2, form)
    for i in range(3):
      one = convolution.convolve(images[i], kernels[i], 2, form)
      np.testing.assert_allclose(out[i], one, atol=1e-4)


def test_the_backend_decides(monkeypatch):
  monkeypatch.setattr(convolution, 'BEST', {('gpu', 'nature'): Form(True)})
  assert convolution.best('nature') == Form()
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert convolution.best('nature') == Form(True)
  assert convolution.best('impala') == Form()
