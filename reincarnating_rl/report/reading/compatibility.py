"""Refuses to average or compare runs whose scores do not mean the same."""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple, Optional, Sequence

from reincarnating_rl.base import errors
from reincarnating_rl.report.reading import method_identity
from reincarnating_rl.report.reading.grouping import Method
from reincarnating_rl.report.reading.runs import Run


class Difference(NamedTuple):
  """Two runs that differ in a condition.

  Attributes:
    condition: one of method_identity.CONDITIONS.
    runs: the two runs.
    values: value of the condition in each run, in words.
    use: 'averaged' or 'compared', the intended use of the runs.
  """

  condition: str
  runs: tuple[Run, Run]
  values: tuple[str, str]
  use: str

  def __str__(self) -> str:
    (a, b), (value_a, value_b) = self.runs, self.values
    name = {method_identity.ROM: 'ROM'}.get(self.condition, self.condition)
    return (
        f'{a.path} has {value_a}, {b.path} has {value_b}: their '
        f'{name.replace("_", " ")} differs'
    )


def check(
    methods: Sequence[Method],
    mix: Sequence[str] = (),
    split: Sequence[str] = (),
) -> list[str]:
  """Refuses runs whose conditions differ, unless the user allows it.

  Args:
    methods: methods of the report.
    mix: conditions that may differ.
    split: conditions that tell methods apart.

  Returns:
    Sentences about the allowed differences.

  Raises:
    UserError: for the first difference that is not allowed.
  """
  told = []
  for difference in _differences(methods):
    condition = difference.condition
    if condition in split:
      told.append(f'{difference} (--split {condition}).')
    elif condition in mix:
      told.append(
          f'{difference}, and yet they are {difference.use} '
          f'(--mix {condition}).'
      )
    else:
      does = {'averaged': 'averages', 'compared': 'compares'}[difference.use]
      ways = f'--mix {condition} {does} them all the same'
      if condition in method_identity.SEPARABLE:
        ways += f', --split {condition} makes them different methods'
      raise errors.UserError(
          f'{difference}, so they are not {difference.use}; {ways}.'
      )
  return told


def _differences(methods: Sequence[Method]) -> Iterator[Difference]:
  """Yields differences in conditions, each value once."""
  runs = [run for method in methods for run in method.all_runs]
  method_of = {run.path: m.name for m in methods for run in m.all_runs}

  def among(
      condition: str, some: Sequence[Run], words: Callable[[Run], Optional[str]]
  ) -> Iterator[Difference]:
    first: dict[str, Run] = {}
    for run in some:
      value = words(run)
      if value is None or value in first:
        continue
      first[value] = run
      (value_a, a), *_ = first.items()
      if a is not run:
        same = method_of[a.path] == method_of[run.path]
        use = 'averaged' if same else 'compared'
        yield Difference(condition, (a, run), (value_a, value), use)

  yield from among(method_identity.SCHEMA, runs, method_identity.schema)
  for game in sorted({run.game for run in runs}):
    here = [run for run in runs if run.game == game]
    yield from among(method_identity.TEACHER, here, _teacher)
    yield from among(method_identity.ROM, here, _rom)
  yield from among(method_identity.STICKY_ACTIONS, runs, _sticky_actions)
  for method in methods:
    yield from among(method_identity.BUDGET, method.all_runs, _budget)
  yield from among(method_identity.BUDGET, runs, _online_budget)


def _teacher(run: Run) -> Optional[str]:
  teacher = run.teacher
  if teacher is None:
    return None
  if teacher.identity == teacher.place:
    return f'the teacher {teacher.place}'
  # The same parameters are the same teacher, wherever they lie.
  return f'a teacher of checksum {teacher.identity}'


def _rom(run: Run) -> Optional[str]:
  md5 = run.rom.get('md5')
  return md5 and f'a ROM of {run.game} with md5 {md5}'


def _sticky_actions(run: Run) -> str:
  probability = run.settings.get(method_identity.STICKY_ACTIONS)
  return f'sticky actions of probability {probability}'


def _budget(run: Run) -> str:
  return str(method_identity.budget(run))


def _online_budget(run: Run) -> str:
  return (
      f'{method_identity.budget(run).online_agent_steps:,} online agent steps'
  )
