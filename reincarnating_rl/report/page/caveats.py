"""Caveats about the numbers of a report, in sentences."""

from __future__ import annotations

from typing import Iterator, Sequence

from reincarnating_rl.report import formatting
from reincarnating_rl.report.reading import method_identity
from reincarnating_rl.report.reading.grouping import Method
from reincarnating_rl.report.reading.runs import Run
from reincarnating_rl.report.statistics.references import NORMALIZATIONS
from reincarnating_rl.report.tables import Numbers

# With fewer runs, bootstrap intervals are noticeably too narrow.
_ENOUGH_RUNS = 10


def on_statistics(methods: Sequence[Method], numbers: Numbers) -> list[str]:
  """Caveats about games, numbers of runs, and curves."""
  return [
      *numbers.notes,
      *_on_games(numbers),
      *_on_runs(methods),
      *_on_curves(methods),
  ]


def on_conditions(methods: Sequence[Method]) -> list[str]:
  """Caveats about conditions that differ and still allow a comparison."""
  return [*_on_offline_budgets(methods), *_on_versions(methods)]


def _on_games(numbers: Numbers) -> Iterator[str]:
  for name in NORMALIZATIONS:
    if not numbers.games[name]:
      yield (
          'There is no game that every method has and whose scores can be '
          f'{name}-normalized, and so nothing {name}-normalized over all games.'
      )


def _on_runs(methods: Sequence[Method]) -> Iterator[str]:
  alone: dict[str, list[str]] = {}
  for method in methods:
    single = [game for game, runs in method.runs.items() if len(runs) == 1]
    if single:
      alone.setdefault(formatting.listed(single), []).append(method.name)
  for games, names in alone.items():
    who = f'{names[0]} has'
    if len(names) > 1:
      who = f'{len(names)} methods ({"; ".join(names)}) have'
    yield (
        f'{who} a single run of {games}: there is nothing to resample, so '
        'intervals are impossible.'
    )
  counts = {len(runs) for m in methods for runs in m.runs.values()} - {1}
  if counts and min(counts) < _ENOUGH_RUNS:
    fewest = min(counts)
    yield (
        f'With as few as {fewest} runs of a game the intervals are too narrow: '
        f'the variance between resamples is on average {fewest - 1}/{fewest} '
        'of that between repetitions of the experiment.'
    )


def _on_curves(methods: Sequence[Method]) -> Iterator[str]:
  machines = False
  for method in methods:
    untimed = [run.path for run in method.all_runs if not run.timed]
    if untimed:
      yield (
          f'{method.name} has no curve over wall-clock time: no metrics.jsonl '
          f'tells when the evaluations of {formatting.listed(untimed)} were.'
      )
    else:
      yield from _on_times(method)
    machines = machines or not untimed
    for game, runs in method.runs.items():
      steps = {tuple(p.agent_steps for p in run.points) for run in runs}
      if len(steps) > 1:
        yield (
            f'The runs of {method.name} on {game} were evaluated after '
            'different numbers of agent steps: between evaluations their '
            'curves are interpolated.'
        )
  if machines:
    yield (
        'Wall-clock time is that of the machines that the runs were on, '
        'evaluations included.'
    )


def _on_times(method: Method) -> Iterator[str]:
  """Curves over time that are missing because runs share no time."""
  of: dict[str, Sequence[Run]] = {
      f'on {game}': runs for game, runs in method.runs.items()
  }
  first = lambda run: run.points[0].seconds
  last = lambda run: run.points[-1].seconds
  if len(of) > 1:
    of['over all games'] = method.all_runs
  for what, runs in of.items():
    late, early = max(runs, key=first), min(runs, key=last)
    if first(late) > last(early):
      yield (
          f'{method.name} has no curve over wall-clock time {what}: '
          f'{early.path} had ended before the first evaluation of {late.path}.'
      )


def _on_offline_budgets(methods: Sequence[Method]) -> Iterator[str]:
  for name, what in (
      ('pretraining_updates', 'pretraining updates'),
      ('teacher_agent_steps', "agent steps of the teacher's data"),
  ):
    of_method = {
        m.name: getattr(method_identity.budget(m.all_runs[0]), name)
        for m in methods
    }
    # Methods without any do not count.
    counts = {count for count in of_method.values() if count}
    if len(counts) > 1:
      values = [f'{method} {n:,}' for method, n in of_method.items() if n]
      yield f'Methods have different numbers of {what}: {", ".join(values)}.'


def _on_versions(methods: Sequence[Method]) -> Iterator[str]:
  runs = [run for method in methods for run in method.all_runs]
  for name in sorted({name for run in runs for name in run.versions}):
    first: dict[str, Run] = {}
    for run in runs:
      first.setdefault(str(run.versions.get(name, 'unknown')), run)
    if len(first) > 1:
      values = [f'{value} in {run.path}' for value, run in first.items()]
      yield f'Not all runs had the same {name}: {formatting.listed(values)}.'
