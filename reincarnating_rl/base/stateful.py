"""Objects with state: each names what a checkpoint must hold of it.

The state of an object is a tree of dicts. Its leaves are JSON values and
arrays; `split` puts the two apart for a checkpoint, `join` brings them
together again.
"""

from __future__ import annotations

import copy
import functools
from typing import Any, ClassVar, Mapping, Optional

import jax
import jax.numpy as jnp
import numpy as np

_ARRAY = '$array'  # key of what stands in a document for an array


class StateMismatchError(ValueError):
  """A state was saved by an object of another kind."""


class Stateful:
  """Base of objects that change while a run goes on.

  Attributes:
    SAVED: names of attributes that are saved and restored.
    REBUILT: names of attributes that are made again from settings, or that
      belong to the process; no state of theirs is saved.
  """

  SAVED: ClassVar[tuple[str, ...]] = ()
  REBUILT: ClassVar[tuple[str, ...]] = ()

  def get_state(self) -> dict[str, Any]:
    """Everything that `set_state` needs, as a tree; nothing is copied."""
    return {name: state_of(getattr(self, name)) for name in self.SAVED}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores what `get_state` returned, into a freshly built object.

    Raises:
      StateMismatchError: if an array is missing or of another shape or dtype.
    """
    for name in self.SAVED:
      value = restored(name, getattr(self, name), state[name])
      setattr(self, name, value)


def state_of(value: Any) -> Any:
  """State of one attribute.

  Args:
    value: a Stateful object, a pytree of arrays, a JSON value, or None.

  Returns:
    A tree; a pytree of arrays becomes a dict of them by their paths.
  """
  if isinstance(value, Stateful):
    return value.get_state()
  if isinstance(value, (np.ndarray, jax.Array)) or not _has_arrays(value):
    return value
  leaves = jax.tree_util.tree_leaves_with_path(value)
  return {_path_name(path): leaf for path, leaf in leaves}


def restored(name: str, current: Any, saved: Any) -> Any:
  """Value of an attribute with the state that was saved of it.

  Args:
    name: of the attribute, for errors.
    current: value in a freshly built object; its shapes and dtypes must be
      those that were saved. None takes what was saved as it is.
    saved: result of `state_of`.

  Raises:
    StateMismatchError: if they are not.
  """
  if isinstance(current, Stateful):
    current.set_state(saved)
    return current
  if isinstance(current, (np.ndarray, jax.Array)):
    return _restored_array(name, current, saved)
  if not _has_arrays(current):
    return current if current == () else saved

  def restore(path: Any, leaf: Any) -> Any:
    key = _path_name(path)
    return _restored_array(f'{name}/{key}', leaf, saved.get(key))

  return jax.tree_util.tree_map_with_path(restore, current)


def _restored_array(name: str, current: Any, saved: Optional[Any]) -> Any:
  """A copy of a saved array: on the device where the current one is."""
  wanted = f'{current.dtype}{list(current.shape)}'
  if saved is None:
    raise StateMismatchError(f'{name} is missing, and should be {wanted}')
  if (saved.shape, saved.dtype) != (current.shape, current.dtype):
    found = f'{saved.dtype}{list(saved.shape)}'
    raise StateMismatchError(f'{name} was {found}, is {wanted}')
  return (jnp if isinstance(current, jax.Array) else np).array(saved)


def _has_arrays(value: Any) -> bool:
  """True for a pytree some leaves of which are arrays."""
  leaves = jax.tree.leaves(value)
  return any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in leaves)


_path_name = functools.partial(jax.tree_util.keystr, simple=True, separator='/')


def split(tree: Any) -> tuple[Any, dict[str, Any]]:
  """Parts a state into a JSON-ready document and its arrays.

  Args:
    tree: result of `Stateful.get_state`.

  Returns:
    The document, of copies, with the name of the array where one was; and the
    arrays, not copied, by their names: their paths in the tree.
  """
  arrays: dict[str, Any] = {}

  def part(node: Any, path: tuple[str, ...]) -> Any:
    if isinstance(node, dict):
      return {key: part(value, (*path, key)) for key, value in node.items()}
    if isinstance(node, (np.ndarray, jax.Array)):
      name = '/'.join(path)
      arrays[name] = node
      return {_ARRAY: name}
    return copy.deepcopy(node)  # The object goes on changing its lists.

  return part(tree, ()), arrays


def join(document: Any, arrays: Mapping[str, Any]) -> Any:
  """Result of `split` as one state again; a missing array becomes None."""
  if isinstance(document, dict):
    if set(document) == {_ARRAY}:
      return arrays.get(document[_ARRAY])
    return {key: join(value, arrays) for key, value in document.items()}
  return document
