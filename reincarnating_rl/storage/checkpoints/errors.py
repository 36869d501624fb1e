"""Errors of checkpoints; each text is one clear sentence."""


class ArchiveError(ValueError):
  """A checkpoint that cannot be written or read."""


class DamagedError(ArchiveError):
  """A file that is missing or differs from what was written."""
