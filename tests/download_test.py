"""The command line: listing, copying, and what it says when it cannot."""

import os
import signal
import subprocess
import sys
import time

import gcs_emulator
from paths import ROOT
import pytest

GAMES = 'gs://rl_checkpoints/DQN_400'


@pytest.fixture(scope='module')
def emulator():
  with gcs_emulator.Emulator() as server:
    for game in ('Asterix', 'Breakout'):
      for run in (1, 2, 10):
        url = f'{GAMES}/{game}/{run}'
        server.put(f'{url}/checkpoints/ckpt.399', bytes(1500))
        name = 'sentinel_checkpoint_complete.399'
        server.put(f'{url}/checkpoints/{name}', b'done')
        server.put(f'{url}/checkpoints/ckpt.400', b'')
        name = '$store$_observation_ckpt.100.gz'
        server.put(f'{url}/replay_logs/{name}', bytes(300_000))
    yield server


def _start(emulator, *flags, **env):
  env = os.environ | {'STORAGE_EMULATOR_HOST': emulator.host} | env
  return subprocess.Popen(
      [sys.executable, '-m', 'reincarnating_rl.download', *flags],
      cwd=ROOT,
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def _run(emulator, *flags, code=0, **env):
  """Runs it; returns what it prints on stdout, or on stderr if it fails."""
  process = _start(emulator, *flags, **env)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == code, errors
  return output if code == 0 else errors


def test_listings(emulator):
  assert _run(emulator, '--list') == 'Asterix\nBreakout\n'
  assert _run(emulator, '--list', '--game=Breakout') == '1\n2\n10\n'
  run = _run(emulator, '--list', f'{GAMES}/Breakout/1')
  assert [line.split() for line in run.splitlines()] == [
      ['checkpoint', 'size', 'replay'],
      ['399', '1.5', 'kB', '300.0', 'kB'],
      ['400', '0', 'bytes', '300.0', 'kB', 'incomplete:', 'no', 'sentinel'],
      ['4', 'files,', '301.5', 'kB.'],
  ]
  flags = ('--list', '--game=Breakout', '--run=1', '--checkpoint=newest')
  files = _run(emulator, *flags, '--noreplay').splitlines()
  assert files[0].split() == ['1.5', 'kB', 'checkpoints/ckpt.399']
  assert len(files) == 3


def test_copying_and_its_report(emulator, tmp_path):
  flags = ('--game=Breakout', '--run=2', '--checkpoint=399', f'--to={tmp_path}')
  report = _run(emulator, *flags)
  directory = tmp_path / 'Breakout/2'
  assert report.splitlines() == [
      '3 files, 301.5 kB, are verified (3 copied now, 301.5 kB).',
      f'Use: --teacher_checkpoint_dir={directory} '
      '--teacher_checkpoint_number=399',
  ]
  assert (directory / 'checkpoints/ckpt.399').read_bytes() == bytes(1500)
  assert 'nothing had to be copied' in _run(emulator, *flags)
  assert 'nothing had to be copied' in _run(emulator, *flags, '--verify')
  report = _run(emulator, f'{GAMES}/Asterix/10/checkpoints', f'--to={tmp_path}')
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
def test_one_sentence_says_what_is_wrong(emulator, flags, sentence):
  errors = _run(emulator, *flags, code=1).strip()
  assert errors.startswith('Error: ') and sentence in errors
  assert len(errors.splitlines()) == 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_says_how_to_go_on(emulator, tmp_path, number):
  name = '$store$_observation_ckpt.100.gz'
  stored = emulator.get(f'{GAMES}/Breakout/1/replay_logs/{name}')
  stored.faults.seconds_per_chunk = 0.3
  flags = ('--game=Breakout', '--run=1', f'--to={tmp_path}')
  try:
    process = _start(emulator, *flags)
    staging = tmp_path / 'Breakout/1/.download/replay_logs'
    deadline = time.monotonic() + 30
    while not list(staging.glob('*.part')):
      assert process.poll() is None and time.monotonic() < deadline
      time.sleep(0.02)
    process.send_signal(number)
    errors = process.communicate(timeout=30)[1]
  finally:
    stored.faults.seconds_per_chunk = 0.0
  assert process.returncode == 130
  assert errors.splitlines()[-1] == (
      'Stopped. What has arrived is kept: the same command goes on from there.'
  )
  assert '4 files' in _run(emulator, *flags)


def test_without_any_client(emulator, tmp_path):
  (tmp_path / 'google').mkdir()
  (tmp_path / 'google/__init__.py').write_text('raise ImportError("hidden")')
  errors = _run(
      emulator, '--list', code=1, PATH='/nowhere', PYTHONPATH=str(tmp_path)
  )
  assert errors.strip() == (
      'Error: Neither gsutil nor the Python package google-cloud-storage is '
      'installed, and gs:// needs one of them: pip install '
      'google-cloud-storage.'
  )


def test_it_needs_neither_jax_nor_anything_heavy():
  program = (
      'import sys, reincarnating_rl.download\n'
      "heavy = ('jax', 'numpy', 'tensorflow', 'dopamine', 'google')\n"
      'print([name for name in heavy if name in sys.modules])'
  )
  command = [sys.executable, '-c', program]
  assert subprocess.check_output(command, cwd=ROOT, text=True) == '[]\n'
