"""Progress bars: what they say, and plain lines where nothing moves."""

import io

import pytest

from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.rundir import progress_bars

PHASE = Phase('online', 2)


class Terminal(io.StringIO):

  def isatty(self):
    return True


def _work(file, records=()):
  bar = progress_bars.ProgressBar(3, 'run 1,', file)
  for record in records:
    bar.on_record(record)
  bar.on_work('online', PHASE, 10, 'agent steps')
  bar.on_resumed(4)
  bar.on_progress(6)
  bar.close()
  return file.getvalue()


def test_a_log_file_holds_plain_lines():
  text = _work(io.StringIO())
  assert '\r' not in text and '\x1b' not in text
  lines = text.splitlines()
  assert lines[-1].startswith('run 1, online 2/3')
  assert '10/10' in lines[-1] and 'agent steps/s' in lines[-1]
  assert all(line.strip() for line in lines)


def test_a_terminal_is_redrawn():
  assert '\r' in _work(Terminal())


def test_score_and_lambda_of_the_last_phase_are_shown():
  record = PhaseRecord('online', 1, 5, 5, student_score=7.25, lambda_=0.5)
  for text in (_work(io.StringIO(), [record]), _work(Terminal(), [record])):
    assert 'score=7.2' in text and 'lambda=0.50' in text


def test_a_lambda_that_fell_to_nothing_is_shown():
  before, after, unknown = (
      PhaseRecord('online', 1, 5, 5, student_score=7.25, lambda_=lambda_)
      for lambda_ in (0.5, 0.0, None)
  )
  assert 'lambda=0.00' in _work(io.StringIO(), [before, after])
  assert 'lambda=0.50' in _work(io.StringIO(), [before, unknown])
  assert 'lambda' not in _work(io.StringIO(), [after])


def test_what_is_longer_than_planned_stays_readable():
  file = io.StringIO()
  bar = progress_bars.ProgressBar(3, '', file)
  bar.on_work('evaluation', PHASE, 10, 'agent steps')
  bar.on_progress(25)
  bar.close()
  assert '25/25' in file.getvalue()


@pytest.mark.parametrize('total', [0, 1])
def test_short_work(total):
  bar = progress_bars.ProgressBar(1, '', io.StringIO())
  bar.on_work('evaluation', PHASE, total, 'agent steps')
  bar.on_progress(total)
  bar.close()
