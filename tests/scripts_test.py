"""Benchmarks: their helpers, and runs of seconds through the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from types import ModuleType

from paths import BENCHMARKS
from paths import ROOT
from paths import SCRIPTS
import pytest

ENTRY_KEYS = {'name', 'ours', 'peer', 'ratio', 'unit'}
# One device, as a user has; of these runs most is compilation.
XLA_FLAGS = re.sub(
    r'(?<=device_count=)\d+', '1', os.environ.get('XLA_FLAGS', '')
)


def _load(name: str) -> ModuleType:
  """A module of benchmarks/ or scripts/, which are no packages."""
  folder = SCRIPTS if name == 'compare_results' else BENCHMARKS
  spec = importlib.util.spec_from_file_location(name, folder / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


bench_lib = _load('bench_lib')
compare_results = _load('compare_results')


def _path(script: str) -> pathlib.Path:
  path = BENCHMARKS / script
  return path if path.exists() else SCRIPTS / script


def _run(script: str, *flags: str, **env: str) -> subprocess.CompletedProcess:
  # Elsewhere than in the repository, as a user would.
  return subprocess.run(
      [sys.executable, str(_path(script)), *flags],
      capture_output=True,
      text=True,
      cwd='/',
      env=os.environ | {'XLA_FLAGS': XLA_FLAGS} | env,
      timeout=300,
  )


class TestStatistics:

  def test_median(self):
    assert bench_lib.median([3.0, 1.0, 2.0]) == 2.0
    assert bench_lib.median([4.0, 1.0]) == 2.5
    assert bench_lib.median([7.0]) == 7.0
    assert bench_lib.median([]) is None

  def test_spread(self):
    assert bench_lib.spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert bench_lib.spread([5.0]) == 0.0
    assert bench_lib.spread([0.0, 0.0]) == 0.0
    assert bench_lib.spread([]) is None

  @pytest.mark.parametrize('unit', ['updates/s', 'agent steps/s'])
  def test_a_higher_rate_of_ours_is_better(self, unit):
    assert bench_lib.ratio(30.0, 10.0, unit) == 3.0

  @pytest.mark.parametrize('unit', ['us', 'ms', 's', 'MiB'])
  def test_less_time_and_memory_of_ours_is_better(self, unit):
    assert bench_lib.ratio(10.0, 30.0, unit) == 3.0

  def test_without_a_peer_there_is_no_ratio(self):
    assert bench_lib.ratio(10.0, None, 'us') is None
    assert bench_lib.ratio(10.0, 0.0, 'us') is None


class TestComparison:

  def _run_of(self, teacher, *scores):
    iterations = [
        {'agent_steps': steps, 'student_score': score}
        for steps, score in scores
    ]
    return {
        'random_score': -20.0,
        'teacher_score': teacher,
        'iterations': iterations,
    }

  def test_areas_are_of_the_online_curve_alone(self):
    results = {
        'Pong/a/1': self._run_of(0.0, (0, 0.0), (10, -10.0), (20, 0.0)),
        'Pong/a/2': self._run_of(0.0, (0, -20.0), (10, -20.0), (20, -10.0)),
        'Pong/a/1/x = 1': self._run_of(0.0, (10, 100.0)),
        'Pong/nothing/1': self._run_of(None, (10, -20.0), (20, -15.0)),
        'Boxing/a/1': self._run_of(5.0, (10, 5.0)),
    }
    found = compare_results.curve(results, 'Pong', 'a', ())
    assert found.scores.tolist() == [[1.0, 0.5, 1.0], [0.0, 0.0, 0.5]]
    assert found.areas.tolist() == [0.75, 0.25]
    table = compare_results.table(
        results, ['Pong'], ['nothing', 'a', 'missing'], ()
    )
    assert table.splitlines()[2:] == [
        '| `a` | 0.50 (0.25 to 0.75) | 0.50 | 0.75 | 2 |',
        '| `nothing` | 0.12 (0.12 to 0.12) |  | 0.25 | 1 |',
        '| `missing` |  |  |  | 0 |',
    ]
    other = compare_results.curve(results, 'Pong', 'a', ('x = 1',))
    assert other.scores.tolist() == [[6.0]]

  def test_the_page_of_results_says_what_the_file_says(self):
    docs = ROOT / 'docs'
    results = compare_results.load(docs / 'results/methods.json')
    page = (docs / 'results.md').read_text()
    # The other subjects have one seed, and tables of their own.
    complete = [key.split('/')[:2] for key in results if key.endswith('/3')]
    assert len(complete) >= 14
    for game, method in complete:
      table = compare_results.table(results, [game], [method], ())
      assert table.splitlines()[-1] in page


class TestMeasure:

  def test_rate_and_duration_of_the_same_work(self):
    def work():
      time.sleep(0.01)
      return 5

    rate = bench_lib.measure('updates/s', work, 0.05)
    assert 0 < rate <= 500  # a busy machine may be slower, never faster
    assert bench_lib.measure('us', work, 0.05) >= 2000
    assert bench_lib.measure('ms', work, 0.05) >= 2

  def test_without_seconds_the_work_is_done_once(self):
    calls = []
    bench_lib.measure('us', lambda: calls.append(0) or 1, 0.0)
    assert len(calls) == 1

  @pytest.mark.parametrize('unit', ['MiB', 's'])
  def test_untimed_is_what_the_work_says(self, unit):
    assert bench_lib.measure(unit, lambda: 123.0, 1.0) == 123.0

  def test_order_alternates(self):
    assert bench_lib.alternate('abc', 0) == ['a', 'b', 'c']
    assert bench_lib.alternate('abc', 1) == ['c', 'b', 'a']

  def test_a_peer_is_measured_in_turn_as_often_as_the_case_says(self):
    calls = []

    def build(side, value):
      return lambda: lambda: calls.append(side) or value

    cases = [
        bench_lib.Case('a', 's', build('a', 2.0), 0, build('peer', 6.0), 2),
        bench_lib.Case('b', 's', build('b', 4.0)),
    ]
    with open(os.devnull, 'w') as nowhere:
      bar = bench_lib.tqdm.tqdm(file=nowhere)
      results = bench_lib.run_cases(cases, 3, False, bar)
    first, last = ['a', 'peer', 'b'], ['b', 'peer', 'a']
    assert calls == first + first + last + ['b']
    assert bar.n == bench_lib.num_measurements(cases, 3) == 10
    assert [(len(r.ours), len(r.peer)) for r in results] == [(2, 2), (3, 0)]
    entries = [bench_lib.summarize(r) for r in results]
    assert [e['ratio'] for e in entries] == [3.0, None]


class TestOutput:

  def test_table_aligns_columns(self):
    rows = [['name', 'ours', 'unit'], ['a', '1', 'us'], ['bcdefg', '20', 'us']]
    assert bench_lib.format_table(rows) == (
        'name    ours  unit\n'
        '------------------\n'
        'a          1  us\n'
        'bcdefg    20  us'
    )

  def test_result_tables_of_one_side_and_two(self):
    one = bench_lib.Result('act', 'us', [1.0, 2.0, 3.0], (), 4.5)
    two = bench_lib.Result('add', 'us', [1.0, 2.0, 3.0], [5000.0])
    table = bench_lib.result_table([one])
    assert '2' in table.split() and '4.5 s' in table and 'peer' not in table
    row = bench_lib.result_table([two]).splitlines()[-1].split()
    assert row == ['add', '2', '100%', '5,000', '0%', '2,500', 'us']
    row = bench_lib.result_table([one, two]).splitlines()[2].split()
    assert row == ['act', '2', '100%', '-', '-', '-', '4.5', 's', 'us']

  def test_report(self):
    result = bench_lib.Result('add', 'us', [2.0], [3.0])
    report = bench_lib.report([result], {'cores': 2}, {'jax': None})
    assert report['results'] == [
        {'name': 'add', 'ours': 2.0, 'peer': 3.0, 'ratio': 1.5, 'unit': 'us'}
    ]
    assert report['machine'] == {'cores': 2}
    assert json.loads(json.dumps(report)) == report

  def test_filter(self):
    case = lambda name: bench_lib.Case(name, 'us', lambda: None)
    cases = [case('act/a'), case('add/a'), case('act/b')]
    chosen = bench_lib.select(cases, '^act')
    assert [c.name for c in chosen] == ['act/a', 'act/b']
    assert bench_lib.select(cases, '') == cases
    with pytest.raises(SystemExit, match='nothing matches none of: act/a, add'):
      bench_lib.select(cases, 'nothing')
    with pytest.raises(SystemExit, match=r'--filter=\('):
      bench_lib.select(cases, '(')


class TestBenchmark:

  def test_prints_one_json_object_and_nothing_else(self):
    wanted = ['replay/add/2k', 'replay/sample_32/2k']
    pattern = '^replay/'
    done = _run('benchmark.py', '--quick', '--json', f'--filter={pattern}')
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    results = {r['name']: r for r in report['results']}
    assert sorted(results) == wanted
    for entry in results.values():
      assert set(entry) == ENTRY_KEYS
      assert entry['ours'] > 0 and entry['unit'] == 'us'
      assert entry['peer'] is None and entry['ratio'] is None
    assert report['machine']['cores'] >= 1
    assert report['machine']['platform'] == 'cpu'
    assert report['versions']['jax']
    assert '100%' in done.stderr  # progress

  def test_prints_a_table_for_people(self):
    done = _run('benchmark.py', '--quick', '--filter=replay/add')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith('name') and lines[2].startswith('replay/add/2k')


class TestProfile:

  def test_parts_stand_beside_what_the_machine_allows(self):
    done = _run('profile_parts.py', '--quick', '--json', '--network=nature_dqn')
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    parts = {p['name']: p for p in report['parts']}
    whole = parts.pop('whole update')
    assert {'sampling', 'loss and gradients', 'optimizer'} <= set(parts)
    assert all(p['time'] > 0 for p in parts.values())
    # One pass over the states, and with their gradient and the target's four.
    forward = parts['forward pass']['gflop']
    assert 3 * forward < parts['loss and gradients']['gflop'] < 5 * forward
    assert whole['gflop'] > parts['loss and gradients']['gflop']
    assert report['machine']['GB/s'] > 0


class TestScalingRows:

  @pytest.fixture
  def bench_scaling(self, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return _load('bench_scaling')

  @pytest.mark.parametrize('on_cpu', [True, False])
  @pytest.mark.parametrize('full', [True, False])
  def test_names_and_units(self, bench_scaling, monkeypatch, on_cpu, full):
    monkeypatch.setattr(
        bench_scaling, 'is_stacked_by_default', lambda: not on_cpu
    )
    sizes = bench_scaling.choose_sizes(False, full)
    groups = bench_scaling.make_groups(sizes)
    cases = {case.name: case for group in groups for case in group}
    members = [1, 2, 4, 8] if on_cpu else [1, 2, 4, 8, 10, 16, 40]
    large = full or not on_cpu
    populations = [1, 2, 5, 10, 20, 40] if large else [1, 2, 5]
    wanted = {}
    for name in ('nature_c51', 'impala_c51'):
      for size in members:
        wanted[f'members/{name}/update_per_member/{size}'] = 'ms', True
      for ratio in ('0.25', '1', '2.5', '8', '32'):
        wanted[f'replay_ratio/{name}/{ratio}'] = 'updates/s', True
    for size in populations:
      for num_updates in (1, 10):
        start = f'population/{size}/updates_{num_updates}'
        wanted[f'{start}/update'] = 'ms', True
        wanted[f'{start}/compile'] = 's', False
    found = {k: (c.unit, bool(c.build_peer)) for k, c in cases.items()}
    assert found == wanted

  def test_runs(self):
    units = {
        'members/nature_c51/update_per_member/2': 'ms',
        'replay_ratio/nature_c51/2.5': 'updates/s',
        'population/2/updates_1/update': 'ms',
        'population/2/updates_1/compile': 's',
    }
    pattern = f'^({"|".join(units)})$'
    done = _run(
        'benchmark.py',
        '--quick',
        '--json',
        '--repeats=1',
        f'--filter={pattern}',
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)['results']
    assert {r['name']: r['unit'] for r in results} == units
    for entry in results:
      assert set(entry) == ENTRY_KEYS and entry['ours'] > 0
      compiles = entry['name'].endswith('compile')
      assert (entry['peer'] is None) == (entry['ratio'] is None) == compiles


class TestBenchmarkPeers:

  def test_says_in_one_sentence_that_dopamine_is_missing(self, tmp_path):
    (tmp_path / 'dopamine.py').write_text('raise ImportError("not here")\n')
    done = _run(
        'benchmark_peers.py',
        '--quick',
        '--json',
        '--environments=this',
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1
    assert done.stdout == ''
    sentence = done.stderr.strip()
    assert 'cannot import Dopamine' in sentence
    assert len(sentence.splitlines()) == 1
