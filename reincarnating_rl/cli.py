"""What every entry point shares: readable logs, and failures in a sentence."""

from __future__ import annotations

import os
import sys
from typing import Callable, Sequence

from absl import app
from absl import flags
from absl import logging

# Libraries that tell more than a user wants to read.
_CHATTY = ('/orbax/', '/tensorstore/', '/dopamine/', '/jax/_src/xla_bridge')


class UserError(Exception):
  """A failure that the user can mend; its text is one clear sentence."""


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Runs an entry point: absl flags, quiet logs, no traceback for the user's.

  Args:
    main: called with what is left of argv. A UserError, a ValueError that
      this package raises on purpose (teachers, configurations) included,
      becomes one sentence on stderr and exit code 1.
  """

  def wrapped(argv: Sequence[str]) -> None:
    quiet_libraries()
    use_compilation_cache()
    try:
      main(argv)
    except UserError as e:
      logging.flush()
      print(f'Error: {e}', file=sys.stderr)
      sys.exit(1)

  app.run(wrapped)


def quiet_libraries() -> None:
  """Keeps the information of libraries out of the log, not their warnings."""

  def is_ours(record) -> bool:
    chatty = any(part in record.pathname for part in _CHATTY)
    return record.levelno > 20 or not chatty

  logging.get_absl_handler().addFilter(is_ours)


def use_compilation_cache() -> None:
  """Keeps compiled code between processes: a second start is much shorter."""
  import jax

  default = os.path.join(
      os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')),
      'reincarnating_rl',
      'xla',
  )
  jax.config.update(
      'jax_compilation_cache_dir',
      os.environ.get('JAX_COMPILATION_CACHE_DIR', default),
  )
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def make_base_dir(path: str) -> str:
  """Makes the directory of a run, or says why it cannot.

  Raises:
    UserError: if it cannot be written to.
  """
  path = os.path.abspath(os.path.expanduser(path))
  probe = os.path.join(path, '.writable')
  try:
    os.makedirs(path, exist_ok=True)
    with open(probe, 'w', encoding='utf-8'):
      pass
    os.remove(probe)
  except OSError as e:
    raise UserError(
        f'base_dir {path} cannot be written to ({e.strerror}): choose another '
        'directory.'
    ) from e
  return path


def check_flag(name: str) -> str:
  """The value of a flag that must be given."""
  value = flags.FLAGS[name].value
  if not value:
    raise UserError(f'--{name} is missing.')
  return value
