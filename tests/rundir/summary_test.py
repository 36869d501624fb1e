"""summary.json: what a reader gets, and one sentence where it gets nothing."""

from __future__ import annotations

import pytest

from reincarnating_rl.base import errors
from reincarnating_rl.rundir import summary


def test_what_was_written_is_read(tmp_path):
  assert not summary.exists(str(tmp_path))
  summary.write(str(tmp_path), {'game': 'Pong'})
  assert summary.exists(str(tmp_path))
  assert summary.read(str(tmp_path)) == {'game': 'Pong'}
  assert summary.read_if_possible(str(tmp_path)) == {'game': 'Pong'}


@pytest.mark.parametrize('content', [b'{"game": ', b'\xff\xfe', b''])
def test_a_damaged_summary_is_one_sentence(tmp_path, caplog, content):
  (tmp_path / 'summary.json').write_bytes(content)
  with pytest.raises(errors.UserError, match='json is damaged .*leave that'):
    summary.read(str(tmp_path))
  assert summary.read_if_possible(str(tmp_path)) == {}
  assert 'Continuing without a summary' in caplog.text


def test_no_summary_is_one_sentence(tmp_path, caplog):
  with pytest.raises(errors.UserError, match='holds no summary.json'):
    summary.read(str(tmp_path))
  assert summary.read_if_possible(str(tmp_path)) == {}
  assert not caplog.text
  (tmp_path / 'summary.json').mkdir()
  with pytest.raises(errors.UserError, match='cannot be read .Is a directory'):
    summary.read(str(tmp_path))


def test_what_is_no_object_is_no_summary(tmp_path):
  (tmp_path / 'summary.json').write_text('[1]')
  assert summary.read(str(tmp_path)) == {}
