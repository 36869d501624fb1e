"""What goes wrong with teachers."""


class TeacherError(ValueError):
  """A teacher that is not there, not whole, or does not fit; one sentence."""
