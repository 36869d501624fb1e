"""Lets Dopamine 4.1.2 import on today's stack, and without TensorFlow.

* Its modules get stubs for the packages that a run on JAX does not need,
  TensorFlow among them, installed or not (`import_stubs`, `light_tensorflow`).
* jax moved the table `jax.interpreters.xla.pytype_aval_mappings`; TensorFlow
  Probability 0.25 adds an entry to it, so it is provided under the old name.

Call `prepare_dopamine` before the first import of Dopamine. To use Dopamine's
TensorFlow agents or Keras networks, import TensorFlow before this package: then
nothing is replaced. Otherwise these classes exist in name only, so that gin
knows them, and raise an error when they are made. `import tensorflow` elsewhere
always is the real package.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from typing import Iterator
import warnings

from reincarnating_rl.dopamine_bridge import import_stubs

# These import all of Dopamine, parts of which print notices.
_TALKATIVE = (
    'dopamine.discrete_domains.run_experiment',
    'dopamine.jax.agents.dqn.dqn_agent',
)


_TABLE = 'pytype_aval_mappings'


def prepare_dopamine() -> None:
  """Makes `import dopamine...` work; safe to call many times."""
  import_stubs.install()
  _provide_aval_mappings()
  if not all(name in sys.modules for name in _TALKATIVE):
    with _quiet():
      for name in _TALKATIVE:
        importlib.import_module(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """A context without stderr, C++'s included; an error prints all of it."""
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


def _provide_aval_mappings() -> None:
  from jax.interpreters import xla

  if hasattr(xla, _TABLE):
    return
  # The table has no public name any more.
  from jax._src import core

  setattr(xla, _TABLE, core.pytype_aval_mappings)
