"""How a run that was stopped says so; entry points import nothing else."""

from __future__ import annotations


class StoppedError(Exception):
  """A run has ended before its time; its text says how it goes on.

  Attributes:
    exit_code: that the process should end with.
  """

  def __init__(self, text: str, exit_code: int):
    super().__init__(text)
    self.exit_code = exit_code
