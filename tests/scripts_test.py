"""Benchmarks: their harness, and runs of seconds through the command line."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time

from paths import ROOT
import pytest

from benchmarks import benchmark
from benchmarks import harness
from benchmarks import output
from benchmarks import scaling

ENTRY_KEYS = {'name', 'ours', 'peer', 'ratio', 'unit'}
# One device, as a user has; of these runs most is compilation.
XLA_FLAGS = re.sub(
    r'(?<=device_count=)\d+', '1', os.environ.get('XLA_FLAGS', '')
)


def _run(*command: str, cwd='/', **env: str) -> subprocess.CompletedProcess:
  return subprocess.run(
      [sys.executable, *command],
      capture_output=True,
      text=True,
      cwd=cwd,
      env=os.environ | {'XLA_FLAGS': XLA_FLAGS} | env,
      timeout=300,
  )


@pytest.fixture(name='report', scope='module')
def _report():
  """Cases of every kind of peer, by the path that users know."""
  names = [
      'replay/(add|sample_32)/2k',
      'members/nature_c51/update_per_member/2',
      'replay_ratio/nature_c51/2.5',
      'population/2/updates_1/(update|compile)',
  ]
  # Elsewhere than in the repository, as a user would.
  done = _run(
      str(ROOT / 'scripts' / 'benchmark.py'),
      '--quick',
      '--json',
      '--repeats=1',
      f'--filter=^({"|".join(names)})$',
  )
  assert done.returncode == 0, done.stderr
  assert '100%' in done.stderr  # progress
  return json.loads(done.stdout)


class TestStatistics:

  def test_median(self):
    assert harness.median([3.0, 1.0, 2.0]) == 2.0
    assert harness.median([4.0, 1.0]) == 2.5
    assert harness.median([7.0]) == 7.0
    assert harness.median([]) is None

  def test_spread(self):
    assert harness.spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert harness.spread([5.0]) == 0.0
    assert harness.spread([0.0, 0.0]) == 0.0
    assert harness.spread([]) is None

  @pytest.mark.parametrize('unit', ['updates/s', 'agent steps/s'])
  def test_a_higher_rate_of_ours_is_better(self, unit):
    assert harness.ratio(30.0, 10.0, unit) == 3.0

  @pytest.mark.parametrize('unit', ['us', 'ms', 's', 'MiB'])
  def test_less_time_and_memory_of_ours_is_better(self, unit):
    assert harness.ratio(10.0, 30.0, unit) == 3.0

  def test_without_a_peer_there_is_no_ratio(self):
    assert harness.ratio(10.0, None, 'us') is None
    assert harness.ratio(10.0, 0.0, 'us') is None


class TestMeasure:

  def test_rate_and_duration_of_the_same_work(self):
    def work():
      time.sleep(0.01)
      return 5

    rate = harness.measure('updates/s', work, 0.05)
    assert 0 < rate <= 500  # a busy machine may be slower, never faster
    assert harness.measure('us', work, 0.05) >= 2000
    assert harness.measure('ms', work, 0.05) >= 2

  def test_without_seconds_the_work_is_done_once(self):
    calls = []
    harness.measure('us', lambda: calls.append(0) or 1, 0.0)
    assert len(calls) == 1

  @pytest.mark.parametrize('unit', ['MiB', 's'])
  def test_untimed_is_what_the_work_says(self, unit):
    assert harness.measure(unit, lambda: 123.0, 1.0) == 123.0

  def test_order_alternates(self):
    assert harness.alternate('abc', 0) == ['a', 'b', 'c']
    assert harness.alternate('abc', 1) == ['c', 'b', 'a']

  def test_a_peer_is_measured_in_turn_as_often_as_the_case_says(self):
    calls = []

    def build(side, value):
      return lambda: lambda: calls.append(side) or value

    cases = [
        harness.Case('a', 's', build('a', 2.0), 0, build('peer', 6.0), 2),
        harness.Case('b', 's', build('b', 4.0)),
    ]
    with output.progress(harness.num_measurements(cases, 3)) as bar:
      results = harness.run_cases(cases, 3, False, bar)
    first, last = ['a', 'peer', 'b'], ['b', 'peer', 'a']
    assert calls == first + first + last + ['b']
    assert bar.n == bar.total == 10
    assert [(len(r.ours), len(r.peer)) for r in results] == [(2, 2), (3, 0)]
    entries = [harness.summarize(r) for r in results]
    assert [e['ratio'] for e in entries] == [3.0, None]


class TestOutput:

  def test_result_tables_of_one_side_and_two(self):
    one = harness.Result('act', 'us', [1.0, 2.0, 3.0], (), 4.5)
    two = harness.Result('add', 'us', [1.0, 2.0, 3.0], [5000.0])
    table = harness.result_table([one])
    assert '2' in table.split() and '4.5 s' in table and 'peer' not in table
    row = harness.result_table([two]).splitlines()[-1].split()
    assert row == ['add', '2', '100%', '5,000', '0%', '2,500', 'us']
    row = harness.result_table([one, two]).splitlines()[2].split()
    assert row == ['act', '2', '100%', '-', '-', '-', '4.5', 's', 'us']

  def test_report(self):
    result = harness.Result('add', 'us', [2.0], [3.0])
    report = harness.report([result], {'cores': 2}, {'jax': None})
    assert report['results'] == [
        {'name': 'add', 'ours': 2.0, 'peer': 3.0, 'ratio': 1.5, 'unit': 'us'}
    ]
    assert report['machine'] == {'cores': 2}
    assert json.loads(json.dumps(report)) == report

  def test_filter(self):
    case = lambda name: harness.Case(name, 'us', lambda: None)
    cases = [case('act/a'), case('add/a'), case('act/b')]
    chosen = harness.select(cases, '^act')
    assert [c.name for c in chosen] == ['act/a', 'act/b']
    assert harness.select(cases, '') == cases
    with pytest.raises(SystemExit, match='nothing matches none of: act/a, add'):
      harness.select(cases, 'nothing')
    with pytest.raises(SystemExit, match=r'--filter=\('):
      harness.select(cases, '(')


class TestBenchmark:

  def test_prints_one_json_object_and_nothing_else(self, report):
    assert {r['name']: r['unit'] for r in report['results']} == {
        'members/nature_c51/update_per_member/2': 'ms',
        'population/2/updates_1/compile': 's',
        'population/2/updates_1/update': 'ms',
        'replay/add/2k': 'us',
        'replay/sample_32/2k': 'us',
        'replay_ratio/nature_c51/2.5': 'updates/s',
    }
    for entry in report['results']:
      assert set(entry) == ENTRY_KEYS and entry['ours'] > 0
      is_alone = entry['name'].startswith('replay/')
      is_alone |= entry['name'].endswith('compile')
      assert (entry['peer'] is None) == (entry['ratio'] is None) == is_alone
    assert report['machine']['cores'] >= 1
    assert report['machine']['platform'] == 'cpu'
    assert report['versions']['jax']

  def test_prints_a_table_for_people(self):
    out = io.StringIO()
    results = benchmark.measure('replay/add', 1, 1.0, quick=True, full=False)
    harness.write_report(out, results, as_json=False)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith('name') and lines[2].startswith('replay/add/2k')


class TestProfile:

  def test_parts_stand_beside_what_the_machine_allows(self):
    done = _run(
        *('-m', 'benchmarks.profile_parts'),
        '--quick',
        '--json',
        '--network=nature_dqn',
        cwd=ROOT,
    )
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


class TestCheckpoints:

  def test_costs_of_a_small_run(self):
    done = _run(
        *('-m', 'benchmarks.benchmark_checkpoints'),
        *('--rows=600', '--new_rows=16', '--repeats=1', '--ticks=4', '--json'),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)['results']
    costs = ('training_waits', 'on_disk_after', 'size')
    assert [
        r['name'].removeprefix('checkpoint/600_rows/') for r in results
    ] == [
        *(f'first/{cost}' for cost in costs),
        *(f'following/{cost}' for cost in costs),
        'rate_meanwhile',
        'packed',
    ]
    assert all(r['ours'] > 0 for r in results)


class TestScalingRows:

  @pytest.mark.parametrize('on_cpu', [True, False])
  @pytest.mark.parametrize('full', [True, False])
  def test_names_and_units(self, monkeypatch, on_cpu, full):
    monkeypatch.setattr(scaling, 'is_stacked_by_default', lambda: not on_cpu)
    sizes = scaling.choose_sizes(False, full)
    groups = scaling.make_groups(sizes)
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


class TestBenchmarkPeers:

  def test_says_in_one_sentence_that_dopamine_is_missing(self, tmp_path):
    (tmp_path / 'dopamine.py').write_text('raise ImportError("not here")\n')
    done = _run(
        str(ROOT / 'scripts' / 'benchmark_peers.py'),
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
