"""Tests of metrics.jsonl: what is in its lines, and a disk that is full."""

from __future__ import annotations

import json
import os

import pytest

from reincarnating_rl.base import errors
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached
from reincarnating_rl.rundir import metrics_file
from reincarnating_rl.rundir.metrics_file import MetricsFile

REACHED = Reached('online', 2, 900, 800, 200, 12.3456)
RECORD = PhaseRecord(
    'online',
    2,
    agent_steps=1000,
    updates=250,
    student_score=-3.05,
    teacher_normalized=0.5,
    lambda_=0.25,
    metrics={'loss': 0.125},
    episodes={'eval': {'returns': [-3.0, -3.1], 'lengths': [70, 80]}},
    seconds=20.0,
)


def _lines(directory):
  text = (directory / metrics_file.FILE_NAME).read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_a_line_for_updates_and_one_for_the_phase(tmp_path):
  log = MetricsFile(str(tmp_path), 'Pong')
  log.on_metrics(REACHED, {'loss': 0.5})
  log.on_record(RECORD)
  updates, phase = _lines(tmp_path)
  assert updates == {
      'kind': 'updates',
      'phase': 'online',
      'iteration': 2,
      'training_steps': 900,
      'agent_steps': 800,
      'frames': 3200,
      'updates': 200,
      'seconds': 12.346,
      'metrics': {'loss': 0.5},
  }
  # Of a human's 14.6 and random play's -20.7.
  assert phase.pop('human_normalized') == pytest.approx(0.5)
  assert phase == RECORD.to_json() | {'kind': 'phase', 'frames': 4000}


def test_lines_are_read_by_kind(tmp_path):
  assert metrics_file.read(str(tmp_path)) == []
  log = MetricsFile(str(tmp_path), 'Pong')
  log.on_metrics(REACHED, {'loss': 0.5})
  log.on_record(RECORD)
  updates, phase = _lines(tmp_path)
  assert metrics_file.read(str(tmp_path)) == [phase]
  assert metrics_file.read(str(tmp_path), metrics_file.UPDATES) == [updates]


@pytest.mark.parametrize('damaged', ['{"kind": "ph', '[]', '{"kind": "phase"}'])
def test_only_the_last_line_may_be_damaged(tmp_path, damaged):
  log = MetricsFile(str(tmp_path), 'Pong')
  log.on_record(RECORD)
  path = tmp_path / metrics_file.FILE_NAME
  path.write_text(path.read_text() + damaged)
  assert len(metrics_file.read(str(tmp_path))) == 1
  path.write_text(path.read_text() + '\n')
  log.on_record(RECORD)
  with pytest.raises(errors.UserError, match='Line 2 of .* is damaged'):
    metrics_file.read(str(tmp_path))


def test_a_game_that_no_human_played_has_no_human_score(tmp_path):
  MetricsFile(str(tmp_path), 'NoSuchGame').on_record(RECORD)
  assert _lines(tmp_path)[0]['human_normalized'] is None


def test_a_full_disk_costs_whole_lines(tmp_path, monkeypatch):
  log = MetricsFile(str(tmp_path), 'Pong')
  log.on_metrics(REACHED, {'loss': 0.5})
  path, room = tmp_path / metrics_file.FILE_NAME, 20
  real_open = open

  def open_small(*args, **kwargs):
    f = real_open(*args, **kwargs)
    return _Full(f, room)

  with monkeypatch.context() as patched:
    patched.setattr('builtins.open', open_small)
    log.on_metrics(REACHED, {'loss': 0.25})
  assert os.path.getsize(path) > room
  log.on_record(RECORD)
  assert [line['kind'] for line in _lines(tmp_path)] == ['updates', 'phase']


class _Full:
  """A file on a disk with so much room left."""

  def __init__(self, file, room):
    self._file, self._room = file, room

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._file.close()

  def __getattr__(self, name):
    return getattr(self._file, name)

  def write(self, data):
    return self._file.write(data[: self._room])
