"""Outcomes of the runs that suffered faults, and their sums."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from reincarnating_rl.base import tables

_COLUMNS = (
    'faults',
    'survived',
    'differences',
    'agent_steps_lost',
    'largest_loss',
)


class Outcome(NamedTuple):
  """Outcome of one run.

  Attributes:
    faults: kinds of the faults, in their order.
    lost: agent steps that each fault cost.
    survived: True if the run came to its end.
    differences: differences from the undisturbed run, one sentence each.
  """

  faults: list[str]
  lost: list[int]
  survived: bool
  differences: list[str]


def summarize(
    outcomes: Sequence[Outcome], kinds: Sequence[str]
) -> dict[str, Any]:
  """Sums, JSON-ready.

  The differences of a run count for each of its kinds, and once in the total.
  """
  by_kind = {}
  for kind in kinds:
    hit = [o for o in outcomes if kind in o.faults]
    lost = [n for o in hit for k, n in zip(o.faults, o.lost) if k == kind]
    by_kind[kind] = {
        'faults': len(lost),
        'survived': sum(o.faults.count(kind) for o in hit if o.survived),
        'differences': sum(len(o.differences) for o in hit),
        'agent_steps_lost': sum(lost),
        'largest_loss': max(lost, default=0),
    }
  each = by_kind.values()
  total = {c: sum(k[c] for k in each) for c in _COLUMNS}
  return total | {
      'differences': sum(len(o.differences) for o in outcomes),
      'largest_loss': max((k['largest_loss'] for k in each), default=0),
      'kinds': by_kind,
  }


def table(report: dict[str, Any]) -> str:
  """Table of the sums, a line for each kind."""
  rows = [['kind', *(c.replace('_', ' ') for c in _COLUMNS)]]
  for kind, numbers in {**report['kinds'], 'all': report}.items():
    rows.append([kind, *(str(numbers[c]) for c in _COLUMNS)])
  return tables.table(rows)
