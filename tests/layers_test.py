"""What may be missing where the core is imported.

The order of the layers is a contract in pyproject.toml, which `lint-imports`
checks. What needs an interpreter of its own is here.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from paths import ROOT

import reincarnating_rl

PACKAGE = 'reincarnating_rl'
CORE = (
    'base',
    'losses',
    'networks',
    'replay',
    'learner',
    'storage',
    'envs',
    'teachers',
    'loop',
    'rundir',
    'train_teacher',
)
HEAVY = ('dopamine', 'gin', 'tensorflow')


def _core_modules() -> list[str]:
  found = pkgutil.walk_packages(reincarnating_rl.__path__, f'{PACKAGE}.')
  return [m.name for m in found if m.name.split('.')[1] in CORE]


def run_python(program: str) -> str:
  result = subprocess.run(
      [sys.executable, '-c', program],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_the_core_imports_where_heavy_packages_are_missing():
  core = _core_modules()
  assert f'{PACKAGE}.train_teacher' in core
  assert f'{PACKAGE}.loop.run.run' in core
  program = f"""
import importlib, sys
for name in {HEAVY!r}:
  sys.modules[name] = None
for name in {core!r}:
  importlib.import_module(name)
try:
  import gin
except ImportError:
  print('blocked', len({core!r}))
"""
  assert run_python(program).split() == ['blocked', str(len(core))]


def test_importing_the_package_imports_no_library():
  program = f"""
import sys
import {PACKAGE}
print(*(name for name in ('jax', 'flax', 'numpy', 'absl') + {HEAVY!r}
        if name in sys.modules))
"""
  assert run_python(program).split() == []
