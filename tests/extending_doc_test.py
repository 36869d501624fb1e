"""The examples of docs/extending.md, written out and run as they stand."""

import json
import pathlib
import re
import runpy
import shlex
import sys

from absl.testing import flagsaver
from paths import ROOT
import pytest
import small_teacher

from reincarnating_rl import train

DOC = ROOT / 'docs' / 'extending.md'
EXAMPLES = ['my_network', 'my_method', 'my_environment']
_FILE = re.compile(r'`([\w.]+)`:\n\n```\w*\n(.*?)```', re.S)
# Makes a run of seconds. An episode begins as slowly as hundreds of steps.
SMALL = """
Runner.num_iterations = 1
Runner.training_steps = 40
Runner.evaluation_steps = 8
Runner.max_steps_per_episode = 40
RunnerWithTeacher.num_eval_envs = 1
RunnerWithTeacher.num_pretraining_iterations = 2
RunnerWithTeacher.num_pretraining_steps = 40
RunnerWithTeacher.teacher_steps = 40
ReplayBuffer.max_capacity = 200
ReplayBuffer.batch_size = 8
JaxDQNAgent.min_replay_history = 20
create_optimizer.learning_rate = 0.001
reincarnation_networks.NatureDQNNetwork.features = (4, 8, 8)
reincarnation_networks.NatureDQNNetwork.hidden_size = 16
"""


def _commands():
  """Words of each command."""
  text = DOC.read_text().replace('\\\n', ' ')
  return [shlex.split(x) for x in re.findall(r'^    (python .*)$', text, re.M)]


@pytest.fixture(name='examples')
def _examples(tmp_path, monkeypatch):
  """Writes all files of the page, and commands with this place in them."""
  for file, text in _FILE.findall(DOC.read_text()):
    (tmp_path / file).write_text(text)
  (tmp_path / 'small.gin').write_text(SMALL)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.chdir(tmp_path)
  for name in EXAMPLES:
    monkeypatch.delitem(sys.modules, name, raising=False)
  teacher = small_teacher.write(tmp_path / 'teacher' / 'Pong' / '1')

  def command(name):
    (words,) = [c for c in _commands() if name in ' '.join(c)]
    places = {'bundled:Pong': str(teacher)}
    words = [
        'run' if x.startswith('/tmp/') else places.get(x, x) for x in words
    ]
    unlimited = 'RunnerWithTeacher.teacher_steps = 1000000'
    return [x.replace(unlimited, "include 'small.gin'") for x in words]

  return command


def _train(words):
  """The command, in this process; returns the records of its run."""
  assert words[:3] == ['python', '-um', 'reincarnating_rl.train']
  train.FLAGS.unparse_flags()
  with flagsaver.flagsaver():
    train.FLAGS(['train'] + words[3:])
    train.main(['train'])
  lines = pathlib.Path('run/metrics.jsonl').read_text().splitlines()
  return [x for x in map(json.loads, lines) if x['kind'] == 'phase']


def test_a_network(examples):
  narrow = 'NormedDQNNetwork.features = (4, 8, 8)'
  short = 'NormedDQNNetwork.hidden_size = 16'
  command = examples('my_network')
  *_, last = _train(
      command + ['--gin_bindings', narrow, '--gin_bindings', short]
  )
  assert last['student_score'] is not None
  summary = json.loads(pathlib.Path('run/summary.json').read_text())
  assert summary['config']['network']['name'] == 'NormedNetwork'


def test_a_method_in_a_few_lines_and_it_trains(examples):
  assert len(pathlib.Path('my_method.py').read_text().splitlines()) < 40
  first, second, online = [
      record['metrics']['value_matching_loss']
      for record in _train(examples('my_method'))
      if record['student_score'] is not None
  ]
  assert second < first and online >= 0


def test_an_environment(examples, monkeypatch):
  _, script, directory = examples('my_environment')
  monkeypatch.setattr(sys, 'argv', [script, directory, 'small.gin'])
  names = runpy.run_path(script, run_name='__main__')
  assert pathlib.Path('run/checkpoints/ckpt.0').is_file()
  counters = names['runner']._agent.trainer.counters
  assert counters.agent_steps >= 40 and counters.updates_made > 0


def test_catch_is_the_game_that_it_says():
  source = dict(_FILE.findall(DOC.read_text()))['my_environment.py']
  names = {'__name__': 'my_environment'}
  exec(source, names)  # pylint: disable=exec-used
  game = names['Catch']()
  for _ in range(20):
    frame, points, terminal, total = game.reset(), 0.0, False, 0
    assert frame.shape == (84, 84, 1) and frame.dtype == 'uint8'
    while not terminal:
      ball, paddle = game._ball[1], game._paddle
      _, points, terminal, _ = game.step(1 + (ball > paddle) - (ball < paddle))
      total += points
    assert total == 1.0
