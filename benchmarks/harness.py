"""Harness of the benchmarks: timing, statistics, tables and JSON.

A *work* is a function without arguments. It does some units of work, waits for
their results and returns the number of units. A *case* builds its work, with
all that the work needs, when it is asked to: a case that the filter leaves out
costs nothing. A case may have a peer, which is measured in turn with it.
"""

from __future__ import annotations

import re
import statistics
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence, TextIO

from absl import flags
import tqdm

from benchmarks import machine as machine_lib
from benchmarks import output
from reincarnating_rl.base import tables

UPDATES = 'updates/s'
STEPS = 'agent steps/s'
MICROSECONDS = 'us'
MILLISECONDS = 'ms'
SECONDS = 's'
MEBIBYTES = 'MiB'
LOWER_IS_BETTER = (MICROSECONDS, MILLISECONDS, SECONDS, MEBIBYTES)
MEASURED = ''  # another process has measured the value
# The work returns the value itself.
UNTIMED = (SECONDS, MEBIBYTES, MEASURED)
# Units of time per second.
PER_SECOND = {MICROSECONDS: 1e6, MILLISECONDS: 1e3}

Work = Callable[[], float]
Builder = Callable[[], Work]


class Case(NamedTuple):
  """One thing to measure.

  Attributes:
    name: parts separated by slashes; --filter searches in it.
    unit: unit of the value; for a unit of UNTIMED the work returns the value.
    build: sets everything up and returns the work.
    seconds: shortest duration of one measurement.
    build_peer: the same for the peer; None without one.
    max_repeats: limit on the measurements of each side; None = no limit.
  """

  name: str
  unit: str
  build: Builder
  seconds: float = 1.0
  build_peer: Optional[Builder] = None
  max_repeats: Optional[int] = None

  @property
  def builders(self) -> list[Builder]:
    """Ours, and the peer's if there is one."""
    return [self.build] + ([self.build_peer] if self.build_peer else [])

  def repeats(self, wanted: int) -> int:
    """Measurements of each side."""
    return min(wanted, self.max_repeats or wanted)


class Result(NamedTuple):
  """Measurements of one name, of one side or of two."""

  name: str
  unit: str
  ours: Sequence[float]
  peer: Sequence[float] = ()
  first_call_seconds: Optional[float] = None  # setup and compilation


def define_flags() -> tuple[flags.FlagHolder, flags.FlagHolder]:
  """Defines --json and --quick; an entry point calls it once."""
  return (
      flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.'),
      flags.DEFINE_bool('quick', False, 'Tiny sizes: a test, no measurement.'),
  )


def define_filter() -> flags.FlagHolder:
  """Defines --filter; an entry point calls it once."""
  return flags.DEFINE_string(
      'filter', '', 'Regular expression of names to run.'
  )


def select(items: Sequence[Any], pattern: str) -> list[Any]:
  """Items whose `name` matches.

  Raises:
    SystemExit: with one sentence, for an invalid expression or one that
      matches nothing.
  """
  try:
    expression = re.compile(pattern)
  except re.error as error:
    raise SystemExit(f'--filter={pattern}: {error}.') from error
  chosen = [x for x in items if expression.search(x.name)]
  if not chosen:
    names = ', '.join(x.name for x in items)
    raise SystemExit(f'--filter={pattern} matches none of: {names}.')
  return chosen


# -- measuring ----------------------------------------------------------------


def measure(unit: str, work: Work, seconds: float) -> float:
  """Repeats a work and returns its value.

  Args:
    unit: unit of the value.
    work: the work to measure.
    seconds: shortest duration; 0 = do the work once.
  """
  if unit in UNTIMED:
    return work()
  units = elapsed = 0.0
  start = time.perf_counter()
  while not units or elapsed < seconds:
    units += work()
    elapsed = time.perf_counter() - start
  if unit in PER_SECOND:
    return PER_SECOND[unit] * elapsed / units
  return units / elapsed


def alternate(items: Sequence[Any], repeat: int) -> list[Any]:
  """The items, reversed at odd repeats: no side profits from a drift."""
  return list(reversed(items)) if repeat % 2 else list(items)


def num_measurements(cases: Sequence[Case], repeats: int) -> int:
  """Steps by which `run_cases` advances the progress bar."""
  return sum(len(c.builders) * (c.repeats(repeats) + 1) for c in cases)


class _Side(NamedTuple):
  """One of the one or two works of a case, with its measurements."""

  case: Case
  work: Work
  first_call_seconds: float
  values: list[float]


def _first_call(case: Case, build: Builder) -> _Side:
  start = time.perf_counter()
  work = build()
  work()
  return _Side(case, work, time.perf_counter() - start, [])


def run_cases(
    cases: Sequence[Case], repeats: int, quick: bool, bar: tqdm.tqdm
) -> list[Result]:
  """Measures cases in turn, each `repeats` times.

  Args:
    cases: measured in turn with their peers; all stay alive together.
    repeats: measurements of each side; a case may have fewer.
    quick: one round of each work is enough for a measurement.
    bar: advanced by one for each measurement and each first call.

  Returns:
    Their results, in the order of the cases.
  """
  sides = []
  for case in cases:
    for build in case.builders:
      bar.set_description(case.name, refresh=False)
      sides.append(_first_call(case, build))
      bar.update()
  for repeat in range(repeats):
    for side in alternate(sides, repeat):
      case = side.case
      if repeat >= case.repeats(repeats):
        continue
      bar.set_description(case.name, refresh=False)
      seconds = 0.0 if quick else case.seconds
      side.values.append(measure(case.unit, side.work, seconds))
      bar.update()
  results = []
  for case in cases:
    ours, *peer = [side for side in sides if side.case is case]
    values = peer[0].values if peer else ()
    results.append(
        Result(
            case.name, case.unit, ours.values, values, ours.first_call_seconds
        )
    )
  return results


# -- statistics and output ----------------------------------------------------


def median(values: Sequence[float]) -> Optional[float]:
  """The median; None without values."""
  return float(statistics.median(values)) if values else None


def spread(values: Sequence[float]) -> Optional[float]:
  """(largest - smallest) / median; None without values."""
  if not values:
    return None
  middle = statistics.median(values)
  return (max(values) - min(values)) / middle if middle else 0.0


def ratio(
    ours: Optional[float], peer: Optional[float], unit: str
) -> Optional[float]:
  """Advantage of ours as a factor (> 1 = better); None without a peer."""
  if not ours or not peer:
    return None
  return peer / ours if unit in LOWER_IS_BETTER else ours / peer


def summarize(result: Result) -> dict[str, Any]:
  """One entry of the JSON object."""
  ours, peer = median(result.ours), median(result.peer)
  entry = {
      'name': result.name,
      'ours': ours,
      'peer': peer,
      'ratio': ratio(ours, peer, result.unit),
      'unit': result.unit,
  }
  return {k: _rounded(v) for k, v in entry.items()}


def report(
    results: Sequence[Result],
    machine: dict[str, Any],
    versions: dict[str, Optional[str]],
) -> dict[str, Any]:
  """The JSON object; its `details` hold every measurement."""
  details = {
      r.name: {
          'ours': [_rounded(x) for x in r.ours],
          'peer': [_rounded(x) for x in r.peer],
          'first_call_seconds': _rounded(r.first_call_seconds),
      }
      for r in results
  }
  return {
      'results': [summarize(r) for r in results],
      'machine': machine,
      'versions': versions,
      'details': details,
  }


def write_report(
    out: TextIO,
    results: Sequence[Result],
    as_json: bool,
    machine: Optional[dict[str, Any]] = None,
    versions: Optional[dict[str, Optional[str]]] = None,
) -> None:
  """Writes the JSON object, or a table.

  Args:
    out: stream to write to.
    results: results of the measurements.
    as_json: True for JSON.
    machine: description of the machine; default this one.
    versions: versions of the packages; default those of this process.
  """
  machine = machine or machine_lib.describe()
  versions = versions or machine_lib.package_versions()
  if as_json:
    output.write_json(out, report(results, machine, versions))
  else:
    write_table(out, result_table(results), machine, versions)


def write_table(out: TextIO, table: str, *facts: dict[str, Any]) -> None:
  """Writes a table, and a line for each dict of facts."""
  out.write(f'{table}\n\n')
  for fact in facts:
    out.write(', '.join(f'{k} {v}' for k, v in fact.items()) + '\n')
  out.flush()


def result_table(results: Sequence[Result]) -> str:
  """Medians and spreads, and the ratio if there is a peer."""
  two_sided = any(r.peer for r in results)
  one_sided = not all(r.peer for r in results)
  header = ['name', 'ours', 'spread']
  header += ['peer', 'spread', 'ratio'] if two_sided else []
  header += ['first call'] if one_sided else []
  rows = [header + ['unit']]
  for r in results:
    entry = summarize(r)
    row = [r.name, number(entry['ours']), _percent(spread(r.ours))]
    if two_sided:
      row += [number(entry['peer']), _percent(spread(r.peer))]
      row += [number(entry['ratio'])]
    if one_sided:
      first = r.first_call_seconds
      row += ['-' if first is None else f'{first:.1f} s']
    rows.append(row + [r.unit])
  return tables.table(rows)


def number(value: Optional[float]) -> str:
  """A number with three digits or more; '-' for None."""
  if value is None:
    return '-'
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def _percent(value: Optional[float]) -> str:
  return '-' if value is None else f'{100 * value:.0f}%'


def _rounded(value: Any) -> Any:
  """Six significant digits: more would be noise."""
  return float(f'{value:.6g}') if isinstance(value, float) else value
