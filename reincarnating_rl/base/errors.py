"""Failures that a user can mend, and the end of a run that was stopped."""

from __future__ import annotations

import contextlib
from typing import Iterator


class UserError(Exception):
  """A failure that the user can mend; its text is one clear sentence."""


class StoppedError(Exception):
  """A run has ended before its time; its text says how it goes on.

  Attributes:
    exit_code: that the process should end with.
  """

  def __init__(self, text: str, exit_code: int):
    super().__init__(text)
    self.exit_code = exit_code


@contextlib.contextmanager
def user_errors(kind: type[Exception] = ValueError) -> Iterator[None]:
  """Where input is checked: its ValueErrors are the user's to mend.

  gin appends where it was called to an error's text; the first line is ours.

  Args:
    kind: of the errors that are.
  """
  try:
    yield
  except kind as e:
    raise UserError(str(e).strip().split('\n')[0].strip()) from e
