"""What the benchmarks share: timing, statistics, tables and JSON.

A *work* is a function without arguments: it does some units of work, waits for
their results and returns how many units it did. A *case* builds its work (and
everything that the work needs) when it is asked to, so that what a filter
leaves out costs nothing; it may have a peer, which is measured beside it. Not
here: what is measured.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import statistics
import sys
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence, TextIO

from absl import flags
import tqdm

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# From a checkout the benchmarks run without installation.
if importlib.util.find_spec('reincarnating_rl') is None:
  sys.path.insert(0, REPOSITORY)

UPDATES = 'updates/s'
STEPS = 'agent steps/s'
MICROSECONDS = 'us'
MILLISECONDS = 'ms'
SECONDS = 's'
MEBIBYTES = 'MiB'
LOWER_IS_BETTER = (MICROSECONDS, MILLISECONDS, SECONDS, MEBIBYTES)
# The value is what the work returns.
UNTIMED = (SECONDS, MEBIBYTES)
# How many there are in a second.
PER_SECOND = {MICROSECONDS: 1e6, MILLISECONDS: 1e3}

CORE_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'ale-py')

Work = Callable[[], float]


class Case(NamedTuple):
  """One thing to measure.

  Attributes:
    name: slash-separated, what --filter looks at.
    unit: of its value; those of UNTIMED are what the work returns.
    build: sets everything up and returns the work.
    seconds: how long one measurement repeats the work, at least.
    build_peer: the same for what it is compared with; None = nothing.
    max_repeats: measurements of each side, at most; None = no limit.
  """

  name: str
  unit: str
  build: Callable[[], Work]
  seconds: float = 1.0
  build_peer: Optional[Callable[[], Work]] = None
  max_repeats: Optional[int] = None

  @property
  def builders(self) -> list[Callable[[], Work]]:
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


def define_flags() -> tuple[flags.FlagHolder, ...]:
  """Defines --json, --filter and --quick; a script calls it once."""
  return (
      flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.'),
      flags.DEFINE_string('filter', '', 'Regular expression of names to run.'),
      flags.DEFINE_bool('quick', False, 'Tiny sizes: a test, no measurement.'),
  )


def select(items: Sequence[Any], pattern: str) -> list[Any]:
  """Items whose `name` matches.

  Raises:
    SystemExit: with one sentence, for a bad expression or one that matches
      nothing.
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


def claim_stdout() -> TextIO:
  """Returns the real standard output; whatever else prints goes to stderr."""
  sys.stdout.flush()
  stdout = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  return stdout


def progress(total: int) -> tqdm.tqdm:
  """A bar on stderr."""
  return tqdm.tqdm(total=total, file=sys.stderr, dynamic_ncols=True)


# -- measuring ----------------------------------------------------------------


def measure(unit: str, work: Work, seconds: float, amount: float = 0) -> float:
  """Repeats a work and returns its value.

  Args:
    unit: of the value.
    work: what to do.
    seconds: repeat at least so long.
    amount: repeat at least until so many units are done.
  """
  if unit in UNTIMED:
    return work()
  units = 0.0
  start = time.perf_counter()
  elapsed = 0.0
  while not units or elapsed < seconds or units < amount:
    units += work()
    elapsed = time.perf_counter() - start
  if unit in PER_SECOND:
    return PER_SECOND[unit] * elapsed / units
  return units / elapsed


def first_call(build: Callable[[], Work]) -> tuple[Work, float]:
  """Builds and runs a work once: (the work, seconds this took)."""
  start = time.perf_counter()
  work = build()
  work()
  return work, time.perf_counter() - start


def alternate(items: Sequence[Any], repeat: int) -> list[Any]:
  """The items, in reverse every other time: drift then favours nobody."""
  return list(reversed(items)) if repeat % 2 else list(items)


def num_measurements(cases: Sequence[Case], repeats: int) -> int:
  """By how much `run_cases` advances the bar."""
  return sum(len(c.builders) * (c.repeats(repeats) + 1) for c in cases)


def run_cases(
    cases: Sequence[Case], repeats: int, quick: bool, bar: tqdm.tqdm
) -> list[Result]:
  """Measures cases side by side, each `repeats` times.

  Args:
    cases: measured in turn, a case and its peer as well; they stay alive
      together.
    repeats: measurements of each side; fewer where a case says so.
    quick: one round of each work is enough for a measurement.
    bar: advanced by one a measurement, and one a first call.

  Returns:
    Their results, in the order of the cases.
  """
  # Side 0 is ours, 1 the peer's.
  jobs = [(c, side) for c in cases for side in range(len(c.builders))]
  works, first = {}, {}
  values = {(c.name, side): [] for c in cases for side in (0, 1)}
  for case, side in jobs:
    bar.set_description(case.name, refresh=False)
    key = case.name, side
    works[key], first[key] = first_call(case.builders[side])
    bar.update()
  for repeat in range(repeats):
    for case, side in alternate(jobs, repeat):
      if repeat >= case.repeats(repeats):
        continue
      bar.set_description(case.name, refresh=False)
      key, seconds = (case.name, side), 0.0 if quick else case.seconds
      values[key].append(measure(case.unit, works[key], seconds))
      bar.update()
  return [
      Result(
          c.name,
          c.unit,
          values[c.name, 0],
          values[c.name, 1],
          first[c.name, 0],
      )
      for c in cases
  ]


# -- statistics and output ----------------------------------------------------


def median(values: Sequence[float]) -> Optional[float]:
  """The median, None of nothing."""
  return float(statistics.median(values)) if values else None


def spread(values: Sequence[float]) -> Optional[float]:
  """(largest - smallest) / median, None of nothing."""
  if not values:
    return None
  middle = statistics.median(values)
  return (max(values) - min(values)) / middle if middle else 0.0


def ratio(
    ours: Optional[float], peer: Optional[float], unit: str
) -> Optional[float]:
  """How many times better ours is (> 1 = better), None without a peer."""
  if not ours or not peer:
    return None
  return peer / ours if unit in LOWER_IS_BETTER else ours / peer


def summarize(result: Result) -> dict[str, Any]:
  """The JSON-ready entry of one result."""
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
  """The one object of --json; `details` holds every measurement."""
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
  """Writes the JSON object, or the table for people.

  Args:
    out: where to.
    results: of the measurements.
    as_json: whether as JSON.
    machine: that they were made on; default this one.
    versions: of the packages; default those of this process.
  """
  machine = machine or describe_machine()
  versions = versions or package_versions()
  if as_json:
    write_json(out, report(results, machine, versions))
    return
  out.write(result_table(results) + '\n\n')
  for facts in (machine, versions):
    out.write(', '.join(f'{k} {v}' for k, v in facts.items()) + '\n')
  out.flush()


def write_json(out: TextIO, document: dict[str, Any]) -> None:
  """Writes the one object of --json."""
  json.dump(document, out, indent=2)
  out.write('\n')
  out.flush()


def result_table(results: Sequence[Result]) -> str:
  """Results for people: medians, spreads, and the ratio where there is one."""
  two_sided = any(r.peer for r in results)
  one_sided = not all(r.peer for r in results)
  header = ['name', 'ours', 'spread']
  header += ['peer', 'spread', 'ratio'] if two_sided else []
  header += ['first call'] if one_sided else []
  rows = [header + ['unit']]
  for r in results:
    entry = summarize(r)
    row = [r.name, _number(entry['ours']), _percent(spread(r.ours))]
    if two_sided:
      row += [_number(entry['peer']), _percent(spread(r.peer))]
      row += [_number(entry['ratio'])]
    if one_sided:
      row += [f'{r.first_call_seconds or 0:.1f} s']
    rows.append(row + [r.unit])
  return format_table(rows)


def format_table(rows: Sequence[Sequence[str]]) -> str:
  """Aligns rows; the first is the header, outer columns stand left."""
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  last = len(widths) - 1
  lines = []
  for row in rows:
    cells = [
        cell.ljust(width) if i in (0, last) else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths))
    ]
    lines.append('  '.join(cells).rstrip())
  lines.insert(1, '-' * max(len(line) for line in lines))
  return '\n'.join(lines)


def _number(value: Optional[float]) -> str:
  if value is None:
    return '-'
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def _percent(value: Optional[float]) -> str:
  return '-' if value is None else f'{100 * value:.0f}%'


def _rounded(value: Any) -> Any:
  """Six significant digits: more would be noise."""
  return float(f'{value:.6g}') if isinstance(value, float) else value


# -- where it was measured ----------------------------------------------------


def describe_machine() -> dict[str, Any]:
  """Device and host; imports jax."""
  import jax

  device = jax.devices()[0]
  on_cpu = device.platform == 'cpu'
  return {
      'device': cpu_name() if on_cpu else device.device_kind,
      'platform': device.platform,
      'cpu': cpu_name(),
      'cores': len(os.sched_getaffinity(0)),
  }


def cpu_name() -> str:
  """The processor's name, as Linux tells it."""
  try:
    with open('/proc/cpuinfo') as f:
      found = re.search(r'^model name\s*:\s*(.+)$', f.read(), re.MULTILINE)
  except OSError:
    found = None
  return found.group(1) if found else platform.processor() or 'unknown'


def package_versions(*more: str) -> dict[str, Optional[str]]:
  """Versions of what matters; None where a package is not installed."""
  versions: dict[str, Optional[str]] = {'python': platform.python_version()}
  for name in CORE_PACKAGES + more:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  return versions


def resident_mebibytes() -> float:
  """Memory of this process that is in RAM now."""
  with open('/proc/self/statm') as f:
    pages = int(f.read().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
