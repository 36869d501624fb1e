"""Whatever ends a run before its time, it goes on as if nothing had."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time

from hand_set_clock import HandSetClock
import jax
import numpy as np
from paths import HELPERS
from paths import ROOT
import pytest
from small_runs import assert_close
from small_runs import assert_same
from small_runs import make_env
from small_runs import make_policy
from small_runs import outcome
from stopped_runs import At
from stopped_runs import break_down
from stopped_runs import each_place
from stopped_runs import failing_envs
from stopped_runs import make_run
from stopped_runs import never_stopped
from stopped_runs import PLACES
from stopped_runs import restored
from stopped_runs import spoil
from stopped_runs import supervised

from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.run.rollouts import COLLECTION_STREAM
from reincarnating_rl.loop.run.rollouts import EVALUATION_STREAM
from reincarnating_rl.loop.run.rollouts import ONLINE_STREAM
from reincarnating_rl.loop.run.rollouts import TEACHER_EVALUATION_STREAM
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving import supervisor as keeper_lib
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.saving.state import waits_for_emulator
from reincarnating_rl.loop.saving.supervisor import Keeper
from reincarnating_rl.loop.saving.supervisor import StoppedError
from reincarnating_rl.storage.checkpoints import arrays as arrays_lib
from reincarnating_rl.storage.checkpoints.errors import ArchiveError

PURPOSES = {
    'evaluation of the teacher': TEACHER_EVALUATION_STREAM,
    'collection': COLLECTION_STREAM,
    'online': ONLINE_STREAM,
    'evaluation': EVALUATION_STREAM,
}
SEEDS = (3, 4)
ONLINE_ALONE = {'num_pretraining_iterations': 0, 'teacher_steps': 0}
STALL_MINUTES = 0.5
each_signal = pytest.mark.parametrize(
    'number, exit_code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)


def _tell(number):
  os.kill(os.getpid(), number)


def _run_telling(place, do, **options):
  at = At(place, do)
  at.run = make_run(listeners=[at], **options)
  return at.run


def _stopped(directory, run, **options):
  with pytest.raises(StoppedError) as error:
    supervised(directory, run, **options)
  assert '\n' not in str(error.value)
  return error.value


# -- signals -------------------------------------------------------------------


@each_signal
@each_place
def test_a_signal_ends_a_run_that_goes_on_as_if_it_had_not(
    tmp_path, place, number, exit_code
):
  run = _run_telling(place, lambda: _tell(number))
  stopped = _stopped(tmp_path, run, how_to_resume='call me again')
  steps = run.trainer.counters.agent_steps
  assert stopped.exit_code == exit_code
  assert str(stopped) == (
      f'Stopped by {signal.Signals(number).name} in {run.where()}, after '
      f'{steps} agent steps: everything up to there is saved. To go on, call '
      'me again.'
  )
  assert run.next_phase == PLACES[place][0]
  resumed = restored(tmp_path)
  assert resumed.where() == run.where()
  assert resumed.trainer.counters == run.trainer.counters
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_it_can_be_stopped_again_and_again(tmp_path):
  for place in PLACES:
    run = _run_telling(place, lambda: _tell(signal.SIGTERM))
    RunCheckpointer(str(tmp_path)).restore(run)
    _stopped(tmp_path, run)
  resumed = restored(tmp_path)
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_handlers_are_put_back(tmp_path):
  before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  inside = []

  def look():
    inside.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)))

  supervised(tmp_path / 'a', _run_telling('online', look))
  after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  assert after == before and inside[0] != before[0] and inside[1] != before[1]
  run = _run_telling('online', lambda: _tell(signal.SIGTERM))
  _stopped(tmp_path / 'b', run)
  after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  assert after == before


def test_beside_the_main_thread_signals_are_left_alone(tmp_path):
  before, raised = signal.getsignal(signal.SIGTERM), []

  def keep():
    try:
      with Keeper([], stall_minutes=None):
        assert signal.getsignal(signal.SIGTERM) == before
    except BaseException as e:  # noqa: B036
      raised.append(e)

  thread = threading.Thread(target=keep)
  thread.start()
  thread.join()
  assert not raised


LEAVES = """
import os, signal
from reincarnating_rl.loop.saving.supervisor import Keeper
with Keeper([]):
  os.kill(os.getpid(), signal.{first})
  print('still here', flush=True)
  os.kill(os.getpid(), signal.SIGINT)
  print('never here', flush=True)
"""


@pytest.mark.parametrize('first', ['SIGINT', 'SIGTERM'])
def test_a_second_interrupt_leaves_at_once(first):
  path = os.pathsep.join(map(str, (ROOT, HELPERS)))
  done = subprocess.run(
      [sys.executable, '-c', LEAVES.format(first=first)],
      env=os.environ | {'PYTHONPATH': path},
      capture_output=True,
      text=True,
      check=False,
      timeout=120,
  )
  assert done.returncode == 130
  assert done.stdout == 'still here\n'
  last = done.stderr.strip().split('\n')[-1]
  assert last == 'Left at once: the last checkpoint is whole.'


def test_a_signal_while_the_last_phase_is_saved_is_told_in_words(tmp_path):
  at = At('online', lambda: None)
  at.on_record = lambda record: record.iteration == 3 and _tell(signal.SIGTERM)
  at.run = make_run(listeners=[at])
  try:
    supervised(tmp_path, at.run)
  except StoppedError as e:
    assert ' in after ' not in str(e)
  assert_same(outcome(restored(tmp_path)), never_stopped())


# -- in time -------------------------------------------------------------------


@pytest.mark.parametrize('name', ['checkpoint_every', 'stall_minutes'])
@pytest.mark.parametrize('minutes', [0, -1.5, float('nan')])
def test_times_must_be_positive(name, minutes):
  with pytest.raises(ValueError, match=f'{name} must be .* got {minutes}'):
    Keeper([], **{name: minutes})


def _saves(tmp_path, checkpoint_every):
  """At which half minute, and in which phase, a run was saved.

  Half a minute passes with each step.
  """
  run, clock, saves = make_run(), HandSetClock(), []

  def saved(run):
    saves.append((round(clock.now() / 30.0), run.next_phase))

  checkpointer = RunCheckpointer(str(tmp_path))
  keeper = Keeper(
      [(run, checkpointer)],
      checkpoint_every=checkpoint_every,
      stall_minutes=None,
      on_saved=saved,
      clock=clock,
  )
  at_step = run.at_step

  def tick(run):
    clock.jump(30.0)
    at_step(run)

  run.at_step = tick
  with keeper:
    run.run(keeper.after_phase)
  checkpointer.close()
  assert_same(outcome(restored(tmp_path)), never_stopped())
  return saves


def test_a_run_is_saved_within_its_phases_in_time(tmp_path):
  saves = _saves(tmp_path, 3.0)
  times, phases = zip(*saves)
  gaps = np.diff(times)
  assert gaps.max() == 6
  after_a_phase = np.diff(phases) > 0
  assert (gaps[~after_a_phase] == 6).all()
  assert set(phases) == {0, 1, 2, 3, 4, 5}
  assert phases.count(4) > 3


def test_without_a_time_it_is_saved_after_phases(tmp_path):
  saves = _saves(tmp_path, None)
  assert [phase for _, phase in saves] == [1, 2, 3, 4, 5]


# -- environments that break down ----------------------------------------------


@pytest.mark.parametrize('at', [1, 4])
@pytest.mark.parametrize('purpose', PURPOSES.values(), ids=PURPOSES)
def test_a_run_goes_on_after_its_environments_broke_down(tmp_path, purpose, at):
  run = make_run(failing_envs(break_down, purpose, at))
  stopped = _stopped(tmp_path, run, how_to_resume='call me again')
  assert stopped.exit_code == 1
  assert str(stopped) == (
      'Error: an emulator broke down (everything up to there is saved). To go '
      'on, call me again.'
  )
  resumed = restored(tmp_path)
  assert resumed.where() == run.where()
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_nothing_is_said_to_be_saved_that_is_not(tmp_path):
  def none_at_all(num_envs, seed, stream=()):
    raise EnvironmentFailedError('there is no emulator')

  run = make_run(none_at_all)
  run.random_score = None  # it is measured before the first phase
  stopped = _stopped(tmp_path, run)
  latest = RunCheckpointer(str(tmp_path)).latest
  assert latest is not None or 'is saved' not in str(stopped)


@pytest.mark.parametrize('has_one', [True, False])
def test_a_state_that_cannot_be_saved_is_told(tmp_path, monkeypatch, has_one):
  def full():
    def refuse(folder, arrays):
      raise ArchiveError(f'{folder} cannot be written: No space left')

    monkeypatch.setattr(arrays_lib, 'write', refuse)
    break_down()

  purpose = ONLINE_STREAM if has_one else TEACHER_EVALUATION_STREAM
  stopped = _stopped(tmp_path, make_run(failing_envs(full, purpose)))
  assert 'what is newer could not be saved' in str(stopped)
  # The newest of them may not have been written before the disk was full.
  whole = re.search(r'The last checkpoint \([123]\) is whole', str(stopped))
  assert bool(whole) == has_one


def test_other_errors_are_left_as_they_are(tmp_path):
  def fails():
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    supervised(tmp_path, make_run(failing_envs(fails)))


# -- environments that do not answer -------------------------------------------


class Left(Exception):
  """The process would have been left."""


class Leaving:
  """What stands in for the end of the process, and something that hangs.

  Time stands still until it hangs, and then passes at once.
  """

  def __init__(self, monkeypatch):
    self.text, self.exit_code = '', None
    self._clock = HandSetClock()
    self._called = threading.Event()
    monkeypatch.setattr(keeper_lib, '_leave', self)
    # Options of the supervisor.
    self.options = {'stall_minutes': STALL_MINUTES, 'clock': self._clock}

  def __call__(self, text, exit_code):
    self.text, self.exit_code = text, exit_code
    self._called.set()
    raise SystemExit  # of the watchdog's thread

  def hang(self, at_last=lambda: True):
    """Does not come back; time passes from when `at_last` holds."""
    while not at_last():
      time.sleep(1e-3)
    self._clock.run_on()
    self._called.wait(600.0)
    raise Left


@pytest.mark.parametrize('purpose', PURPOSES.values(), ids=PURPOSES)
def test_a_run_goes_on_after_its_environments_hung(
    tmp_path, monkeypatch, purpose
):
  leaving = Leaving(monkeypatch)
  run = make_run(failing_envs(leaving.hang, purpose))
  with pytest.raises(Left):
    supervised(tmp_path, run, how_to_resume='call me again', **leaving.options)
  steps = run.trainer.counters.agent_steps
  assert leaving.exit_code == 3
  assert leaving.text == (
      f'Error: Nothing has moved for {STALL_MINUTES} minutes: the emulators of '
      f'probe do not answer, in {run.where()} after {steps} agent steps '
      '(everything up to there is saved). To go on, call me again.'
  )
  resumed = restored(tmp_path)
  assert resumed.where() == run.where()
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


def test_a_device_that_hangs_is_not_taken_for_an_emulator(
    tmp_path, monkeypatch
):
  """Nothing is saved then: nobody knows what is half done."""
  leaving = Leaving(monkeypatch)

  def hang():
    run.latest_checkpoint()  # It is written by then.
    leaving.hang()

  run = _run_telling('online', hang)
  with pytest.raises(Left):
    supervised(tmp_path, run, **leaving.options)
  assert leaving.exit_code == 3
  assert 'no emulator is waited for' in leaving.text
  assert 'The last checkpoint (3) is whole' in leaving.text
  assert restored(tmp_path).next_phase == 3


def test_nor_is_one_that_hangs_while_emulators_play(tmp_path, monkeypatch):
  leaving = Leaving(monkeypatch)
  run = make_run(overlap=True)
  train_step, steps = run.trainer.train_step, []

  def hang(teacher_data):
    train_step(teacher_data)
    steps.append(0)
    if len(steps) == 9:
      run.latest_checkpoint()  # It is written by then.
      leaving.hang()

  run.trainer.train_step = hang
  with pytest.raises(Left):
    supervised(tmp_path, run, **leaving.options)
  assert leaving.exit_code == 3
  assert 'no emulator is waited for' in leaving.text
  assert restored(tmp_path, make_run(overlap=True)).next_phase == 3


def test_the_process_is_left_even_if_the_run_cannot_be_saved(
    tmp_path, monkeypatch
):
  """What was learned may not be finite, which nobody has noticed so far."""
  leaving, runs = Leaving(monkeypatch), []

  def spoil_and_hang():
    spoil(runs[0])
    leaving.hang()

  runs.append(make_run(failing_envs(spoil_and_hang, at=18)))
  with pytest.raises(Left):
    supervised(tmp_path, runs[0], **leaving.options)
  assert leaving.exit_code == 3
  assert 'everything up to there is saved' not in leaving.text


# By the clock of the machine: everything is compiled before the time begins.
HANGS = """
import sys, threading
import stopped_runs as runs
from reincarnating_rl.loop.run.rollouts import TEACHER_EVALUATION_STREAM
first = runs.make_run()
first.run_phase(first.plan[0])
envs = runs.failing_envs(threading.Event().wait, TEACHER_EVALUATION_STREAM)
runs.supervised(sys.argv[1], runs.make_run(envs), stall_minutes=0.02)
"""


def test_a_process_whose_environments_hang_ends(tmp_path):
  path = map(str, (ROOT, HELPERS))
  done = subprocess.run(
      [sys.executable, '-c', HANGS, str(tmp_path)],
      env=os.environ | {'PYTHONPATH': os.pathsep.join(path)},
      capture_output=True,
      text=True,
      check=False,
      timeout=240,
  )
  assert done.returncode == 3
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('Error: Nothing has moved for 0.02 minutes')
  assert 'the emulators of probe do not answer' in last
  assert 'everything up to there is saved' in last
  resumed = restored(tmp_path)
  resumed.run()
  assert_same(outcome(resumed), never_stopped())


# -- groups --------------------------------------------------------------------


def _group(env=make_env, listeners=((), ()), **changes):
  changes = {'prioritized': True} | changes
  teacher = Teacher(make_policy())
  return [
      make_run(env, of_run, teacher, seed=seed, **changes)
      for seed, of_run in zip(SEEDS, listeners)
  ]


def _keep_group(directory, runs, stacked, **options):
  options = {'stall_minutes': None} | options
  pairs = [
      (run, RunCheckpointer(os.path.join(directory, str(run.config.seed))))
      for run in runs
  ]
  with Keeper(pairs, **options) as keeper:
    SideBySide(runs, stacked).run(keeper.after_phase, keeper.at_step_of_all)
  for _, checkpointer in pairs:
    checkpointer.close()
  return runs


def _restored_group(directory, **changes):
  runs = _group(**changes)
  for run in runs:
    folder = os.path.join(directory, str(run.config.seed))
    RunCheckpointer(folder).restore(run)
  return runs


@functools.cache
def _group_never_stopped(stacked, **changes):
  runs = _group(**changes)
  SideBySide(runs, stacked).run()
  return [outcome(run) for run in runs]


def _telling_group(place, do):
  at = At(place, do)
  runs = _group(listeners=([at], ()))
  at.run = runs[0]
  return runs


@pytest.mark.parametrize('stacked', [False, True])
@each_place
def test_a_group_that_is_told_to_stop_goes_on_as_if_it_had_not(
    tmp_path, one_device, place, stacked
):
  runs = _telling_group(place, lambda: _tell(signal.SIGTERM))
  with pytest.raises(StoppedError, match='everything .* is saved') as error:
    _keep_group(tmp_path, runs, stacked)
  assert error.value.exit_code == 143
  again = _restored_group(tmp_path)
  for run, before in zip(again, runs):
    assert run.where() == before.where()
    # Nothing that was learned is lost, by none of them.
    assert run.trainer.counters == before.trainer.counters
  SideBySide(again, stacked).run()
  for run, expected in zip(again, _group_never_stopped(stacked)):
    assert_same(outcome(run), expected)


@pytest.mark.parametrize('stacked', [False, True])
@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('at', [1, 15])
def test_a_group_goes_on_after_environments_of_one_broke_down(
    tmp_path, one_device, seed, at, stacked
):
  runs = _group(failing_envs(break_down, at=at, seed=seed))
  with pytest.raises(StoppedError, match='an emulator broke down') as error:
    _keep_group(tmp_path, runs, stacked)
  assert error.value.exit_code == 1
  again = _restored_group(tmp_path)
  SideBySide(again, stacked).run()
  same = assert_close if stacked else assert_same
  for run, expected in zip(again, _group_never_stopped(stacked)):
    same(outcome(run), expected)


@pytest.mark.parametrize('seed', SEEDS)
def test_a_group_on_two_devices_goes_on_after_a_break_down(tmp_path, seed):
  runs = _group(failing_envs(break_down, at=15, seed=seed), **ONLINE_ALONE)
  with pytest.raises(StoppedError, match='an emulator broke down'):
    _keep_group(tmp_path, runs, stacked=True)
  again = _restored_group(tmp_path, **ONLINE_ALONE)
  SideBySide(again, stacked=True).run()
  where = [run.trainer.learner_state.updates.devices() for run in again]
  assert where == [{device} for device in jax.devices()]
  for run in again:
    alone = make_run(seed=run.config.seed, prioritized=True, **ONLINE_ALONE)
    alone.run()
    assert_close(outcome(run), outcome(alone))


@pytest.mark.parametrize('stacked', [False, True])
@pytest.mark.parametrize('seed', SEEDS)
def test_a_group_goes_on_after_environments_of_one_hung(
    tmp_path, one_device, monkeypatch, seed, stacked
):
  leaving = Leaving(monkeypatch)
  runs = _group(failing_envs(leaving.hang, at=15, seed=seed))
  with pytest.raises(Left):
    _keep_group(tmp_path, runs, stacked, **leaving.options)
  assert leaving.exit_code == 3
  assert 'the emulators of probe do not answer' in leaving.text
  assert 'everything up to there is saved' in leaving.text
  again = _restored_group(tmp_path)
  steps = [run.trainer.counters.training_steps for run in again]
  assert steps == [run.trainer.counters.training_steps for run in runs]
  SideBySide(again, stacked).run()
  same = assert_close if stacked else assert_same
  for run, expected in zip(again, _group_never_stopped(stacked)):
    same(outcome(run), expected)


@pytest.mark.parametrize('hangs', [False, True])
@pytest.mark.parametrize('seed', SEEDS)
def test_an_overlapped_group_goes_on_after_environments_of_one_failed(
    tmp_path, one_device, monkeypatch, seed, hangs
):
  """The others have taken the step, or it is not known to be taken."""
  leaving = Leaving(monkeypatch)
  is_waited_for = lambda: any(map(waits_for_emulator, runs))
  hang = lambda: leaving.hang(is_waited_for)
  fails, options = (hang, leaving.options) if hangs else (break_down, {})
  runs = _group(failing_envs(fails, at=15, seed=seed), overlap=True)
  with pytest.raises((Left, StoppedError)):
    _keep_group(tmp_path, runs, True, **options)
  assert hangs == ('everything up to there is saved' in leaving.text)
  again = _restored_group(tmp_path, overlap=True)
  taken = [run.trainer.counters.agent_steps for run in again]
  assert len(set(taken)) == 2  # One of them is a step behind.
  SideBySide(again, True).run()
  whole = _group_never_stopped(True, overlap=True)
  for run, expected in zip(again, whole):
    assert_close(outcome(run), expected)


def test_a_group_is_saved_within_its_phases(tmp_path, one_device):
  """And goes on stacked from what each of them was given for it."""
  clock, runs, saves = HandSetClock(), _group(), []
  pairs = [
      (run, RunCheckpointer(str(tmp_path / str(run.config.seed))))
      for run in runs
  ]

  def saved(run):
    saves.append((run.config.seed, run.next_phase, run.steps_done))

  with Keeper(
      pairs,
      checkpoint_every=3.0,
      stall_minutes=None,
      on_saved=saved,
      clock=clock,
  ) as keeper:

    def at_step(*args):
      clock.jump(30.0)
      keeper.at_step_of_all(*args)

    SideBySide(runs, stacked=True).run(keeper.after_phase, at_step)
  for _, checkpointer in pairs:
    checkpointer.close()
  online = [s for s in saves if s[1] == 4 and s[2]]
  ours, theirs = ([s[1:] for s in online if s[0] == seed] for seed in SEEDS)
  assert len(ours) > 2 and ours == theirs
  for run, expected in zip(runs, _group_never_stopped(True)):
    assert_same(outcome(run), expected)
