"""Which runs are one method, what methods are called, what is not compared."""

from __future__ import annotations

import re

import pytest
import written_runs
from written_runs import write_run

from reincarnating_rl.base import errors
from reincarnating_rl.report.reading import compatibility
from reincarnating_rl.report.reading import grouping
from reincarnating_rl.report.reading import loading
from reincarnating_rl.report.reading import method_identity


def _methods(folder, split=(), labels=None):
  return grouping.group(loading.load([str(folder)]).runs, split, labels)


def _names(folder, split=()):
  return [method.name for method in _methods(folder, split)]


# -- grouping ------------------------------------------------------------------


def test_files_and_not_names_of_folders_make_a_method(tmp_path):
  for i, (game, seed) in enumerate(
      [('Pong', 2), ('Boxing', 1), ('Pong', 1), ('Boxing', 2)]
  ):
    write_run(tmp_path / f'x{i}', [1.0], game=game, seed=seed)
  (method,) = _methods(tmp_path)
  assert method.name == 'qdagger_dqn'
  assert {g: [r.seed for r in runs] for g, runs in method.runs.items()} == {
      'Boxing': [1, 2],
      'Pong': [1, 2],
  }


def test_bookkeeping_makes_no_method(tmp_path):
  write_run(tmp_path / 'a', [1.0])
  more = (
      'RunnerWithTeacher.checkpoint_every = 5\nReincarnationRunner.keep = 9\n'
      "RunnerWithTeacher.wandb_project = 'p'\n"
  )
  write_run(tmp_path / 'b', [1.0], seed=2, more_gin=more)
  assert _names(tmp_path) == ['qdagger_dqn']


def test_an_agent_without_configurations_lends_its_name(tmp_path):
  write_run(tmp_path / 'a', [1.0], gin_files=())
  assert _names(tmp_path) == ['qdagger_dqn']


def test_settings_that_differ_are_in_the_names(tmp_path):
  for i, rate in enumerate([1e-4, 3e-4, 1e-3]):
    write_run(
        tmp_path / str(i), [1.0], settings={'learning_rate': rate}, seed=i
    )
  write_run(tmp_path / 'other', [1.0], gin_files=['dqn.gin'], agent='dqn')
  assert _names(tmp_path) == [
      'dqn',
      'qdagger_dqn, learning_rate=0.0001',
      'qdagger_dqn, learning_rate=0.0003',
      'qdagger_dqn, learning_rate=0.001',
  ]


def test_as_many_settings_as_it_takes_are_in_the_names(tmp_path):
  for i, (gamma, n) in enumerate([(0.9, 1), (0.9, 3), (0.99, 1)]):
    write_run(
        tmp_path / str(i),
        [1.0],
        settings={'gamma': gamma, 'update_horizon': n},
    )
  assert _names(tmp_path) == [
      'qdagger_dqn, update_horizon=1, gamma=0.9',
      'qdagger_dqn, update_horizon=1, gamma=0.99',
      'qdagger_dqn, update_horizon=3',
  ]


def test_networks_bindings_and_members_make_methods(tmp_path):
  write_run(tmp_path / 'a', [1.0], network='Impala DQN')
  write_run(tmp_path / 'b', [1.0])
  write_run(tmp_path / 'c', [1.0], more_gin='DQNAgent.double = True\n')
  write_run(tmp_path / 'd', [1.0], member={'gamma': 0.9}, gin_files=['p.gin'])
  write_run(tmp_path / 'e', [1.0], member={'gamma': 0.8}, gin_files=['p.gin'])
  assert _names(tmp_path) == [
      'p, gamma=0.8',
      'p, gamma=0.9',
      'qdagger_dqn, Impala DQN',
      'qdagger_dqn, Nature DQN, DQNAgent.double=True',
      'qdagger_dqn, Nature DQN, DQNAgent.double=unset',
  ]


def test_runs_that_copy_each_other_are_never_repetitions(tmp_path):
  copies = 'PopulationBasedTraining.interval = 1\n'
  for seed, gamma in ((1, 0.9), (2, 0.8), (3, 0.9)):
    directory, member = tmp_path / f'run_{seed}', {'gamma': gamma}
    write_run(directory, [1.0], seed=seed, member=member, more_gin=copies)
  assert _names(tmp_path) == [
      'qdagger_dqn, run=1',
      'qdagger_dqn, run=2',
      'qdagger_dqn, run=3',
  ]


def test_members_of_a_population_of_processes_are_none_either(tmp_path):
  """Whose copies are nothing that gin has bound."""
  for seed in (1, 2):
    write_run(tmp_path / f'run_{seed}', [1.0], seed=seed)
  assert len(_names(tmp_path)) == 1
  # A file of the user's that is called so.
  for text in ('[{}, {}]', '{}', '{"run_numbers": [7]}'):
    (tmp_path / 'population.json').write_text(text)
    assert len(_names(tmp_path)) == 1
  (tmp_path / 'population.json').write_text('{"run_numbers": [1, 2]}')
  assert _names(tmp_path) == ['qdagger_dqn, run=1', 'qdagger_dqn, run=2']


def test_a_setting_that_is_new_was_what_it_is_by_default(tmp_path):
  write_run(tmp_path / 'old', [1.0], seed=1)
  write_run(tmp_path / 'new', [1.0], seed=2, settings={'overlap': False})
  assert len(_names(tmp_path)) == 1
  write_run(tmp_path / 'other', [1.0], seed=3, settings={'overlap': True})
  assert len(_names(tmp_path)) == 2


def test_the_same_run_twice_is_refused(tmp_path):
  a = write_run(tmp_path / 'a', [1.0])
  b = write_run(tmp_path / 'b', [2.0])
  methods = _methods(tmp_path)
  with pytest.raises(errors.UserError, match=f'{a} and {b} are both seed 1'):
    grouping.check_seeds(methods)


def test_labels_replace_names(tmp_path):
  write_run(tmp_path / 'a', [1.0])
  write_run(tmp_path / 'b', [1.0], gin_files=['dqn.gin'], agent='dqn')
  first, second = _methods(tmp_path, labels={'qdagger_dqn': 'QDagger'})
  assert (first.name, second.name) == ('QDagger', 'dqn')
  with pytest.raises(
      errors.UserError, match='no such method; there are dqn; qd'
  ):
    _methods(tmp_path, labels={'qdagger': 'QDagger'})
  with pytest.raises(errors.UserError, match='two methods dqn'):
    _methods(tmp_path, labels={'qdagger_dqn': 'dqn'})


def test_bindings_are_read_over_several_lines():
  text = (
      'import a.b\n\n# Parameters for f:\n# ====\n'
      "f.a = \\\n    {'x': 1,\n     'y': 2}\nscope/g.b = @h\nM = 5\n"
  )
  assert method_identity.bindings(text) == {
      'f.a': "{'x': 1, 'y': 2}",
      'scope/g.b': '@h',
      'M': '5',
  }


# -- conditions ----------------------------------------------------------------

CHANGES = {
    'teacher': ({'teacher': 'abc'}, 'checksum Pong 25', 'checksum abc'),
    'rom': ({'md5': 'changed'}, 'md5 Pong of the rom', 'md5 Pong changed'),
    'sticky_actions': (
        {'settings': {'sticky_actions': 0.0}},
        'probability 0.25',
        'probability 0.0',
    ),
    'budget': (
        {'settings': {'training_steps': 2000}},
        '8,000 online agent steps',
        '4,000 online agent steps',
    ),
}


def _two(tmp_path, condition, **more):
  change, first, second = CHANGES[condition]
  a = write_run(tmp_path / 'a', [1.0, 2.0], 0.5)
  b = write_run(tmp_path / 'b', [1.0, 2.0], 0.5, seed=2, **change, **more)
  return a, b, first, second


@pytest.mark.parametrize('condition', CHANGES)
def test_a_method_whose_runs_differ_is_not_averaged(tmp_path, condition):
  a, b, first, second = _two(tmp_path, condition)
  methods = _methods(tmp_path)
  assert len(methods) == 1
  with pytest.raises(errors.UserError) as error:
    compatibility.check(methods)
  pattern = (
      f'{a} has .*{first}.*, {b} has .*{second}.*'
      f'not averaged; --mix {condition}'
  )
  assert re.search(pattern, str(error.value))
  told = compatibility.check(methods, mix=[condition])
  assert any(a in t and b in t and 'they are averaged' in t for t in told)


@pytest.mark.parametrize('condition', CHANGES)
def test_methods_that_differ_are_not_compared(tmp_path, condition):
  _, _, _, _ = _two(tmp_path, condition, gin_files=['other.gin'], agent='x')
  methods = _methods(tmp_path)
  assert len(methods) == 2
  with pytest.raises(errors.UserError, match='not compared'):
    compatibility.check(methods)
  (told,) = compatibility.check(methods, mix=[condition])
  assert 'they are compared' in told


@pytest.mark.parametrize('condition', method_identity.SEPARABLE)
def test_what_differs_can_be_split(tmp_path, condition):
  _two(tmp_path, condition)
  methods = _methods(tmp_path, split=[condition])
  assert len({method.name for method in methods}) == 2
  (told,) = compatibility.check(methods, split=[condition])
  assert f'--split {condition}' in told


def test_pretraining_is_part_of_the_budget_of_one_method_only(tmp_path):
  write_run(tmp_path / 'a', [1.0], 0.5)
  b = write_run(tmp_path / 'b', [1.0], gin_files=['dqn.gin'], agent='dqn')
  compatibility.check(_methods(tmp_path))
  longer = {'num_pretraining_steps': 9000}
  c = write_run(tmp_path / 'c', [1.0], 0.5, seed=2, settings=longer)
  with pytest.raises(errors.UserError, match='9,000 pretraining updates') as e:
    compatibility.check(_methods(tmp_path))
  assert c in str(e.value) and b not in str(e.value)


def test_learning_from_nothing_differs_in_no_teacher(tmp_path):
  write_run(tmp_path / 'a', [1.0])
  write_run(
      tmp_path / 'b', [1.0], teacher=None, gin_files=['dqn.gin'], agent='dqn'
  )
  methods = _methods(tmp_path)
  assert len(methods) == 2
  assert compatibility.check(methods) == []


def test_games_have_teachers_and_roms_of_their_own(tmp_path):
  for game in ('Pong', 'Boxing'):
    write_run(tmp_path / game, [1.0], game=game)
  assert compatibility.check(_methods(tmp_path)) == []


def test_summaries_of_different_versions_are_not_mixed(tmp_path):
  a = write_run(tmp_path / 'a', [1.0])
  b = write_run(tmp_path / 'b', [1.0], seed=2)
  written_runs.edit(b, lambda d: d['config'].pop('gin_files'))
  with pytest.raises(
      errors.UserError,
      match=f'{a} has a summary of this.*{b} has an older.*schema',
  ):
    compatibility.check(_methods(tmp_path))
  assert compatibility.check(_methods(tmp_path), mix=['schema'])
