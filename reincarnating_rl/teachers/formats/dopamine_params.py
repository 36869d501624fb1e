"""Converts parameters of Dopamine to those of this package's networks.

Dopamine names layers by kind and number. Their shapes tell their purpose; each
shape is checked:

  linen       {'params': {'Conv_0': {'kernel', 'bias'}, .., 'Dense_0', ..}}
  before it   {'Conv_0', 'Conv_1', 'Conv_2', 'Dense_3', 'Dense_4'}
  noisy       'NoisyNetwork_0': {'kernel_mu', 'kernel_sigma', 'bias_mu', ..}
  Impala      {'encoder': {'_stacks_0': {'Conv_0', ..}, ..}, 'Dense_0', ..}
  TensorFlow  'Online/Conv/weights', .., 'Online/fully_connected_1/biases'
"""

from __future__ import annotations

import re
from typing import Any, Mapping, NamedTuple, Optional

from flax import linen as nn
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.teachers.errors import TeacherError

# Atari has 18 actions; a wider output layer holds distributions.
_MAX_ACTIONS = 18
_STACK_SIZE = 4
_FEATURE_MAP = 11 * 11  # of an 84 x 84 frame, for Nature and Impala alike
_PLAIN = frozenset(('kernel', 'bias'))
_NOISY = frozenset(('kernel_mu', 'kernel_sigma', 'bias_mu', 'bias_sigma'))
_TF_LAYER = re.compile(
    r'^(Online|Target)/(Conv|fully_connected)(?:_(\d+))?/'
    r'(weights|kernel|biases|bias)$'
)

Layer = dict[str, np.ndarray]


class Layers(NamedTuple):
  """Layers of a network, in order of application.

  Attributes:
    convs: convolutions of the Nature encoder, or empty.
    stacks: convolutions of each Impala stack, or empty.
    dense: fully connected layers, plain or noisy.
  """

  convs: list[Layer]
  stacks: list[list[Layer]]
  dense: list[Layer]


class Converted(NamedTuple):
  """A network of this package with converted parameters.

  Attributes:
    agent: 'dqn', 'rainbow' or 'iqn'.
    network: the network.
    params: float32 parameters.
  """

  agent: str
  network: nn.Module
  params: dict[str, Any]


class _Misfit(Exception):
  """Parameters that fit no network of this package; the text says why."""


def from_flax(tree: Any, source: str, agent: Optional[str] = None) -> Converted:
  """Converts the parameters in a Dopamine checkpoint.

  Args:
    tree: nested dicts of arrays, with or without 'params' around them.
    source: name of the file, for messages.
    agent: kind of agent; None = found from the parameters.

  Raises:
    TeacherError: if they fit no network of this package.
  """
  try:
    return _convert(_flax_layers(tree), agent)
  except _Misfit as e:
    raise _refusal(source, e) from None


def from_tensorflow(
    variables: Mapping[str, np.ndarray],
    source: str,
    agent: Optional[str] = None,
    scope: str = 'Online',
) -> Converted:
  """Converts the variables of a TensorFlow checkpoint.

  Args:
    variables: variables by name; only the layers of the scope are used.
    source: name of the file, for messages.
    agent: kind of agent; None = found from the parameters.
    scope: 'Online' or 'Target'.

  Raises:
    TeacherError: if they fit no network of this package.
  """
  layers: dict[tuple[str, int], Layer] = {}
  for name, value in variables.items():
    match = _TF_LAYER.match(name)
    if match and match.group(1) == scope:
      _, kind, number, what = match.groups()
      layer = layers.setdefault((kind, int(number or 0)), {})
      layer['bias' if what.startswith('bias') else 'kernel'] = value
  ordered = lambda kind: [layers[k] for k in sorted(layers) if k[0] == kind]
  try:
    found = Layers(ordered('Conv'), [], ordered('fully_connected'))
    return _convert(found, agent)
  except _Misfit as e:
    raise _refusal(source, e) from None


def _refusal(source: str, misfit: _Misfit) -> TeacherError:
  return TeacherError(
      f'{source} does not hold a network that this package knows: {misfit}. '
      'Teachers are Dopamine agents for Atari: DQN, Rainbow or IQN on the '
      'Nature or the Impala encoder.'
  )


def _flax_layers(tree: Any) -> Layers:
  """Sorts the layers of a parameter tree by kind and number."""
  if not isinstance(tree, Mapping) or not tree:
    raise _Misfit('it has no parameters')
  tree = tree.get('params', tree)
  groups: dict[str, list[tuple[int, Any]]] = {}
  for name, value in tree.items():
    kind, _, number = str(name).rpartition('_')
    if not number.isdigit() or not isinstance(value, Mapping):
      kind, number = str(name), '0'
    groups.setdefault(kind, []).append((int(number), value))
  ordered = lambda kind: [
      layer for _, layer in sorted(groups.pop(kind, []), key=lambda x: x[0])
  ]
  convs = ordered('Conv')
  encoder = ordered('encoder')
  dense = ordered('Dense') or ordered('NoisyNetwork')
  if groups:
    raise _Misfit(f'it has layers called {", ".join(sorted(groups))[:100]}')
  stacks = _impala_stacks(encoder[0]) if encoder else []
  return Layers(convs, stacks, dense)


def _impala_stacks(encoder: Any) -> list[list[Layer]]:
  """Returns the convolutions of each stack, in the order of their numbers."""
  number = lambda name: int(name.rpartition('_')[2])
  try:
    return [
        [encoder[stack][conv] for conv in sorted(encoder[stack], key=number)]
        for stack in sorted(encoder, key=number)
    ]
  except (AttributeError, TypeError, ValueError) as e:
    raise _Misfit('its encoder is not that of Impala') from e


# -- layers to a network ------------------------------------------------------


def _convert(layers: Layers, agent: Optional[str]) -> Converted:
  encoder_options, encoder_params, width = _encoder(layers)
  dense = [_checked(layer) for layer in layers.dense]
  sizes = [_size(layer) for layer in dense]
  flat = _FEATURE_MAP * width
  if len(dense) == 3 and sizes[0][1] == flat and sizes[0][0] != flat:
    found = _implicit_quantile(encoder_options, encoder_params, dense, flat)
  elif len(dense) in (2, 3):
    found = _q_network(encoder_options, encoder_params, dense, flat, agent)
  else:
    raise _Misfit(f'it has {len(dense)} fully connected layers')
  if agent not in (None, found.agent):
    raise _Misfit(
        f'its layers are those of the agent {found.agent}, not of {agent}'
    )
  return found


def _encoder(layers: Layers) -> tuple[dict[str, Any], dict[str, Any], int]:
  """Returns options, parameters and output width of the encoder."""
  if layers.stacks:
    stacks = [[_checked(conv) for conv in stack] for stack in layers.stacks]
    widths = tuple(_bias(stack[0]).size for stack in stacks)
    width = _STACK_SIZE
    for stack, out in zip(stacks, widths):
      _check_chain(stack, [3] * len(stack), width, [out] * len(stack))
      width = out
    lengths = {len(stack) for stack in stacks}
    if len(lengths) != 1 or len(stacks[0]) % 2 != 1:
      raise _Misfit('its stacks have unequal numbers of residual blocks')
    options = {
        'encoder': 'impala',
        'stack_sizes': widths,
        'num_blocks': len(stacks[0]) // 2,
    }
    impala = {
        f'ImpalaStack_{i}': {f'Conv_{j}': c for j, c in enumerate(stack)}
        for i, stack in enumerate(stacks)
    }
    return options, impala, widths[-1]
  convs = [_checked(conv) for conv in layers.convs]
  if len(convs) != 3:
    raise _Misfit(f'it has {len(convs)} convolutions instead of 3')
  widths = tuple(_bias(conv).size for conv in convs)
  _check_chain(convs, [8, 4, 3], _STACK_SIZE, list(widths))
  params = {f'Conv_{i}': conv for i, conv in enumerate(convs)}
  return {'encoder': 'nature', 'features': widths}, params, widths[-1]


def _check_chain(
    convs: list[Layer], kernels: list[int], width: int, outs: list[int]
) -> None:
  for i, (conv, kernel, out) in enumerate(zip(convs, kernels, outs)):
    expected = (kernel, kernel, width, out)
    got = conv.get('kernel', np.zeros(0)).shape
    if got != expected or _bias(conv).ndim != 1:
      raise _Misfit(
          f'the kernel of convolution {i} has shape {got} instead of {expected}'
      )
    width = out


def _q_network(
    options: dict[str, Any],
    encoder: dict[str, Any],
    dense: list[Layer],
    flat: int,
    agent: Optional[str],
) -> Converted:
  """Converts Nature DQN, C51 or Rainbow: a hidden layer and a head."""
  hidden_size = _size(dense[0])[1]
  _check_dense(dense[0], flat, hidden_size)
  outputs = _size(dense[1])[1]
  _check_dense(dense[1], hidden_size, outputs)
  dueling = len(dense) == 3
  num_atoms = 1
  if dueling:
    num_atoms = _size(dense[2])[1]
    _check_dense(dense[2], hidden_size, num_atoms)
  elif agent == 'rainbow' or outputs > _MAX_ACTIONS:
    num_atoms = networks.DEFAULT_NUM_ATOMS
  num_actions, rest = divmod(outputs, num_atoms)
  if rest or not 1 <= num_actions <= _MAX_ACTIONS:
    raise _Misfit(
        f'its {outputs} outputs are no Q-values of up to {_MAX_ACTIONS} '
        f'actions, with {num_atoms} atoms each'
    )
  noisy = 'kernel_mu' in dense[0]
  network = networks.make_network(
      num_actions,
      num_atoms=num_atoms,
      noisy=noisy,
      dueling=dueling,
      distributional=num_atoms > 1,
      hidden_size=hidden_size,
      **options,
  )
  layer = lambda values: {'noisy' if noisy else 'dense': values}
  head = {'advantage': layer(dense[1])}
  if dueling:
    head['value'] = layer(dense[2])
  params = {'encoder': encoder, 'hidden': layer(dense[0]), 'head': head}
  is_rainbow = num_atoms > 1 or noisy or dueling
  return Converted('rainbow' if is_rainbow else 'dqn', network, params)


def _implicit_quantile(
    options: dict[str, Any],
    encoder: dict[str, Any],
    dense: list[Layer],
    flat: int,
) -> Converted:
  """Converts IQN: embedding of the quantiles, a hidden layer, values."""
  embedding_dim = _size(dense[0])[0]
  hidden_size = _size(dense[1])[1]
  num_actions = _size(dense[2])[1]
  _check_dense(dense[0], embedding_dim, flat)
  _check_dense(dense[1], flat, hidden_size)
  _check_dense(dense[2], hidden_size, num_actions)
  if num_actions > _MAX_ACTIONS or 'kernel_mu' in dense[0]:
    raise _Misfit(f'its {num_actions} outputs are no actions')
  network = networks.make_iqn_network(
      num_actions,
      embedding_dim=embedding_dim,
      hidden_size=hidden_size,
      **options,
  )
  names = ('embedding', 'hidden', 'advantage')
  head = {name: {'dense': layer} for name, layer in zip(names, dense)}
  return Converted('iqn', network, {'encoder': encoder, 'head': head})


# -- single layers -------------------------------------------------------------


def _checked(layer: Any) -> Layer:
  """Returns the arrays of a layer as float32; all must be finite."""
  if not isinstance(layer, Mapping) or set(layer) not in (_PLAIN, _NOISY):
    names = ', '.join(map(str, layer)) if isinstance(layer, Mapping) else layer
    raise _Misfit(f'a layer holds {str(names)[:60]} instead of kernel and bias')
  arrays = {}
  for name, value in layer.items():
    if not isinstance(value, np.ndarray) or value.dtype.kind != 'f':
      raise _Misfit(f'a {name} is not an array of real numbers')
    with np.errstate(over='ignore'):
      arrays[name] = np.ascontiguousarray(value, np.float32)
    if not np.isfinite(arrays[name]).all():
      raise _Misfit(f'a {name} holds values that are not finite')
  return arrays


def _bias(layer: Layer) -> np.ndarray:
  return layer['bias' if 'bias' in layer else 'bias_mu']


def _size(layer: Layer) -> tuple[int, int]:
  """Returns (inputs, outputs) of a fully connected layer."""
  shape = layer['kernel' if 'kernel' in layer else 'kernel_mu'].shape
  if len(shape) != 2:
    raise _Misfit(f'a fully connected layer has a kernel of shape {shape}')
  return shape


def _check_dense(layer: Layer, inputs: int, outputs: int) -> None:
  for name, value in layer.items():
    expected = (inputs, outputs) if name.startswith('kernel') else (outputs,)
    if value.shape != expected:
      raise _Misfit(
          f'a {name} of a fully connected layer has shape {value.shape} '
          f'instead of {expected}'
      )
