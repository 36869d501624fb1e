"""What goes wrong with teachers."""

from typing import Any, Sequence


class TeacherError(ValueError):
  """A teacher that is not there, not whole, or does not fit; one sentence."""


def enumerate_items(items: Sequence[Any]) -> str:
  """'1, 2, 3', or 'none'; long lists are shortened in the middle."""
  words = [str(item) for item in items]
  if len(words) > 12:
    words = words[:6] + ['...'] + words[-6:]
  return ', '.join(words) or 'none'
