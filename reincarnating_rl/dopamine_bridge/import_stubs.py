"""Modules that Dopamine imports and a run does without (layer 5).

`install` has the import statements of Dopamine's modules, and of no others,
asked here. For a package in `ABSENT` they get a `StandIn` unless the package
is imported already. While a module of Dopamine is being executed, whatever
is asked of a StandIn is another one, so default arguments, annotations and
base classes cost nothing. Later there are `PIECES`, and for all else the
real package is imported and asked.
"""

from __future__ import annotations

import builtins
import contextlib
from importlib import machinery
import pkgutil
import sys
import types
from typing import Any, Iterator, Optional, Sequence

from reincarnating_rl.dopamine_bridge.light_tensorflow import PIECES

ABSENT = (
    'baselines',  # preprocessing of PPO; Dopamine never declares it
    'flax.metrics',  # imports TensorFlow; PPO's summaries
    'gym',  # the old Gym, of environments that ask for it
    'snappy',  # Dopamine's own replay, where it compresses
    'tensorflow',
    'tensorflow_probability',  # policies of PPO and SAC
)
_running = 0  # modules of Dopamine that are being executed


def install() -> None:
  """From now on Dopamine's modules are imported so; safe to call often."""
  if _Finder not in sys.meta_path:
    sys.meta_path.insert(0, _Finder)


class StandIn:
  """Something of a package that is imported when it is needed."""

  def __init__(self, path: str):
    self._path = path

  def __repr__(self) -> str:
    return f'StandIn({self._path!r})'

  def __getattr__(self, name: str) -> Any:
    if name.startswith('__'):
      raise AttributeError(name)
    path = f'{self._path}.{name}'
    if path in PIECES:
      return PIECES[path]
    if _running or any(piece.startswith(f'{path}.') for piece in PIECES):
      return StandIn(path)
    return getattr(self._real(), name)

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    if _running:
      return StandIn(f'{self._path}()')
    return self._real()(*args, **kwargs)

  def __instancecheck__(self, instance: Any) -> bool:
    # What was never imported has no instances.
    package = _absent(self._path) or self._path
    is_there = sys.modules.get(package) is not None
    return is_there and isinstance(instance, self._real())

  def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
    return (_Unusable,)

  def _real(self) -> Any:
    package = _absent(self._path) or self._path
    if self._path.endswith('()'):
      raise ImportError(_too_late(f'What {self._path} returns', package))
    try:
      return pkgutil.resolve_name(self._path)
    except ModuleNotFoundError as e:
      raise ImportError(
          f'Dopamine needs {package} for this, and it is not installed ({e}).'
      ) from e


class _Unusable:
  """In place of a base class from a package that was not imported."""

  def __new__(cls, *args: Any, **kwargs: Any) -> Any:
    raise ImportError(_too_late(cls.__name__, 'tensorflow'))


def _absent(path: str) -> Optional[str]:
  """The package of `ABSENT` that a module or a name belongs to."""
  belongs = lambda package: f'{path}.'.startswith(f'{package}.')
  return next(filter(belongs, ABSENT), None)


def _too_late(what: str, package: str) -> str:
  return (
      f'{what} is a piece of Dopamine that stands on {package}: to use it, '
      f'import {package} before reincarnating_rl.'
  )


class _Finder:
  """Finds Dopamine's modules for `_Loader`."""

  @staticmethod
  def find_spec(
      name: str,
      path: Optional[Sequence[str]] = None,
      target: Optional[types.ModuleType] = None,
  ) -> Optional[machinery.ModuleSpec]:
    if name.split('.')[0] != 'dopamine':
      return None
    spec = machinery.PathFinder.find_spec(name, path, target)
    if spec and isinstance(spec.loader, machinery.SourceFileLoader):
      spec.loader = _Loader(spec.loader.name, spec.loader.path)
    return spec


class _Loader(machinery.SourceFileLoader):
  """Executes a module whose import statements are asked here."""

  def exec_module(self, module: types.ModuleType) -> None:
    vars(module)['__builtins__'] = vars(builtins) | {'__import__': _import}
    with _executing():
      super().exec_module(module)


@contextlib.contextmanager
def _executing() -> Iterator[None]:
  global _running
  _running += 1
  try:
    yield
  finally:
    _running -= 1


def _import(
    name: str,
    globals_: Any = None,
    locals_: Any = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> Any:
  """As the built-in `__import__`, but for packages that are stood in for."""
  package = _absent(name)
  if level or package is None or sys.modules.get(package) is not None:
    return builtins.__import__(name, globals_, locals_, fromlist, level)
  return StandIn(name if fromlist else name.split('.')[0])
