"""Dopamine's logs: what they hold after a restart, and on a full disk."""

from __future__ import annotations

import collections
import errno
import functools
import os
import pathlib
import pickle

import numpy as np
import pytest

from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine

prepare_dopamine()

from dopamine.colab import utils
from dopamine.discrete_domains.logger import Logger
from dopamine.metrics.collector_dispatcher import CollectorDispatcher
from events import scalars as _scalars

from reincarnating_rl.dopamine_bridge.event_file import EventFile
from reincarnating_rl.dopamine_bridge.logs import DopamineLogs
from reincarnating_rl.loop.saving import log_files
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached

NUM_PHASES = 5


def _record(number):
  """A teacher's evaluation, an offline iteration, then online ones."""
  kinds = {0: 'teacher_evaluation', 1: 'pretraining'}
  metrics = {'eval_return_mean': 2.0 * number, 'eval_episodes': 3}
  returns = [2.0 * number - 1, 2.0 * number, 2.0 * number + 1]
  episodes = {'eval': {'returns': returns, 'lengths': [7, 8, 9]}}
  if number > 1:
    episodes['train'] = {'returns': [float(number)], 'lengths': [10 * number]}
    metrics |= {'train_return_mean': float(number), 'train_episodes': number}
  return PhaseRecord(
      kinds.get(number, 'online'),
      number,
      10 * number,
      5 * number,
      student_score=2.0 * number if number else None,
      lambda_=1.0 / (number + 1),
      metrics=metrics,
      episodes=episodes,
  )


RECORDS = [_record(number) for number in range(NUM_PHASES)]


class Process:
  """The logs of one process of a run, made as its runner makes them."""

  def __init__(self, directory, collectors=('pickle',)):
    self.directory = str(directory)
    self.legacy = Logger(os.path.join(directory, 'logs'))
    self.logs = DopamineLogs(
        self.directory,
        functools.partial(CollectorDispatcher, self.directory, collectors),
        self._log_experiment,
    )

  @property
  def collector(self):
    return self.logs._dispatcher._collectors[0]

  def _log_experiment(self, iteration, statistics):
    self.legacy[f'iteration_{iteration}'] = statistics
    self.legacy.log_to_file('log', iteration)

  def go_on(self, records, sizes):
    log_files.set_back(self.directory, sizes)
    self.logs.on_restored(records)
    return self

  def tell(self, records):
    for record in records:
      reached = Reached(
          record.phase,
          record.iteration,
          training_steps=record.updates,
          agent_steps=record.agent_steps,
          updates=record.updates,
          seconds=1.0,
      )
      self.logs.on_metrics(reached, {'loss': record.updates / 8})
      self.logs.on_record(record)
    return self

  def sizes(self):
    self.logs.on_saving()
    return log_files.sizes(self.directory)


def _pickles(directory):
  """What is in the pickles of both of Dopamine's loggers, by file."""
  found = {}
  for folder in ('metrics/pickle', 'logs'):
    for path in pathlib.Path(directory, folder).iterdir():
      with path.open('rb') as f:
        found[f'{folder}/{path.name}'] = pickle.load(f)
  return found


def _restarted(directory, done, lost, collectors=('pickle',)):
  """A run that is cut off, and loses what it did after its checkpoint.

  Args:
    directory: of the run.
    done: phases up to the checkpoint.
    lost: phases after it, which are done again.
    collectors: of Dopamine.
  """
  first = Process(directory, collectors).tell(RECORDS[:done])
  sizes = first.sizes()
  first.tell(RECORDS[done : done + lost])
  second = Process(directory, collectors).go_on(RECORDS[:done], sizes)
  second.tell(RECORDS[done:]).logs.close()
  return second


@pytest.mark.parametrize('done, lost', [(0, 2), (1, 0), (2, 2), (4, 1), (5, 0)])
def test_pickles_after_a_restart_are_as_without_one(tmp_path, done, lost):
  Process(tmp_path / 'alone').tell(RECORDS)
  _restarted(tmp_path / 'run', done, lost)
  ours, theirs = _pickles(tmp_path / 'run'), _pickles(tmp_path / 'alone')
  assert f'metrics/pickle/pickle_{NUM_PHASES - 1}.pkl' in theirs
  # One kind of what is not there equals itself.
  assert repr(ours) == repr(theirs)


@pytest.mark.parametrize('restarted', [False, True])
def test_dopamines_plotting_reads_a_run(tmp_path, restarted):
  if restarted:
    _restarted(tmp_path / 'run', 2, 2)
  else:
    Process(tmp_path / 'run').tell(RECORDS)
  keys = [
      f'{kind}_episode_{what}'
      for kind in ('train', 'eval')
      for what in ('returns', 'lengths')
  ]
  table = utils.read_experiment(
      str(tmp_path),
      collections.OrderedDict(name=['run']),
      '{}',
      summary_keys=(*keys, 'eval_average_return'),
  )
  assert list(table['iteration']) == [0, 1, 2, 3]
  assert list(table['eval_episode_returns']) == [2.0, 4.0, 6.0, 8.0]
  assert list(table['eval_average_return']) == [2.0, 4.0, 6.0, 8.0]
  assert list(table['eval_episode_lengths']) == [8.0] * 4
  # The first is a pretraining, in which nobody trains online.
  np.testing.assert_array_equal(
      table['train_episode_returns'], [np.nan, 2.0, 3.0, 4.0]
  )
  np.testing.assert_array_equal(
      table['train_episode_lengths'], [np.nan, 20.0, 30.0, 40.0]
  )


@pytest.mark.parametrize('done, lost', [(1, 0), (2, 2)])
def test_events_go_on_without_gaps_or_doubles(tmp_path, done, lost):
  Process(tmp_path / 'alone').tell(RECORDS)
  _restarted(tmp_path / 'run', done, lost)
  ours = _scalars(tmp_path / 'run')
  assert ours == _scalars(tmp_path / 'alone')
  assert ('Losses/Aggregate', 20, 2.5) in ours
  assert ('Eval/AverageReturns', 4, 8.0) in ours


@pytest.mark.parametrize('done, lost', [(1, 0), (2, 2)])
def test_events_of_the_collector_go_on_without_gaps_or_doubles(
    tmp_path, done, lost
):
  """Its file is open before the logs are set back."""
  collectors = ('tensorboard',)
  Process(tmp_path / 'alone', collectors).tell(RECORDS)
  _restarted(tmp_path / 'run', done, lost, collectors)
  ours, theirs = (
      _scalars(tmp_path / name / 'metrics' / 'tensorboard')
      for name in ('run', 'alone')
  )
  assert ('Eval/AverageReturns', 4, 8.0) in theirs
  assert ours == theirs


@pytest.mark.parametrize('done, lost', [(1, 0), (2, 2)])
def test_the_console_s_log_goes_on_without_gaps_or_doubles(
    tmp_path, done, lost
):
  collectors = ('console',)
  Process(tmp_path / 'alone', collectors).tell(RECORDS).logs.close()
  _restarted(tmp_path / 'run', done, lost, collectors)
  ours, theirs = (
      (tmp_path / name / 'metrics' / 'console' / 'console.log').read_text()
      for name in ('run', 'alone')
  )
  assert '[Iteration 4]: Eval/AverageReturns = 8.0' in theirs
  assert ours == theirs


# -- a full disk ---------------------------------------------------------------


def _no_room(*args, **kwargs):
  raise OSError(errno.ENOSPC, 'No space left on device\nmore')


@pytest.mark.parametrize('part', ['collectors', 'flush', 'legacy', 'events'])
def test_a_full_disk_costs_entries_and_not_the_run(
    tmp_path, monkeypatch, caplog, part
):
  process = Process(tmp_path).tell(RECORDS[:2])
  whole, name = {
      'collectors': (process.collector, 'write'),
      'flush': (process.collector, 'flush'),
      'legacy': (process.legacy, 'log_to_file'),
      'events': (EventFile, 'scalar'),
  }[part]
  with monkeypatch.context() as patch:
    patch.setattr(whole, name, _no_room)
    process.tell(RECORDS[2:3])
  told = [r for r in caplog.records if 'were not written' in r.getMessage()]
  assert told and all(r.levelname == 'WARNING' for r in told)
  assert 'No space left' in told[0].getMessage()
  assert all('\n' not in r.getMessage() for r in told)
  caplog.clear()
  process.tell(RECORDS[3:])
  assert 'were not written' not in caplog.text
  found = _scalars(tmp_path)
  assert ('Eval/AverageReturns', 1, 2.0) in found
  assert ('Eval/AverageReturns', 4, 8.0) in found


def test_a_full_disk_at_a_restart_is_tolerated(tmp_path, monkeypatch, caplog):
  first = Process(tmp_path).tell(RECORDS[:2])
  sizes = first.sizes()
  second = Process(tmp_path)
  monkeypatch.setattr(second.legacy, 'log_to_file', _no_room)
  second.go_on(RECORDS[:2], sizes)
  assert 'were not written (' in caplog.text


def test_a_full_disk_while_a_run_is_saved_is_tolerated(
    tmp_path, monkeypatch, caplog
):
  process = Process(tmp_path).tell(RECORDS[:1])
  monkeypatch.setattr(process.logs._events, 'flush', _no_room)
  process.logs.on_saving()
  assert 'were not written (' in caplog.text


def test_other_errors_are_not_swallowed(tmp_path, monkeypatch):
  process = Process(tmp_path)

  def wrong(*_):
    raise ZeroDivisionError

  monkeypatch.setattr(process.collector, 'write', wrong)
  with pytest.raises(ZeroDivisionError):
    process.tell(RECORDS[:1])
