"""Seeds and populations from the entry point: folders, results, bad input."""

from __future__ import annotations

import json

import jax
import pytest
import tiny_runs
from tiny_runs import metrics
from tiny_runs import summary

from reincarnating_rl import train
from reincarnating_rl.app import experiment
from reincarnating_rl.base import errors
from reincarnating_rl.base.errors import StoppedError
from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.loop.config import memory
from reincarnating_rl.loop.population import lineage
from reincarnating_rl.loop.population import pbt
from reincarnating_rl.runners import group_runner

PHASES = ['teacher_evaluation', 'pretraining', 'online', 'online']


def with_flags(do, base_dir, *more):
  """Calls it with the flags of a run that takes seconds, and some more."""
  flags = ['--agent=qdagger_dqn', '--gin_files=qdagger_dqn.gin']
  flags += [f'--base_dir={base_dir}']
  flags += [f'--teacher_checkpoint_dir={tiny_runs.TEACHER}']
  flags += tiny_runs.binding_flags(tiny_runs.BINDINGS)
  return tiny_runs.with_flags(do, [*flags, *more])


def run(base_dir, *more):
  with_flags(lambda: train.main(['train']), base_dir, *more)


def runners(base_dir, *more):
  """Those of a group that is not run."""

  def make():
    with errors.user_errors():
      return experiment.make_runner(
          train.experiment_of_flags(), str(base_dir)
      ).runners

  return with_flags(make, base_dir, *more)


def test_what_breaks_down_is_saved(tmp_path, monkeypatch):
  class Broken:

    def __init__(self, runs):
      del runs

    def run(self, *unused):
      raise EnvironmentFailedError('An emulator is broken')

  def make():
    return experiment.make_runner(train.experiment_of_flags(), str(tmp_path))

  group = with_flags(make, tmp_path, '--num_seeds=2')
  monkeypatch.setattr(group_runner, 'SideBySide', Broken)
  with pytest.raises(StoppedError, match='An emulator is broken'):
    group.run_experiment()


def write_population(tmp_path, members):
  path = tmp_path / 'population.json'
  path.write_text(json.dumps(members), encoding='utf-8')
  return f'--population={path}'


def test_seeds_in_folders_of_their_own_are_as_single_runs(
    tmp_path, monkeypatch
):
  # Code is compiled for each device anew; that takes most of the time.
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  group, alone = tmp_path / 'group', tmp_path / 'alone'
  run(group, '--num_seeds=2', '--run_number=4')
  above = summary(group)
  assert above['run_numbers'] == [4, 5]
  assert above['runs'] == ['run_4', 'run_5']
  assert 'iterations' not in above
  for number in (4, 5):
    found = summary(group / f'run_{number}')
    assert found['run_number'] == number
    assert found['config']['settings']['seed'] == number
    assert [i['phase'] for i in found['iterations']] == PHASES
    assert (group / f'run_{number}' / 'config.gin').exists()

  run(alone, '--run_number=5')
  assert summary(group / 'run_5')['iterations'] == summary(alone)['iterations']
  one, two, single = map(metrics, (group / 'run_4', group / 'run_5', alone))
  assert two == single
  # The teacher plays the same in all of them, every student on its own.
  assert one[0] == two[0]
  assert all(ours != theirs for ours, theirs in zip(one[1:], two[1:]))


def test_dry_run_prints_one_plan_and_writes_nothing(tmp_path, capsys):
  base_dir = tmp_path / 'group'
  run(base_dir, '--num_seeds=3', '--run_number=4', '--dry_run')
  printed = capsys.readouterr().out
  assert printed.count(f'qdagger_dqn on {tiny_runs.PROBE}, seed') == 1
  assert '3 such runs side by side, with seeds 4 to 6;' in printed
  assert not base_dir.exists()


def test_one_seed_is_a_group_without_company(tmp_path, capsys):
  run(tmp_path / 'group', '--num_seeds=1', '--dry_run')
  assert 'such runs' not in capsys.readouterr().out


def test_each_member_has_its_own_settings(tmp_path):
  members = [{'learning_rate': 0.5}, {'lambda_scale': 2.0}]
  population = write_population(tmp_path, members)
  made = runners(tmp_path / 'group', population, '--run_number=7', '--dry_run')
  assert [r.options.run_number for r in made] == [7, 8]
  configs = [r.run_config for r in made]
  assert [c.seed for c in configs] == [7, 8]
  assert [c.learning_rate for c in configs] == [0.5, 1e-4]


@pytest.mark.parametrize(
    'members, more, words',
    [
        ([{}, {}], ['--num_seeds=3'], 'has 2 members, --num_seeds is 3'),
        ([{}, {'batch': 4}], [], 'Member 1 of'),
        (
            [{'learning_rate': 1e-3}],
            ['--gin_bindings=Runner.training_steps = 0'],
            'training_steps must be positive, got 0',
        ),
        (
            [{'gamma': 0.9}, {'gamma': 0.95}],
            ["--gin_bindings=ResetSchedule.preset = 'bbf'"],
            'sets gamma, and so does the annealing',
        ),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, members, more, words):
  base_dir = tmp_path / 'group'
  with pytest.raises(errors.UserError) as error:
    run(base_dir, write_population(tmp_path, members), *more)
  sentence = str(error.value)
  assert words in sentence
  assert '\n' not in sentence and sentence.endswith('.')
  assert not base_dir.exists()


# -- population-based training -------------------------------------------------

TRAINING = (
    'PopulationBasedTraining.interval = 1',
    "PopulationBasedTraining.mutations = {'learning_rate': "
    "('log_uniform', 1e-5, 1e-2)}",
)


def copying(*bindings):
  return [f'--gin_bindings={b}' for b in (*TRAINING, *bindings)]


def test_runs_that_copy_each_other_say_so(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:1])
  decide = pbt.decide  # So short runs have all the same score.

  def by_index(training, scores, *others):
    return decide(training, range(len(scores)), *others)

  monkeypatch.setattr(pbt, 'decide', by_index)
  group = tmp_path / 'group'
  run(group, '--num_seeds=2', '--run_number=4', *copying())
  document, (exploit,) = lineage.read(str(group))
  assert document['run_numbers'] == [4, 5]
  assert document['mutated'] == ['learning_rate']
  (copy,) = exploit.copies
  assert (copy.target, copy.source) == (0, 1)
  assert copy.member != document['members'][1]
  found = summary(group / 'run_4')['config']
  assert found['member'] == copy.member
  rate = copy.member['learning_rate']
  assert found['settings']['learning_rate'] == rate
  with open(group / 'run_4' / 'metrics.jsonl', encoding='utf-8') as f:
    lines = [json.loads(line) for line in f]
  told = [line['member'] for line in lines if line['kind'] == 'phase']
  assert told == [document['members'][0]] * 3 + [copy.member]
  other = summary(group / 'run_5')['config']
  assert other['member'] == document['members'][1]

  # Prolonged, it goes on where it was, with what it had copied.
  run(
      group,
      '--num_seeds=2',
      '--run_number=4',
      *copying('Runner.num_iterations = 3'),
  )
  exploits = lineage.read(str(group))[1]
  assert [e.iteration for e in exploits] == [2, 3]
  assert exploits[0] == exploit
  assert exploits[1].members[0] == copy.member
  # How they copy is a setting.
  with pytest.raises(errors.UserError, match='population-based training was'):
    run(
        group,
        '--num_seeds=2',
        '--run_number=4',
        *copying('PopulationBasedTraining.quantile = 0.5'),
    )


def test_a_dry_run_tells_when_they_copy(tmp_path, capsys):
  more = copying('Runner.num_iterations = 4')
  run(tmp_path / 'group', '--num_seeds=4', '--dry_run', *more)
  printed = capsys.readouterr().out
  assert printed.count(': learning_rate ') == 5
  assert 'after iterations 2, 3, 4: the lowest of 4 runs' in printed
  assert 'learning_rate (log-uniform, 1e-05, 0.01); final_learning' in printed


@pytest.mark.parametrize(
    'members, more, words',
    [
        (None, [], 'there is a single run, and nobody to copy'),
        (None, ['--num_seeds=1'], 'needs two runs at least, but there is 1'),
        ([{}], [], 'needs two runs at least, but there is 1'),
        (
            [{}, {}],
            [
                "--gin_bindings=PopulationBasedTraining.mutations = {'gamma': "
                "('uniform', 0.9, 0.99)}",
                "--gin_bindings=ResetSchedule.preset = 'bbf'",
            ],
            'sets gamma, and so does the annealing',
        ),
        (
            [{}, {}],
            ['--gin_bindings=PopulationBasedTraining.quantile = 0.6'],
            'quantile must be above 0 and at most 0.5, got 0.6',
        ),
        (
            None,
            [
                '--num_seeds=2',
                "--gin_bindings=PopulationBasedTraining.mutations = {'margin': "
                "('bounds', 0.1, 1.0)}",
            ],
            'bounds margin, but does not say where first values come from',
        ),
    ],
)
def test_what_cannot_be_copied_is_one_sentence(tmp_path, members, more, words):
  base_dir = tmp_path / 'group'
  more = [*copying(), *more]
  if members is not None:
    more.append(write_population(tmp_path, members))
  with pytest.raises(errors.UserError) as error:
    run(base_dir, *more)
  sentence = str(error.value)
  assert words in sentence
  assert '\n' not in sentence and sentence.endswith('.')
  assert not base_dir.exists()


def test_other_runs_may_stand_beside_a_group_that_copies_nobody(tmp_path):
  for number in (0, 1, 7):
    (tmp_path / f'run_{number}' / 'checkpoints').mkdir(parents=True)
  for numbers in ([7], [0, 1]):
    group_runner.check_layout(str(tmp_path), numbers)
    with pytest.raises(ValueError, match='holds runs 0, 1, 7, but runs'):
      group_runner.check_layout(str(tmp_path), numbers, alone=True)
  # Some of them, where it was killed before all had begun.
  group_runner.check_layout(str(tmp_path), range(9), alone=True)
  (tmp_path / lineage.FILE_NAME).write_text('{}')
  with pytest.raises(ValueError, match='holds runs 0, 1, 7, but runs 7 are'):
    group_runner.check_layout(str(tmp_path), [7])
  with pytest.raises(ValueError, match='but a single run is asked for'):
    group_runner.check_layout(str(tmp_path), None)


def test_a_population_is_not_written_over(tmp_path):
  with pytest.raises(errors.UserError, match='move the file out of --base_dir'):
    run(tmp_path, write_population(tmp_path, [{}, {}]))


# -- memory --------------------------------------------------------------------


@pytest.mark.parametrize('flags, count', [([], 1), (['--num_seeds=3'], 3)])
def test_runs_that_do_not_fit_are_refused(tmp_path, monkeypatch, flags, count):
  monkeypatch.setattr(memory, 'available', lambda: 10**6)
  with pytest.raises(errors.UserError) as error:
    run(tmp_path / 'group', *flags)
  sentence = str(error.value)
  assert sentence.startswith(f'{count} replays of 0.00 GiB and 0.01 GiB')
  assert 'lower the capacity' in sentence and '\n' not in sentence
  assert not list(tmp_path.rglob('summary.json'))
