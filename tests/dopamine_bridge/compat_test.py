"""Tests of what lets Dopamine import: idempotent, and no more than needed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from paths import ROOT

from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine


def run_python(code, tmp_path, *, path=()):
  """Runs code in a process of its own; returns what it printed."""
  lines = [f'import sys; sys.path[:0] = {[str(p) for p in path]!r}']
  script = tmp_path / 'script.py'
  script.write_text('\n'.join(lines) + '\n' + textwrap.dedent(code))
  done = subprocess.run(
      [sys.executable, str(script)],
      cwd=ROOT,
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.split()


def test_prepare_is_idempotent():
  from jax.interpreters import xla

  prepare_dopamine()
  mappings, finders = xla.pytype_aval_mappings, list(sys.meta_path)
  prepare_dopamine()
  assert xla.pytype_aval_mappings is mappings
  assert sys.meta_path == finders


def test_a_fresh_process_imports_dopamine_and_little_else(tmp_path):
  code = """
      from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine
      assert not any(n.split('.')[0] == 'dopamine' for n in sys.modules)
      prepare_dopamine()
      from dopamine.discrete_domains import run_experiment
      from reincarnating_rl.runners import runner
      heavy = 'tensorflow tensorflow_probability keras gym pandas matplotlib'
      print(run_experiment.Runner.__name__)
      print(*(name for name in heavy.split() if name in sys.modules))
  """
  assert run_python(code, tmp_path) == ['Runner']


def test_it_steps_aside_for_a_real_baselines(tmp_path):
  package = tmp_path / 'installed' / 'baselines' / 'common'
  package.mkdir(parents=True)
  (package.parent / '__init__.py').write_text('')
  (package / '__init__.py').write_text('')
  (package / 'atari_wrappers.py').write_text('REAL = True\n')
  code = """
      from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine
      prepare_dopamine()
      from dopamine.discrete_domains import atari_lib
      assert 'baselines' not in sys.modules
      print(atari_lib.atari_wrappers.REAL)
      from baselines.common import atari_wrappers
  """
  path = [tmp_path / 'installed']
  assert run_python(code, tmp_path, path=path) == ['True']


def test_it_steps_aside_where_jax_has_the_table(tmp_path):
  code = """
      from jax._src import core
      from jax.interpreters import xla
      xla.pytype_aval_mappings = theirs = dict(core.pytype_aval_mappings)
      from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine
      prepare_dopamine()
      print(xla.pytype_aval_mappings is theirs)
  """
  assert run_python(code, tmp_path) == ['True']


def test_importing_the_module_changes_nothing(tmp_path):
  code = """
      import reincarnating_rl.dopamine_bridge.compat
      print(any(n.split('.')[0] in ('dopamine', 'jax') for n in sys.modules))
  """
  assert run_python(code, tmp_path) == ['False']


def test_imports_say_nothing_but_errors(tmp_path):
  code = """
      import os
      from reincarnating_rl.dopamine_bridge import compat
      os.dup2(os.open('stderr', os.O_WRONLY | os.O_CREAT), 2)
      compat.prepare_dopamine()
      assert os.path.getsize('stderr') == 0
      try:
        with compat._quiet():
          os.write(2, b'the cause')
          raise ImportError
      except ImportError:
        print(open('stderr').read())
  """
  code = f'import os; os.chdir({str(tmp_path)!r})\n' + textwrap.dedent(code)
  assert run_python(code, tmp_path) == ['the', 'cause']
