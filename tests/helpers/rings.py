"""A replay ring on the host whose rows are told apart."""

import numpy as np

SLOTS, SEGMENT = 20, 4


class Ring:
  """Slot n holds numbers that only slot n has."""

  def __init__(self, slots=SLOTS, segment_slots=SEGMENT, row_bytes=8):
    self.written, self.slots, self.segment_slots = 0, slots, segment_slots
    self.frames = np.zeros((slots, row_bytes), np.uint8)
    self.action = np.full(slots, -1)

  def add(self, count):
    for n in range(self.written, self.written + count):
      at = n % self.slots
      self.frames[at] = np.random.default_rng(n).integers(0, 256, 8)
      self.action[at] = n
    self.written += count
    return self

  @property
  def window(self):
    return max(self.written - self.slots, 0), self.written

  def read(self, start, stop):
    oldest, written = self.window
    assert oldest <= start < stop <= written, 'rows that it does not hold'
    at = np.arange(start, stop) % self.slots
    return {'frames': self.frames[at].copy(), 'action': self.action[at].copy()}
