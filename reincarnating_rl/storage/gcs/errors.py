"""What goes wrong between a bucket and a folder; each text is one sentence."""


class BucketError(ValueError):
  """Something that is not there, not allowed, or does not fit."""


class Unreachable(BucketError):
  """The network or the service does not answer."""


class WrongChecksum(BucketError):
  """A file arrived otherwise than it is listed."""
