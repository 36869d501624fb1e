"""Trials on Ray, with a stand-in for `train`."""

import io
import os
import sys

import launched_trials
from launched_trials import trial
import pytest
import stand_in_train

from reincarnating_rl.base import errors
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch import status_display


@pytest.mark.usefixtures('ray', 'stand_in')
def test_done_tried_again_and_given_up(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(engine, 'ATTEMPTS', 2)
  output = io.StringIO()
  trials = [
      trial('good', seeds=(4, 5), packed=True),
      trial('late', 'fail = 1'),
      trial('bad', 'fail = 9'),
  ]
  with launched_trials.displayed(tmp_path, trials, output) as (display, run):
    assert run(trials) == {'Pong/bad/run_0'}
  assert capsys.readouterr().out == ''  # Tune is quiet.
  good, late, bad = (display.rows[t.name] for t in trials)
  assert good.state == late.state == status_display.DONE
  assert (good.attempts, late.attempts) == (1, 2)
  # Where relative paths mean what they mean here.
  late_run = tmp_path / 'Pong' / 'late' / 'run_0'
  assert (late_run / 'cwd').read_text() == os.getcwd()
  # Of each seed the last one: 2 + 4, 2 + 5.
  assert good.progress == progress_on_disk.read(
      trials[0].directories(str(tmp_path))
  )
  assert good.progress.score == 6.5 and good.progress.iterations == 6
  assert bad.state == status_display.FAILED and bad.attempts == 2
  folder = tmp_path / 'Pong' / 'bad' / 'run_0'
  words = 'the disk is full of holes. (its log is '
  assert bad.error == f'{words}{folder / progress_on_disk.LOG})'
  log = late_run / progress_on_disk.LOG
  assert f'Pong/late/run_0 failed ({words}{log}))' in output.getvalue()
  assert 'Pong/bad/run_0 failed' in output.getvalue()
  assert 'it is given up' in output.getvalue()
  assert '\r' not in output.getvalue()
  assert (folder / progress_on_disk.LOG).read_text().count('It begins.') == 2
  assert 'FAILED x2' in display.table()


@pytest.mark.usefixtures('stand_in')
def test_a_killed_sweep_goes_on_with_what_is_missing(tmp_path, ray):
  root, gate = tmp_path / 'sweep', tmp_path / 'gate'
  folders = [root / 'Pong' / name / 'run_0' for name in 'abc']
  trials = [trial(name, f'hold = {gate}') for name in 'abc']
  count = lambda folder, name: len(stand_in_train.attempts(folder, name))
  address = ray.get_runtime_context().gcs_address
  code = f"""
      from reincarnating_rl.launch import engine
      trials = [
          launched_trials.trial(name, 'hold = {gate}') for name in 'abc'
      ]
      resources = engine.Resources(num_parallel=2, address={address!r})
      with engine.connected(resources):
        with launched_trials.displayed({str(root)!r}, trials) as (_, run):
          run(trials)
  """
  begun = lambda: any(count(f, 'iterations') for f in folders)
  launched_trials.kill_when(begun, code, tmp_path)
  assert [t.name for t in launched_trials.unfinished(root, trials)] == [
      t.name for t in trials
  ]
  gate.touch()
  with launched_trials.displayed(root, trials) as (display, run):
    assert run(launched_trials.unfinished(root, trials)) == set()
  assert display.table().count('done') == 3
  for folder in folders:
    # Each iteration once: what was done is not done again.
    assert count(folder, 'iterations') == stand_in_train.NUM_ITERATIONS


def test_what_cannot_be_had_is_said():
  with pytest.raises(errors.UserError, match='wants 4 GPUs, and there are 0'):
    engine._num_parallel({'CPU': 2.0}, engine.Resources(gpus=4))
  with pytest.raises(errors.UserError, match='wants 3 CPUs, and there are 2'):
    engine._num_parallel({'CPU': 2.0}, engine.Resources(cpus=3))
  count = lambda **kw: engine._num_parallel(
      {'CPU': 16.0, 'GPU': 2.0}, engine.Resources(**kw)
  )
  assert count() == 16
  assert count(gpus=0.25) == 8
  assert count(gpus=0.25, cpus=4) == 4
  assert count(num_parallel=3) == 3


def test_without_ray(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ray', None)
  with pytest.raises(errors.UserError, match=r'reincarnating_rl\[launch\]'):
    engine.import_ray()
