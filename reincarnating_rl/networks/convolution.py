"""Convolutions in the form that is fastest on the backend.

All forms have the same parameters, shapes and results, except for the order
of summation. docs/performance.md has the measurements behind the choice. Not
here: the layers of a network (`q_networks`).

Shape letters: H, W height and width, C channels, K features, k kernel size,
s stride, m = k / s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp


class Form(NamedTuple):
  """Options of the execution of convolutions.

  Attributes:
    blocks: True to rewrite a convolution of stride s, where s divides k, as one
      of stride 1 over blocks of s x s pixels. The blocks have more channels,
      which suits matrix units; the sums are the same.
    products: True to compute a convolution of stride 1 as one matrix product
      over the k * k shifted images.
  """

  blocks: bool = False
  products: bool = False


# Fastest form by (backend, encoder); all other pairs use the plain form.
BEST = {
    ('gpu', 'nature'): Form(blocks=True, products=True),
}


def best(encoder: str) -> Form:
  """Returns the form of an encoder's convolutions on the present backend."""
  return BEST.get((jax.default_backend(), encoder), Form())


class Conv(nn.Module):
  """Convolution with a square kernel, bias and SAME padding.

  It has the same parameters as `flax.linen.Conv`.

  Attributes:
    features: K, output channels.
    kernel_size: k.
    stride: s.
    dtype: type of the arithmetic; parameters are float32.
    kernel_init: initializer of the kernel.
    form: form of execution.
  """

  features: int
  kernel_size: int
  stride: int = 1
  dtype: Any = jnp.float32
  kernel_init: Any = nn.initializers.lecun_normal()
  form: Form = Form()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., H, W, C] to [..., ceil(H / s), ceil(W / s), K]."""
    k = self.kernel_size
    shape = (k, k, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, jnp.float32)
    zeros = nn.initializers.zeros
    bias = self.param('bias', zeros, (self.features,), jnp.float32)
    images = x.reshape((-1,) + x.shape[-3:]).astype(self.dtype)
    out = convolve(images, kernel.astype(self.dtype), self.stride, self.form)
    out = out + bias.astype(self.dtype).reshape(1, 1, 1, -1)
    return out.reshape(x.shape[:-3] + out.shape[1:])


def convolve(
    images: jax.Array, kernel: jax.Array, stride: int, how: Form
) -> jax.Array:
  """Convolves images, with SAME padding.

  Args:
    images: [N, H, W, C] inputs.
    kernel: [k, k, C, K] weights.
    stride: s.
    how: form of execution.

  Returns:
    [N, ceil(H / s), ceil(W / s), K] feature maps.
  """
  size = kernel.shape[0]
  pads = [same_padding(n, size, stride) for n in images.shape[1:3]]
  if how.blocks and stride > 1 and size % stride == 0:
    images = _as_blocks(_padded(images, pads), stride)
    kernel = _kernel_of_blocks(kernel, stride)
    pads, stride = [(0, 0), (0, 0)], 1
  if how.products and stride == 1:
    return _as_product(_padded(images, pads), kernel)
  return jax.lax.conv_general_dilated(
      images,
      kernel,
      (stride, stride),
      pads,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
  """Padding before and after, for ceil(length / stride) windows."""
  windows = -(-length // stride)
  total = max((windows - 1) * stride + size - length, 0)
  return total // 2, total - total // 2


def _padded(images: jax.Array, pads: list[tuple[int, int]]) -> jax.Array:
  return jnp.pad(images, [(0, 0), *pads, (0, 0)])


def _as_blocks(images: jax.Array, stride: int) -> jax.Array:
  """[N, H, W, C] to [N, H / s, W / s, s * s * C]; cuts off a remainder."""
  n, height, width, channels = images.shape
  rows, columns = height // stride, width // stride
  images = images[:, : rows * stride, : columns * stride]
  x = images.reshape(n, rows, stride, columns, stride, channels)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, -1)


def _kernel_of_blocks(kernel: jax.Array, stride: int) -> jax.Array:
  """[k, k, C, K] to [m, m, s * s * C, K]."""
  size, _, channels, features = kernel.shape
  m = size // stride
  x = kernel.reshape(m, stride, m, stride, channels, features)
  return x.transpose(0, 2, 1, 3, 4, 5).reshape(m, m, -1, features)


def _as_product(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A VALID convolution of stride 1 as one matrix product."""
  n, height, width, _ = images.shape
  size, features = kernel.shape[0], kernel.shape[3]
  rows, columns = height - size + 1, width - size + 1
  shifted = jnp.concatenate(
      [
          images[:, i : i + rows, j : j + columns]
          for i in range(size)
          for j in range(size)
      ],
      axis=-1,
  )
  out = shifted.reshape(-1, shifted.shape[-1]) @ kernel.reshape(-1, features)
  return out.reshape(n, rows, columns, features)
