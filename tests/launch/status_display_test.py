"""What a sweep looks like while it runs."""

import io

from reincarnating_rl.launch import status_display as board_lib
from reincarnating_rl.launch.progress_on_disk import Reached


class Terminal(io.StringIO):

  def isatty(self):
    return True


def make(file, **reached):
  there = {'a': Reached(), 'b': Reached()} | reached
  return board_lib.Board({'a': 4, 'b': 2}, there, 2, file)


def test_lines_where_the_output_is_no_terminal():
  file = io.StringIO()
  with make(file, b=Reached(2, 1.0)) as board:
    board.started('a')
    board.reached('a', Reached(1, 2.5, 0.25))
    board.failed('a', 'no disk', for_good=False)
    board.started('a')
    board.reached('a', Reached(4, 3.5, 0.35))
    board.done('a')
  text = file.getvalue()
  assert '\r' not in text
  said = [line for line in text.splitlines() if line.startswith('a ')]
  assert said == [
      'a starts',
      'a failed (no disk); it goes on from its checkpoint',
      'a is done, score 3.50',
  ]
  assert '6/6' in text and '2 done' in text
  lines = board.table().splitlines()
  assert lines[2].split()[:6] == ['a', 'done', 'x2', '4/4', '3.50', '0.35']
  # It was done before.
  assert lines[3].split() == ['b', 'done', '2/2', '1.00']


def test_a_terminal_has_a_line_for_each_that_runs():
  file = Terminal()
  with make(file) as board:
    board.started('a')
    board.started('b')
    board.reached('b', Reached(1, -3.0))
    assert 'a: 0/4, no score yet' in file.getvalue()
    assert 'b: 1/2, score -3.00' in file.getvalue()
    board.failed('b', 'no disk', for_good=True)
  assert board.names(board_lib.FAILED) == ['b']
  assert board.rows['b'].error == 'no disk'
