"""What every entry point shares: readable logs, and failures in a sentence."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from typing import Callable, Iterator, Sequence

from absl import app
from absl import logging

from reincarnating_rl.loop.stopped import StoppedError

# Libraries that tell more than a user wants to read.
_CHATTY = (
    '/orbax/',
    '/tensorstore/',
    '/dopamine/',
    '/jax/_src/xla_bridge',
    '/fontTools/',
)


class UserError(Exception):
  """A failure that the user can mend; its text is one clear sentence."""


def way_on() -> str:
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


def table(rows: Sequence[Sequence[str]]) -> str:
  """Aligned columns, the first to the left; a line below the header."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [
      '  '.join(
          cell.ljust(width) if i == 0 else cell.rjust(width)
          for i, (cell, width) in enumerate(zip(row, widths))
      ).rstrip()
      for row in rows
  ]
  lines.insert(1, '-' * max(map(len, lines)))
  return '\n'.join(lines)


@contextlib.contextmanager
def user_errors(kind: type[Exception] = ValueError) -> Iterator[None]:
  """Where input is checked: its ValueErrors are the user's to mend.

  gin appends where it was called to an error's text; the first line is ours.

  Args:
    kind: of the errors that are.
  """
  try:
    yield
  except kind as e:
    raise UserError(str(e).strip().split('\n')[0].strip()) from e
