"""Lets Dopamine 4.1.2 import on today's stack; the only patches of the package.

Two things that Dopamine reaches for are gone:

* `baselines.common.atari_wrappers`, which it imports at the top of its Atari
  module and never declares. Only its PPO preprocessing uses it.
* `jax.interpreters.xla.pytype_aval_mappings`, to which TensorFlow Probability
  0.25 (a dependency of Dopamine) adds an entry. jax moved the table.

`prepare_dopamine` must run before the first import of Dopamine. Where the real
thing is there, it steps aside. It also imports what Dopamine stands on, without
the dozen lines that this makes TensorFlow, Gym and TensorFlow Probability say
about themselves.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
import types
from typing import Iterator
import warnings

# They import TensorFlow and Gym, and TensorFlow Probability.
_TALKATIVE = (
    'dopamine.discrete_domains.run_experiment',
    'dopamine.jax.agents.dqn.dqn_agent',
)


def prepare_dopamine() -> None:
  """Makes `import dopamine...` work; safe to call many times."""
  _provide_baselines()
  _provide_aval_mappings()
  if not all(name in sys.modules for name in _TALKATIVE):
    with _quiet():
      for name in _TALKATIVE:
        importlib.import_module(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Nothing reaches stderr, that of C++ included; all of it on an error."""
  sys.stderr.flush()
  stderr = os.dup(2)
  with tempfile.TemporaryFile() as kept, warnings.catch_warnings():
    warnings.simplefilter('ignore')
    os.dup2(kept.fileno(), 2)
    try:
      yield
    except BaseException:
      kept.seek(0)
      os.write(stderr, kept.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(stderr, 2)
      os.close(stderr)


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
