"""The soak test itself: its comparison, its sums, and what it refuses."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
from paths import ROOT

from reincarnating_rl.dopamine_bridge.event_file import EventFile
from reincarnating_rl.storage.checkpoints.background import Background
from reincarnating_rl.storage.checkpoints.checkpoint_store import Vault
from reincarnating_rl.storage.checkpoints.row_segments import RowLog
from reliability import results
from reliability import run_contents


class Ring:
  """Rows of two environments, each with the number of its slot."""

  slots = 4
  segment_slots = 3

  def __init__(self, written: int):
    self.written = written

  def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
    return {'action': np.arange(start, stop).repeat(2).astype(np.uint8)}


def _write_run(
    folder: pathlib.Path, *, sealed_after: int = 0, loss: float = 1.0
) -> str:
  """A small run directory; its ring was sealed `sealed_after` rows."""
  log = Background()
  vault = Vault(str(folder / 'checkpoints'))
  rows = RowLog(vault.rows_folder('student'), log)
  for written in range(sealed_after, 7):
    rows.seal(Ring(written))
  log.wait()
  document = {
      'logs': {},
      'state': {
          'records': [{'metrics': {'loss': loss, 'none': float('nan')}}],
          'stage': {'seconds': {'online': loss}},
          'trainer': {'writer': {'capacity': 8}},
      },
  }
  arrays = {
      'player/first': np.zeros(2, np.bool_),
      'trainer/writer/add_count': np.int32(6),
  }
  segments = {'student': rows.covering(2, 6)}
  vault.write(1, document, arrays, segments)
  (folder / 'summary.json').write_text('{"iterations": [{"updates": 3}]}')
  line = {'kind': 'updates', 'seconds': loss, 'metrics': {'loss': loss}}
  (folder / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
  (folder / 'logs').mkdir()
  # The tenth is newer than the ninth.
  for number, losses in (9, [1.0]), (10, [1.0, 2.0]):
    with open(folder / 'logs' / f'log_{number}', 'wb') as f:
      pickle.dump({'iteration_1': {'loss': losses}}, f)
  return str(folder)


def test_equal_runs_do_not_differ(tmp_path):
  run = _write_run(tmp_path / 'a')
  same = _write_run(tmp_path / 'b', sealed_after=6)
  found = run_contents.contents(run)
  np.testing.assert_array_equal(
      found['replay/student/action'], [2, 2, 3, 3, 4, 4, 5, 5]
  )
  assert run_contents.differences(run, same) == []


def test_each_difference_is_named(tmp_path):
  run, other = _write_run(tmp_path / 'a'), _write_run(tmp_path / 'b', loss=2.0)
  (tmp_path / 'b' / 'summary.json').write_text('{"iterations": []}')
  os.remove(tmp_path / 'b' / 'logs' / 'log_10')
  assert run_contents.differences(run, other) == [
      'checkpoint/state/records/0/metrics/loss: 2.0, not 1.0',
      'logs/iteration_1/loss: [1.0], not [1.0, 2.0]',
      'metrics.jsonl/0/metrics/loss: 2.0, not 1.0',
      'summary/iterations: [], not nothing',
      'summary/iterations/0/updates: nothing, not 3',
  ]


def test_events(tmp_path):
  file = EventFile(str(tmp_path))
  for step in (2, 1, 1):
    file.scalar('loss', 0.5, step)
  file.close()
  once = {'events/./loss': [(1, 0.5), (1, 0.5), (2, 0.5)]}
  assert run_contents.event_contents(str(tmp_path)) == once
  (path,) = tmp_path.glob('events*')
  os.truncate(path, path.stat().st_size - 3)
  found = run_contents.event_contents(str(tmp_path))
  assert 'is damaged' in found['events/.'][0]


def test_sums_count_each_run_once():
  outcomes = [
      results.Outcome(['kill', 'flip', 'kill'], [5, 0, 7], True, ['one']),
      results.Outcome(['flip'], [3], False, []),
  ]
  report = results.summarize(outcomes, ['kill', 'flip', 'clock'])
  kinds = report.pop('kinds')
  assert report == {
      'faults': 4,
      'survived': 3,
      'differences': 1,
      'agent_steps_lost': 15,
      'largest_loss': 7,
  }
  assert kinds['flip']['faults'] == 2
  assert kinds['flip']['survived'] == kinds['flip']['differences'] == 1
  assert kinds['clock'] == dict.fromkeys(kinds['flip'], 0)
  assert 'largest loss' in results.table(report | {'kinds': kinds})


def _run(*flags: str) -> subprocess.CompletedProcess:
  return subprocess.run(
      [sys.executable, str(ROOT / 'scripts' / 'soak.py'), *flags],
      capture_output=True,
      text=True,
      cwd='/',
      timeout=300,
  )


def test_unknown_kind_is_one_sentence():
  done = _run('--kinds=kill,flood')
  assert done.returncode == 1
  assert done.stdout == ''
  assert 'there is no kind called flood; choose from kill,' in done.stderr
  assert 'Traceback' not in done.stderr
