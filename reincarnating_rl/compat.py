"""Lets Dopamine 4.1.2 import on today's stack; the only patches of the package.

Two things that Dopamine reaches for are gone:

* `baselines.common.atari_wrappers`, which it imports at the top of its Atari
  module and never declares. Only its PPO preprocessing uses it.
* `jax.interpreters.xla.pytype_aval_mappings`, to which TensorFlow Probability
  0.25 (a dependency of Dopamine) adds an entry. jax moved the table.

`prepare_dopamine` must run before the first import of Dopamine. Where the real
thing is there, it steps aside.
"""

from __future__ import annotations

import importlib.util
import sys
import types


def prepare_dopamine() -> None:
  """Makes `import dopamine...` work; safe to call many times."""
  _provide_baselines()
  _provide_aval_mappings()


def _provide_baselines() -> None:
  if 'baselines' in sys.modules or importlib.util.find_spec('baselines'):
    return
  package = types.ModuleType('baselines')
  common = types.ModuleType('baselines.common')
  wrappers = types.ModuleType('baselines.common.atari_wrappers')
  wrappers.__doc__ = 'Stand-in of reincarnating_rl; PPO preprocessing only.'
  package.__path__ = common.__path__ = []
  package.common = common
  common.atari_wrappers = wrappers
  sys.modules['baselines'] = package
  sys.modules['baselines.common'] = common
  sys.modules['baselines.common.atari_wrappers'] = wrappers


def _provide_aval_mappings() -> None:
  from jax.interpreters import xla

  if hasattr(xla, 'pytype_aval_mappings'):
    return
  # No public name is left for this table.
  from jax._src import core

  xla.pytype_aval_mappings = core.pytype_aval_mappings
