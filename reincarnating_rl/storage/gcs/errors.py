"""Errors of downloads; each text is one sentence."""


class BucketError(ValueError):
  """An object, folder or bucket that is missing, refused or unusable."""


class Unreachable(BucketError):
  """A network or service that does not answer."""


class WrongChecksum(BucketError):
  """A file that differs from the bucket's listing."""
