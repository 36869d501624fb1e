"""The report on a teacher: its text, its JSON, its figure, and bad input."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys

from absl import flags
import jax
from matplotlib import image
import numpy as np
from paths import ROOT
from paths import TESTDATA
import pytest

from reincarnating_rl import networks
from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.inspect_teacher import __main__ as inspect_teacher
from reincarnating_rl.inspect_teacher import figure
from reincarnating_rl.inspect_teacher import inspection
from reincarnating_rl.inspect_teacher import text
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.formats import native
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

NETWORK = {'num_actions': 6, 'features': [4, 8, 8], 'hidden_size': 16}


def _inspect(*args):
  """Runs the entry point in this process, with flags of its own."""
  values = flags.FlagValues()
  inspect_teacher.define_flags(values)
  inspect_teacher.main(values(['inspect_teacher', *map(str, args)]), values)


def _inspect_json(capsys, *args):
  _inspect(*args, '--json')
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 1

  def refuse(constant):
    raise AssertionError(f'{constant} is no JSON')

  return json.loads(lines[0], parse_constant=refuse)


def _ring():
  """40 rows of two streams; one whole episode, of 10 steps and reward 10."""
  slots = 20
  flags_ = np.zeros((slots, 2), np.uint8)
  flags_[0] = flags_[10, 0] = frame_replay.FIRST
  flags_[9, 0] = frame_replay.TERMINAL
  rows = frame_replay.Rows(
      np.random.default_rng(0).integers(0, 256, (slots, 2, 84, 84), np.uint8),
      np.tile(np.array([1, 4]), (slots, 1)),
      np.tile(np.array([1.0, 0.0], np.float32), (slots, 1)),
      flags_,
  )
  spec = frame_replay.ReplaySpec(2 * slots, 2, 3)
  return TeacherReplay(spec, frame_replay.from_rows(spec, rows).storage)


@pytest.fixture(name='directory', scope='module')
def _directory(tmp_path_factory):
  """A teacher with checkpoints 7 and 9; 9 has a replay."""
  path = str(tmp_path_factory.mktemp('teachers') / 'teacher')
  network = networks.make_network(**NETWORK)
  states = np.zeros((1, 84, 84, 4), np.uint8)
  shapes = jax.eval_shape(network.init, jax.random.PRNGKey(0), states)['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: 0.02 * rng.standard_normal(x.shape), shapes)
  manifest = native.Manifest(
      'Pong',
      NETWORK,
      3,
      {'7': float('nan'), '9': 4.5},
      {'9': 90_000},
      {'versions': {'jax': '0.10.2'}},
  )
  native.write_checkpoint(path, manifest, 7, params)
  native.write_checkpoint(path, manifest, 9, params, replay=_ring())
  return path


def test_json_holds_what_is_known(directory, capsys):
  found = _inspect_json(capsys, directory)
  assert found['path'] == found['directory'] == directory
  assert found['checkpoint_numbers'] == [7, 9]
  assert found['complete_checkpoint_numbers'] == [7, 9]
  assert found['checkpoint_number'] == 9
  assert found['versions'] == {'jax': '0.10.2'}
  assert (found['game'], found['game_source']) == ('Pong', 'manifest')
  assert found['agent'] == 'dqn'
  assert found['training_agent_steps'] == 90_000
  assert found['recorded_score'] == 4.5
  assert found['random_score'] == -20.7
  assert found['action_names'][:3] == ['NOOP', 'FIRE', 'RIGHT']
  assert found['target_network'] is False
  assert found['optimizer'] is None
  assert found['figure'] is None
  network = found['network']
  assert network['num_parameters'] == sum(
      map(math.prod, network['parameter_shapes'].values())
  )
  replay = found['replay']
  assert (replay['rows'], replay['rows_written']) == (40, 40)
  contents = replay['contents']
  assert contents['agent_steps_by_action'] == [0, 20, 0, 0, 20, 0]
  assert contents['whole_episodes'] == contents['terminals'] == 1
  assert contents['episode_agent_steps_mean'] == 10.0
  assert contents['episode_reward_mean'] == 10.0
  assert contents['reward_nonzero_share'] == 0.5
  assert set(contents['usable_rows_by_n_step']) == {'1', '3'}


def test_no_nan_in_json(directory, capsys):
  found = _inspect_json(capsys, directory, '--checkpoint', 7)
  assert found['checkpoint_number'] == 7
  assert found['recorded_score'] is None
  assert found['replay'] is None
  assert tables.json_line({'a': [math.inf, (1.5,)]}) == ('{"a": [null, [1.5]]}')


def test_text_names_the_essentials(directory, capsys):
  _inspect(directory)
  printed = capsys.readouterr().out
  for words in (
      directory,
      'reincarnating_rl teacher',
      'jax 0.10.2',
      '7, 9',
      'Pong (by its manifest)',
      'dqn',
      '90,000 agent steps',
      '4.50 (random play -20.70)',
      'encoder/Conv_0/kernel',
      '8 x 8 x 4 x 4',
      '6: NOOP, FIRE',
      '40 of 40 written',
      '1 terminal, 0 by time limit',
      '10.0 agent steps on average',
      '50.00% are not 0',
      'RIGHTFIRE  20  50.0%  ####',
  ):
    assert words in printed
  assert max(map(len, printed.splitlines())) <= 100


def test_without_reading_only_sizes_are_told(directory, capsys, monkeypatch):
  def read(self):
    raise AssertionError('frames were read')

  monkeypatch.setattr(TeacherReplay, 'storage', property(read))
  found = _inspect_json(capsys, directory, '--noread_replay')
  assert found['replay']['rows_written'] == 40
  assert found['replay']['contents'] is None
  _inspect(directory, '--noread_replay')
  assert 'not read (--noread_replay)' in capsys.readouterr().out


def test_a_run_of_dopamine_has_its_game_from_the_path(tmp_path, capsys):
  run = tmp_path / 'Pong' / '1'
  shutil.copytree(TESTDATA / 'dopamine_406_small', run)
  os.remove(run / 'checkpoints' / 'sentinel_checkpoint_complete.0')
  for path in (run, run / 'checkpoints'):
    found = _inspect_json(capsys, path, '--noread_replay')
    assert (found['game'], found['game_source']) == ('Pong', 'path')
    assert found['directory'] == str(run)
    assert found['checkpoint_numbers'] == [0, 1]
    assert found['complete_checkpoint_numbers'] == [1]
    assert found['training_agent_steps'] == 1293
    assert found['target_network'] is True
    assert found['optimizer']['kind'] == 'adam'
    assert found['optimizer']['updates'] > 0
  _inspect(run, '--noread_replay')
  printed = capsys.readouterr().out
  assert 'marked whole' in printed
  assert 'adam, 274 updates' in printed


def test_actions_without_a_game_are_numbered(capsys):
  directory = TESTDATA / 'dopamine_402_jax03'
  found = _inspect_json(capsys, directory, '--noread_replay')
  assert found['game'] is found['action_names'] is None
  assert text.names_of_actions(None, 2) == ['action 0', 'action 1']


@pytest.mark.parametrize(
    'game, count, third',
    [('Pong', 6, 'RIGHT'), ('Breakout', 4, 'RIGHT'), (None, 18, 'UP')],
)
def test_actions_are_those_of_the_game(game, count, third):
  names = inspection.action_names(game, count)
  assert len(names) == count
  assert names[2] == third


def test_actions_of_another_set_have_no_names():
  assert inspection.action_names('Pong', 5) is None
  assert inspection.action_names('NoSuchGame', 6) is None


# -- the figure ----------------------------------------------------------------


def _check_drawn(path):
  picture = image.imread(path)[..., :3]
  assert min(picture.shape[:2]) > 400
  # Frames are grey, bars are not.
  assert picture.std() > 0.1
  assert np.ptp(picture, axis=-1).max() > 0.3


def test_figure_of_the_replay(directory, tmp_path, capsys):
  path = str(tmp_path / 'states.png')
  found = _inspect_json(capsys, directory, '--figure', path)
  assert found['figure'] == path
  _check_drawn(path)


def test_figure_without_replay_plays(directory, tmp_path, capsys):
  path = tmp_path / 'states.png'
  _inspect(directory, '--checkpoint', 7, '--figure', path)
  assert f'Figure: {path}' in capsys.readouterr().out
  _check_drawn(path)


def test_states_are_those_of_usable_rows():
  replay = _ring()
  shown = figure._states_of_replay(replay)
  rows = [int(title.split()[1].strip(',')) for title in shown.titles]
  assert len(rows) == figure.NUM_STATES
  assert rows == sorted(rows) and rows[-1] - rows[0] > 20
  assert replay.valid(1)[rows].all()
  expected = replay.transitions(np.array(rows), 1)
  np.testing.assert_array_equal(shown.states, expected.state)
  np.testing.assert_array_equal(shown.actions, expected.action)
  assert f'reward {"+1" if rows[0] % 2 == 0 else "0"}' in shown.titles[0]


def test_played_states_differ():
  shown = figure._states_of_play('Pong')
  assert shown.states.shape == (figure.NUM_STATES, 84, 84, 4)
  assert shown.actions is None
  differences = np.abs(np.diff(shown.states.astype(int), axis=0))
  assert (differences.max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize('count', [1, 3])
def test_any_number_of_states_and_equal_values_are_drawn(tmp_path, count):
  states = np.zeros((count, 84, 84, 4), np.uint8)
  shown = figure.States(states, ['row 1'] * count, np.full(count, 9))
  path = tmp_path / 'states.svg'
  figure.draw(shown, np.zeros((count, 2)), ['LEFT', 'RIGHT'], '', str(path))
  assert path.stat().st_size > 1000


# -- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    'args, words',
    [
        ((), 'Name one teacher'),
        (('a', 'b'), 'Name one teacher'),
        (('/nowhere',), '/nowhere does not exist'),
        (('bundled:Pong', '--checkpoint=7'), 'no checkpoint 7; there are 25'),
        (('bundled:Pong', '--figure=x.gif'), r'x\.gif .* \.png, \.pdf or'),
        (('bundled:Pong', '--figure=/no/x.png'), 'there is no folder /no'),
    ],
)
def test_bad_input_is_refused_in_a_sentence(args, words):
  with pytest.raises(errors.UserError, match=words):
    _inspect(*args)


def test_a_folder_is_no_figure(tmp_path):
  (tmp_path / 'x.png').mkdir()
  with pytest.raises(errors.UserError, match='is a folder'):
    _inspect('bundled:Pong', '--figure', tmp_path / 'x.png')


def test_nothing_to_draw(tmp_path):
  directory = tmp_path / 'run'
  shutil.copytree(TESTDATA / 'dopamine_402_jax03', directory)
  for file in directory.glob('checkpoints/*.gz'):
    file.unlink()
  with pytest.raises(errors.UserError, match='has no replay, and its game'):
    _inspect(directory, '--figure', tmp_path / 'x.png')


# -- as a user starts it -------------------------------------------------------


def test_command_line(directory, tmp_path):
  command = [sys.executable, '-m', 'reincarnating_rl.inspect_teacher']
  env = os.environ | {'PYTHONPATH': str(ROOT)}
  # It draws a play, so that the emulator starts: it must not print either.
  options = ['--json', '--checkpoint=7', f'--figure={tmp_path / "x.png"}']
  done = subprocess.run(
      command + [directory] + options,
      capture_output=True,
      text=True,
      env=env | {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'xla')},
      timeout=120,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)['game'] == 'Pong'
  assert done.stdout.count('\n') == 1
