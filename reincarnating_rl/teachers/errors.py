"""Errors of teachers."""

from typing import Any, Sequence


class TeacherError(ValueError):
  """A teacher that is missing, damaged or unsuitable; a sentence says how."""


def enumerate_items(items: Sequence[Any]) -> str:
  """Joins items as '1, 2, 3', or 'none'; shortens long lists."""
  words = [str(item) for item in items]
  if len(words) > 12:
    words = words[:6] + ['...'] + words[-6:]
  return ', '.join(words) or 'none'
