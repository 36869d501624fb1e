"""Virtual environments of the sides of benchmark_peers.py.

Each side has its own, so that neither is measured with what the other brings;
jax and what else both stand on have the versions of the interpreter at hand.
They lie in runs/benchmark_peers/ and are made again only when those change.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys

import bench_lib

FOLDER = os.path.join(bench_lib.REPOSITORY, 'runs', 'benchmark_peers')
# What the benchmarks themselves need, and both sides share.
_SHARED = (
    'absl-py ale-py chex flax google-crc32c gymnasium jax jaxlib numpy optax '
    'orbax-checkpoint tensorstore tqdm'
).split()
# Dopamine needs the last three without declaring them.
_DOPAMINE = 'dopamine-rl tensorflow pandas setuptools tensorboard'.split()


class InstallError(Exception):
  """An environment could not be made; the message is one sentence."""


def python_of(side: str) -> str:
  """The interpreter of a side; makes its environment first, if need be.

  Args:
    side: 'ours' or 'dopamine'.

  Raises:
    InstallError: if pip fails.
  """
  requirements = [_pinned(name) for name in _SHARED]
  if side == 'dopamine':
    requirements += [_pinned(name) for name in _DOPAMINE]
  else:
    # What is measured is the checkout as it is, whenever it was installed.
    requirements += ['--editable', bench_lib.REPOSITORY]
  folder = os.path.join(FOLDER, side)
  python = os.path.join(folder, 'bin', 'python')
  stamp = os.path.join(folder, 'installed')
  wanted = '\n'.join([sys.version, *requirements])
  if os.path.exists(stamp) and _read(stamp) == wanted:
    return python
  print(f'Installing the environment of {side} ...', file=sys.stderr)
  shutil.rmtree(folder, ignore_errors=True)
  _run([sys.executable, '-m', 'venv', folder], side)
  _run([python, '-m', 'pip', 'install', '--quiet', *requirements], side)
  with open(stamp, 'w', encoding='utf-8') as f:
    f.write(wanted)
  return python


def _pinned(name: str) -> str:
  return f'{name}=={importlib.metadata.version(name)}'


def _read(path: str) -> str:
  with open(path, encoding='utf-8') as f:
    return f.read()


def _run(command: list[str], side: str) -> None:
  done = subprocess.run(
      command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ['nothing said'])[-1]
    raise InstallError(
        f'The environment of {side} could not be made ({last[:200]}); with '
        '--environments=this both sides use the interpreter at hand.'
    )
