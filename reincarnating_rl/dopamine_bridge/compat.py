"""Lets Dopamine 4.1.2 import on today's stack, and without TensorFlow.

* Its modules get stand-ins for the packages that a run with JAX does without,
  TensorFlow among them, installed or not (`stand_ins`, `light_tensorflow`).
* `jax.interpreters.xla.pytype_aval_mappings`, to which TensorFlow Probability
  0.25 adds an entry where it is imported after all, is gone: jax moved the
  table.

`prepare_dopamine` must run before the first import of Dopamine. Where the real
thing is there, it steps aside: whoever wants Dopamine's TensorFlow agents or
Keras networks imports TensorFlow before this package. Otherwise these classes
are there in name only, so that gin knows them, and say so when they are made.
`import tensorflow` elsewhere is not touched: it is the real one, always.
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

# They import all of it, some of which has something to say about itself.
_TALKATIVE = (
    'dopamine.discrete_domains.run_experiment',
    'dopamine.jax.agents.dqn.dqn_agent',
)


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


def _provide_aval_mappings() -> None:
  from jax.interpreters import xla

  if hasattr(xla, 'pytype_aval_mappings'):
    return
  # No public name is left for this table.
  from jax._src import core

  xla.pytype_aval_mappings = core.pytype_aval_mappings
