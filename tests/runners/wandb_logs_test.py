"""Weights & Biases: what it is told, and that it takes it, offline."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest

from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached
from reincarnating_rl.runners import wandb_logs

REACHED = Reached('online', 2, 900, 800, 200, 12.0)
RECORD = PhaseRecord(
    'online', 2, 1000, 250, student_score=-3.0, lambda_=0.25, metrics={}
)


def make_logs(directory):
  return wandb_logs.WandbLogs(
      str(directory), 'project', 'name', {'gamma': 0.99}
  )


def tell(logs):
  logs.begin()
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
  again = make_logs(tmp_path)
  again.on_restored([])
  again.begin()
  again.on_metrics(REACHED, {'td_loss': 0.5, 'resets': 1.0})
  again.on_record(RECORD)
  again.on_metrics(REACHED._replace(updates=300), {'td_loss': 0.25})
  again.on_record(dataclasses.replace(RECORD, updates=350, iteration=3))
  again.close()
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
  # What it did once more is told once.
  assert [line['updates'] for line in first.lines] == [200, 250]
  assert [line['updates'] for line in second.lines] == [300, 350]
  # A process that goes on after those.
  third = make_logs(tmp_path)
  third.on_restored([RECORD, RECORD])
  third.begin()
  # Phases without an update are told, too.
  third.on_record(dataclasses.replace(RECORD, updates=350, iteration=4))
  third.close()
  assert len(runs[2].lines) == 1
  assert first.options['config'] == {'gamma': 0.99}


def test_a_wandb_that_fails_at_the_end_costs_no_run(
    tmp_path, monkeypatch, caplog
):
  import wandb

  run = Told({})
  monkeypatch.setattr(wandb, 'init', lambda **_: run)
  run.finish = lambda: 1 / 0
  tell(make_logs(tmp_path))
  assert 'wandb did not log (division by zero)' in caplog.text


def test_nothing_is_told_before_it_begins(tmp_path, monkeypatch):
  import wandb

  monkeypatch.setattr(wandb, 'init', lambda **_: pytest.fail('begun'))
  logs = make_logs(tmp_path)
  logs.on_record(RECORD)
  logs.close()
  assert not list(tmp_path.iterdir())


def test_what_wandb_does_not_take_is_one_sentence(tmp_path, monkeypatch):
  import wandb

  def refuse(**_):
    raise wandb.Error('api_key not configured\n(no-tty).')

  monkeypatch.setattr(wandb, 'init', refuse)
  with pytest.raises(
      ValueError, match=r'\(api_key not .* \(no-tty\)\): `wandb'
  ):
    make_logs(tmp_path).begin()
  for text in ('{', '[]', '{"updates": "3"}'):
    (tmp_path / 'wandb.json').write_text(text)
    with pytest.raises(ValueError, match='wandb.json cannot be read'):
      make_logs(tmp_path).begin()


def test_what_it_does_not_take_later_costs_no_run(
    tmp_path, monkeypatch, caplog
):
  import wandb

  run = Told({})
  monkeypatch.setattr(wandb, 'init', lambda **_: run)
  logs = make_logs(tmp_path)
  logs.begin()
  run.log = lambda values: 1 / 0
  logs.on_record(RECORD)
  assert 'wandb did not log (division by zero)' in caplog.text


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
