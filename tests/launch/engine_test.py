"""Trials on Ray, with a stand-in for `train` that takes a second."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time

from paths import HELPERS
from paths import ROOT
import pytest
import stand_in_train

from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import errors
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch import status_display as board_lib
from reincarnating_rl.launch.trials import Configuration
from reincarnating_rl.launch.trials import Trial

PROGRAM = (sys.executable, stand_in_train.__file__)
PATH = [str(folder) for folder in (HELPERS, ROOT)]


def trial(name, *bindings, seeds=(0,), packed=False):
  experiment = Experiment(agent='dqn', game='Pong', bindings=bindings)
  return Trial(Configuration(f'Pong/{name}', experiment), seeds, packed)


def carry_out(root, trials, output=None):
  """As `launch` does, on what is missing."""
  there = {
      t.name: progress_on_disk.reached(t.directories(root)) for t in trials
  }
  iterations = {
      t.name: stand_in_train.NUM_ITERATIONS * len(t.seeds) for t in trials
  }
  missing = [t for t in trials if there[t.name].iterations < iterations[t.name]]
  resources = engine.Resources(num_parallel=2)
  process.PROGRAM = PROGRAM
  with engine.connected(resources) as at_once:
    with board_lib.Board(iterations, there, at_once, output) as board:
      engine.carry_out(root, missing, resources, board)
  return board


def test_done_tried_again_and_given_up(tmp_path, monkeypatch):
  monkeypatch.setattr(process, 'PROGRAM', PROGRAM)
  monkeypatch.setattr(engine, 'ATTEMPTS', 2)
  output = io.StringIO()
  trials = [
      trial('good', seeds=(4, 5), packed=True),
      trial('late', 'fail = 1'),
      trial('bad', 'fail = 9'),
  ]
  board = carry_out(str(tmp_path), trials, output)
  good, late, bad = (board.rows[t.name] for t in trials)
  assert good.state == late.state == board_lib.DONE
  assert (good.attempts, late.attempts) == (1, 2)
  # Where relative paths mean what they mean here.
  late_run = tmp_path / 'Pong' / 'late' / 'run_0'
  assert (late_run / 'cwd').read_text() == os.getcwd()
  # Of each seed the last one: 2 + 4, 2 + 5.
  assert good.reached == progress_on_disk.reached(
      trials[0].directories(str(tmp_path))
  )
  assert good.reached.score == 6.5 and good.reached.iterations == 6
  assert bad.state == board_lib.FAILED and bad.attempts == 2
  folder = tmp_path / 'Pong' / 'bad' / 'run_0'
  words = 'the disk is full of holes. (its log is '
  assert bad.error == f'{words}{folder / progress_on_disk.LOG})'
  log = late_run / progress_on_disk.LOG
  assert f'Pong/late/run_0 failed ({words}{log}))' in output.getvalue()
  assert 'Pong/bad/run_0 failed' in output.getvalue()
  assert 'it is given up' in output.getvalue()
  assert '\r' not in output.getvalue()
  assert (folder / progress_on_disk.LOG).read_text().count('It begins.') == 2
  assert 'FAILED x2' in board.table()


def test_a_killed_sweep_goes_on_with_what_is_missing(tmp_path):
  script = tmp_path / 'driver.py'
  script.write_text(textwrap.dedent(f"""
      import sys
      sys.path[:0] = {PATH}
      from tests.launch import engine_test
      trials = [
          engine_test.trial(name, 'seconds = 1') for name in ('a', 'b', 'c')
      ]
      board = engine_test.carry_out({str(tmp_path / 'sweep')!r}, trials)
      print(board.table())
  """))
  folders = [tmp_path / 'sweep' / 'Pong' / name / 'run_0' for name in 'abc']
  count = lambda folder, name: len(stand_in_train.attempts(folder, name))
  run = lambda: subprocess.Popen(
      [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
  )
  with run() as driver:
    patience = time.monotonic() + 200
    while not any(count(f, 'iterations') for f in folders):
      assert time.monotonic() < patience
      time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
  with run() as driver:
    output, _ = driver.communicate(timeout=300)
  assert driver.returncode == 0
  assert output.count('done') == 3, output
  for folder in folders:
    # Each iteration once: what was done is not done again.
    assert count(folder, 'iterations') == stand_in_train.NUM_ITERATIONS


def test_what_cannot_be_had_is_said(monkeypatch):
  with pytest.raises(errors.UserError, match='wants 4 GPUs, and there are 0'):
    engine._at_once({'CPU': 2.0}, engine.Resources(gpus=4))
  with pytest.raises(errors.UserError, match='wants 3 CPUs, and there are 2'):
    engine._at_once({'CPU': 2.0}, engine.Resources(cpus=3))
  count = lambda **kw: engine._at_once(
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
