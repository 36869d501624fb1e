"""What goes wrong with files, in one clear sentence each."""


class ArchiveError(ValueError):
  """A checkpoint cannot be written, or not be read."""


class DamagedError(ArchiveError):
  """A file is missing, or not as it was written."""
