"""Numbers and lists as text."""

from __future__ import annotations

from typing import Optional, Sequence

_SHOWN = 3
_MINUTES_FROM, _HOURS_FROM = 300.0, 7200.0  # seconds
MISSING = '–'
INTERVALS = '95% stratified bootstrap intervals'


def listed(names: Sequence[str]) -> str:
  """Formats names as 'a, b, c and 2 more'."""
  text = ', '.join(names[:_SHOWN])
  return text + (
      f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
  )


def number(value: Optional[float], decimals: int = 2) -> str:
  """Formats a number as '1,234.50', None as a dash."""
  if value is None:
    return MISSING
  return f'{round(value, decimals) + 0.0:,.{decimals}f}'  # no -0.00


def estimate(
    value: float,
    low: Optional[float],
    high: Optional[float],
    decimals: int = 2,
) -> str:
  """Formats '0.83 [0.71, 0.90]'; no brackets without an interval."""
  text = number(value, decimals)
  if low is None:
    return text
  return f'{text} [{number(low, decimals)}, {number(high, decimals)}]'


def decimals_of(scores: Sequence[float]) -> int:
  """Number of decimals that scores of this size need."""
  return 2 if max(map(abs, scores), default=0.0) < 100 else 1


def counts(values: Sequence[int], unit: str) -> str:
  """Formats counts as '3 runs', '1 run' or '2 to 3 runs'."""
  low, high = min(values), max(values)
  plural = '' if high == 1 else 's'
  return f'{low if low == high else f"{low} to {high}"} {unit}{plural}'


def time_unit(seconds: float) -> tuple[float, str]:
  """Chooses the unit for a duration; returns (its seconds, its name)."""
  if seconds >= _HOURS_FROM:
    return 3600.0, 'hours'
  return (60.0, 'minutes') if seconds >= _MINUTES_FROM else (1.0, 'seconds')


def duration(seconds: Optional[float]) -> str:
  """Formats a duration as '12.5 minutes', None as a dash."""
  if seconds is None:
    return MISSING
  unit, name = time_unit(seconds)
  return f'{seconds / unit:,.1f} {name}'
