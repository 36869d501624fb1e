"""A population of processes, with a stand-in for `train`."""

import functools
import io
import json
import os
import pathlib

import launched_trials
from launched_trials import NUM_ITERATIONS
from launched_trials import trial
import pytest

from reincarnating_rl import show_run
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.app.api import Needs
from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import population as population_lib
from reincarnating_rl.launch import population_spec
from reincarnating_rl.launch.population import Origin
from reincarnating_rl.launch.population import ProcessPopulation
from reincarnating_rl.loop.config.estimate import Memory
from reincarnating_rl.loop.population import lineage
from reincarnating_rl.report.reading import lineage as drawn

RATE = 'learner.rate'
NEEDS = Needs({}, {}, NUM_ITERATIONS, NUM_ITERATIONS, Memory(0, 0))
# The last one learns, and its rate can only be lowered.
DESCRIPTION = {
    'interval': 1,
    'mutations': {RATE: ['bounds', 0.0, 10.0]},
    'perturbation_factors': [1.25],
    'first': {RATE: [0.0, 2.0, 10.0]},
}
POPULATION = population_spec.parse(DESCRIPTION)


def trials(*bindings, count=3):
  return [trial('p', *bindings, seeds=(seed,)) for seed in range(count)]


def make(root, members=None, needs=NEEDS):
  return ProcessPopulation(str(root), POPULATION, members or trials(), needs)


def scores(root, seed):
  run = pathlib.Path(root) / 'Pong' / 'p' / f'run_{seed}'
  return [score.score for score in population_lib.online_scores(str(run))]


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
  # Nothing half done is left.
  assert not list(folder.glob('*.part'))


@pytest.mark.usefixtures('ray', 'stand_in')
def test_rounds_on_ray(tmp_path):
  output = io.StringIO()
  members = trials()
  members[2] = trial('p', 'fail = 1', seeds=(2,))
  population = population_spec.parse(DESCRIPTION | {'interval': 2})
  with launched_trials.displayed(tmp_path, members, output) as (display, run):
    ProcessPopulation(str(tmp_path), population, members, NEEDS).run(run)
  states = [display.rows[t.name].state for t in members]
  assert states == ['done'] * 3, output.getvalue()
  # A round is no new attempt.
  attempts = [display.rows[t.name].attempts for t in members]
  assert attempts == [1, 1, 2]
  assert output.getvalue().count('is done') == 3
  _, [exploit] = lineage.read(str(tmp_path / 'Pong' / 'p'))
  assert list(exploit.scores) == [0.0, 3.0, 12.0]
  assert scores(tmp_path, 1) == [1.0, 3.0, 5.0]
  assert scores(tmp_path, 0) == scores(tmp_path, 2) == [2.0, 12.0, 22.0]


@pytest.mark.usefixtures('stand_in')
def test_the_bad_become_continuations_of_the_good(tmp_path):
  members = trials()
  members[2] = trial('p', 'fail = 1', seeds=(2,))
  run = functools.partial(launched_trials.run_in_threads, tmp_path)
  make(tmp_path, members).run(run)
  check_outcome(tmp_path)
  # Drawn, and told in words.
  table = drawn.table(drawn.read(str(tmp_path / 'Pong' / 'p')))
  assert '0 -> 10' in table and 'rate' in table
  show_run.main(['show_run', str(tmp_path / 'Pong' / 'p')])


@pytest.mark.usefixtures('stand_in')
def test_a_killed_population_goes_on(tmp_path):
  root, gate = tmp_path / 'sweep', tmp_path / 'gate'
  code = f"""
      import functools
      from reincarnating_rl.app.api import Needs
      from reincarnating_rl.launch import population
      from reincarnating_rl.launch import population_spec
      from reincarnating_rl.loop.config.estimate import Memory
      trials = [
          launched_trials.trial('p', 'hold = {gate}', seeds=(seed,))
          for seed in range(3)
      ]
      population.ProcessPopulation(
          {str(root)!r},
          population_spec.parse({DESCRIPTION}),
          trials,
          Needs({{}}, {{}}, 3, 3, Memory(0, 0)),
      ).run(functools.partial(launched_trials.run_in_threads, {str(root)!r}))
  """
  record = root / 'Pong' / 'p' / lineage.FILE_NAME
  decided = lambda: record.exists() and '"target"' in record.read_text()
  launched_trials.kill_when(decided, code, tmp_path)
  assert len(scores(root, 2)) == 1
  gate.touch()
  members = make(root, trials(f'hold = {gate}'))
  members.run(functools.partial(launched_trials.run_in_threads, root))
  check_outcome(root)


class Killed(BaseException):
  """Ends a launch in the middle of something."""


@pytest.mark.usefixtures('stand_in')
def test_a_population_killed_at_any_moment_comes_to_the_same(
    tmp_path, monkeypatch
):
  """Each launch dies one step later than the one before, before and after."""
  steps = [(os, 'rename'), (os, 'replace'), (os, 'link'), (os, 'makedirs')]
  steps += [(files, 'write_json')]
  count = 0

  def launch(root, dies_at):
    left = dies_at

    def dying(function, *arguments, **options):
      nonlocal left
      left -= 1
      if left == 0:
        raise Killed
      found = function(*arguments, **options)
      left -= 1
      if left == 0:
        raise Killed
      return found

    with monkeypatch.context() as patch:
      for module, name in steps:
        function = getattr(module, name)
        patch.setattr(module, name, functools.partial(dying, function))
      make(root).run(functools.partial(launched_trials.run_here, root))

  while True:
    count += 1
    root = tmp_path / str(count)
    try:
      launch(root, count)
      break
    except Killed:
      make(root).run(functools.partial(launched_trials.run_here, root))
      check_outcome(root)
  check_outcome(root)
  assert count > 50


@pytest.mark.usefixtures('stand_in')
def test_members_that_are_given_up_are_not_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(engine, 'ATTEMPTS', 1)
  members = trials()
  members[0] = trial('p', 'fail = 9', seeds=(0,))
  run = functools.partial(launched_trials.run_here, tmp_path)
  make(tmp_path, members).run(run)
  assert scores(tmp_path, 0) == []
  assert scores(tmp_path, 1) == scores(tmp_path, 2) == [2.0, 12.0, 22.0]
  _, (first, *_) = lineage.read(str(tmp_path / 'Pong' / 'p'))
  assert list(first.scores) == [None, 1.0, 2.0]
  # A later launch trains it to its end, and the others are as they were.
  make(tmp_path).run(run)
  assert [scores(tmp_path, i) for i in range(3)] == [
      [0.0, 0.0, 0.0],
      [2.0, 12.0, 22.0],
      [2.0, 12.0, 22.0],
  ]


@pytest.mark.usefixtures('stand_in')
def test_a_population_of_which_nobody_is_left_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(engine, 'ATTEMPTS', 1)
  members = trials('fail = 9')
  make(tmp_path, members).run(
      functools.partial(launched_trials.run_here, tmp_path)
  )
  assert lineage.read(str(tmp_path / 'Pong' / 'p'))[1] == []


# -- members, and what they were -----------------------------------------------


def test_flags_of_a_member(tmp_path):
  needs = NEEDS._replace(iterations=6, online_iterations=5)
  members = make(tmp_path, trials('learner.rate = 1'), needs)
  assert members.stops == (1, 2, 3, 4, 5)

  def flags_of(stop):
    one = members.trial_until(1, stop)
    return experiment_flags.flags_of(one.experiment, members.directories[1])

  flags = flags_of(4)
  bound = [flags[i + 1] for i, f in enumerate(flags) if f == '--gin_bindings']
  # The last one counts.
  assert bound[1:] == [
      'learner.rate = 1',
      'learner.rate = 2.0',
      'RunnerWithTeacher.stop_after = 4',
  ]
  assert '--fork_from' not in flags
  members.origins[1] = Origin(0, 2)
  flags = flags_of(4)
  assert flags[flags.index('--fork_from') + 1] == members.directories[1]


@pytest.mark.usefixtures('stand_in')
def test_a_copy_begins_once(tmp_path):
  launched_trials.run_here(
      tmp_path, trials('RunnerWithTeacher.stop_after = 2')[:2]
  )
  other, own = (tmp_path / 'Pong' / 'p' / f'run_{i}' for i in range(2))
  (own / 'summary.json').write_text('before')
  for text in ('', 'after'):
    population_lib.make_copy(str(own), Origin(0, 2))
    copied = (own / 'checkpoints' / 'scores.json').read_text()
    assert copied == '[0.0, 1.0]'
    if text:
      assert (own / 'summary.json').read_text() == text
    (own / 'summary.json').write_text('after')
    # The source goes on.
    launched_trials.run_here(tmp_path, trials()[:1])
  assert len(json.loads((other / 'checkpoints/scores.json').read_text())) == 3
  replaced = tmp_path / 'Pong/p/.replaced/run_1_until_2/summary.json'
  assert replaced.read_text() == 'before'
  # There is no way back once the source has gone on.
  (own / 'origin.json').unlink()
  with pytest.raises(errors.UserError, match='after 2 online iterations, and'):
    population_lib.make_copy(str(own), Origin(0, 2))


def test_another_number_of_members_is_refused(tmp_path):
  members = make(tmp_path)
  (tmp_path / 'Pong' / 'p').mkdir(parents=True)
  members.lineage.add(
      lineage.Exploit(
          1,
          1,
          400,
          (0.0, 1.0, 2.0),
          tuple(members.settings),
          (lineage.Copy(0, 2, {RATE: 10.0}),),
      )
  )
  again = make(tmp_path)
  assert again.settings == [{RATE: 10.0}, {RATE: 2.0}, {RATE: 10.0}]
  assert again.origins == [Origin(2, 1), None, None] and again.decided == 1
  others = [t for t in trials(count=4) if t.seeds != (1,)]
  for wrong in (trials(count=2), others):
    with pytest.raises(errors.UserError, match='says how runs 0, 1, 2 copied'):
      make(tmp_path, wrong)


def test_the_dry_run_says_what_may_change_and_when():
  said = population_lib.describe(POPULATION, trials(), {'Pong/p': NEEDS})
  assert said == (
      'Population-based training, after iterations 1, 2: the lowest of 3 runs '
      'copies the highest (weights, optimizer and replay). Then settings '
      'change, times 1.25: learner.rate (bounds, 0.0, 10.0).'
  )
