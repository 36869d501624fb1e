"""A run that goes on from a checkpoint ends as if it had never been stopped."""

from __future__ import annotations

import json
import os
import shutil
import threading

import numpy as np
import pytest
from small_runs import assert_same
from small_runs import CONFIG
from small_runs import outcome
from stopped_runs import Cut
from stopped_runs import each_place
from stopped_runs import make_run
from stopped_runs import never_stopped
from stopped_runs import restored
from stopped_runs import run_to
from stopped_runs import spoil
from stopped_runs import stands_in

from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.saving import checkpoint as checkpoint_lib
from reincarnating_rl.loop.saving import state as state_lib
from reincarnating_rl.loop.saving.checkpoint import CheckpointMismatchError
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.training.events import TrainingDivergedError
from reincarnating_rl.storage.checkpoints import arrays as arrays_lib
from reincarnating_rl.storage.checkpoints.errors import ArchiveError


def _segments(directory, ring='student'):
  """First slot and the one after the last of each that is there."""
  folder = os.path.join(directory, 'rows', ring)
  names = {n.split('.')[0] for n in os.listdir(folder)}
  return sorted(tuple(map(int, name.split('-'))) for name in names)


# -- going on ------------------------------------------------------------------


@each_place
def test_saved_at_a_step_it_ends_the_same(tmp_path, place):
  run = run_to(make_run(), place)
  checkpointer = RunCheckpointer(str(tmp_path))
  assert checkpointer.save(run)
  assert checkpointer.latest == 1
  resumed = restored(tmp_path)
  assert resumed.where() == run.where()
  assert resumed.trainer.counters == run.trainer.counters
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


@pytest.mark.parametrize('step', [1, 13, 14])
def test_saved_between_overlapped_steps_it_ends_the_same(tmp_path, step):
  whole = make_run(overlap=True)
  whole.run()
  run, taken = make_run(overlap=True), 0

  def at_step(run):
    nonlocal taken
    taken += stands_in(run, 'online')
    if taken == step:
      raise Cut

  run.at_step = at_step
  with pytest.raises(Cut):
    run.run()
  RunCheckpointer(str(tmp_path)).save(run)
  again = restored(tmp_path, make_run(overlap=True))
  again.run()
  assert_same(outcome(again), outcome(whole))


def test_a_process_that_dies_at_any_time_goes_on_from_the_newest(tmp_path):
  """Saved beside the work, every few steps, in another process each time."""
  directory, deaths = str(tmp_path), 0
  while True:
    run, checkpointer = make_run(), RunCheckpointer(directory)
    assert checkpointer.restore(run) == bool(deaths)
    steps = 0

    def at_step(run, checkpointer=checkpointer):
      nonlocal steps
      if run.stage.take_up is not None:
        return
      checkpointer.follow(run)
      steps += 1
      if not steps % 7:
        checkpointer.save(run, wait=False)
      if steps == 33:
        raise Cut

    run.at_step = at_step
    try:
      run.run(lambda run, c=checkpointer: c.save(run, wait=False))
      break
    except Cut:
      deaths += 1
      checkpointer.wait()  # else the next one takes its place too early
  assert deaths >= 3
  assert_same(outcome(run), never_stopped())


def test_saving_changes_nothing(tmp_path):
  run, checkpointer = make_run(), RunCheckpointer(str(tmp_path))

  def at_step(run):
    checkpointer.follow(run)
    if run.steps_done % 5 == 1:
      checkpointer.save(run, wait=False)

  run.at_step = at_step
  run.run()
  assert_same(outcome(run), never_stopped())


@each_place
def test_what_is_saved_does_not_change_while_it_is_written(tmp_path, place):
  run = run_to(make_run(), place)
  where = run.where()
  checkpointer = RunCheckpointer(str(tmp_path))
  ended = threading.Event()
  checkpointer._background.submit(ended.wait)  # a slow disk
  checkpointer.save(run, wait=False)
  run.at_step = lambda run: None
  run.run()
  ended.set()
  checkpointer.wait()
  resumed = restored(tmp_path)
  assert resumed.where() == where
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_a_finished_run_comes_back_finished(tmp_path):
  run = make_run()
  run.run(RunCheckpointer(str(tmp_path)).save)
  resumed = restored(tmp_path)
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_without_a_checkpoint_nothing_happens(tmp_path):
  checkpointer = RunCheckpointer(str(tmp_path / 'new'))
  run = make_run()
  assert not checkpointer.restore(run)
  assert checkpointer.latest is None and checkpointer.wait() is None
  assert run.next_phase == 0 and run.player is None
  assert not (tmp_path / 'new').exists()


def test_the_one_before_is_taken_where_the_newest_is_damaged(tmp_path, caplog):
  checkpointer, run = RunCheckpointer(str(tmp_path)), make_run()
  run_to(run, 'online')
  checkpointer.save(run)
  steps_done = run.steps_done
  run_to(run, 'evaluation')
  checkpointer.save(run)
  path = tmp_path / '00000002' / 'document.json'
  path.write_text('{}')
  again = RunCheckpointer(str(tmp_path))
  resumed = make_run()
  assert again.restore(resumed)
  assert str(path) in caplog.text
  assert again.latest == 1
  assert resumed.steps_done == steps_done
  resumed.run(again.save)
  assert_same(outcome(resumed), never_stopped())
  once_more = restored(tmp_path)
  assert_same(outcome(once_more), never_stopped())


def test_so_many_are_kept(tmp_path):
  checkpointer = RunCheckpointer(str(tmp_path), keep=3)
  make_run().run(checkpointer.save)
  folders = sorted(n for n in os.listdir(tmp_path) if n.isdigit())
  assert folders == ['00000003', '00000004', '00000005']
  with pytest.raises(ValueError, match='must be kept, got 0'):
    RunCheckpointer(str(tmp_path), keep=0)


# -- the replay ----------------------------------------------------------------


def test_rows_are_written_once(tmp_path):
  checkpointer, run = RunCheckpointer(str(tmp_path), keep=9), make_run()
  run_to(run, 'online')
  checkpointer.save(run)
  first = run.trainer.writer.slots_written
  run_to(run, 'evaluation')
  checkpointer.save(run)
  second = run.trainer.writer.slots_written
  assert second > first > 0
  assert _segments(tmp_path) == [(0, first), (first, second)]
  # A run that goes on does not write them anew either.
  run, again = make_run(), RunCheckpointer(str(tmp_path), keep=9)
  assert again.restore(run)
  run.run(again.save)
  third = run.trainer.writer.slots_written
  covered = _segments(tmp_path)
  assert covered[:2] == [(0, first), (first, second)]
  assert [a for a, _ in covered[1:]] == [b for _, b in covered[:-1]]
  assert covered[-1][1] == third


def test_rows_that_were_overwritten_are_removed(tmp_path):
  checkpointer, run = RunCheckpointer(str(tmp_path), keep=1), make_run()

  def before(run):
    if run.player is not None:
      checkpointer.save(run)

  run_to(run, 'last evaluation', before)
  writer = run.trainer.writer
  oldest = writer.slots_written - writer.spec.slots
  assert oldest > 0
  assert all(stop > oldest for _, stop in _segments(tmp_path))


def test_the_teachers_rows_stay_only_while_they_are_needed(tmp_path):
  checkpointer = RunCheckpointer(str(tmp_path), keep=1)
  seen = {}

  def save(run):
    checkpointer.save(run)
    seen[run.next_phase] = sorted(os.listdir(tmp_path / 'rows'))

  (tmp_path / 'rows').mkdir()
  make_run().run(save)
  assert seen[2] == seen[3] == ['teacher']
  assert seen[4] == seen[5] == ['student']


# -- what does not fit ---------------------------------------------------------


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A directory with a checkpoint, which tests copy."""
  directory = tmp_path_factory.mktemp('checkpoints')
  run = run_to(make_run(), 'online')
  checkpointer = RunCheckpointer(
      str(directory / 'checkpoints'), identity={'agent': 'dqn', 'ROM': 'abc'}
  )
  assert checkpointer.save(run)
  checkpointer.close()
  return directory / 'checkpoints'


SAME = {'agent': 'dqn', 'ROM': 'abc'}
OTHERS = {
    'batch_size': ({'batch_size': 8}, SAME, 'batch_size was 4, is 8'),
    'epsilon': (
        {'epsilon_eval': 0.5},
        SAME,
        f'epsilon_eval was {CONFIG.epsilon_eval}, is 0.5',
    ),
    'coefficient': (
        {'coefficients': Coefficients(distill=2.0)},
        SAME,
        'coefficient distill was 1.0, is 2.0',
    ),
    'identity': ({}, SAME | {'ROM': 'def'}, 'ROM was abc, is def'),
    'no identity': ({}, {'agent': 'dqn'}, 'ROM was abc, is None'),
    'more': ({}, SAME | {'sound': 'on'}, 'sound was None, is on'),
    'two': (
        {'batch_size': 8, 'seed': 4},
        SAME,
        'batch_size was 4, is 8; seed was 3, is 4',
    ),
}


@pytest.mark.parametrize(
    'changes, identity, words', OTHERS.values(), ids=OTHERS
)
def test_other_settings_are_refused_by_name(saved, changes, identity, words):
  checkpointer = RunCheckpointer(str(saved), identity=identity)
  with pytest.raises(CheckpointMismatchError) as error:
    checkpointer.restore(make_run(**changes))
  sentence = str(error.value)
  assert f'({words})' in sentence
  assert f'--fork_from {saved.parent}' in sentence
  assert '\n' not in sentence and sentence.endswith('.')


def test_other_settings_are_told_where_they_are_wanted(saved, caplog):
  run = make_run(batch_size=8, epsilon_eval=0.5)
  with caplog.at_level('INFO', logger='absl'):
    checkpointer = RunCheckpointer(str(saved), identity=SAME)
    assert checkpointer.restore(run, any_settings=True)
  assert 'batch_size was 4, is 8' in caplog.text
  assert 'epsilon_eval was' in caplog.text
  run.run()
  assert run.next_phase == len(run.plan)


def test_a_run_may_be_prolonged_at_another_learning_rate(saved):
  run = make_run(num_iterations=3, learning_rate=0.5)
  assert RunCheckpointer(str(saved), identity=SAME).restore(run)
  rate = run.trainer.learner_state.coefficients.learning_rate
  np.testing.assert_allclose(rate, 0.5)
  run.run()
  assert len(run.records) == len(run.plan) == len(make_run().plan) + 1


def test_another_shape_is_refused_in_a_sentence(saved, tmp_path):
  """Where settings are of no interest, shapes still are."""
  checkpointer = RunCheckpointer(str(saved))
  run = make_run(frame_shape=(8, 8))
  with pytest.raises(ValueError) as error:
    checkpointer.restore(run, any_settings=True)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('whole', [True, False])
def test_an_older_schema_is_refused_in_a_sentence(tmp_path, monkeypatch, whole):
  """Whatever else it has in it."""
  run, checkpointer = make_run(), RunCheckpointer(str(tmp_path))
  snapshot = state_lib.snapshot(run)
  snapshot.document['schema'] = 1
  document = snapshot.document if whole else {'schema': 1}
  checkpointer._vault.write(1, document, snapshot.arrays, {})
  with pytest.raises(CheckpointMismatchError) as error:
    RunCheckpointer(str(tmp_path)).restore(make_run())
  sentence = str(error.value)
  assert f'its schema is 1, not {state_lib.SCHEMA}' in sentence
  assert '\n' not in sentence and sentence.endswith('.')


def test_a_setting_that_is_new_was_what_it_is_by_default(tmp_path):
  run, checkpointer = run_to(make_run(), 'online'), RunCheckpointer(
      str(tmp_path)
  )
  snapshot = state_lib.snapshot(run)
  settings = snapshot.document['settings']
  assert settings.pop('prioritized') == 'False'
  again = state_lib.snapshot
  try:
    state_lib.snapshot = lambda run: snapshot
    checkpointer.save(run)
  finally:
    state_lib.snapshot = again
  restored(tmp_path)
  with pytest.raises(CheckpointMismatchError, match='prioritized was False'):
    restored(tmp_path, make_run(prioritized=True))


# -- what cannot be saved ------------------------------------------------------


def test_what_is_not_finite_is_not_saved(tmp_path):
  run = run_to(make_run(), 'online, where the ring begins anew')
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(run)
  spoil(run)
  with pytest.raises(TrainingDivergedError, match='parameters'):
    checkpointer.save(run)
  assert checkpointer.wait() == 1
  resumed = restored(tmp_path)
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


@pytest.mark.parametrize('fails', ['rows', 'arrays', 'both'])
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tmp_path, monkeypatch, caplog, fails
):
  run, checkpointer = run_to(make_run(), 'online'), RunCheckpointer(
      str(tmp_path)
  )
  assert checkpointer.save(run)
  steps_done = run.steps_done
  run_to(run, 'evaluation')
  write = arrays_lib.write

  def full(folder, arrays):
    is_rows = f'{os.sep}rows{os.sep}' in folder
    if fails == 'both' or (fails == 'rows') == is_rows:
      raise ArchiveError(f'{folder} cannot be written: No space left on device')
    write(folder, arrays)

  with monkeypatch.context() as patch:
    patch.setattr(arrays_lib, 'write', full)
    assert not checkpointer.save(run)
  assert checkpointer.latest == 1
  assert 'Checkpoint 2 was not written' in caplog.text
  assert 'checkpoint 1 is still there' in caplog.text
  assert f'make room in {tmp_path}' in caplog.text
  assert restored(tmp_path).steps_done == steps_done
  run_to(run, 'online, where the ring begins anew')
  assert checkpointer.save(run)
  assert checkpointer.latest == 3
  resumed = restored(tmp_path)
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_a_full_disk_from_the_beginning_is_told(tmp_path, monkeypatch, caplog):
  def full(folder, arrays):
    raise ArchiveError('No space left on device')

  monkeypatch.setattr(arrays_lib, 'write', full)
  checkpointer = RunCheckpointer(str(tmp_path))
  assert not checkpointer.save(make_run())
  assert checkpointer.latest is None
  assert 'there is none before it' in caplog.text


# -- forks ---------------------------------------------------------------------


def test_a_fork_goes_on_elsewhere_and_leaves_the_original_alone(tmp_path):
  here, there = tmp_path / 'here', tmp_path / 'there'
  run, checkpointer = run_to(make_run(), 'online'), RunCheckpointer(str(here))
  checkpointer.save(run)
  before = {p: p.read_bytes() for p in here.rglob('*') if p.is_file()}
  fork = RunCheckpointer(str(there))
  fork.fork(str(here))
  run = make_run()
  assert fork.restore(run)
  run.run(fork.save)
  assert_same(outcome(run), never_stopped())
  after = {p: p.read_bytes() for p in here.rglob('*') if p.is_file()}
  assert after == before
  shutil.rmtree(here)
  assert_same(outcome(restored(there)), never_stopped())


def test_there_must_be_something_to_fork(tmp_path):
  checkpointer = RunCheckpointer(str(tmp_path / 'there'))
  with pytest.raises(ArchiveError, match='There is no checkpoint in'):
    checkpointer.fork(str(tmp_path / 'nowhere'))
  assert checkpointer.latest is None


# -- logs ----------------------------------------------------------------------


class Log:
  """A listener that writes a line for whatever it is told."""

  def __init__(self, path):
    path.parent.mkdir(exist_ok=True)
    self._path = path

  def _tell(self, **content):
    with self._path.open('a', encoding='utf-8') as f:
      print(json.dumps(content), file=f)

  def on_work(self, kind, phase, total, unit):
    del kind, phase, total, unit

  def on_resumed(self, amount):
    del amount

  def on_restored(self, records):
    del records

  def on_progress(self, amount):
    self._tell(progress=amount)

  def on_metrics(self, reached, metrics):
    self._tell(at=reached._replace(seconds=None), metrics=metrics)

  def on_record(self, record):
    self._tell(record=record.to_json() | {'seconds': None})

  def on_saving(self):
    pass


@each_place
def test_logs_go_on_without_gaps_or_doubles(tmp_path, place):
  alone, directory = tmp_path / 'alone', tmp_path / 'run'
  make_run(listeners=[Log(alone / 'log.jsonl')]).run()

  def start():
    run = make_run(listeners=[Log(directory / 'log.jsonl')])
    checkpoints = str(directory / 'checkpoints')
    checkpointer = RunCheckpointer(checkpoints, logs=str(directory))
    return run, checkpointer

  run, checkpointer = start()
  run_to(run, place)
  checkpointer.save(run)
  run.at_step = lambda run: None
  run.run()  # and dies: what it wrote after the checkpoint is to go
  (directory / 'logs').mkdir()
  (directory / 'logs' / 'log_9').write_text('later')
  (directory / 'summary.json').write_text('is no log')
  again, checkpointer = start()
  assert checkpointer.restore(again)
  assert not (directory / 'logs' / 'log_9').exists()
  assert (directory / 'summary.json').exists()
  again.run()
  ours, theirs = (
      (folder / 'log.jsonl').read_text() for folder in (directory, alone)
  )
  assert ours == theirs


@pytest.mark.parametrize(
    'before, now, told',
    [
        ('32', '16', 'x was 32, is 16'),
        (
            'QNetwork( a = 1 hidden_size = 512 noisy = False ' + 20 * 'b = 2 ',
            'QNetwork( a = 1 hidden_size = 256 noisy = False ' + 20 * 'b = 2 ',
            'x was hidden_size = 512, is hidden_size = 256',
        ),
    ],
)
def test_of_long_settings_the_difference_is_shown(before, now, told):
  assert checkpoint_lib._difference('x', before, now) == told
