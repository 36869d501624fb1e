"""Settings of every test: two CPU devices, quick compilation, no silent
broadcasting, files without fsync, and an empty gin configuration.

The environment is set before jax is imported; what is already set there wins.
Warnings that the package causes are errors (pyproject.toml).
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

_REPOSITORY = pathlib.Path(__file__).parent.parent


def _add_xla_flags(flags: dict[str, object]) -> None:
  for flag, value in flags.items():
    if flag not in os.environ.get('XLA_FLAGS', ''):
      os.environ['XLA_FLAGS'] = (
          os.environ.get('XLA_FLAGS', '') + f' {flag}={value}'
      ).strip()


def _try_xla_flags(flags: dict[str, object]) -> subprocess.Popen:
  """Starts a process that fails if this release does not have the flags."""
  added = ' '.join(f'{flag}={value}' for flag, value in flags.items())
  return subprocess.Popen(
      [sys.executable, '-c', 'import jax; jax.devices()'],
      env={**os.environ, 'XLA_FLAGS': os.environ['XLA_FLAGS'] + f' {added}'},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
  )


def _forget_old(cache: pathlib.Path, days: float = 7.0) -> None:
  """Deletes programs that were compiled long ago, used since or not."""
  for path in cache.glob('*'):
    if path.stat().st_mtime < time.time() - days * 86_400:
      path.unlink(missing_ok=True)


os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tests compile more than they compute.
_add_xla_flags(
    {
        '--xla_force_host_platform_device_count': 2,
        '--xla_backend_optimization_level': 0,
    }
)
# The first flag nearly halves the time of compilation; programs as small as
# those of the tests take a quarter longer in parts than in one piece.
_QUICKER = {
    '--xla_cpu_use_fusion_emitters': 'false',
    '--xla_cpu_parallel_codegen_split_count': 1,
}
_IS_WORKER = 'PYTEST_XDIST_WORKER' in os.environ  # It inherits what is set.
if not _IS_WORKER:
  # Programs that one process has compiled serve all processes, those that tests
  # start included, and those of the next time.
  _CACHE = _REPOSITORY / '.pytest_cache' / 'xla'
  _forget_old(_CACHE)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_CACHE)
  # A smaller program is not read sooner than it is compiled.
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'
  os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
  _TRIAL = _try_xla_flags(_QUICKER)
# A shell has processes in the background ignore SIGINT, which those that tests
# start would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

# pylint: disable=wrong-import-position
import jax  # noqa: E402
from jax import monitoring  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
if not _IS_WORKER and not _TRIAL.wait():  # XLA reads them at its first use.
  _add_xla_flags(_QUICKER)

GOLDEN_FOLDER = pathlib.Path(__file__).parent / 'testdata' / 'golden'
_COMPILE_EVENT = '/jax/core/compile/backend_compile_duration'


def _clear_gin() -> None:
  """Removes all bindings, if anything has imported gin."""
  if 'gin' in sys.modules:
    sys.modules['gin'].clear_config()


@pytest.fixture(autouse=True)
def _clean_gin():
  """Each test begins without bindings."""
  _clear_gin()
  yield
  _clear_gin()


@pytest.fixture(autouse=True, scope='session')
def _no_fsync():
  """Files of tests need not survive a power failure, and fsync is slow.

  Processes that tests start have the real one.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, 'fsync', lambda descriptor: None)
    yield


@pytest.fixture
def golden():
  """Loads a file of reference numbers by its name, as a dict of arrays."""

  def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN_FOLDER / f'{name}.npz', allow_pickle=False) as data:
      return dict(data)

  return load


@pytest.fixture
def x64():
  """Runs one test in float64; the setting ends with the test."""
  # Older releases of jax have only the experimental one.
  enable = getattr(jax, 'enable_x64', None)
  if enable is None:
    from jax.experimental import enable_x64 as enable
  with enable(True):
    yield
  assert not jax.config.jax_enable_x64


class CompilationCounter:
  """Number of programs that XLA has compiled since the tests began."""

  def __init__(self):
    self.count = 0
    monitoring.register_event_duration_secs_listener(self._on_event)

  def _on_event(self, event: str, duration: float, **kwargs) -> None:
    del duration, kwargs
    self.count += event == _COMPILE_EVENT


@pytest.fixture(scope='session')
def compilations():
  return CompilationCounter()
