"""Evaluations: equal seeds, honest intervals, films of the game as played."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from absl import flags
import jax
import numpy as np
from paths import ROOT
from paths import TESTDATA
import pytest
import small_policy
import small_teacher

from reincarnating_rl.base import errors
from reincarnating_rl.base import scores
from reincarnating_rl.envs import atari
from reincarnating_rl.evaluate import __main__ as evaluate
from reincarnating_rl.evaluate import evaluation as evaluation_lib
from reincarnating_rl.evaluate import scoring
from reincarnating_rl.evaluate import subject as subject_lib
from reincarnating_rl.evaluate import video
from reincarnating_rl.loop.acting import evaluation
from reincarnating_rl.loop.saving.compatibility import fingerprint
from reincarnating_rl.teachers.formats import native

STEPS = 12  # of an episode, where its time limit is meant


def play(num_episodes, game='Pong', **options):
  options = {'epsilon': 0.5, 'seed': 1, 'max_agent_steps': STEPS} | options
  policy = small_policy.make(4 if game == 'Breakout' else 6)
  return scoring.play_episodes(policy, game, num_episodes, **options)


def lists(episodes):
  return [column.tolist() for column in episodes]


# -- episodes ------------------------------------------------------------------


@pytest.mark.parametrize('count', [1, 30, 64, 65, 100, 129, 1000])
def test_lots_are_equal_and_make_up_the_whole(count):
  found = scoring.lots(count)
  assert sum(found) == count
  assert max(found) - min(found) <= 1
  assert 0 < max(found) <= scoring.MAX_ENVS
  assert len(found) == -(-count // scoring.MAX_ENVS)


def test_whole_episodes_one_of_each_game():
  """Breakout's are of very different lengths, here of 100 to 300 steps."""
  found = play(2, 'Breakout', epsilon=1.0, max_agent_steps=2000)
  env = atari.AtariVector('Breakout', 2, 1)
  expected = evaluation.evaluate(
      small_policy.make(4), env, env.reset(), 2, 1.0, jax.random.PRNGKey(1)
  )
  assert lists(found) == lists(expected)
  assert len(set(found.lengths.tolist())) > 1
  assert found.lengths.max() < 2000


def test_equal_seeds_play_equally(monkeypatch):
  made = []

  class Recorded(atari.AtariVector):

    def _episode_seed(self, env, episode):
      seed = super()._episode_seed(env, episode)
      if episode == 0:
        made.append(seed)
      return seed

  monkeypatch.setattr(atari, 'AtariVector', Recorded)
  monkeypatch.setattr(scoring, 'MAX_ENVS', 2)
  options = {'game': 'Breakout', 'epsilon': 1.0, 'max_agent_steps': 60}
  found = play(4, **options)
  assert found.lengths.tolist() == [60] * 4
  assert len(set(made)) == len(made) == 4
  assert lists(play(4, **options)) == lists(found)
  assert lists(play(4, seed=2, **options)) != lists(found)
  with pytest.raises(ValueError, match='At least one episode'):
    play(0)


# -- intervals -----------------------------------------------------------------


def test_the_interval_is_that_of_resamples_one_by_one(monkeypatch):
  values = np.random.default_rng(3).normal(size=13) ** 3
  rng, means = np.random.default_rng(8), []
  for _ in range(500):
    means.append(np.mean([values[i] for i in rng.integers(13, size=13)]))
  expected = np.percentile(means, [5, 95])
  options = {'confidence': 0.9, 'seed': 8, 'resamples': 500}
  for at_once in (100, 10**6):
    monkeypatch.setattr(scoring, '_INDICES_AT_ONCE', at_once)
    found = scoring.mean_interval(values, **options)
    np.testing.assert_allclose(found, expected)


def test_intervals_of_little():
  assert scoring.mean_interval(np.array([])) is None
  assert scoring.mean_interval(np.array([3.0])) is None
  assert scoring.mean_interval(np.full(30, -21.0)) == (-21.0, -21.0)


def test_the_interval_holds_the_mean_as_often_as_it_says():
  rng = np.random.default_rng(0)
  hits = [
      low < 0.0 < high
      for low, high in (
          scoring.mean_interval(rng.normal(size=40), resamples=300)
          for _ in range(200)
      )
  ]
  assert 0.88 < np.mean(hits) < 0.99


# -- the entry point -----------------------------------------------------------


def run(*args):
  """Runs the entry point in this process, with flags of its own."""
  values = flags.FlagValues()
  evaluate.define_flags(values)
  evaluate.main(values(['evaluate', *map(str, args)]), values)


def run_json(capsys, *args):
  args += (f'--max_agent_steps={STEPS}', '--episodes=3', '--json')
  run(*args)
  (line,) = capsys.readouterr().out.splitlines()
  return json.loads(line)


def test_options_from_python():
  found = evaluation_lib.options(
      episodes=4, video=None, trusted_modules=['a', 'b'], epsilon=None
  )
  assert (found.episodes, found.video) == (4, None)
  assert found.trusted_modules == ['a', 'b'] and found.epsilon == 0.001
  for options, words in (
      ({'episodes': 0}, '--episodes is 0, but must be at least 1'),
      ({'epsilon': 2}, '--epsilon is 2, but must be 0 to 1'),
      ({'episodes': 'many'}, "--episodes is no number: 'many'"),
      ({'episods': 3}, "no option 'episods'"),
  ):
    with pytest.raises(ValueError, match=words):
      evaluation_lib.options(**options)


@pytest.fixture(name='student')
def _student(tmp_path):
  """A directory with a summary, as a run leaves it."""
  directory = small_teacher.write(tmp_path / 'student', score=-19.5)
  teacher = small_teacher.write(tmp_path / 'teacher')
  write_summary(directory, {'path': teacher, 'checkpoint_number': 3})
  return directory


def write_summary(directory, teacher, **fields):
  document = {
      'agent': 'qdagger_dqn',
      'game': 'Pong',
      'run_number': 1,
      'random_score': -21.0,
      'teacher_score': 19.0,
      'config': {'teacher': teacher, 'rom': None},
  }
  path = pathlib.Path(directory) / 'summary.json'
  path.write_text(json.dumps(document | fields))


def test_json_holds_what_is_known(student, capsys):
  found = run_json(capsys, student, '--seed=4')
  assert found['path'] == student and found['checkpoint_number'] == 3
  assert (found['game'], found['agent']) == ('Pong', 'qdagger_dqn')
  assert (found['epsilon'], found['sticky_actions']) == (0.001, 0.25)
  assert found['episodes'] == len(found['returns']) == 3
  assert found['agent_steps'] == 3 * STEPS == sum(found['lengths'])
  score = np.mean(found['returns'])
  assert found['score'] == score
  assert found['min'] <= found['interval'][0] <= score
  assert score <= found['interval'][1] <= found['max']
  human = (score + 20.7) / (14.6 + 20.7)
  np.testing.assert_allclose(found['human_normalized'], human)
  teacher = (score + 21.0) / (19.0 + 21.0)
  np.testing.assert_allclose(found['teacher_normalized'], teacher)
  assert found['recorded_score'] == -19.5
  assert found['video'] is None
  assert run_json(capsys, student, '--seed=4') == found


def test_text_names_the_essentials(student, capsys, tmp_path):
  pytest.importorskip('av')
  folder = tmp_path / 'films'
  options = [f'--max_agent_steps={STEPS}', '--episodes=2', '--video_steps=4']
  run(student, '--video', folder, *options)
  printed = capsys.readouterr().out
  for words in (
      f'{student}, checkpoint 3',
      'qdagger_dqn (reincarnating_rl teacher), trained for unknown',
      'Pong, sticky actions 0.25',
      '2 of 24 agent steps in all, seed 0, epsilon 0.001',
      f'2 of them cut off by the limit of {STEPS} agent steps',
      '95% interval',
      'human 14.60 = 1',
      'teacher 19.00 = 1',
      'Pong_qdagger_dqn_run1_checkpoint3_seed0.mp4',
      '4 agent steps, no further',
      # It has the parameters of the student.
      '100.0% of these steps',
  ):
    assert words in printed
  names = {p.name for p in folder.iterdir()}
  name = 'Pong_qdagger_dqn_run1_checkpoint3_seed0'
  assert names == {f'{name}.gif', f'{name}.mp4'}


# -- what is known of the checkpoint -------------------------------------------


def described(path, **options):
  """What is told of episodes that need not be played."""
  subject = subject_lib.find(str(path), None, 'ckpt', **options)
  episodes = evaluation.Episodes(np.array([-3.0, -1.0]), np.array([9, 9]))
  return evaluation_lib.describe(
      subject, video.Play(subject.game, 0, 0), episodes
  )


def teacher_of(student, path=None):
  subject = subject_lib.find(str(student), None, 'ckpt')
  return subject_lib.find_teacher(subject, path)


def test_bundled_teachers_and_no_normalization_without_scores(tmp_path):
  found = described('bundled:Pong')
  assert found['checkpoint_number'] == 25
  assert found['agent_steps_trained'] == 625_000
  assert found['teacher_normalized'] is found['teacher_score'] is None
  found = described(small_teacher.write(tmp_path / 'AirRaid', 'AirRaid'))
  assert found['random_score'] is found['human_normalized'] is None
  assert found['human_score'] is None


def test_scores_of_another_game_are_no_yardstick(student):
  """Of six actions, as Pong: its random and teacher's scores are Pong's."""
  found = described(student, game='SpaceInvaders')
  assert found['game'] == 'SpaceInvaders'
  assert found['teacher_score'] is found['teacher_normalized'] is None
  assert found['random_score'] == scores.random_score('SpaceInvaders')


@pytest.mark.parametrize(
    'teacher, words',
    [
        ({'path': '/nowhere'}, '/nowhere does not exist'),
        ({'path': 'bundled:Pong', 'params_crc32c': '0'}, 'not the network any'),
        ({'path': 'bundled:Pong', 'checkpoint_number': 1}, 'no checkpoint 1'),
        ({'path': '{other}'}, 'has 4 actions, the student has 6'),
        ({'path': 'a and b', 'teachers': [{}, {}]}, 'it is 2 teachers'),
    ],
)
def test_a_teacher_that_cannot_be_had_is_told_once(
    student, tmp_path, caplog, teacher, words
):
  other = small_teacher.write(tmp_path / 'other', num_actions=4)
  write_summary(
      student, teacher | {'path': teacher['path'].format(other=other)}
  )
  assert teacher_of(student) is None
  warnings = [r for r in caplog.records if r.levelname == 'WARNING']
  assert len(warnings) == 1
  assert words in warnings[0].getMessage()
  assert 'name it by --teacher' in warnings[0].getMessage()


def test_a_film_without_the_teacher_that_cannot_be_had(
    student, tmp_path, capsys
):
  write_summary(student, {'path': '/nowhere'})
  found = run_json(
      capsys, student, '--video', tmp_path / 'v', '--video_steps=2'
  )
  assert found['video']['teacher'] is found['video']['agreement'] is None


def test_another_teacher_may_be_named(student, tmp_path, capsys):
  found = run_json(
      capsys,
      student,
      '--video',
      tmp_path / 'v',
      '--video_steps=2',
      '--teacher=bundled:Pong',
  )
  assert found['video']['teacher'] == 'bundled:Pong'
  assert found['video']['agreement'] is not None


def test_the_checksum_of_the_summary_is_that_of_the_teacher(student):
  loaded = native.read(student, student, None)
  teacher = {'path': student, 'params_crc32c': fingerprint(loaded.params)}
  write_summary(student, teacher)
  assert teacher_of(student).path == student


def test_another_rom_is_told(student, caplog):
  write_summary(student, None, config={'rom': {'md5': 'abc'}})
  subject_lib.check_fits(subject_lib.find(student, None, 'ckpt'))
  assert 'another ROM (md5 abc)' in caplog.text


@pytest.mark.parametrize('text', ['{', '[1]', '{"config": null}'])
def test_a_damaged_summary_is_no_obstacle(student, text):
  (pathlib.Path(student) / 'summary.json').write_text(text)
  assert teacher_of(student) is None
  found = described(student)
  assert found['teacher_score'] is None and found['agent'] == 'dqn'


# -- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    'args, words',
    [
        ((), 'Name what is to be evaluated'),
        (('a', 'b'), 'Name what is to be evaluated'),
        (('/nowhere',), '/nowhere does not exist'),
        (('bundled:Pong', '--checkpoint=7'), 'no checkpoint 7; there are 25'),
        (('bundled:Pong', '--teacher=x'), 'add --video DIR'),
        (('bundled:Pong', '--game=Pnog'), 'Did you mean Pong'),
        (('bundled:Pong', '--game=Breakout'), '6 actions, Breakout has 4'),
        (('bundled:Pong', '--video=/proc/x'), '--video /proc/x cannot be'),
        (('bundled:Pong', '--video={tmp}', '--teacher=/no'), '/no does not'),
        (('bundled:Pong', '--atari_roms_path=/no'), '/no is not a folder'),
        (('{tmp}',), 'is empty'),
        (('bundled:Pong', '--epsilon=-1'), '--epsilon is -1, but must be'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, args, words):
  with pytest.raises(errors.UserError, match=words) as error:
    run(*(arg.format(tmp=tmp_path) for arg in args))
  assert '\n' not in str(error.value)


def test_a_game_that_nothing_tells(tmp_path):
  directory = TESTDATA / 'dopamine_406_small'
  with pytest.raises(errors.UserError, match='name it by --game'):
    run(directory)


def test_command_line(student):
  command = [sys.executable, '-m', 'reincarnating_rl.evaluate', student]
  options = ['--json', '--episodes=1', f'--max_agent_steps={STEPS}']
  root = str(ROOT)
  done = subprocess.run(
      command + options,
      capture_output=True,
      text=True,
      env=os.environ | {'PYTHONPATH': root},
      timeout=240,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)['episodes'] == 1
  assert done.stdout.count('\n') == 1
