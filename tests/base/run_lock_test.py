"""A run's directory belongs to one process at a time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

from paths import ROOT
import pytest

from reincarnating_rl.base import run_lock

HOLDS = """
import sys
from reincarnating_rl.base import run_lock
run_lock.take(sys.argv[1])
print('taken', flush=True)
sys.stdin.readline()
run_lock.give_back(sys.argv[1])
print('given back', flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that has taken a directory."""
  process = subprocess.Popen(
      [sys.executable, '-c', HOLDS, str(tmp_path)],
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
  )
  assert process.stdout.readline() == 'taken\n'
  yield process
  process.kill()
  process.communicate()


@pytest.fixture(autouse=True)
def _nothing_held(tmp_path):
  yield
  run_lock.give_back(str(tmp_path))


def test_what_another_process_has_is_refused_with_its_number(tmp_path, holder):
  with pytest.raises(ValueError) as error:
    run_lock.take(str(tmp_path))
  sentence = str(error.value)
  assert sentence.startswith(f'base_dir {tmp_path} is in use (by process ')
  assert re.search(rf'\bprocess {holder.pid} on \S+\)', sentence)
  assert '\n' not in sentence and sentence.endswith('.')


def test_what_was_refused_can_be_taken_when_it_is_given_back(tmp_path, holder):
  for _ in range(2):
    with pytest.raises(ValueError, match='is in use'):
      run_lock.take(str(tmp_path))
  print(file=holder.stdin, flush=True)
  assert holder.stdout.readline() == 'given back\n'
  run_lock.take(str(tmp_path))


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_dead_process_has_nothing(tmp_path, holder, number):
  holder.send_signal(number)
  holder.wait()
  run_lock.take(str(tmp_path))
  with open(tmp_path / '.lock', encoding='utf-8') as f:
    assert f.read().startswith(f'by process {os.getpid()} on ')


def test_one_process_may_take_it_again(tmp_path):
  for _ in range(2):
    run_lock.take(str(tmp_path))
  run_lock.give_back(str(tmp_path))
  run_lock.take(str(tmp_path))


def test_what_was_given_back_another_process_may_take(tmp_path):
  run_lock.take(str(tmp_path))
  run_lock.give_back(str(tmp_path))
  done = subprocess.run(
      [sys.executable, '-c', HOLDS, str(tmp_path)],
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      input='\n\n',
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.stdout == 'taken\ngiven back\n', done.stderr


def test_giving_back_what_was_not_taken_does_nothing(tmp_path):
  run_lock.give_back(str(tmp_path))
  assert not os.listdir(tmp_path)


def test_it_is_made_with_all_above_it(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  for _ in range(2):
    path = run_lock.make('~/a/b')
    assert path == str(tmp_path / 'a' / 'b')
    assert not os.listdir(path)


def test_where_it_cannot_be_made_a_sentence_says_so(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  for path in (tmp_path / 'file', tmp_path / 'file' / 'below'):
    with pytest.raises(ValueError) as error:
      run_lock.make(str(path))
    sentence = str(error.value)
    assert sentence.startswith(f'base_dir {path} cannot be written to (')
    assert sentence.endswith('choose another directory.')
