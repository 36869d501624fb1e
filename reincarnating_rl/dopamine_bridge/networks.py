"""Networks by the names that configurations use (layer 5: gin).

Each function takes the arguments that Dopamine's agents give to a network, and
builds the core's module: `--gin_bindings
@reincarnation_networks.ImpalaRainbowNetwork` binds one to the agent.
"""

from __future__ import annotations

from typing import Any

from reincarnating_rl.dopamine_bridge import compat

compat.prepare_dopamine()

from dopamine.jax import networks as dopamine_networks
from flax import linen as nn
import gin
import jax
import jax.numpy as jnp

from reincarnating_rl import networks
from reincarnating_rl.base.types import NetworkOutput

_DTYPES = ('float32', 'bfloat16')


@gin.configurable(module='reincarnation_networks')
def compute(dtype: str = 'float32') -> Any:
  """Type that these networks compute in; parameters always are float32.

  Args:
    dtype: 'float32', or 'bfloat16' for devices with matrix units.

  Raises:
    ValueError: for another one.
  """
  if dtype not in _DTYPES:
    raise ValueError(
        f'compute.dtype is {dtype!r}; choose one of {", ".join(_DTYPES)}.'
    )
  return getattr(jnp, dtype)


@gin.configurable(module='reincarnating_rl.reincarnation_networks')
def NatureDQNNetwork(  # pylint: disable=invalid-name
    num_actions: int,
    inputs_preprocessed: bool = False,
    features: tuple[int, ...] = (32, 64, 64),
    hidden_size: int = 512,
) -> nn.Module:
  """The network of Mnih et al. (2015), of any width."""
  _refuse_preprocessed(inputs_preprocessed)
  return networks.make_network(
      num_actions,
      'nature',
      features=tuple(features),
      hidden_size=hidden_size,
      dtype=compute(),
  )


@gin.configurable(module='reincarnating_rl.reincarnation_networks')
def ImpalaDQNNetwork(  # pylint: disable=invalid-name
    num_actions: int,
    inputs_preprocessed: bool = False,
    nn_scale: int = 1,
    hidden_size: int = 512,
) -> nn.Module:
  """Q-values on the Impala encoder."""
  _refuse_preprocessed(inputs_preprocessed)
  return networks.make_network(
      num_actions,
      'impala',
      nn_scale=nn_scale,
      hidden_size=hidden_size,
      dtype=compute(),
  )


@gin.configurable(module='reincarnating_rl.reincarnation_networks')
def FullRainbowNetwork(  # pylint: disable=invalid-name
    num_actions: int,
    num_atoms: int,
    noisy: bool = True,
    dueling: bool = True,
    distributional: bool = True,
    inputs_preprocessed: bool = False,
    features: tuple[int, ...] = (32, 64, 64),
    hidden_size: int = 512,
) -> nn.Module:
  """Rainbow's head on the Nature encoder."""
  _refuse_preprocessed(inputs_preprocessed)
  return networks.make_network(
      num_actions,
      'nature',
      num_atoms=num_atoms,
      noisy=noisy,
      dueling=dueling,
      distributional=distributional,
      features=tuple(features),
      hidden_size=hidden_size,
      dtype=compute(),
  )


@gin.configurable(module='reincarnating_rl.reincarnation_networks')
def ImpalaRainbowNetwork(  # pylint: disable=invalid-name
    num_actions: int,
    num_atoms: int,
    noisy: bool = True,
    dueling: bool = True,
    distributional: bool = True,
    inputs_preprocessed: bool = False,
    nn_scale: int = 1,
    stack_sizes: tuple[int, ...] = (16, 32, 32),
    num_blocks: int = 2,
    hidden_size: int = 512,
) -> nn.Module:
  """Rainbow's head on the Impala encoder: the headline student."""
  _refuse_preprocessed(inputs_preprocessed)
  return networks.make_network(
      num_actions,
      'impala',
      num_atoms=num_atoms,
      noisy=noisy,
      dueling=dueling,
      distributional=distributional,
      nn_scale=nn_scale,
      stack_sizes=tuple(stack_sizes),
      num_blocks=num_blocks,
      hidden_size=hidden_size,
      dtype=compute(),
  )


@gin.configurable(module='reincarnating_rl.reincarnation_networks')
def ImplicitQuantileNetwork(  # pylint: disable=invalid-name
    num_actions: int,
    inputs_preprocessed: bool = False,
    num_quantiles: int = 32,
    embedding_dim: int = 64,
    features: tuple[int, ...] = (32, 64, 64),
    hidden_size: int = 512,
) -> nn.Module:
  """Implicit quantiles (IQN) on the Nature encoder."""
  _refuse_preprocessed(inputs_preprocessed)
  return networks.make_iqn_network(
      num_actions,
      'nature',
      num_quantiles=num_quantiles,
      embedding_dim=embedding_dim,
      features=tuple(features),
      hidden_size=hidden_size,
      dtype=compute(),
  )


@gin.configurable(module='reincarnating_rl.reincarnation_networks')
def ImpalaImplicitQuantileNetwork(  # pylint: disable=invalid-name
    num_actions: int,
    inputs_preprocessed: bool = False,
    num_quantiles: int = 32,
    embedding_dim: int = 64,
    nn_scale: int = 1,
    stack_sizes: tuple[int, ...] = (16, 32, 32),
    num_blocks: int = 2,
    hidden_size: int = 512,
) -> nn.Module:
  """Implicit quantiles (IQN) on the Impala encoder."""
  _refuse_preprocessed(inputs_preprocessed)
  return networks.make_iqn_network(
      num_actions,
      'impala',
      num_quantiles=num_quantiles,
      embedding_dim=embedding_dim,
      nn_scale=nn_scale,
      stack_sizes=tuple(stack_sizes),
      num_blocks=num_blocks,
      hidden_size=hidden_size,
      dtype=compute(),
  )


def _refuse_preprocessed(inputs_preprocessed: bool) -> None:
  if inputs_preprocessed:
    raise ValueError(
        'inputs_preprocessed is True, but these networks scale raw uint8 '
        'frames themselves: leave preprocess_fn unbound.'
    )


def from_dopamine(module: nn.Module) -> nn.Module:
  """The core's module for the network that an agent was configured with.

  Args:
    module: a network of this package, a user's network that returns a
      `NetworkOutput`, or Dopamine's stock network (an agent's default), which
      becomes ours of the same function.

  Raises:
    ValueError: for another module, which returns no representation.
  """
  stock = {
      dopamine_networks.NatureDQNNetwork: NatureDQNNetwork,
      dopamine_networks.ImpalaDQNNetwork: ImpalaDQNNetwork,
      dopamine_networks.FullRainbowNetwork: FullRainbowNetwork,
  }
  build = stock.get(type(module))
  if build is None:
    _check_output(module)
    return module
  names = (
      'num_actions num_atoms noisy dueling distributional inputs_preprocessed '
      'nn_scale'
  )
  options: dict[str, Any] = {
      name: getattr(module, name)
      for name in names.split()
      if hasattr(module, name)
  }
  return build(**options)


def _check_output(module: nn.Module) -> None:
  """Raises a ValueError unless a network returns what agents need."""
  states = jax.ShapeDtypeStruct((1, 84, 84, 4), jnp.uint8)
  key = jax.random.PRNGKey(0)
  try:
    output, _ = jax.eval_shape(
        lambda x: module.init_with_output(key, x, rng_key=key), states
    )
  except TypeError as e:
    output = f'fails ({e})'
  if isinstance(output, NetworkOutput):
    if output.q_values.shape == (1, getattr(module, 'num_actions', None)):
      return
    output = f'returns q_values of shape {output.q_values.shape}'
  elif not isinstance(output, str):
    output = f'returns {type(output).__name__}'
  raise ValueError(
      f'{type(module).__name__} is bound as the network, but for states of '
      f'shape {states.shape} it {output}, where a reincarnated agent needs a '
      'types.NetworkOutput with q_values of shape (1, num_actions): bind one '
      'of reincarnation_networks (NatureDQNNetwork, ImpalaDQNNetwork, '
      'FullRainbowNetwork, ImpalaRainbowNetwork, ImplicitQuantileNetwork, '
      'ImpalaImplicitQuantileNetwork), or see docs/extending.md.'
  )
