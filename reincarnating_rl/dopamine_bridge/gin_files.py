"""Finds and parses gin files, those of older releases included (layer 5).

A path is searched as given, then among the configurations that the package
ships, under `reincarnating_rl/configs/`, `configs/` or the bare name. An
`import` of a module of Dopamine's or ours that no longer exists is skipped
with a note: its names are registered anyway.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from typing import Iterator, Optional, Sequence

from absl import logging
import gin

from reincarnating_rl import configs

_CONFIGS = os.path.dirname(os.path.abspath(configs.__file__))
_PREFIXES = ('reincarnating_rl/configs/', 'configs/', '')
_INCLUDE = re.compile(r'^include\s+([\'"])(.+)\1')
_IMPORT = re.compile(r'^import\s+([\w.]+)')
_OWN_PACKAGES = ('dopamine', 'reincarnating_rl')


class GinError(ValueError):
  """A file or binding that does not resolve; one sentence."""


def find(path: str) -> Optional[str]:
  """Path of an existing gin file, or None."""
  if os.path.isfile(path):
    return path
  for prefix in _PREFIXES:
    if path.startswith(prefix):
      shipped = os.path.join(_CONFIGS, path[len(prefix) :])
      if os.path.isfile(shipped):
        return shipped
  return None


def shipped() -> list[str]:
  """Names of the configurations that the package ships."""
  return sorted(n for n in os.listdir(_CONFIGS) if n.endswith('.gin'))


@contextlib.contextmanager
def of_its_own() -> Iterator[None]:
  """A context that begins with nothing bound and restores the bindings."""
  before = gin.config_str()
  gin.clear_config()
  try:
    yield
  finally:
    gin.clear_config()
    gin.parse_config(before)


def parse(files: Sequence[str], bindings: Sequence[str]) -> None:
  """Parses gin files, then bindings, which win.

  Args:
    files: paths or shipped names.
    bindings: such as 'Runner.training_steps = 100'.

  Raises:
    GinError: naming the file or binding that does not resolve.
  """
  for path in files:
    _parse(f'The gin file {path}', _read(path))
  for binding in bindings:
    _parse(f'The binding {binding!r}', binding)


def _parse(what: str, text: str) -> None:
  try:
    gin.parse_config(text)
  except (
      ValueError,
      TypeError,
      SyntaxError,
      NameError,
      LookupError,
      OSError,
      ImportError,
  ) as e:
    # The first line is the reason; gin appends the place.
    reason = str(e).strip().split('\n')[0].strip(' "').rstrip('.')
    raise GinError(f'{what} does not resolve: {reason}.') from e


def _read(path: str, including: tuple[str, ...] = ()) -> str:
  """Text of a gin file, with the text of its includes.

  Raises:
    GinError: if an included file does not exist, or includes itself.
  """
  found = find(path)
  if found is None:
    raise GinError(
        f'The gin file {path} does not exist; the package ships '
        f'{", ".join(shipped())}.'
    )
  if found in including:
    raise GinError(f'The gin file {path} includes itself.')
  lines = []
  with open(found, encoding='utf-8') as f:
    for line in f:
      include = _INCLUDE.match(line)
      if include:
        line = _read(include.group(2), including + (found,))
      elif _is_lost_import(line, path):
        continue
      lines.append(line.rstrip('\n'))
  return '\n'.join(lines) + '\n'


def _is_lost_import(line: str, path: str) -> bool:
  match = _IMPORT.match(line)
  if not match or match.group(1).split('.')[0] not in _OWN_PACKAGES:
    return False
  try:
    importlib.import_module(match.group(1))
  except ImportError:
    logging.info('%s imports %s, which is gone; skipped.', path, match.group(1))
    return True
  return False
