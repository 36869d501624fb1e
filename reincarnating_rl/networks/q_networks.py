"""Q-networks for stacked Atari frames.

A network has an encoder, a hidden layer and a head; its parameters have these
three names at the top. Inputs are uint8 [..., H, W, C]; all leading dimensions
are batch dimensions. Each network returns a `base.types.NetworkOutput`.

With an `rng_key` noisy layers draw one noise sample per example, and implicit
quantile heads draw their quantiles. Without it there is no noise, and the
quantiles are fixed.
"""

from __future__ import annotations

from typing import Any, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.networks import convolution
from reincarnating_rl.networks.convolution import Conv

DEFAULT_NUM_ATOMS = 51
DEFAULT_V_MAX = 10.0
_XAVIER = nn.initializers.xavier_uniform()


class NatureEncoder(nn.Module):
  """Three convolutions of Mnih et al. (2015), with Dopamine's SAME padding."""

  features: tuple[int, ...] = (32, 64, 64)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., H, W, C] floats to [..., H', W', features[-1]]."""
    how = convolution.best('nature')
    for width, kernel, stride in zip(self.features, (8, 4, 3), (4, 2, 1)):
      x = nn.relu(Conv(width, kernel, stride, self.dtype, _XAVIER, how)(x))
    return x


class ImpalaStack(nn.Module):
  """A convolution, max pooling and residual blocks (Espeholt et al., 2018)."""

  width: int
  num_blocks: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    how = convolution.best('impala')
    conv = lambda **kw: Conv(self.width, 3, 1, self.dtype, form=how, **kw)
    x = conv(kernel_init=_XAVIER)(x)
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
    for _ in range(self.num_blocks):
      y = conv()(nn.relu(x))
      x = x + conv()(nn.relu(y))
    return x


class ImpalaEncoder(nn.Module):
  """The deep residual encoder of Espeholt et al. (2018), figure 3 right."""

  stack_sizes: tuple[int, ...] = (16, 32, 32)
  num_blocks: int = 2
  nn_scale: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., H, W, C] floats to [..., H/8, W/8, width]."""
    for size in self.stack_sizes:
      x = ImpalaStack(size * self.nn_scale, self.num_blocks, self.dtype)(x)
    return nn.relu(x)


class NoisyDense(nn.Module):
  """Dense layer with factorised Gaussian noise (Fortunato et al., 2018).

  The noise matrix f(p) f(q)^T is never built, since x W_eps =
  ((x * f(p)) W_sigma) * f(q). This makes a sample per example affordable.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
      self, x: jax.Array, rng_key: Optional[jax.Array] = None
  ) -> jax.Array:
    fan_in = x.shape[-1]
    bound = 1.0 / np.sqrt(fan_in)

    def mu_init(key, shape, dtype=jnp.float32):
      return jax.random.uniform(key, shape, dtype, -bound, bound)

    sigma_init = nn.initializers.constant(0.1 * bound)
    shape = (fan_in, self.features)
    w_mu = self.param('kernel_mu', mu_init, shape)
    w_sigma = self.param('kernel_sigma', sigma_init, shape)
    b_mu = self.param('bias_mu', mu_init, shape[1:])
    b_sigma = self.param('bias_sigma', sigma_init, shape[1:])
    x = x.astype(self.dtype)
    along = lambda vector: _along_last_axis(vector, x.ndim).astype(self.dtype)
    y = x @ w_mu.astype(self.dtype) + along(b_mu)
    if rng_key is None:
      return y
    p_key, q_key = jax.random.split(rng_key)
    f_p = _scaled_noise(p_key, x.shape).astype(self.dtype)
    f_q = _scaled_noise(q_key, y.shape).astype(self.dtype)
    noise = (x * f_p) @ w_sigma.astype(self.dtype)
    return y + (noise + along(b_sigma)) * f_q


def _scaled_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  noise = jax.random.normal(key, shape)
  return jnp.sign(noise) * jnp.sqrt(jnp.abs(noise))


def _along_last_axis(vector: jax.Array, ndim: int) -> jax.Array:
  """Adds leading axes of size one: rank promotion is an error in the tests."""
  return vector.reshape((1,) * (ndim - 1) + (-1,))


class DenseLayer(nn.Module):
  """Dense layer, plain or noisy."""

  features: int
  noisy: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
      self, x: jax.Array, rng_key: Optional[jax.Array] = None
  ) -> jax.Array:
    if self.noisy:
      return NoisyDense(self.features, self.dtype, name='noisy')(x, rng_key)
    return nn.Dense(
        self.features, kernel_init=_XAVIER, dtype=self.dtype, name='dense'
    )(x)


class ValueHead(nn.Module):
  """Head that makes Q-values, or their categorical distribution (C51).

  The dueling form (Wang et al., 2016, eq. 9) subtracts the mean advantage per
  atom. If `distributional` is False, a value is the sum over `num_atoms`
  outputs, as in Dopamine.
  """

  num_actions: int
  num_atoms: int = 1
  noisy: bool = False
  dueling: bool = False
  distributional: bool = False
  v_max: float = DEFAULT_V_MAX
  v_min: Optional[float] = None  # default -v_max
  dtype: Any = jnp.float32

  @property
  def atoms(self) -> np.ndarray:
    """[N] float32 support of the categorical distribution."""
    v_min = -self.v_max if self.v_min is None else self.v_min
    return np.linspace(v_min, self.v_max, self.num_atoms).astype(np.float32)

  @nn.compact
  def __call__(
      self, x: jax.Array, rng_key: Optional[jax.Array] = None
  ) -> NetworkOutput:
    keys = (None, None) if rng_key is None else jax.random.split(rng_key)
    x = x.astype(jnp.float32)
    layer = lambda n, name: DenseLayer(n, self.noisy, name=name)
    shape = x.shape[:-1] + (self.num_actions, self.num_atoms)
    out = layer(self.num_actions * self.num_atoms, 'advantage')(x, keys[0])
    out = out.reshape(shape)
    if self.dueling:
      value = layer(self.num_atoms, 'value')(x, keys[1])
      out = value[..., None, :] + out - out.mean(axis=-2, keepdims=True)
    if not self.distributional:
      return NetworkOutput(out.sum(axis=-1), x)
    q_values = jnp.einsum('...n,n->...', jax.nn.softmax(out), self.atoms)
    return NetworkOutput(q_values, x, logits=out)


class ImplicitQuantileHead(nn.Module):
  """Quantile values at random probabilities (Dabney et al., 2018b, eq. 4).

  The cosine embedding of a quantile multiplies the encoder's output; a hidden
  layer follows.
  """

  num_actions: int
  embedding_dim: int = 64
  hidden_size: int = 512
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, quantiles: jax.Array) -> NetworkOutput:
    """Maps x [..., D] and quantiles [..., N] to values [..., N, A]."""
    orders = jnp.arange(1, self.embedding_dim + 1, dtype=jnp.float32)
    angles = jnp.pi * _along_last_axis(orders, quantiles.ndim + 1)
    cosines = jnp.cos(angles * quantiles[..., None])
    layer = lambda n, name: DenseLayer(n, dtype=self.dtype, name=name)
    embedding = nn.relu(layer(x.shape[-1], 'embedding')(cosines))
    hidden = nn.relu(
        layer(self.hidden_size, 'hidden')(embedding * x[..., None, :])
    )
    hidden = hidden.astype(jnp.float32)
    values = DenseLayer(self.num_actions, name='advantage')(hidden)
    return NetworkOutput(
        values.mean(axis=-2),
        hidden.mean(axis=-2),
        quantile_values=values,
        quantiles=quantiles,
    )


class QNetwork(nn.Module):
  """Encoder, one hidden layer, value head: Nature DQN, C51, Rainbow, Impala.

  Attributes:
    encoder: module that maps float images to feature maps.
    head: module that maps the representation to a `NetworkOutput`.
    hidden_size: width of the hidden layer.
    noisy: True for a noisy hidden layer.
  """

  encoder: nn.Module
  head: ValueHead
  hidden_size: int = 512
  noisy: bool = False

  @property
  def num_actions(self) -> int:
    return self.head.num_actions

  @property
  def atoms(self) -> np.ndarray:
    """[N] float32 support of a distributional head."""
    return self.head.atoms

  @nn.compact
  def __call__(
      self, x: jax.Array, rng_key: Optional[jax.Array] = None
  ) -> NetworkOutput:
    hidden_key, head_key = (
        (None, None) if rng_key is None else jax.random.split(rng_key)
    )
    x = _flatten(self.encoder(_normalize(x)))
    layer = DenseLayer(
        self.hidden_size, self.noisy, self.head.dtype, name='hidden'
    )
    return self.head(nn.relu(layer(x, hidden_key)), head_key)


class ImplicitQuantileNetwork(nn.Module):
  """IQN (Dabney et al., 2018b) on any encoder.

  Attributes:
    encoder: module that maps float images to feature maps.
    head: quantile head.
    num_quantiles: N, number of quantiles that `q_values` average over, unless
      a call gives another (Dopamine: 32 for acting, 64 in the loss).
  """

  encoder: nn.Module
  head: ImplicitQuantileHead
  num_quantiles: int = 32

  @property
  def num_actions(self) -> int:
    return self.head.num_actions

  @nn.compact
  def __call__(
      self,
      x: jax.Array,
      rng_key: Optional[jax.Array] = None,
      num_quantiles: Optional[int] = None,
  ) -> NetworkOutput:
    """Without a key the quantiles are the N midpoints (i + 1/2) / N."""
    n = num_quantiles or self.num_quantiles
    x = _flatten(self.encoder(_normalize(x)))
    shape = x.shape[:-1] + (n,)
    if rng_key is None:
      quantiles = jnp.broadcast_to((jnp.arange(n) + 0.5) / n, shape)
    else:
      quantiles = jax.random.uniform(rng_key, shape)
    return self.head(x, quantiles)


def _normalize(x: jax.Array) -> jax.Array:
  return x.astype(jnp.float32) / 255.0


def _flatten(x: jax.Array) -> jax.Array:
  return x.reshape(x.shape[:-3] + (-1,))


def make_network(
    num_actions: int,
    encoder: str = 'nature',
    *,
    num_atoms: int = 1,
    noisy: bool = False,
    dueling: bool = False,
    distributional: bool = False,
    v_max: float = DEFAULT_V_MAX,
    hidden_size: int = 512,
    features: tuple[int, ...] = (32, 64, 64),
    stack_sizes: tuple[int, ...] = (16, 32, 32),
    num_blocks: int = 2,
    nn_scale: int = 1,
    dtype: Any = jnp.float32,
) -> QNetwork:
  """Builds a DQN, C51 or Rainbow network.

  Args:
    num_actions: A, number of actions of the game.
    encoder: 'nature' or 'impala'.
    num_atoms: N, size of the support (1 for plain DQN).
    noisy: True for noisy hidden and head layers.
    dueling: True for a dueling head.
    distributional: True for categorical values on [-v_max, v_max] (C51).
    v_max: upper end of the support.
    hidden_size: width of the hidden layer.
    features: widths of the three Nature convolutions.
    stack_sizes: widths of the Impala stacks, before `nn_scale`.
    num_blocks: residual blocks per Impala stack.
    nn_scale: factor of all Impala widths.
    dtype: compute type of all layers before the head. The head computes in
      float32, since bfloat16 would lose the small differences between values;
      parameters are float32.

  Raises:
    ValueError: if the encoder is unknown, or a distributional network has
      fewer than two atoms.
  """
  encoder_module = make_encoder(
      encoder,
      features=features,
      stack_sizes=stack_sizes,
      num_blocks=num_blocks,
      nn_scale=nn_scale,
      dtype=dtype,
  )
  if distributional and num_atoms < 2:
    raise ValueError(
        f'A distributional network needs num_atoms >= 2, got {num_atoms}.'
    )
  head = ValueHead(
      num_actions,
      num_atoms,
      noisy,
      dueling,
      distributional,
      v_max,
      dtype=dtype,
  )
  return QNetwork(encoder_module, head, hidden_size, noisy)


def make_iqn_network(
    num_actions: int,
    encoder: str = 'impala',
    *,
    num_quantiles: int = 32,
    embedding_dim: int = 64,
    hidden_size: int = 512,
    **encoder_options: Any,
) -> ImplicitQuantileNetwork:
  """Builds an implicit quantile network.

  Args:
    num_actions: A, number of actions of the game.
    encoder: 'nature' or 'impala'.
    num_quantiles: N, number of quantiles that `q_values` average over.
    embedding_dim: number of cosines that embed a quantile.
    hidden_size: width of the layer after the embedding.
    **encoder_options: options of `make_encoder`.

  Raises:
    ValueError: if the encoder is unknown.
  """
  dtype = encoder_options.get('dtype', jnp.float32)
  head = ImplicitQuantileHead(num_actions, embedding_dim, hidden_size, dtype)
  return ImplicitQuantileNetwork(
      make_encoder(encoder, **encoder_options), head, num_quantiles
  )


def make_encoder(
    name: str,
    *,
    features: tuple[int, ...] = (32, 64, 64),
    stack_sizes: tuple[int, ...] = (16, 32, 32),
    num_blocks: int = 2,
    nn_scale: int = 1,
    dtype: Any = jnp.float32,
) -> nn.Module:
  """Builds the encoder called 'nature' or 'impala'.

  Raises:
    ValueError: if the name is another one.
  """
  if name == 'nature':
    return NatureEncoder(tuple(features), dtype)
  if name == 'impala':
    return ImpalaEncoder(tuple(stack_sizes), num_blocks, nn_scale, dtype)
  raise ValueError(f"Unknown encoder {name!r}; choose 'nature' or 'impala'.")
