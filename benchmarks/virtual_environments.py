"""Virtual environments for the two sides of benchmark_peers.py.

Each side has its own, so that it is measured without the packages of the other;
jax and other shared packages have the versions of the current interpreter. The
environments lie in runs/benchmark_peers/ and are rebuilt when those change.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / 'runs' / 'benchmark_peers'
# Needed by the benchmarks themselves.
_SHARED = (
    'absl-py ale-py chex flax google-crc32c gymnasium jax jaxlib numpy optax '
    'orbax-checkpoint tensorstore tqdm'
).split()
# Dopamine needs the last three without declaring them.
_DOPAMINE = 'dopamine-rl tensorflow pandas setuptools tensorboard'.split()


class InstallError(Exception):
  """An environment could not be made; the message is one sentence."""


def python_of(side: str) -> str:
  """Interpreter of a side; makes its environment first if necessary.

  Args:
    side: 'ours' or 'dopamine'.

  Raises:
    InstallError: if pip fails.
  """
  names = _SHARED + (_DOPAMINE if side == 'dopamine' else [])
  requirements = [f'{n}=={importlib.metadata.version(n)}' for n in names]
  if side == 'ours':
    # The checkout is measured as it is, whenever it was installed.
    requirements += ['--editable', str(REPOSITORY)]
  folder = FOLDER / side
  python = str(folder / 'bin' / 'python')
  stamp = folder / 'installed'
  wanted = '\n'.join([sys.version, *requirements])
  if stamp.exists() and stamp.read_text(encoding='utf-8') == wanted:
    return python
  print(f'Installing the environment of {side} ...', file=sys.stderr)
  shutil.rmtree(folder, ignore_errors=True)
  _run([sys.executable, '-m', 'venv', str(folder)], side)
  _run([python, '-m', 'pip', 'install', '--quiet', *requirements], side)
  stamp.write_text(wanted, encoding='utf-8')
  return python


def _run(command: list[str], side: str) -> None:
  done = subprocess.run(
      command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ['nothing said'])[-1]
    raise InstallError(
        f'The environment of {side} could not be made ({last[:200]}); with '
        '--environments=this both sides use the current interpreter.'
    )
