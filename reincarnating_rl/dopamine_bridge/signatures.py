"""Explicit signatures of callables that pass on what they do not name.

gin checks the name of a binding against a signature, and accepts every name
where that has a `**kwargs`. The callables here get a signature that lists what
they pass on, so that gin refuses unknown names when it parses them.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable

# Default of a parameter whose value another gin name provides. gin writes no
# such default into the operative config, where it would override that name.
INHERITED = object()


def passing_on(function: Callable[..., Any], target: Callable[..., Any]) -> Any:
  """Gives a function of `**kwargs` the parameters of the one it calls."""
  function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
      [
          p.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=INHERITED)
          for p in inspect.signature(target).parameters.values()
      ]
  )
  return function


def declare_constructor(cls: type, last: type) -> None:
  """Lists what a constructor takes and what it passes on to its bases.

  A class without a constructor gets one, since its bindings are its own. One
  that passes nothing on (no `**kwargs`) stays as it is.

  Args:
    cls: class, before gin decorates it.
    last: base whose parameters are the last ones to be listed.
  """
  if '__init__' not in vars(cls):
    _add_constructor(cls)
  constructor = vars(cls)['__init__']
  found: dict[str, inspect.Parameter] = {}
  is_shared = False
  for base in cls.__mro__[: cls.__mro__.index(last) + 1]:
    if '__init__' not in vars(base):
      continue
    # gin has wrapped those constructors that have a name of their own.
    is_shared = is_shared or hasattr(vars(base)['__init__'], '__wrapped__')
    named, passes_on = _parameters(vars(base)['__init__'])
    if base is cls and not passes_on:
      return
    for name, parameter in named.items():
      default = INHERITED if is_shared else parameter.default
      found.setdefault(name, parameter.replace(default=default))
    if not passes_on:
      break
  own = list(inspect.signature(constructor).parameters.values())[:1]
  rest = inspect.Parameter('args', inspect.Parameter.VAR_POSITIONAL)
  constructor.__signature__ = inspect.Signature([*own, rest, *found.values()])


def _add_constructor(cls: type) -> None:
  def __init__(self, *args: Any, **kwargs: Any):
    super(cls, self).__init__(*args, **kwargs)  # type: ignore[misc, arg-type]

  __init__.__doc__ = cls.__init__.__doc__  # type: ignore[misc]
  cls.__init__ = __init__  # type: ignore[misc, assignment]


def _parameters(
    constructor: Callable[..., Any],
) -> tuple[dict[str, inspect.Parameter], bool]:
  """Parameters that a constructor names, and True if it passes others on."""
  _, *others = inspect.signature(inspect.unwrap(constructor)).parameters.items()
  starred = (
      inspect.Parameter.VAR_POSITIONAL,
      inspect.Parameter.VAR_KEYWORD,
  )
  named = {
      name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
      for name, p in others
      if p.kind not in starred
  }
  kinds = [p.kind for _, p in others]
  return named, inspect.Parameter.VAR_KEYWORD in kinds
