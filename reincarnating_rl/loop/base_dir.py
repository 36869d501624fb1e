"""The directory of a run: made, or refused with a reason."""

from __future__ import annotations

import os


def make(path: str) -> str:
  """Makes the directory of a run.

  Args:
    path: of the directory; '~' is the home.

  Returns:
    Its absolute path.

  Raises:
    ValueError: one sentence, if it cannot be made or written to.
  """
  path = os.path.abspath(os.path.expanduser(path))
  probe = os.path.join(path, '.writable')
  try:
    os.makedirs(path, exist_ok=True)
    with open(probe, 'w', encoding='utf-8'):
      pass
    os.remove(probe)
  except OSError as e:
    raise ValueError(
        f'base_dir {path} cannot be written to ({e.strerror}): choose another '
        'directory.'
    ) from e
  return path
