"""Tables for a terminal."""

from reincarnating_rl.base import tables


def test_columns_are_aligned():
  rows = [['name', 'ours', 'unit'], ['a', '1', 'us'], ['bcdefg', '20', 'us']]
  assert tables.table(rows) == (
      'name    ours  unit\n'
      '------------------\n'
      'a          1    us\n'
      'bcdefg    20    us'
  )
