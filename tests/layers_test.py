"""Tests of the layer order: who may import whom, and whom not at all.

Imports are read from the source, those inside functions too. A new module
under `reincarnating_rl` gets its layer in the table below.
"""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys
from typing import Iterator, NamedTuple

import pytest

import reincarnating_rl

PACKAGE = 'reincarnating_rl'
ROOT = pathlib.Path(reincarnating_rl.__file__).parent

LAYERS = {
    0: ('types', 'scores', 'schedules', 'buckets'),
    1: (
        'augmentation',
        'convolution',
        'losses',
        'networks',
        'replay',
        'resets',
    ),
    2: ('learner',),
    3: ('archive', 'envs', 'teachers'),
    4: ('loop',),
    5: (
        'agents',
        'compat',
        'dopamine_env',
        'dopamine_logs',
        'event_file',
        'gin_files',
        'group_runner',
        'light_tensorflow',
        'provenance',
        'reincarnation_networks',
        'run_documents',
        'run_logs',
        'run_plan',
        'runner',
        'stand_ins',
        'wandb_logs',
    ),
    6: (
        'api',
        'cli',
        'download',
        'evaluate',
        'experiment',
        'experiment_forms',
        'inspect_teacher',
        'report',
        'show_run',
        'train',
        'train_teacher',
    ),
    7: ('launch',),
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

# What a layer may import beside itself.
MAY_IMPORT = {
    0: set(),
    1: {0},
    2: {0, 1},
    3: {0, 1},
    4: {0, 1, 2, 3},
    5: {0, 1, 2, 3, 4},
    6: {0, 1, 2, 3, 4, 5},
    7: {4, 6},
}
# Within a layer modules stand side by side, but for these.
ONE_GROUP = (5, 6)
# And these: the checkpoint of a run is a teacher; networks are made of layers.
BESIDE = (('teachers', 'archive'), ('networks', 'convolution'))

# What an accelerator machine has; a core layer imports nothing else.
CORE_LAYERS = (0, 1, 2, 3, 4)
THIRD_PARTY = {0: {'jax', 'numpy', 'chex', 'flax'}}
THIRD_PARTY[1] = THIRD_PARTY[2] = THIRD_PARTY[0] | {'optax'}
# msgpack comes with flax; snappy is used where it is there.
THIRD_PARTY[3] = (
    THIRD_PARTY[1]
    | set('ale_py gymnasium orbax tensorstore absl tqdm msgpack snappy'.split())
    | {'google_crc32c'}
)
THIRD_PARTY[4] = THIRD_PARTY[3]
CORE_ENTRY_POINTS = ('train_teacher', 'cli')
# The clients of buckets are imported where they are used.
BUCKET_CLIENTS = 'google google_crc32c requests urllib3 tqdm'.split()
HEAVY = ('dopamine', 'gin', 'tensorflow')


class Import(NamedTuple):
  """One import statement's target."""

  name: str  # dotted
  late: bool  # inside a function


def module_files() -> dict[str, pathlib.Path]:
  """Every module's dotted name under the package, and its file."""
  files = {}
  for path in sorted(ROOT.rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    if parts[0] == 'configs':  # Data; a package so that it is shipped.
      continue
    name = '.'.join(part for part in parts if part != '__init__')
    files[name] = path
  return files


def imports_of(path: pathlib.Path) -> Iterator[Import]:
  def walk(node: ast.AST, late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
      if isinstance(child, ast.Import):
        for alias in child.names:
          yield Import(alias.name, late)
      elif isinstance(child, ast.ImportFrom):
        assert child.level == 0, f'{path}: a relative import'
        for alias in child.names:
          yield Import(f'{child.module}.{alias.name}', late)
      inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
      yield from walk(child, late or inside)

  yield from walk(ast.parse(path.read_text(encoding='utf-8')), False)


def top(module: str) -> str:
  """'loop' of 'loop.plan'."""
  return module.split('.')[0]


MODULES = module_files()
each_module = pytest.mark.parametrize('module', [m for m in MODULES if m])
CORE = [
    module
    for module in MODULES
    if LAYER_OF.get(top(module)) in CORE_LAYERS or module in CORE_ENTRY_POINTS
]


def own_imports(module: str) -> Iterator[str]:
  """What a module imports from this package, below the package's name."""
  for name, _ in imports_of(MODULES[module]):
    if name.split('.')[0] == PACKAGE:
      yield name[len(PACKAGE) + 1 :]


def foreign_imports(module: str) -> Iterator[Import]:
  for name, late in imports_of(MODULES[module]):
    first = name.split('.')[0]
    if first not in sys.stdlib_module_names and first != PACKAGE:
      yield Import(first, late)


@each_module
def test_every_module_has_a_layer(module):
  assert top(module) in LAYER_OF


@each_module
def test_imports_go_down(module):
  layer = LAYER_OF[top(module)]
  for imported in own_imports(module):
    if top(imported) == top(module):
      continue
    below = LAYER_OF[top(imported)]
    beside = below == layer and (
        layer in ONE_GROUP or (top(module), top(imported)) in BESIDE
    )
    assert (
        beside or below in MAY_IMPORT[layer]
    ), f'{module} (layer {layer}) imports {imported} (layer {below})'


@pytest.mark.parametrize('module', CORE)
def test_the_core_imports_only_what_an_accelerator_machine_has(module):
  layer = LAYER_OF[top(module)]
  allowed = THIRD_PARTY[min(layer, 4)]
  for name, late in foreign_imports(module):
    # A teacher's TensorFlow checkpoint is read where TensorFlow is there.
    if name == 'tensorflow' and late and top(module) == 'teachers':
      continue
    if name in BUCKET_CLIENTS and late and top(module) == 'buckets':
      continue
    assert name in allowed, f'{module} (layer {layer}) imports {name}'


def test_one_module_imports_tensorflow():
  knows = [
      module
      for module in MODULES
      if any(
          name.startswith('tensorflow') for name, _ in foreign_imports(module)
      )
  ]
  assert knows == ['teachers.tensorflow_checkpoint']


def test_the_package_itself_imports_nothing_eagerly():
  assert all(late for _, late in imports_of(ROOT / '__init__.py'))


def test_the_reading_of_imports_sees_all_kinds(tmp_path):
  path = tmp_path / 'module.py'
  path.write_text(
      'import os.path\n'
      'if True:\n'
      '  from a import b as c\n'
      'class D:\n'
      '  def f(self):\n'
      '    import gin, jax\n'
  )
  assert list(imports_of(path)) == [
      Import('os.path', False),
      Import('a.b', False),
      Import('gin', True),
      Import('jax', True),
  ]


# -- in a fresh interpreter ----------------------------------------------------


def run_python(program: str) -> str:
  result = subprocess.run(
      [sys.executable, '-c', program],
      cwd=ROOT.parent,
      capture_output=True,
      text=True,
      check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_the_core_imports_where_heavy_packages_are_missing():
  core = [f'{PACKAGE}.{module}' for module in CORE]
  assert f'{PACKAGE}.train_teacher' in core and f'{PACKAGE}.loop.run' in core
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
