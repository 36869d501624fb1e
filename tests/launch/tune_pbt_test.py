"""A population of processes on Ray, with a stand-in for `train`."""

import io
import json
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import stand_in_train

from reincarnating_rl import show_run
from reincarnating_rl.app.api import Needs
from reincarnating_rl.base import errors
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import population_spec
from reincarnating_rl.launch import population_worker as member_lib
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch import status_display as board_lib
from reincarnating_rl.launch import tune_pbt
from reincarnating_rl.launch.population_worker import Copied
from reincarnating_rl.launch.population_worker import Member
from reincarnating_rl.loop.config.estimate import Memory
from reincarnating_rl.loop.population import lineage
from reincarnating_rl.report.reading import lineage as drawn
from tests.launch import engine_test

RATE = 'learner.rate'
NUM_ITERATIONS = 3
NEEDS = Needs({}, {}, NUM_ITERATIONS, NUM_ITERATIONS, Memory(0, 0))
# The last one learns, and its rate can only be lowered.
POPULATION = population_spec.parse(
    {
        'interval': 1,
        'mutations': {RATE: ['bounds', 0.0, 10.0]},
        'perturbation_factors': [1.25],
        'first': {RATE: [0.0, 2.0, 10.0]},
    }
)


def trials(*bindings, count=3):
  return [
      engine_test.trial('p', *bindings, seeds=(seed,)) for seed in range(count)
  ]


def carry_out(root, members, output=None):
  there = {
      t.name: progress_on_disk.reached(t.directories(root)) for t in members
  }
  iterations = {t.name: NUM_ITERATIONS for t in members}
  missing = [t for t in members if there[t.name].iterations < NUM_ITERATIONS]
  resources = engine.Resources(num_parallel=2)
  process.PROGRAM = engine_test.PROGRAM
  with engine.connected(resources) as at_once:
    with board_lib.Board(iterations, there, at_once, output) as board:
      tune_pbt.carry_out(
          root, POPULATION, members, missing, NEEDS, resources, board
      )
  return board


def scores(root, seed):
  run = pathlib.Path(root) / 'Pong' / 'p' / f'run_{seed}'
  return [score.score for score in member_lib.online_scores(str(run))]


def check_outcome(root):
  """First scores are the seeds; from then on each rises by its rate."""
  folder = pathlib.Path(root) / 'Pong' / 'p'
  document, (first, second) = lineage.read(str(folder))
  assert document['run_numbers'] == [0, 1, 2]
  assert document['mutated'] == [RATE]
  assert document['members'] == [{RATE: 0.0}, {RATE: 2.0}, {RATE: 10.0}]
  assert list(first.scores) == [0.0, 1.0, 2.0]
  # 12.5 would be too much.
  assert first.copies == (lineage.Copy(0, 2, {RATE: 10.0}),)
  assert list(second.scores) == [12.0, 3.0, 12.0]
  [copy] = second.copies
  assert copy.target == 1 and copy.source in (0, 2)
  assert copy.member == {RATE: 10.0}
  assert scores(root, 0) == scores(root, 1) == [2.0, 12.0, 22.0]
  assert scores(root, 2) == [2.0, 12.0, 22.0]
  # What it was is kept.
  replaced = json.loads(
      (folder / '.replaced/run_1_until_2/summary.json').read_text()
  )
  assert replaced['iterations'][-1]['student_score'] == 3.0
  assert (folder / '.replaced' / 'run_0_until_1').exists()


def test_the_bad_become_continuations_of_the_good(tmp_path, monkeypatch):
  monkeypatch.setattr(process, 'PROGRAM', engine_test.PROGRAM)
  output = io.StringIO()
  members = trials()
  members[2] = engine_test.trial('p', 'fail = 1', seeds=(2,))
  board = carry_out(str(tmp_path), members, output)
  assert [board.rows[t.name].state for t in members] == [
      'done'
  ] * 3, output.getvalue()
  check_outcome(tmp_path)
  # Drawn, and told in words.
  table = drawn.table(drawn.read(str(tmp_path / 'Pong' / 'p')))
  assert '0 -> 10' in table and 'rate' in table
  show_run.main(['show_run', str(tmp_path / 'Pong' / 'p')])


def test_a_killed_population_goes_on(tmp_path):
  script = tmp_path / 'driver.py'
  root = tmp_path / 'sweep'
  script.write_text(textwrap.dedent(f"""
      import sys
      sys.path[:0] = {engine_test.PATH}
      from tests.launch import tune_pbt_test as together_test
      board = together_test.carry_out(
          {str(root)!r}, together_test.trials('seconds = 1')
      )
      print(board.table())
  """))
  run = lambda: subprocess.Popen(
      [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
  )
  record = root / 'Pong' / 'p' / lineage.FILE_NAME
  with run() as driver:
    patience = time.monotonic() + 200
    while not (record.exists() and '"target"' in record.read_text()):
      assert time.monotonic() < patience
      time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
  with run() as driver:
    output, _ = driver.communicate(timeout=300)
  assert driver.returncode == 0
  assert output.count('done') == 3, output
  check_outcome(root)


def test_members_that_are_given_up_are_not_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(process, 'PROGRAM', engine_test.PROGRAM)
  monkeypatch.setattr(engine, 'ATTEMPTS', 1)
  members = trials()
  members[0] = engine_test.trial('p', 'fail = 9', 'seconds = 3', seeds=(0,))
  board = carry_out(str(tmp_path), members, io.StringIO())
  assert board.rows[members[0].name].state == board_lib.FAILED
  assert scores(tmp_path, 1) == scores(tmp_path, 2) == [2.0, 12.0, 22.0]
  _, (first, *_) = lineage.read(str(tmp_path / 'Pong' / 'p'))
  assert list(first.scores) == [None, 1.0, 2.0]


# -- members, and what they were -----------------------------------------------


def member(tmp_path, copied=None):
  experiment = engine_test.trial('p', 'learner.rate = 1').experiment
  return Member(
      1,
      ('program',),
      vars(experiment) | {'run_number': 1},
      str(tmp_path / 'run_1'),
      (2, 4, 5),
      {RATE: 4.0},
      copied,
  )


def test_flags_of_a_member(tmp_path):
  flags = member_lib.flags_of(member(tmp_path), 4)
  bound = [flags[i + 1] for i, f in enumerate(flags) if f == '--gin_bindings']
  # The last one counts.
  assert bound[1:] == [
      'learner.rate = 1',
      'learner.rate = 4.0',
      'RunnerWithTeacher.stop_after = 4',
  ]
  assert '--fork_from' not in flags
  one = member(tmp_path, Copied(0, 2))
  flags = member_lib.flags_of(one, 4)
  assert flags[flags.index('--fork_from') + 1] == one.directory
  assert Member.of(json.loads(json.dumps(one._asdict()))) == one._replace(
      stops=[2, 4, 5],
      program=['program'],
      experiment=json.loads(json.dumps(one.experiment)),
  )


def test_a_copy_begins_once(tmp_path):
  other = member(tmp_path)._replace(directory=str(tmp_path / 'run_0'))
  other.experiment['run_number'] = 0
  checkpoint = tmp_path / 'run_0' / 'checkpoints' / 'scores.json'
  checkpoint.parent.mkdir(parents=True)
  checkpoint.write_text('[1.0, 2.0]')
  member_lib.take_snapshot(other, 2)
  checkpoint.unlink()
  checkpoint.write_text('[1.0, 2.0, 3.0]')
  member_lib.take_snapshot(other, 2)  # It is there.
  own = tmp_path / 'run_1'
  own.mkdir()
  (own / 'summary.json').write_text('before')
  one = member(tmp_path, Copied(0, 2))
  for text in ('', 'after'):
    member_lib.begin(one)
    assert (own / 'checkpoints' / 'scores.json').read_text() == '[1.0, 2.0]'
    if text:
      assert (own / 'summary.json').read_text() == text
    (own / 'summary.json').write_text('after')
  replaced = tmp_path / '.replaced' / 'run_1_until_2' / 'summary.json'
  assert replaced.read_text() == 'before'


def test_snapshots_that_nobody_copies_any_more_go(tmp_path):
  one = member(tmp_path)
  (tmp_path / 'run_1' / 'checkpoints').mkdir(parents=True)
  for stop in one.stops:
    member_lib.take_snapshot(one, stop)
  names = sorted(path.name for path in (tmp_path / '.snapshots').iterdir())
  assert names == ['run_1_after_4', 'run_1_after_5']


def test_another_number_of_members_is_refused(tmp_path):
  history = tune_pbt.History(str(tmp_path), POPULATION, trials(), NEEDS)
  (tmp_path / 'Pong' / 'p').mkdir(parents=True)
  history.add(1, 400, [0.0, 1.0, 2.0], [lineage.Copy(0, 2, {RATE: 10.0})])
  again = tune_pbt.History(str(tmp_path), POPULATION, trials(), NEEDS)
  assert again.member(0) == history.member(0)
  assert again.member(0).copied == Copied(2, 1) and again.decided == 1
  others = [t for t in trials(count=4) if t.seeds != (1,)]
  for members in (trials(count=2), others):
    with pytest.raises(errors.UserError, match='says how runs 0, 1, 2 copied'):
      tune_pbt.History(str(tmp_path), POPULATION, members, NEEDS)


def test_the_dry_run_says_what_may_change_and_when():
  said = tune_pbt.describe(POPULATION, trials(), {'Pong/p': NEEDS})
  assert said == (
      'Population-based training, after iterations 1, 2: the lowest of 3 runs '
      'copies the highest (weights, optimizer and replay). Then settings '
      'change, times 1.25: learner.rate (bounds, 0.0, 10.0).'
  )
  assert stand_in_train.NUM_ITERATIONS == NUM_ITERATIONS
