"""Networks as JSON, so that a file can hold one and it can be built again.

The document of a flax module has the name of its class and its attributes:
numbers, names, tuples and further modules.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Optional

from flax import linen as nn
import jax.numpy as jnp
import numpy as np

from reincarnating_rl import networks

_CLASS = 'class'
_OF_FLAX = ('parent', 'name')
_FAMILIES = {
    networks.NatureEncoder: 'Nature',
    networks.ImpalaEncoder: 'Impala',
}


class NetworkSpecError(ValueError):
  """A network cannot be written as JSON or built from it; one sentence."""


def to_json(network: nn.Module) -> dict[str, Any]:
  """Returns the classes and attributes of a network, JSON-ready.

  Raises:
    NetworkSpecError: if an attribute is not data (a function, for example).
  """
  kind = type(network)
  own = getattr(networks, kind.__name__, None) is kind
  document = {
      _CLASS: kind.__name__ if own else f'{kind.__module__}:{kind.__name__}'
  }
  for field in dataclasses.fields(network):
    if field.init and field.name not in _OF_FLAX:
      value = getattr(network, field.name)
      document[field.name] = _to_json(value, f'{kind.__name__}.{field.name}')
  return document


def to_json_if_possible(network: nn.Module) -> Optional[dict[str, Any]]:
  """Like `to_json`, but returns None instead of raising."""
  try:
    return to_json(network)
  except NetworkSpecError:
    return None


def _to_json(value: Any, name: str) -> Any:
  if isinstance(value, nn.Module):
    return to_json(value)
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, (list, tuple)):
    return [_to_json(item, name) for item in value]
  try:
    return {'dtype': np.dtype(value).name}
  except TypeError as e:
    raise NetworkSpecError(
        f'{name} is {value!r}, which a file cannot hold: give the network '
        'numbers, names, tuples or modules as its attributes.'
    ) from e


def from_json(
    document: dict[str, Any], *, trusted: tuple[str, ...] = ()
) -> nn.Module:
  """Builds the network that a document describes.

  Args:
    document: result of `to_json`.
    trusted: names of modules whose classes may be built, besides this
      package's. A file names its classes, and importing a class runs its
      module.

  Raises:
    NetworkSpecError: if a class is unknown, is not trusted, or does not have
      the attributes in the document.
  """
  fields = {k: _from_json(v, trusted) for k, v in document.items()}
  kind = _find_class(fields.pop(_CLASS, None), trusted)
  try:
    return kind(**fields)
  except TypeError as e:
    raise NetworkSpecError(f'{kind.__name__} has changed: {e}.') from e


def _from_json(value: Any, trusted: tuple[str, ...]) -> Any:
  if isinstance(value, list):
    return tuple(_from_json(item, trusted) for item in value)
  if not isinstance(value, dict):
    return value
  if set(value) == {'dtype'}:
    return getattr(jnp, value['dtype'])
  return from_json(value, trusted=trusted)


def _find_class(name: Any, trusted: tuple[str, ...]) -> Any:
  module, _, class_name = str(name).rpartition(':')
  if module and module not in trusted:
    raise NetworkSpecError(
        f'The network {name} is not of this package: name {module} as a module '
        'that may be imported.'
    )
  source = importlib.import_module(module) if module else networks
  kind = getattr(source, class_name, None)
  if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
    raise NetworkSpecError(f'There is no network called {name}.')
  return kind


def label(network: nn.Module) -> str:
  """Returns a short name for tables, such as 'Impala C51'."""
  family = _FAMILIES.get(type(getattr(network, 'encoder', None)))
  if family is None:
    return type(network).__name__
  if isinstance(network, networks.ImplicitQuantileNetwork):
    return f'{family} IQN'
  head = network.head
  parts = [family, 'C51' if head.distributional else 'DQN']
  parts += [name for name in ('dueling', 'noisy') if getattr(head, name)]
  return ' '.join(parts)
