"""What every entry point shares: readable logs, and failures in a sentence."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Callable, Sequence

from absl import app
from absl import logging

from reincarnating_rl.base.errors import StoppedError
from reincarnating_rl.base.errors import UserError

# Libraries that tell more than a user wants to read.
_CHATTY = (
    '/orbax/',
    '/tensorstore/',
    '/dopamine/',
    '/jax/_src/xla_bridge',
    '/fontTools/',
)


def how_to_resume() -> str:
  """How a user goes on with what was stopped, in words."""
  module = getattr(sys.modules['__main__'], '__spec__', None)
  if module is None:
    return 'start it again with the same settings'
  name = module.name.removesuffix('.__main__')
  command = ['python', '-um', name, *sys.argv[1:]]
  return f'run the same command again: {shlex.join(command)}'


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Runs an entry point: absl flags, quiet logs, no traceback for the user's.

  Args:
    main: called with what is left of argv. A UserError becomes one sentence on
      stderr and exit code 1, a StoppedError says itself what it becomes.
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
    except StoppedError as e:
      logging.flush()
      print(e, file=sys.stderr)
      sys.exit(e.exit_code)

  app.run(wrapped)


def quiet_libraries() -> None:
  """Keeps the information of libraries out of the log, not their warnings.

  Those are warnings that a user can do something about: not that a library
  will use something else of its own one day.
  """

  def is_wanted(record) -> bool:
    chatty = any(part in record.pathname for part in _CHATTY)
    deprecation = str(record.msg).startswith('DEPRECATION WARNING')
    return not chatty or (record.levelno > 20 and not deprecation)

  logging.get_absl_handler().addFilter(is_wanted)


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
