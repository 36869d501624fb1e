"""Populations of processes: descriptions, directories, what came of them."""

import json
import os

import pytest

from reincarnating_rl.experiment import Experiment
from reincarnating_rl.launch import evolution
from reincarnating_rl.launch import evolving
from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch.evolution import Report
from reincarnating_rl.launch.evolving import Origin
from reincarnating_rl.launch.sampling import Distribution
from reincarnating_rl.launch.trials import configurations
from reincarnating_rl.launch.trials import make
from reincarnating_rl.loop import lineage

DESCRIPTION = {
    'size': 3,
    'mutations': {
        'a.rate': {'loguniform': [1e-4, 1e-2]},
        'a.steps': {'integers': [1, 5]},
        'a.kind': {'choice': ['x', 'y']},
    },
}


def test_a_population_is_members_of_one_configuration():
  sweep = sweep_lib.parse(
      {
          'games': 'Pong',
          'agents': 'qdagger_dqn',
          'seeds': [4],
          'population': DESCRIPTION,
      }
  )
  assert sweep.population.mutations['a.steps'] == Distribution(
      'integers', (1, 5)
  )
  [configuration] = configurations(sweep)
  # So that what looks at one sees names that are bound.
  assert len(configuration.experiment.bindings) == 3
  trials = make(sweep, [configuration], pack=True)
  assert [t.base_dir('/s') for t in trials] == [
      f'/s/Pong/qdagger_dqn/run_{seed}' for seed in (4, 5, 6)
  ]
  assert [t.experiment.run_number for t in trials] == [4, 5, 6]


def test_first_settings_differ_and_stay_the_same():
  population = evolution.parse(DESCRIPTION)
  first = [population.first_settings(k, 0) for k in range(3)]
  assert first == [population.first_settings(k, 0) for k in range(3)]
  assert len({settings['a.rate'] for settings in first}) == 3
  assert population.first_settings(0, 1) != first[0]


def test_settings_stay_where_their_distributions_are():
  population = evolution.parse(DESCRIPTION)
  assert population.within({'a.rate': 1.0, 'a.steps': 3.6, 'a.kind': 'y'}) == {
      'a.rate': 1e-2,
      'a.steps': 4,
      'a.kind': 'y',
  }
  assert population.within({'a.steps': 0.2}) == {'a.steps': 1}


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'size': 1}, 'a size of two or more'),
        ({'interval': 0}, 'interval of population must be one or more'),
        ({'quantile': 0.6}, 'quantile of population must be above 0'),
        ({'resample_probability': 2}, 'must be between 0 and 1'),
        ({'perturbation_factors': [0]}, 'must be positive numbers'),
        ({'mutations': {}}, 'population needs mutations'),
        ({'mutations': {'a': {'normal': [1, 2]}}}, 'is sampled from normal'),
        ({'copy': True}, 'population must have entries of size'),
    ],
)
def test_descriptions_that_make_no_sense(change, sentence):
  with pytest.raises(ValueError, match=sentence):
    evolution.parse(DESCRIPTION | change)


def test_one_seed_for_a_population():
  with pytest.raises(sweep_lib.Faults, match='but seeds are'):
    sweep_lib.parse(
        {
            'games': 'Pong',
            'agents': 'dqn',
            'seeds': 2,
            'population': DESCRIPTION,
        }
    )


def test_lineage_out_of_reports(tmp_path):
  folder = str(tmp_path)
  assert evolution.write_lineage(folder, [7, 8], 1) is None
  reports = [
      Report(0, 2, 200, 5.0, {'a.rate': 0.1, 'a.kind': 'x'}, 0),
      Report(1, 2, 200, 1.0, {'a.rate': 0.9, 'a.kind': 'x'}, 1),
      # Member 1 has copied member 0; this is said twice, after a restart.
      Report(1, 4, 400, 3.0, {'a.rate': 0.12, 'a.kind': 'y'}, 0),
      Report(0, 4, 400, 6.0, {'a.rate': 0.1, 'a.kind': 'x'}, 0),
      Report(1, 4, 400, 4.0, {'a.rate': 0.12, 'a.kind': 'y'}, 0),
      # The other one is not there yet.
      Report(0, 6, 600, 7.0, {'a.rate': 0.1, 'a.kind': 'x'}, 0),
  ]
  for report in reports:
    evolution.add_report(folder, report)
  with open(tmp_path / evolution.REPORTS, 'a') as f:
    f.write('{"member": 0, "itera')
  evolution.write_lineage(folder, [7, 8], 1)
  document, [exploit] = lineage.read(folder)
  assert document['run_numbers'] == [7, 8]
  assert document['mutated'] == ['rate']
  assert document['members'] == [{'rate': 0.1}, {'rate': 0.9}]
  assert exploit.iteration == 3  # one of the plan came before
  assert exploit.agent_steps == 200
  assert list(exploit.scores) == [5.0, 1.0]
  assert exploit.copies == (lineage.Copy(1, 0, {'rate': 0.12}),)


# -- directories of members ----------------------------------------------------


def member(tmp_path, index=1):
  directory = tmp_path / f'run_{index}'
  experiment = Experiment(agent='qdagger_dqn', bindings=('a.rate = 1',))
  return evolving._Member(
      f'Pong/run_{index}',
      index,
      vars(experiment),
      str(directory),
      str(directory / 'log.txt'),
      (2, 4, 5),
      1,
      0.0,
  )


def test_a_copy_takes_the_place_of_what_was_there(tmp_path):
  one = member(tmp_path)
  own = evolving.begin(one, None, {'a.rate': 3})
  assert own == Origin({'a.rate': 3}, 1)
  (tmp_path / 'run_1' / 'summary.json').write_text('before')
  # Started again, it is what it was, whatever it is told to begin with.
  assert evolving.begin(one, None, {'a.rate': 9}) == own
  wanted = Origin({'a.rate': 4}, 0, 2, '/snapshot')
  copied = wanted._replace(copies=1)
  assert evolving.begin(one, wanted, {}) == copied
  assert not (tmp_path / 'run_1' / 'summary.json').exists()
  replaced = tmp_path / '.replaced' / 'run_1_until_2' / 'summary.json'
  assert replaced.read_text() == 'before'
  # Begun before it was stopped: not once more.
  (tmp_path / 'run_1' / 'summary.json').write_text('after')
  assert evolving.begin(one, wanted, {}) == copied
  assert (tmp_path / 'run_1' / 'summary.json').read_text() == 'after'


def test_nobody_copies_itself_or_who_has_ended(tmp_path):
  one = member(tmp_path)
  state = {'member': 0, 'iterations': 2, 'snapshot': '/s'}
  assert evolving.wanted_copy(one, state, {'a.rate': 4}) == Origin(
      {'a.rate': 4}, 0, 2, '/s'
  )
  assert evolving.wanted_copy(one, state | {'member': 1}, {}) is None
  assert evolving.wanted_copy(one, state | {'iterations': 5}, {}) is None


def test_flags_of_a_member(tmp_path):
  origin = Origin({'a.rate': 4}, 0, 2, '/snapshot')
  flags = evolving.flags_of(member(tmp_path), origin, 4)
  bound = [flags[i + 1] for i, f in enumerate(flags) if f == '--gin_bindings']
  # The last one counts.
  assert bound == ['a.rate = 1', 'a.rate = 4', 'Runner.num_iterations = 4']
  assert flags[flags.index('--fork_from') + 1] == '/snapshot'


def test_snapshots_stay_as_they_were(tmp_path):
  one = member(tmp_path)
  checkpoint = tmp_path / 'run_1' / evolving.CHECKPOINTS / '3'
  checkpoint.mkdir(parents=True)
  (checkpoint / 'data').write_text('three')
  snapshot = evolving.take_snapshot(one, 2)
  # The run goes on: checkpoints come and go, whole.
  (checkpoint / 'data').unlink()
  (checkpoint / 'data').write_text('other')
  kept = os.path.join(snapshot, evolving.CHECKPOINTS, '3', 'data')
  with open(kept) as f:
    assert f.read() == 'three'
  for iterations in (4, 10):
    evolving.take_snapshot(one, iterations)
  assert sorted(os.listdir(tmp_path / '.snapshots')) == [
      'run_1_after_10',
      'run_1_after_4',
  ]


def test_who_is_copied_is_said_once(tmp_path, monkeypatch):
  one = member(tmp_path)
  summary = {
      'iterations': [
          {
              'phase': 'online',
              'iteration': 1,
              'agent_steps': 400,
              'updates': 9,
              'student_score': 2.5,
              'teacher_normalized': None,
          }
      ]
  }
  commands = []

  def carry_out(command, directories, log, **options):
    commands.append(command)
    os.makedirs(one.directory, exist_ok=True)
    with open(os.path.join(one.directory, 'summary.json'), 'w') as f:
      json.dump(summary, f)

  monkeypatch.setattr(evolving.process, 'carry_out', carry_out)
  origin = Origin({'a.rate': 4}, 0, 2, '/snapshot')
  assert evolving.learn_until(one, origin, 4) == Report(
      1, 4, 400, 2.5, {'a.rate': 4}, 0
  )
  assert evolving.learn_until(one, origin, 5).source == 1
  assert 'Runner.num_iterations = 5' in commands[1]
