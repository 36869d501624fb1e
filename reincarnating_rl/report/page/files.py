"""Writes the files of a report: all of them or none."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from typing import Any, Iterator, NamedTuple, Sequence

from reincarnating_rl.base import errors

NUMBERS = 'numbers.json'
PAGE = 'report.html'
_MAKER = 'reincarnating_rl.report'


def check(out: str) -> None:
  """Refuses an output path that cannot be written, before any computation.

  Raises:
    UserError: if the path is a file, or is not writable.
  """
  if os.path.lexists(out) and not os.path.isdir(out):
    raise errors.UserError(f'--out {out} is no directory: name another.')
  above = os.path.abspath(out)
  while not os.path.isdir(above):
    above = os.path.dirname(above)
  if not os.access(above, os.W_OK):
    raise errors.UserError(
        f'--out {out} cannot be written: you may not write to {above}.'
    )


@contextlib.contextmanager
def publishing(out: str) -> Iterator[str]:
  """Yields a scratch directory whose files move to `out` at the end.

  Files of an earlier report in `out` are replaced or removed; all other files
  stay. If the block raises, nothing moves.

  Raises:
    UserError: if a file in `out` has the name of a report's file but belongs to
      something else, or if the disk is full.
  """
  out = os.path.abspath(out)
  scratch = f'{out}.{os.getpid()}.part'
  try:
    os.makedirs(scratch)
    yield scratch
    _move(scratch, out)
  except OSError as e:
    raise errors.UserError(
        f'--out {out} cannot be written ({e.strerror or e}): name another.'
    ) from e
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def _move(scratch: str, out: str) -> None:
  names = sorted(os.listdir(scratch))
  earlier = _files_of_report(out)
  for name in names:
    path = os.path.join(out, name)
    if os.path.lexists(path) and name not in earlier:
      raise errors.UserError(
          f'{path} is there and is no file of a report: name another --out.'
      )
  if not os.path.isdir(out):
    os.rename(scratch, out)
    return
  for name in earlier - set(names):
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(out, name))
  # The list of files first: after a crash it still names all our files.
  for name in sorted(names, key=lambda name: name != NUMBERS):
    os.replace(os.path.join(scratch, name), os.path.join(out, name))


def _files_of_report(out: str) -> set[str]:
  """Names of the files of an earlier report in `out`."""
  try:
    with open(os.path.join(out, NUMBERS), encoding='utf-8') as f:
      document = json.load(f)
    if document['made_by'] != _MAKER:
      return set()
    names = {str(name) for name in document['files']}
  except (OSError, ValueError, KeyError, TypeError):
    return set()
  return {
      name
      for name in names
      if name == os.path.basename(name)
      and os.path.isfile(os.path.join(out, name))
  }


def write_text(directory: str, name: str, text: str) -> None:
  """Writes a text file."""
  with open(os.path.join(directory, name), 'w', encoding='utf-8') as f:
    f.write(text)


def write_table(
    directory: str,
    name: str,
    rows: Sequence[NamedTuple],
    columns: Sequence[str],
) -> None:
  """Writes rows as CSV; None is an empty cell."""
  path = os.path.join(directory, name)
  with open(path, 'w', encoding='utf-8', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(columns)
    writer.writerows(rows)


def write_numbers(directory: str, document: dict[str, Any]) -> None:
  """Writes the JSON document, with a list of all files of the report."""
  names = sorted({*os.listdir(directory), NUMBERS})
  whole = {'made_by': _MAKER} | document | {'files': names}
  text = json.dumps(whole, indent=1, allow_nan=False) + '\n'
  write_text(directory, NUMBERS, text)
