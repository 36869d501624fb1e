"""The command line: listing, copying, and what it says when it cannot."""

import os
import signal
import subprocess
import sys
import time

from absl import flags
from paths import ROOT
import pytest
from stand_in_gsutil import Buckets

from reincarnating_rl import download

GAMES = 'gs://rl_checkpoints/DQN_400'
FRAMES = '$store$_observation_ckpt.100.gz'


@pytest.fixture(autouse=True)
def buckets(tmp_path_factory, monkeypatch):
  there = Buckets(tmp_path_factory.mktemp('buckets'), monkeypatch)
  for game in ('Asterix', 'Breakout'):
    for run in (1, 2, 10):
      url = f'{GAMES}/{game}/{run}'
      there.put(f'{url}/checkpoints/ckpt.399', bytes(1500))
      name = 'sentinel_checkpoint_complete.399'
      there.put(f'{url}/checkpoints/{name}', b'done')
      there.put(f'{url}/checkpoints/ckpt.400', b'')
      there.put(f'{url}/replay_logs/{FRAMES}', bytes(300_000))
  return there


@pytest.fixture
def run(capsys, monkeypatch):
  """Runs the entry point here; returns its stdout, or stderr if it fails."""
  monkeypatch.setattr(signal, 'signal', lambda *unused: None)

  def run_(*args, code=0):
    values = flags.FlagValues()
    download.define_flags(values)
    found = 0
    try:
      download.run(values(['download', *args]), values)
    except SystemExit as e:
      found = e.code
    output, errors = capsys.readouterr()
    assert found == code, errors
    return output if code == 0 else errors

  return run_


def _start(*args, **env):
  return subprocess.Popen(
      [sys.executable, '-m', 'reincarnating_rl.download', *args],
      cwd=ROOT,
      env=os.environ | env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def test_listings(run):
  assert run('--list') == 'Asterix\nBreakout\n'
  assert run('--list', '--game=Breakout') == '1\n2\n10\n'
  found = run('--list', f'{GAMES}/Breakout/1')
  assert [line.split() for line in found.splitlines()] == [
      ['checkpoint', 'size', 'replay'],
      ['399', '1.5', 'kB', '300.0', 'kB'],
      ['400', '0', 'bytes', '300.0', 'kB', 'incomplete:', 'no', 'sentinel'],
      ['4', 'files,', '301.5', 'kB.'],
  ]
  flags = ('--list', '--game=Breakout', '--run=1', '--checkpoint=newest')
  files = run(*flags, '--noreplay').splitlines()
  assert files[0].split() == ['1.5', 'kB', 'checkpoints/ckpt.399']
  assert len(files) == 3


def test_copying_and_its_report(run, tmp_path):
  flags = ('--game=Breakout', '--run=2', '--checkpoint=399', f'--to={tmp_path}')
  report = run(*flags)
  directory = tmp_path / 'Breakout/2'
  assert report.splitlines() == [
      '3 files, 301.5 kB, are verified (3 copied now, 301.5 kB).',
      f'Use: --teacher_checkpoint_dir={directory} '
      '--teacher_checkpoint_number=399',
  ]
  assert (directory / 'checkpoints/ckpt.399').read_bytes() == bytes(1500)
  assert 'nothing had to be copied' in run(*flags)
  assert 'nothing had to be copied' in run(*flags, '--verify')
  report = run(f'{GAMES}/Asterix/10/checkpoints', f'--to={tmp_path}')
  assert report.startswith('4 files') and 'number' not in report
  assert (tmp_path / 'Asterix/10/checkpoints/ckpt.400').exists()


@pytest.mark.parametrize(
    ('flags', 'sentence'),
    [
        (['--run=1', '--game=Brekout', '--to=x'], 'Did you mean Breakout?'),
        (
            ['--run=3', '--game=Breakout', '--to=x'],
            'has no 3. It has 1, 2, 10.',
        ),
        (['--game=Breakout', '--to=x'], 'Say which run to copy: --run ('),
        (['--to=x'], 'Say which run to copy: --game and --run ('),
        (['--game=Breakout', '--run=1'], 'Say where to copy to: --to=DIR.'),
        (['--run=1', '--list'], '--run=1 of which game? Add --game.'),
        (['--checkpoint=last', '--list'], "--checkpoint is 'last': give a num"),
        (
            ['--bucket=rl_checkpoints', '--list'],
            "'rl_checkpoints' is no address",
        ),
        (['--game=../x', '--run=1', '--to=x'], 'is no plain address'),
        ([GAMES, '--game=Pong', '--list'], 'names a run, and so do --game'),
        ([GAMES, 'more', '--list'], 'more is one address too many'),
    ],
)
def test_one_sentence_says_what_is_wrong(run, flags, sentence):
  errors = run(*flags, code=1).strip()
  assert errors.startswith('Error: ') and sentence in errors
  assert len(errors.splitlines()) == 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_says_how_to_go_on(buckets, run, tmp_path, number):
  url = f'{GAMES}/Breakout/1/replay_logs/{FRAMES}'
  buckets.order(url, seconds_per_chunk=0.3)
  flags_ = ('--game=Breakout', '--run=1', f'--to={tmp_path}')
  process = _start(*flags_)
  staging = tmp_path / 'Breakout/1/.download/replay_logs'
  deadline = time.monotonic() + 60
  while not list(staging.glob('*_.gstmp')):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(number)
  errors = process.communicate(timeout=60)[1]
  assert process.returncode == 130
  assert errors.splitlines()[-1] == (
      'Stopped. What has arrived is kept: the same command goes on from there.'
  )
  buckets.order(url)
  assert '4 files' in run(*flags_)


def test_without_gsutil(run, monkeypatch):
  monkeypatch.setenv('PATH', '/nowhere')
  monkeypatch.setattr(sys, 'executable', '/nowhere/python')
  assert run('--list', code=1) == (
      'Error: gs:// addresses need gsutil, which is not installed: pip install '
      'gsutil.\n'
  )


def test_the_program_ends_with_one_sentence(tmp_path):
  """In a process of its own, as users start it."""
  process = _start('--list', '--game=Breakot')
  output, errors = process.communicate(timeout=60)
  assert (process.returncode, output) == (1, '')
  assert errors.startswith('Error: ') and len(errors.splitlines()) == 1
  assert 'Did you mean Breakout?' in errors


def test_it_needs_neither_jax_nor_anything_heavy():
  program = (
      'import sys, reincarnating_rl.download\n'
      "heavy = ('jax', 'numpy', 'tensorflow', 'dopamine', 'google')\n"
      'print([name for name in heavy if name in sys.modules])'
  )
  command = [sys.executable, '-c', program]
  assert subprocess.check_output(command, cwd=ROOT, text=True) == '[]\n'
