"""Makes figures, tables and numbers out of runs, ready for a paper.

  python -m reincarnating_rl.report RUNS... --out DIR

RUNS are run directories, or directories above them. Runs with equal settings
are one method, whatever their seeds and games. docs/reports.md defines each
number.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Sequence

from absl import flags

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.report.figures import drawing
from reincarnating_rl.report.figures import lineage
from reincarnating_rl.report.page import caveats
from reincarnating_rl.report.page import files
from reincarnating_rl.report.page import page
from reincarnating_rl.report.page import report_data
from reincarnating_rl.report.page import text
from reincarnating_rl.report.page.report_data import Report
from reincarnating_rl.report.reading import compatibility
from reincarnating_rl.report.reading import grouping
from reincarnating_rl.report.reading import loading
from reincarnating_rl.report.reading import method_identity
from reincarnating_rl.report.statistics import numbers as numbers_lib
from reincarnating_rl.report.statistics import references as references_lib

_MODULE = 'reincarnating_rl.report'


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of the entry point in a set of flag values."""
  flags.DEFINE_string(
      'out', None, 'Directory for the report.', flag_values=values
  )
  flags.DEFINE_integer(
      'bootstrap', 2000, 'Resamples per interval.', flag_values=values
  )
  flags.DEFINE_integer('seed', 0, 'Seed of the resampling.', flag_values=values)
  flags.DEFINE_bool(
      'unfinished',
      False,
      'Include unfinished runs; all runs are then cut at the last step that '
      'each of them has reached.',
      flag_values=values,
  )
  flags.DEFINE_list(
      'mix',
      [],
      'Conditions in which runs may differ and are compared all the same; the '
      f'page says so. Any of {", ".join(method_identity.CONDITIONS)}.',
      flag_values=values,
  )
  flags.DEFINE_list(
      'split',
      [],
      'Conditions that make runs different methods. Any of '
      f'{", ".join(method_identity.SEPARABLE)}.',
      flag_values=values,
  )
  flags.DEFINE_multi_string(
      'label',
      [],
      "New name of a method, as 'METHOD=NAME'; may be repeated.",
      flag_values=values,
  )


def check_flags(paths: Sequence[str], values: flags.FlagValues) -> None:
  """Raises a UserError for missing or bad flags."""
  if not paths:
    raise errors.UserError(
        f'Name directories of runs, or one above them: {_MODULE} RUNS... --out '
        'DIR.'
    )
  if not values.out:
    raise errors.UserError('--out is missing: say where the report goes.')
  if values.bootstrap < 100:
    raise errors.UserError(
        f'--bootstrap {values.bootstrap} is too few for the ends of a 95% '
        'interval: use 100 or more.'
    )
  if not 0 <= values.seed < 2**32:
    raise errors.UserError(f'--seed {values.seed} is not between 0 and 2^32.')
  for name, known in (
      ('mix', method_identity.CONDITIONS),
      ('split', method_identity.SEPARABLE),
  ):
    unknown = sorted(set(getattr(values, name)) - set(known))
    if unknown:
      raise errors.UserError(
          f'--{name} {unknown[0]} is not known; there are {", ".join(known)}.'
      )
  files.check(values.out)


def labels(given: Sequence[str]) -> dict[str, str]:
  """New names by old names; old names may contain a '='."""
  found = {}
  for label in given:
    method, sign, name = label.rpartition('=')
    if not (method and sign and name):
      raise errors.UserError(
          f"--label {label} is not of the form 'METHOD=NAME'."
      )
    found[method] = name
  return found


def make(
    paths: Sequence[str], values: flags.FlagValues, command: str
) -> tuple[Report, str]:
  """Makes a report.

  Args:
    paths: run directories, or directories above them.
    values: parsed flags.
    command: command line, for the page.

  Returns:
    The report, and the path of its page.

  Raises:
    UserError: if runs cannot be read or must not be compared; nothing is
      written then.
  """
  loaded = loading.load(paths, values.unfinished)
  methods = grouping.group(loaded.runs, values.split, labels(values.label))
  warnings = compatibility.check(methods, values.mix, values.split)
  grouping.check_seeds(methods)
  references = references_lib.collect(loaded.runs)
  numbers = numbers_lib.compute(
      methods, references, values.bootstrap, values.seed
  )
  with files.publishing(values.out) as scratch:
    lineages, undrawn = lineage.draw_groups(loaded.runs, scratch)
    report = Report(
        methods,
        numbers,
        warnings=loaded.warnings + warnings,
        notes=[
            *loaded.notes,
            *references.notes,
            *caveats.on_conditions(methods),
            *caveats.on_statistics(methods, numbers),
            *undrawn,
        ],
        figures=[
            *drawing.draw(numbers, scratch),
            *lineages,
        ],
        making=report_data.Making(
            command,
            os.getcwd(),
            values.bootstrap,
            values.seed,
            report_data.versions(),
        ),
    )
    write(report, scratch)
  return report, os.path.join(values.out, files.PAGE)


def write(report: Report, directory: str) -> None:
  """Writes page, tables and numbers into the directory of the figures."""
  files.write_text(directory, files.PAGE, page.to_html(report, directory))
  for name, (field, kind) in report_data.TABLES.items():
    rows = getattr(report.numbers, field)
    files.write_table(directory, name, rows, kind._fields)
  files.write_numbers(directory, report_data.to_json(report))


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  """Prints headline and path of the page; warnings and notes on stderr."""
  check_flags(argv[1:], values)
  command = shlex.join(['python', '-m', _MODULE, *sys.argv[1:]])
  report, path = make(argv[1:], values, command)
  for warning in report.warnings:
    print(f'Warning: {warning}', file=sys.stderr)
  for note in report.notes:
    print(f'Note: {note}', file=sys.stderr)
  what, rows = text.headline(report)
  print(f'{what}\n\n{tables.table(rows)}\n\n{path}')


if __name__ == '__main__':
  define_flags()
  # fontTools logs every step; --verbosity=0 shows it.
  flags.FLAGS.set_default('verbosity', -1)
  command_line.run(main)
