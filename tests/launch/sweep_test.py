"""Descriptions of sweeps: YAML, gin and flags, and what is wrong with them."""

import dataclasses
import math
import re

import numpy as np
from paths import ROOT
import pytest
import yaml

from reincarnating_rl.base import errors
from reincarnating_rl.launch import sampling
from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch.sweep import Method
from reincarnating_rl.launch.trials import configurations
from reincarnating_rl.launch.trials import make_trials

YAML = """
games: [Pong, Boxing]
agents:
  - qdagger_dqn
  - name: slow
    agent: qdagger_dqn
    gin_files: [qdagger_dqn.gin, comparison.gin]
    bindings: {Runner.num_iterations: 3}
  - dqn
teachers: bundled:{game}
seeds: 2
gin_files: comparison.gin
bindings:
  Runner.training_steps: 100
  JaxDQNAgent.network: '@reincarnation_networks.NatureDQNNetwork'
grid:
  create_optimizer.learning_rate: [1e-4, 0.001]
"""


def _read(tmp_path, text, flags=(), name='sweep.yaml'):
  path = tmp_path / name
  path.write_text(text)
  return sweep_lib.read(str(path), dict(flags))


def test_all_combinations_with_directories_of_their_own(tmp_path):
  sweep = _read(tmp_path, YAML)
  assert sweep.agents[0] == Method('qdagger_dqn', 'qdagger_dqn')
  assert sweep.grid == {'create_optimizer.learning_rate': (1e-4, 1e-3)}
  found = configurations(sweep)
  assert [c.name for c in found][:4] == [
      'Pong/qdagger_dqn/learning_rate=0.0001',
      'Pong/qdagger_dqn/learning_rate=0.001',
      'Pong/slow/learning_rate=0.0001',
      'Pong/slow/learning_rate=0.001',
  ]
  assert len(found) == 2 * 3 * 2
  first, slow, dqn = (found[i].experiment for i in (0, 2, 4))
  assert first.game == 'Pong' and first.teacher == 'bundled:Pong'
  assert first.gin_files == ('qdagger_dqn.gin', 'comparison.gin')
  assert first.bindings == (
      'Runner.training_steps = 100',
      'JaxDQNAgent.network = @reincarnation_networks.NatureDQNNetwork',
      'create_optimizer.learning_rate = 0.0001',
  )
  assert 'Runner.num_iterations = 3' in slow.bindings
  # It learns from nothing.
  assert dqn.agent == 'dqn' and dqn.teacher is None


def test_first_seeds_come_first_and_packed_ones_go_together(tmp_path):
  sweep = _read(tmp_path, YAML, {'seeds': [0, 1, 5], 'games': ['Pong']})
  found = configurations(sweep)
  alone = make_trials(sweep, found, pack=False)
  assert [t.seeds for t in alone[: len(found) + 1]] == [(0,)] * len(found) + [
      (1,)
  ]
  assert alone[0].experiment.num_seeds is None
  assert alone[0].base_dir('/s') == f'/s/{found[0].name}/run_0'
  packed = make_trials(sweep, found, pack=True)
  assert {t.seeds for t in packed} == {(0, 1), (5,)}
  pair = packed[0]
  assert (pair.experiment.run_number, pair.experiment.num_seeds) == (0, 2)
  assert pair.base_dir('/s') == f'/s/{found[0].name}'
  # The same runs in the same places.
  places = lambda trials: {d for t in trials for d in t.directories('/s')}
  assert places(packed) == places(alone)


def test_long_names_of_folders_are_cut_and_stay_different():
  values = [f'{"x" * 300}{i}' for i in range(2)]
  sweep = sweep_lib.parse(
      {
          'games': 'Pong',
          'agents': 'dqn',
          'grid': {'a.first': values, 'a.second': ['\u4e2d' * 100, 'short']},
      }
  )
  names = [c.name for c in configurations(sweep)]
  assert len(set(names)) == 4
  parts = [part for name in names for part in name.split('/')]
  assert max(len(part.encode()) for part in parts) <= 200


def test_gin_describes_the_same(tmp_path):
  text = """
      Sweep.games = ['Pong']
      Sweep.agents = ['dqn']
      Sweep.seeds = [3]
      Sweep.grid = {'Runner.training_steps': [10, 20]}
  """
  sweep = _read(tmp_path, text, name='sweep.gin')
  same = 'games: Pong\nagents: dqn\nseeds: [3]\n'
  same += 'grid: {Runner.training_steps: [10, 20]}'
  assert sweep == _read(tmp_path, same)
  assert sweep == _read(tmp_path, text, name='sweep.gin')


def test_networks_and_several_teachers_have_names_in_the_path():
  sweep = sweep_lib.parse(
      {
          'games': 'Pong',
          'agents': ['qdagger_dqn', 'dqn'],
          'networks': ['a.NatureDQNNetwork', '@a.ImpalaDQNNetwork'],
          'teachers': ['bundled:{game}', '/runs/{game}/1'],
      }
  )
  found = configurations(sweep)
  assert len(found) == 2 * 2 + 2
  assert found[0].name == 'Pong/qdagger_dqn/bundled_Pong,NatureDQNNetwork'
  assert found[3].experiment.teacher == '/runs/Pong/1'
  assert found[3].experiment.bindings == ('@a.ImpalaDQNNetwork',)
  assert found[4].name == 'Pong/dqn/NatureDQNNetwork'


def test_teachers_together_are_one_entry():
  sweep = sweep_lib.parse(
      {
          'games': 'Pong',
          'agents': 'qdagger_dqn',
          'teachers': [['bundled:{game}', '/runs/{game}/1'], 'bundled:{game}'],
      }
  )
  both, one = configurations(sweep)
  assert both.experiment.teacher == ('bundled:Pong', '/runs/Pong/1')
  assert both.name == 'Pong/qdagger_dqn/bundled_Pong+_runs_Pong_1'
  assert one.experiment.teacher == 'bundled:Pong'


def test_samples_are_drawn_once_and_for_all():
  description = {
      'games': 'Pong',
      'agents': 'dqn',
      'sample': {
          'a.rate': {'loguniform': [1e-5, 1e-3]},
          'a.size': {'integers': [1, 3]},
          'a.kind': {'choice': ['x', 'y']},
          'a.gamma': {'uniform': [0.9, 1.0]},
      },
      'num_samples': 40,
  }
  found = configurations(sweep_lib.parse(description))
  assert found == configurations(sweep_lib.parse(description))
  other = configurations(sweep_lib.parse(description | {'sample_seed': 1}))
  assert other != found
  assert len({c.name for c in found}) == 40
  drawn = [dict(b.split(' = ') for b in c.experiment.bindings) for c in found]
  rates = [float(d['a.rate']) for d in drawn]
  assert 1e-5 <= min(rates) < 1e-4 < max(rates) <= 1e-3
  assert {d['a.size'] for d in drawn} == {'1', '2', '3'}
  assert {d['a.kind'] for d in drawn} == {"'x'", "'y'"}
  assert all(0.9 <= float(d['a.gamma']) <= 1.0 for d in drawn)


def test_loguniform_is_uniform_in_the_logarithm():
  distribution = sampling.parse('x', {'loguniform': [1e-4, 1.0]})
  rng = np.random.default_rng(0)
  logs = [math.log10(distribution.draw(rng)) for _ in range(4000)]
  counts, _ = np.histogram(logs, bins=4, range=(-4, 0))
  np.testing.assert_allclose(counts / 4000, 0.25, atol=0.03)


@pytest.mark.parametrize(
    ('description', 'sentence'),
    [
        ({'agents': 'dqn'}, 'a sweep needs games'),
        ({'games': []}, 'games is empty'),
        ({'game': 'Pong'}, "a sweep has no entry 'game'; there are games"),
        ({'seeds': 0}, 'seeds must be how many'),
        ({'seeds': [1, 1]}, 'seeds has 1 twice'),
        ({'seeds': [-1]}, 'seeds must be how many'),
        ({'agents': [{'agent': 'dqn', 'gin': 'x'}]}, 'an entry of agents must'),
        ({'agents': [{'gin_files': 'x.gin'}]}, 'has no name'),
        ({'grid': {'a.b': 3}}, 'grid must give a list of values'),
        ({'grid': {'a.b': [1e-4, '1e-4']}}, 'grid of a.b has 0.0001 twice'),
        ({'num_samples': 3}, 'num_samples is 3, but nothing is sampled'),
        ({'sample': {'a.b': {'normal': [0, 1]}}}, 'a.b is sampled from normal'),
        ({'sample': {'a.b': {'uniform': [1, 0]}}}, 'that needs [low, high]'),
        ({'sample': {'a.b': {'loguniform': [0, 1]}}}, 'and above 0'),
        ({'sample': {'a.b': {'integers': [0.5, 1]}}}, 'both included'),
        ({'sample': {'a.b': {'choice': []}}}, 'that needs a list of values'),
        # gin would take it for a macro, which nobody uses.
        ({'grid': {'rate': [1, 2]}}, "grid has 'rate', which is no name"),
        (
            {'sample': {'rate': {'uniform': [0, 1]}}},
            "sample has 'rate', which is no name",
        ),
        (
            {
                'grid': {'a.b': [1]},
                'sample': {'a.b': {'choice': [1]}},
            },
            'a.b stands in grid and in sample',
        ),
    ],
)
def test_what_is_wrong_is_said(description, sentence):
  given = {'games': 'Pong', 'agents': 'dqn'} | description
  if sentence.startswith('a sweep needs'):
    given = description
  with pytest.raises(sweep_lib.Faults) as e:
    sweep_lib.parse(given)
  assert sentence in str(e.value)


def test_all_faults_at_once():
  with pytest.raises(sweep_lib.Faults, match='for 3 faults') as e:
    sweep_lib.parse({'games': 3, 'seeds': 'many', 'agents': []})
  assert str(e.value).count('\n  - ') == 3


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('- a\n- b', 'must be a mapping'),
        ('games: [Pong', 'is no YAML'),
    ],
)
def test_files_that_are_no_sweep(tmp_path, text, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    _read(tmp_path, text)
  with pytest.raises(errors.UserError, match='No such file'):
    sweep_lib.read(str(tmp_path / 'none.yaml'), {})


def test_the_documentation_describes_sweeps():
  text = (ROOT / 'docs/scaling.md').read_text()
  whole, population = re.findall(r'```yaml\n(.*?)```', text, re.DOTALL)
  sweep = sweep_lib.parse(yaml.safe_load(whole))
  assert len(configurations(sweep)) == 2 * 3 * 2 * 4
  described = sweep_lib.parse(
      {'games': 'Pong', 'agents': 'dqn'} | yaml.safe_load(population)
  )
  assert len(described.population.training.mutations) == 3
  named = set(re.findall(r'`(\w+)`', text))
  assert {f.name for f in dataclasses.fields(sweep_lib.Sweep)} <= named


def test_grid_of_the_command_line():
  assert sweep_lib.parse_grid(['a.b=[1e-4, x]', 'c = [2]']) == {
      'a.b': ['1e-4', 'x'],
      'c': [2],
  }
  with pytest.raises(errors.UserError, match='is not of the form'):
    sweep_lib.parse_grid(['a.b=3'])
