"""Progress bars: they move in a terminal, and are lines elsewhere."""

import io

import pytest

from reincarnating_rl.base import progress


class Terminal(io.StringIO):

  def isatty(self):
    return True


@pytest.mark.parametrize('kind', [io.StringIO, Terminal])
def test_a_terminal_is_redrawn_and_other_files_hold_lines(kind):
  file = kind()
  drawn_into, moves = progress.drawable(file)
  assert moves == (kind is Terminal) == (drawn_into is file)
  with progress.bar('title', 10, 'rows', initial=4, file=file) as bar:
    bar.update(6)
  text = file.getvalue()
  assert ('\r' in text) == moves
  assert 'title: ' in text and '10/10' in text and ' rows/s' in text


def test_bytes_are_scaled_and_have_no_space_before_them():
  file = io.StringIO()
  with progress.bar(
      None, 2_000_000, progress.BYTES, scale=True, file=file
  ) as bar:
    bar.update(2_000_000)
  assert '2.00M/2.00M' in file.getvalue() and 'B/s' in file.getvalue()


def test_short_work_may_have_no_bar():
  file = Terminal()
  with progress.bar('title', 1, 'rows', delay=60.0, file=file) as bar:
    bar.update()
  assert 'title' not in file.getvalue()
