"""Numbers of run directories: normalization, games, seeds, curves, notes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rliable import metrics
from slow_statistics import RESAMPLES
from slow_statistics import rliable_directly
from slow_statistics import SEED
from slow_statistics import slow_iqm
import written_runs
from written_runs import write_run

from reincarnating_rl.base import scores as scores_lib
from reincarnating_rl.report.page import caveats
from reincarnating_rl.report.reading import grouping
from reincarnating_rl.report.reading import loading
from reincarnating_rl.report.statistics import numbers as numbers_lib
from reincarnating_rl.report.statistics import references as references_lib


def _compute(folder):
  loaded = loading.load([str(folder)])
  methods = grouping.group(loaded.runs)
  references = references_lib.collect(loaded.runs)
  numbers = numbers_lib.compute(
      methods, references, RESAMPLES, SEED, io.StringIO()
  )
  told = references.notes + caveats.on_statistics(methods, numbers)
  return numbers, told + caveats.on_conditions(methods)


def _row(rows, **wanted):
  (row,) = [
      r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())
  ]
  return row


def _final(numbers, method, normalization='teacher', quantity='final'):
  return _row(
      numbers.aggregates,
      method=method,
      normalization=normalization,
      quantity=quantity,
      metric='IQM',
  )


def test_numbers_of_directories_are_those_of_rliable(tmp_path):
  raw = {'Pong': [3.0, -5.0, 12.0], 'Boxing': [4.0, 9.0, 2.0]}
  for game, of_game in raw.items():
    for seed, score in enumerate(of_game):
      online = [score - 2.0, score - 1.0, score]
      path = tmp_path / f'{game}{seed}'
      write_run(path, online, -1.0, game=game, seed=seed)
  numbers, _ = _compute(tmp_path)
  columns = []
  for game in ('Boxing', 'Pong'):
    low, high = scores_lib.random_score(game), written_runs.TEACHERS[game]
    columns.append((np.array(raw[game]) - low) / (high - low))
  matrix = np.array(columns).T
  value, interval = rliable_directly(
      matrix, lambda s: np.array([metrics.aggregate_iqm(s)])
  )
  row = _final(numbers, 'qdagger_dqn')
  assert (row.runs_a_game, row.games) == (3, 2)
  assert [row.value] == pytest.approx(value)
  assert [[row.low], [row.high]] == pytest.approx(interval)

  area = _final(numbers, 'qdagger_dqn', 'human', 'area')
  human = [
      [scores_lib.human_normalized_score(g, s - 1.0) for s in raw[g]]
      for g in raw
  ]
  assert area.value == pytest.approx(slow_iqm(np.array(human)))

  curve = [
      p
      for p in numbers.curves
      if (p.normalization, p.axis) == ('teacher', 'agent_steps')
  ]
  assert [p.x for p in curve] == [0.0, 4000.0, 8000.0, 12000.0]
  assert curve[-1].value == pytest.approx(row.value)

  pong = _row(
      numbers.game_scores, game='Pong', quantity='final', normalization='raw'
  )
  assert pong.value == pytest.approx(np.mean(raw['Pong']))
  assert pong.deviation == pytest.approx(np.std(raw['Pong'], ddof=1))
  assert pong.low < pong.value < pong.high


def test_learning_from_nothing_is_measured_by_the_teacher_of_the_game(tmp_path):
  write_run(tmp_path / 'a', [16.0])
  write_run(tmp_path / 'b', [-20.7], teacher=None, gin_files=['dqn.gin'])
  numbers, _ = _compute(tmp_path)
  assert _final(numbers, 'qdagger_dqn').value == pytest.approx(1.0)
  assert _final(numbers, 'dqn').value == pytest.approx(0.0)
  assert numbers.methods == ['qdagger_dqn', 'dqn']


def test_without_any_teacher_humans_are_the_measure(tmp_path):
  write_run(tmp_path / 'b', [14.6], teacher=None)
  numbers, told = _compute(tmp_path)
  assert _final(numbers, 'qdagger_dqn', 'human').value == pytest.approx(1.0)
  assert numbers.games['teacher'] == ()
  assert any('no run on Pong knows the score of a teacher' in n for n in told)


def test_different_evaluations_of_one_teacher_become_one_score(tmp_path):
  a = write_run(tmp_path / 'a', [15.0], teacher_score=14.0)
  b = write_run(tmp_path / 'b', [15.0], teacher_score=16.0, seed=2)
  write_run(tmp_path / 'c', [15.0], teacher_score=16.0, seed=3)
  numbers, told = _compute(tmp_path)
  assert _final(numbers, 'qdagger_dqn').value == pytest.approx(1.0)
  assert told[0] == (
      'The teacher of Pong was evaluated differently (14.00 in '
      f'{a}, 16.00 in {b}): the mean, 15.00, counts for all runs.'
  )


def test_a_teacher_no_better_than_chance_measures_nothing(tmp_path):
  write_run(tmp_path / 'a', [15.0], teacher_score=-20.7)
  numbers, told = _compute(tmp_path)
  assert numbers.games['teacher'] == ()
  assert any("is not above random play's -20.70" in n for n in told)


def test_an_unknown_game_has_no_human_score(tmp_path):
  write_run(
      tmp_path / 'a', [15.0], game='Chess', teacher_score=20, random_score=0
  )
  write_run(tmp_path / 'b', [15.0])
  numbers, told = _compute(tmp_path)
  assert numbers.games == {
      'teacher': ('Chess', 'Pong'),
      'human': ('Pong',),
      'raw': ('Chess', 'Pong'),
  }
  assert any('Chess has no published human score' in n for n in told)


def test_only_games_that_all_methods_have_count_over_all_games(tmp_path):
  for name, games in (('a', ('Pong', 'Boxing')), ('b', ('Pong',))):
    for game in games:
      write_run(
          tmp_path / name / game,
          [5.0],
          game=game,
          gin_files=[f'{name}.gin'],
          agent=name,
      )
  numbers, told = _compute(tmp_path)
  assert set(numbers.games.values()) == {('Pong',)}
  assert _final(numbers, 'a').games == 1
  assert 'Boxing does not count over all games: b has no run on it.' in told
  assert {row.game for row in numbers.game_scores} == {'Pong', 'Boxing'}


def test_no_common_game_leaves_the_tables_of_games(tmp_path):
  for game in ('Pong', 'Boxing'):
    write_run(
        tmp_path / game, [5.0], game=game, gin_files=[f'{game}.gin'], agent=game
    )
  numbers, told = _compute(tmp_path)
  assert not (numbers.aggregates or numbers.curves or numbers.improvements)
  assert len({row.game for row in numbers.game_scores}) == 2
  assert any('nothing teacher-normalized over all games' in n for n in told)


def test_unequal_seeds_count_with_the_lowest_of_them(tmp_path):
  for game, seeds in (('Pong', (1, 2, 3)), ('Boxing', (1, 5))):
    for seed in seeds:
      write_run(tmp_path / f'{game}{seed}', [float(seed)], game=game, seed=seed)
  numbers, told = _compute(tmp_path)
  row = _final(numbers, 'qdagger_dqn', 'human')
  assert row.runs_a_game == 2
  expected = [
      scores_lib.human_normalized_score(g, s)
      for g, s in (('Pong', 1), ('Pong', 2), ('Boxing', 1), ('Boxing', 5))
  ]
  assert row.value == pytest.approx(slow_iqm(np.array(expected)))
  pong = _row(
      numbers.game_scores, game='Pong', quantity='final', normalization='raw'
  )
  assert pong.runs == 3
  assert any(
      '2 runs of each count, those of the lowest seeds' in n for n in told
  )


def test_one_seed_has_no_intervals_and_says_so(tmp_path):
  write_run(tmp_path / 'a', [1.0, 2.0], 0.5)
  numbers, told = _compute(tmp_path)
  for rows in numbers[4:10]:
    assert all(row.low is None for row in rows if hasattr(row, 'low'))
  assert any(
      'single run of Pong: there is nothing to resample' in n for n in told
  )


def test_single_runs_of_several_methods_are_one_note(tmp_path):
  write_run(tmp_path / 'a', [1.0, 2.0])
  write_run(tmp_path / 'b', [1.0, 2.0], agent='b', gin_files=['b.gin'])
  _, told = _compute(tmp_path)
  (note,) = [n for n in told if 'nothing to resample' in n]
  assert note.startswith('2 methods (b; qdagger_dqn) have a single run of Pong')


def test_curves_of_different_steps_are_interpolated(tmp_path):
  write_run(tmp_path / 'a', [0.0, 4.0], settings={'training_steps': 2000})
  path = write_run(tmp_path / 'b', [0.0, 4.0], seed=2)
  written_runs.edit(
      path, lambda d: d['config']['settings'].update(training_steps=2000)
  )
  numbers, told = _compute(tmp_path)
  points = [p for p in numbers.game_curves if p.axis == 'agent_steps']
  # One run is at 2,000 and 4,000 steps, the other at 4,000 and 8,000.
  assert [(p.x, p.value) for p in points] == [(4000.0, 2.0)]
  assert any('curves are interpolated' in n for n in told)


def test_wall_clock_curves_need_the_time_of_every_evaluation(tmp_path):
  write_run(tmp_path / 'a', [0.0, 4.0], seconds_a_phase=10.0)
  b = write_run(tmp_path / 'b', [0.0, 4.0], gin_files=['b.gin'], agent='b')
  (tmp_path / 'b' / 'metrics.jsonl').unlink()
  numbers, told = _compute(tmp_path)
  timed = [p for p in numbers.game_curves if p.axis == 'seconds']
  assert {p.method for p in timed} == {'qdagger_dqn'}
  assert (timed[0].x, timed[-1].x) == (20.0, 30.0)
  assert timed[-1].value == 4.0
  assert any(f'the evaluations of {b} were' in n for n in told)


def test_runs_without_a_time_in_common_are_told(tmp_path):
  a = write_run(tmp_path / 'a', [0.0, 4.0], seconds_a_phase=100.0)
  b = write_run(tmp_path / 'b', [0.0, 4.0], seed=2, seconds_a_phase=10.0)
  numbers, told = _compute(tmp_path)
  assert {p.axis for p in numbers.game_curves} == {'agent_steps'}
  assert (
      'qdagger_dqn has no curve over wall-clock time on Pong: '
      f'{b} had ended before the first evaluation of {a}.'
  ) in told


def test_different_offline_budgets_and_versions_are_told(tmp_path):
  write_run(tmp_path / 'a', [0.0], 0.0)
  longer = {'num_pretraining_steps': 9000}
  b = write_run(
      tmp_path / 'b',
      [0.0],
      0.0,
      settings=longer,
      gin_files=['b.gin'],
      agent='b',
  )
  written_runs.edit(b, lambda d: d['versions'].update(jax='0.0.1'))
  _, told = _compute(tmp_path)
  assert (
      'Methods have different numbers of pretraining updates: b 9,000, '
      'qdagger_dqn 4,000.' in told
  )
  assert any('same jax: ' in n and f'0.0.1 in {b}' in n for n in told)
