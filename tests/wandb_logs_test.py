"""Weights & Biases: what it is told, and that it takes it, offline."""

from __future__ import annotations

import importlib.util

import pytest

from reincarnating_rl import wandb_logs
from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.records import Reached

REACHED = Reached('online', 2, 900, 800, 200, 12.0)
RECORD = PhaseRecord(
    'online', 2, 1000, 250, student_score=-3.0, lambda_=0.25, metrics={}
)


def make_logs(directory):
  return wandb_logs.WandbLogs(
      str(directory), 'project', 'name', {'gamma': 0.99}
  )


def tell(logs):
  logs.on_metrics(REACHED, {'td_loss': 0.5, 'resets': 1.0})
  logs.on_record(RECORD)
  logs.close()


class Told:
  """Stands for wandb's run."""

  def __init__(self, options):
    self.options, self.lines, self.finished = options, [], False

  def define_metric(self, name, step_metric):
    assert (name, step_metric) == ('*', 'updates')

  def log(self, values):
    self.lines.append(values)

  def finish(self):
    self.finished = True


def test_what_it_is_told(tmp_path, monkeypatch):
  import wandb

  runs = []
  monkeypatch.setattr(
      wandb, 'init', lambda **options: runs.append(Told(options)) or runs[-1]
  )
  tell(make_logs(tmp_path))
  tell(make_logs(tmp_path))
  first, second = runs
  assert first.lines[0] == {
      'Losses/TD': 0.5,
      'Train/resets': 1.0,
      'agent_steps': 800,
      'frames': 3200,
      'updates': 200,
  }
  assert first.lines[1]['Eval/AverageReturns'] == -3.0
  assert first.lines[1]['Train/DistillationWeight'] == 0.25
  assert first.finished
  # A process that goes on with the run goes on with the same one there.
  assert first.options == second.options
  assert first.options['config'] == {'gamma': 0.99}


def test_nothing_is_begun_where_nothing_is_told(tmp_path, monkeypatch):
  import wandb

  monkeypatch.setattr(wandb, 'init', lambda **_: pytest.fail('begun'))
  make_logs(tmp_path).close()
  assert not list(tmp_path.iterdir())


def test_offline(tmp_path, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  tell(make_logs(tmp_path))
  (kept,) = tmp_path.glob('wandb/offline-run-*/run-*.wandb')
  assert b'AverageReturns' in kept.read_bytes()


def test_without_it_the_reason_is_told(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(
      ValueError, match=r"pip install 'reincarnating_rl\[wandb\]"
  ):
    wandb_logs.check_installed()
