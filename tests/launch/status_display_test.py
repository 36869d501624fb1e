"""Display of a running sweep."""

import io

from reincarnating_rl.launch import status_display
from reincarnating_rl.launch.progress_on_disk import Progress
from reincarnating_rl.launch.status_display import StatusDisplay


class Terminal(io.StringIO):

  def isatty(self):
    return True


def make(file, **others):
  progress = {'a': Progress(), 'b': Progress()} | others
  return StatusDisplay({'a': 4, 'b': 2}, progress, 2, file)


def test_lines_where_the_output_is_no_terminal():
  file = io.StringIO()
  with make(file, b=Progress(2, 1.0)) as display:
    display.started('a')
    display.progressed('a', Progress(1, 2.5, 0.25))
    display.failed('a', 'no disk', gives_up=False)
    display.started('a')
    display.progressed('a', Progress(4, 3.5, 0.35))
    display.finished('a')
  text = file.getvalue()
  assert '\r' not in text
  said = [line for line in text.splitlines() if line.startswith('a ')]
  assert said == [
      'a starts',
      'a failed (no disk); it goes on from its checkpoint',
      'a is done, score 3.50',
  ]
  assert '6/6' in text and '2 done' in text
  lines = display.table().splitlines()
  assert lines[2].split()[:6] == ['a', 'done', 'x2', '4/4', '3.50', '0.35']
  # It was done before.
  assert lines[3].split() == ['b', 'done', '2/2', '1.00']


def test_a_terminal_has_a_line_for_each_that_runs():
  file = Terminal()
  with make(file) as display:
    display.started('a')
    display.started('b')
    display.progressed('b', Progress(1, -3.0))
    assert 'a: 0/4, no score yet' in file.getvalue()
    assert 'b: 1/2, score -3.00' in file.getvalue()
    display.failed('b', 'no disk', gives_up=True)
  assert display.names(status_display.FAILED) == ['b']
  assert display.rows['b'].error == 'no disk'
