"""State of a sweep on the disk, and time and memory of trials."""

import json

import pytest
import written_runs

from reincarnating_rl.app.api import Needs
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import errors
from reincarnating_rl.launch import cores
from reincarnating_rl.launch import population_spec
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch import rates as rates_lib
from reincarnating_rl.launch.progress_on_disk import Progress
from reincarnating_rl.launch.rates import Rates
from reincarnating_rl.launch.trials import Configuration
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.loop.config.estimate import Memory

NEEDS = Needs(
    {'online': 1000, 'evaluation': 300, 'data_collection': 0},
    {'online': 250, 'pretraining': 50},
    3,
    2,
    Memory(2**19, 2**19),
)


def trial(seeds=(1,), bindings=()):
  wanted = Experiment(agent='dqn', game='Pong', bindings=bindings)
  return Trial(Configuration('Pong/dqn', wanted), seeds, len(seeds) > 1)


def test_how_far_a_trial_is(tmp_path):
  one = trial((1, 2))
  directories = one.directories(str(tmp_path))
  assert progress_on_disk.read(directories) == Progress()
  facts = {'random_score': -20.0, 'teacher_score': 20.0}
  settings = {'num_iterations': 2}

  def normalize(document):
    for entry in document['iterations']:
      if entry['student_score'] is not None:
        entry['teacher_normalized'] = (entry['student_score'] + 20.0) / 40.0

  def write(directory, scores, seed):
    written_runs.write_run(
        directory, scores, seed=seed, settings=settings, **facts
    )
    written_runs.edit(directory, normalize)

  write(directories[0], [0.0, 4.0], 1)
  progress = progress_on_disk.read(directories)
  assert progress == Progress(2, 4.0, 0.6)
  write(directories[1], [8.0], 2)
  assert progress_on_disk.read(directories) == Progress(
      3, 6.0, pytest.approx(0.65)
  )


def test_other_settings_in_a_directory_of_ours_are_refused(tmp_path):
  root = str(tmp_path)
  before = trial((1, 2), ('a = 1',))
  assert progress_on_disk.read_record(root) == {}
  progress_on_disk.write_record(root, [before])
  after = trial((1,), ('a = 2',))
  # Nothing ran there yet.
  assert progress_on_disk.conflicts(root, [after]) == []
  written_runs.write_run(before.directories(root)[0], [1.0], seed=1)
  assert (
      progress_on_disk.conflicts(root, [before, trial((1,), ('a = 1',))]) == []
  )
  [fault] = progress_on_disk.conflicts(root, [after])
  assert 'run_1 was run with bindings ["a = 1"] instead of ["a = 2"]' in fault
  # More seeds join.
  progress_on_disk.write_record(root, [trial((3,), ('a = 1',))])
  assert sorted(progress_on_disk.read_record(root)) == [
      f'Pong/dqn/run_{seed}' for seed in (1, 2, 3)
  ]
  (tmp_path / progress_on_disk.RECORD).write_text('{')
  with pytest.raises(errors.UserError, match='cannot be read'):
    progress_on_disk.read_record(root)


def test_other_settings_of_a_population_are_refused(tmp_path):
  root, members = str(tmp_path), [trial((1,)), trial((2,))]
  mutations = {'JaxDQNAgent.gamma': ['uniform', 0.9, 1.0]}
  parse = lambda **kw: population_spec.parse({'mutations': mutations} | kw)
  progress_on_disk.write_record(root, members, parse())
  written_runs.write_run(members[0].directories(root)[0], [1.0], seed=1)
  assert progress_on_disk.conflicts(root, members, parse()) == []
  [fault] = progress_on_disk.conflicts(root, members, parse(quantile=0.5))
  assert 'run with population.quantile 0.25 instead of 0.5' in fault
  [fault] = progress_on_disk.conflicts(root, members)
  assert 'population.interval 1 instead of null' in fault


def test_the_last_words_are_those_of_the_last_process(tmp_path):
  log = tmp_path / 'log.txt'
  assert process.last_words(str(log)) == f'it said nothing (its log is {log})'
  log.write_text('\n$ train\nError: an old one.\n\n$ train\nIt begins.\n')
  assert process.last_words(str(log)).startswith('It begins. (')
  log.write_text('\n$ train\nError: a new one.\nand more\n')
  assert process.last_words(str(log)).startswith('a new one. (')


def test_a_record_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='cannot be'):
    progress_on_disk.write_record(str(tmp_path / 'file' / 'sweep'), [trial()])


def test_time_is_units_times_rates():
  rates = Rates({'online': 0.1, 'evaluation': 0.01, 'pretraining': 2.0}, 7.0, 5)
  one = rates_lib.estimate(NEEDS, rates, 1)
  assert one.seconds == pytest.approx(7 + 100 + 3 + 100)
  assert one.num_bytes == 2**20 + 5
  three = rates_lib.estimate(NEEDS, rates, 3)
  assert three.seconds == pytest.approx(7 + 3 * 203)
  # They share the teacher's data.
  assert three.num_bytes == 4 * 2**19 + 5


def test_rates_of_a_finished_run(tmp_path):
  directory = written_runs.write_run(tmp_path / 'run', [1.0], seed=1)
  written_runs.edit(
      directory,
      lambda d: d.update(seconds={'online': 50.0, 'pretraining': 10.0, 'x': 1}),
  )
  rates = rates_lib.from_finished_run(directory, NEEDS)
  assert rates == Rates({'online': 0.05, 'pretraining': 0.2})


def test_rates_of_a_brief_run_leave_out_compilation(tmp_path):
  """The second iteration took 90 seconds, of which the evaluation took 40."""
  lengths = {'eval': {'returns': [0.0, 0.0], 'lengths': [150, 50]}}
  lines = [
      {'phase': 'data_collection', 'agent_steps': 400, 'seconds': 20.0},
      {'phase': 'online', 'agent_steps': 100, 'updates': 9, 'seconds': 500.0},
      {'phase': 'online', 'agent_steps': 200, 'updates': 34, 'seconds': 590.0},
  ]
  for iteration, line in enumerate(lines):
    online = line['phase'] == 'online'
    line |= {
        'kind': 'phase',
        'iteration': iteration,
        'episodes': lengths if online else {},
    }
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (tmp_path / 'metrics.jsonl').write_text(text)
  spent = {'data_collection': 20.0, 'online': 500.0, 'evaluation': 80.0}
  (tmp_path / 'summary.json').write_text(json.dumps({'seconds': spent}))
  rates = rates_lib.from_brief_run(rates_lib.Result(str(tmp_path)))
  assert rates.seconds == {
      'data_collection': 20 / 400,
      'evaluation': 80 / 400,
      'online': pytest.approx((90 - 40) / 100),
  }


def test_configurations_of_one_kind_are_measured_once():
  kind = lambda **kw: rates_lib.kind_of(Experiment(**kw), NEEDS)
  assert kind(game='Pong', bindings=('a = 1',)) == kind(
      game='Boxing', bindings=('a = 2',)
  )
  assert kind(bindings=('@a.Network',)) != kind(bindings=('@b.Network',))
  network = lambda name: (f'JaxDQNAgent.network = @{name}',)
  assert kind(bindings=network('a')) != kind(bindings=network('b'))
  assert kind(agent='dqn') != kind(agent='rainbow')
  twice = NEEDS._replace(updates={'online': 500})
  assert rates_lib.kind_of(Experiment(), twice) != kind()


def test_the_last_of_several_at_once():
  # 5 | 3, then 4 on the one that is free first, then 1 on the other.
  assert rates_lib.makespan([5.0, 3.0, 4.0, 1.0], 2) == 7.0
  assert rates_lib.makespan([5.0, 3.0], 1) == 8.0
  assert rates_lib.makespan([], 3) == 0.0


def test_cores_are_held_by_one_at_a_time(tmp_path, monkeypatch):
  # Trials of other tests hold some, too.
  monkeypatch.setattr(cores.tempfile, 'gettempdir', lambda: str(tmp_path))
  with cores.held(1) as one:
    with cores.held(1) as other:
      assert len(one) == 1 and not set(one) & set(other)
    with cores.held(10_000) as too_many:
      assert too_many == ()
    # They were given back.
    with cores.held(1) as again:
      assert again == other
