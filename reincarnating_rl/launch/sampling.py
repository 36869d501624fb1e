"""Random values of a sweep's settings; the same seed gives the same values.

Ray Tune's search spaces are not used: --dry_run works without Ray.
"""

from __future__ import annotations

import math
from typing import Any, Callable, NamedTuple

import numpy as np

# Kind -> (arguments, draw from (generator, arguments)).
_KINDS: dict[str, tuple[str, Callable[..., Any]]] = {
    'uniform': (
        '[low, high]',
        lambda rng, low, high: float(rng.uniform(low, high)),
    ),
    'loguniform': (
        '[low, high]',
        lambda rng, low, high: float(
            math.exp(rng.uniform(math.log(low), math.log(high)))
        ),
    ),
    'integers': (
        '[low, high], both included',
        lambda rng, low, high: int(rng.integers(low, high, endpoint=True)),
    ),
    'choice': (
        'a list of values',
        lambda rng, *values: values[int(rng.integers(len(values)))],
    ),
}


class Distribution(NamedTuple):
  """Distribution of a setting's values.

  Attributes:
    kind: 'uniform', 'loguniform', 'integers' or 'choice'.
    arguments: (low, high), or the values to choose from.
  """

  kind: str
  arguments: tuple[Any, ...]

  def draw(self, rng: np.random.Generator) -> Any:
    """Draws one value."""
    return _KINDS[self.kind][1](rng, *self.arguments)


def parse(name: str, description: Any) -> Distribution:
  """Reads a distribution.

  Args:
    name: name of the setting, for errors.
    description: {kind: arguments}, such as {'loguniform': [1e-5, 1e-3]}.

  Raises:
    ValueError: one sentence, if the description is malformed.
  """
  kinds = '; '.join(f'{kind}: {what}' for kind, (what, _) in _KINDS.items())
  if not isinstance(description, dict) or len(description) != 1:
    raise ValueError(
        f'{name} is sampled from {description!r}, which is not one of {kinds}.'
    )
  [(kind, arguments)] = description.items()
  if kind not in _KINDS or not isinstance(arguments, (list, tuple)):
    raise ValueError(
        f'{name} is sampled from {kind}: {arguments!r}, which is not one of '
        f'{kinds}.'
    )
  if kind == 'choice':
    ok = len(arguments) > 0
  else:
    ok = _is_range(arguments)
    ok = ok and not (kind == 'loguniform' and arguments[0] <= 0)
    if kind == 'integers':
      ok = ok and all(isinstance(a, int) for a in arguments)
  if not ok:
    raise ValueError(
        f'{name} is sampled from {kind}: {list(arguments)}, but that needs '
        f'{_KINDS[kind][0]}, the lower first'
        + (' and above 0.' if kind == 'loguniform' else '.')
    )
  return Distribution(kind, tuple(arguments))


def _is_range(arguments: Any) -> bool:
  is_number = lambda x: isinstance(x, (int, float)) and math.isfinite(x)
  return (
      len(arguments) == 2
      and all(map(is_number, arguments))
      and arguments[0] < arguments[1]
  )
