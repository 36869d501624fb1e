"""Finds and parses gin files, those of older releases included (layer 5).

A file is looked for as given, then among the configurations that the package
ships, under `reincarnating_rl/configs/`, `configs/` or its bare name. An
`import` of a module of Dopamine's or ours that no longer exists is skipped
with a note: what it registered is registered anyway.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import re
from typing import Callable, Optional, Sequence

from absl import logging
import gin

_CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'configs')
_PREFIXES = ('reincarnating_rl/configs/', 'configs/', '')
_IMPORT = re.compile(r'^import\s+([\w.]+)')
_OWN_PACKAGES = ('dopamine', 'reincarnating_rl')


class GinError(ValueError):
  """A file or binding that does not resolve; one sentence."""


def find(path: str) -> Optional[str]:
  """Where a gin file lies, or None."""
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


def parse(files: Sequence[str], bindings: Sequence[str]) -> None:
  """Parses gin files, then bindings, which win.

  Args:
    files: paths or shipped names.
    bindings: such as 'Runner.training_steps = 100'.

  Raises:
    GinError: naming the file or binding that does not resolve.
  """
  for path in files:
    if find(path) is None:
      raise GinError(
          f'The gin file {path} does not exist; the package ships '
          f'{", ".join(shipped())}.'
      )
    _parse(
        f'The gin file {path}', functools.partial(gin.parse_config_file, path)
    )
  for binding in bindings:
    _parse(
        f'The binding {binding!r}', functools.partial(gin.parse_config, binding)
    )


def _parse(what: str, parse_it: Callable[[], None]) -> None:
  try:
    parse_it()
  except (
      ValueError,
      TypeError,
      SyntaxError,
      NameError,
      LookupError,
      OSError,
      ImportError,
  ) as e:
    # gin appends where it was to the text; the first line is the reason.
    reason = str(e).strip().split('\n')[0].strip(' "').rstrip('.')
    raise GinError(f'{what} does not resolve: {reason}.') from e


def _open_filtered(path: str) -> io.StringIO:
  with open(find(path), encoding='utf-8') as f:
    lines = [_without_lost_import(line, path) for line in f]
  return io.StringIO(''.join(lines))


def _without_lost_import(line: str, path: str) -> str:
  match = _IMPORT.match(line)
  if not match or match.group(1).split('.')[0] not in _OWN_PACKAGES:
    return line
  try:
    importlib.import_module(match.group(1))
  except ImportError:
    logging.info('%s imports %s, which is gone; skipped.', path, match.group(1))
    return '\n'
  return line


gin.config.register_file_reader(
    _open_filtered, lambda path: find(path) is not None
)
