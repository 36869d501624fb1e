"""Finding and reading run directories, and what is wrong with some."""

from __future__ import annotations

import json
import pathlib

import pytest
import written_runs
from written_runs import write_run

from reincarnating_rl.base import errors
from reincarnating_rl.report.reading import finding
from reincarnating_rl.report.reading import loading
from reincarnating_rl.report.reading import runs
from reincarnating_rl.rundir import summary


def _read(path):
  return runs.read(path, summary.read(path))


# -- finding -------------------------------------------------------------------


def test_runs_are_found_at_and_below_a_path(tmp_path):
  alone = write_run(tmp_path / 'alone', [1.0])
  deep = write_run(tmp_path / 'a' / 'b' / 'c', [1.0])
  found = finding.find([alone, str(tmp_path / 'a')])
  assert list(found.summaries) == [alone, deep]


def test_runs_of_a_group_are_found_and_the_group_is_none(tmp_path):
  members = [write_run(tmp_path / f'run_{i}', [1.0], seed=i) for i in (4, 5)]
  group = {'game': 'Pong', 'run_numbers': [4, 5], 'runs': ['run_4', 'run_5']}
  (tmp_path / 'summary.json').write_text(json.dumps(group))
  assert list(finding.find([str(tmp_path)]).summaries) == members


def test_a_run_that_is_named_twice_counts_once(tmp_path):
  path = write_run(tmp_path / 'run', [1.0])
  (tmp_path / 'link').symlink_to(path)
  found = finding.find([str(tmp_path), path, str(tmp_path / 'link')])
  assert len(found.summaries) == 1


def test_a_link_to_what_is_above_is_no_trap(tmp_path):
  write_run(tmp_path / 'runs' / 'one', [1.0])
  (tmp_path / 'runs' / 'loop').symlink_to(tmp_path)
  assert len(finding.find([str(tmp_path)]).summaries) == 1


def test_a_path_that_holds_nothing_is_named(tmp_path):
  run = write_run(tmp_path / 'run', [1.0])
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UserError, match='empty holds no run'):
    finding.find([run, str(tmp_path / 'empty')])
  with pytest.raises(errors.UserError, match='no directory .*nowhere'):
    finding.find([run, str(tmp_path / 'nowhere')])


def test_a_teacher_is_no_run(tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  (tmp_path / 'teacher.json').write_text('{}')
  with pytest.raises(errors.UserError, match='holds no run'):
    finding.find([str(tmp_path)])


def test_a_run_without_a_summary_has_begun(tmp_path):
  run = write_run(tmp_path / 'run', [1.0])
  (tmp_path / 'begun' / 'checkpoints').mkdir(parents=True)
  begun = str(tmp_path / 'begun')
  assert finding.find([run, begun]).begun == [begun]
  loaded = loading.load([run, begun])
  assert loaded.notes == [
      f'{begun} is left out: its first phase has not ended.'
  ]
  with pytest.raises(errors.UserError, match='begun holds no summary.json yet'):
    finding.find([begun])


def test_a_damaged_summary_is_named(tmp_path):
  path = pathlib.Path(write_run(tmp_path / 'run', [1.0])) / 'summary.json'
  path.write_text(path.read_text()[:-20])
  with pytest.raises(errors.UserError, match=f'{path} is damaged'):
    finding.find([str(tmp_path)])


# -- reading -------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path):
  path = write_run(
      tmp_path / 'run', [2.0, 3.0], 1.0, seed=7, seconds_a_phase=10.0
  )
  run = _read(path)
  assert (run.path, run.game, run.seed, run.agent) == (
      path,
      'Pong',
      7,
      'qdagger_dqn',
  )
  assert run.gin_files == ('qdagger_dqn.gin', 'comparison.gin')
  assert run.teacher[:3] == ('Pong 25', 'bundled:Pong', 25)
  assert [link.path for link in run.teacher.chain.links] == ['bundled:Pong']
  assert (run.random_score, run.teacher_score) == (-20.7, 16.0)
  assert run.points == (
      runs.Point('pretraining', 1, 0, 4000, 1.0, 20.0, 8),
      runs.Point('online', 2, 4000, 5000, 2.0, 30.0, 8),
      runs.Point('online', 3, 8000, 6000, 3.0, 40.0, 8),
  )
  assert run.start == run.points[0]
  assert run.finished and run.timed and not run.lacking


def test_without_metrics_there_is_no_time(tmp_path):
  path = write_run(tmp_path / 'run', [2.0])
  (tmp_path / 'run' / 'metrics.jsonl').unlink()
  run = _read(path)
  assert not run.timed
  assert run.points[0].score == 2.0


def test_a_torn_last_line_is_a_line_less(tmp_path):
  path = write_run(tmp_path / 'run', [2.0, 3.0])
  log = tmp_path / 'run' / 'metrics.jsonl'
  log.write_bytes(log.read_bytes()[:-30])
  assert [p.seconds is None for p in _read(path).points] == [False, True]


def test_another_damaged_line_is_named(tmp_path):
  path = write_run(tmp_path / 'run', [2.0, 3.0])
  log = tmp_path / 'run' / 'metrics.jsonl'
  lines = log.read_bytes().splitlines()
  log.write_bytes(b'\n'.join([lines[0], lines[1][:40], lines[2]]))
  with pytest.raises(errors.UserError, match=f'Line 2 of {log} is damaged'):
    _read(path)


def test_lines_that_the_summary_does_not_know_do_not_count(tmp_path):
  path = write_run(tmp_path / 'run', [2.0, 3.0])
  written_runs.edit(path, lambda d: d['iterations'].pop())
  run = _read(path)
  assert len(run.points) == 1
  assert not run.finished


@pytest.mark.parametrize('score', ['NaN', 'null', '7.5'])
def test_a_score_that_the_summary_has_otherwise_is_named(tmp_path, score):
  path = write_run(tmp_path / 'run', [1.0, 2.0])
  metrics = tmp_path / 'run' / 'metrics.jsonl'
  text = metrics.read_text()
  assert text.count('"student_score": 2.0') == 1
  metrics.write_text(
      text.replace('"student_score": 2.0', f'"student_score": {score}')
  )
  with pytest.raises(
      errors.UserError, match=f'{path} has two scores after onl'
  ):
    _read(path)


@pytest.mark.parametrize('score', [None, float('nan'), float('inf')])
def test_a_score_that_is_no_number_is_named(tmp_path, score):
  path = write_run(tmp_path / 'run', [1.0, score])
  with pytest.raises(
      errors.UserError, match=f'{path} has no finite score after online 2'
  ):
    _read(path)


@pytest.mark.parametrize('name', ['game', 'run_number', 'iterations', 'config'])
def test_a_summary_that_lacks_something_is_named(tmp_path, name):
  path = write_run(tmp_path / 'run', [1.0])
  document = summary.read(path)
  del document[name]
  with pytest.raises(
      errors.UserError, match=f'{path}/summary.json lacks {name}'
  ):
    runs.read(path, document)


def test_several_teachers_are_told_with_their_combination(tmp_path):
  path = write_run(tmp_path / 'run', [1.0])
  one = {'path': 'bundled:Pong', 'checkpoint_number': 25}
  other = {'path': '/b', 'checkpoint_number': 3}

  def teach_by_two(document):
    document['config']['teacher'] |= {
        'path': 'bundled:Pong and /b',
        'checkpoint_number': None,
        'combine': 'mixture',
        'weights': [0.75, 0.25],
        'teachers': [one, other],
    }

  written_runs.edit(path, teach_by_two)
  teacher = _read(path).teacher
  places = 'checkpoint 25 of bundled:Pong and checkpoint 3 of /b'
  assert teacher.place == f'{places} (mixture, weights 0.75, 0.25)'
  assert teacher.identity == 'Pong 25'

  def forget(document):
    known = document['config']['teacher']
    del known['params_crc32c']
    known['combine'], known['weights'] = 'best', None

  written_runs.edit(path, forget)
  teacher = _read(path).teacher
  assert teacher.identity == teacher.place == f'{places} (best)'


def test_an_older_summary_says_what_it_lacks(tmp_path):
  path = write_run(tmp_path / 'run', [1.0])

  def age(document):
    del document['config']['network'], document['config']['gin_files']
    del document['config']['teacher']['params_crc32c']

  written_runs.edit(path, age)
  run = _read(path)
  assert run.lacking == (
      'config.gin_files',
      'config.network',
      'config.teacher.params_crc32c',
  )
  assert run.teacher.identity == 'checkpoint 25 of bundled:Pong'


# -- which runs count ----------------------------------------------------------


def _stop(path, left_out):
  """Makes a run one that has not done its last iterations."""

  def change(document):
    document['iterations'] = document['iterations'][:-left_out]

  written_runs.edit(path, change)


def test_unfinished_runs_are_left_out_with_a_note(tmp_path):
  whole = write_run(tmp_path / 'whole', [1.0, 2.0, 3.0])
  short = write_run(tmp_path / 'short', [1.0, 2.0, 3.0], seed=2)
  _stop(short, 1)
  loaded = loading.load([str(tmp_path)])
  assert [run.path for run in loaded.runs] == [whole]
  assert loaded.notes == [
      f'{short} is left out: it has done 2 of 3 iterations; --unfinished takes '
      'it.'
  ]
  with pytest.raises(errors.UserError, match='no run to report on: .*short'):
    loading.load([short])


def test_unfinished_runs_that_only_pretrain_count(tmp_path):
  settings = {'num_iterations': 0, 'num_pretraining_iterations': 2}
  path = write_run(tmp_path / 'run', [], 0.5, settings=settings)
  loaded = loading.load([path], unfinished=True)
  assert [p.score for p in loaded.runs[0].points] == [0.5]
  assert not loaded.runs[0].finished
  assert loaded.warnings == [
      '1 of 1 runs had not ended, so all of them count up to 1 iteration of '
      f'pretraining (--unfinished): {path}.'
  ]


def test_unfinished_runs_count_up_to_the_step_that_all_share(tmp_path):
  write_run(tmp_path / 'whole', [1.0, 2.0, 3.0], 0.5)
  short = write_run(tmp_path / 'short', [1.0, 2.0, 3.0], 0.5, seed=2)
  barely = write_run(tmp_path / 'barely', [1.0, 2.0, 3.0], 0.5, seed=3)
  _stop(short, 1)
  _stop(barely, 3)
  loaded = loading.load([str(tmp_path)], unfinished=True)
  assert [[p.score for p in run.points] for run in loaded.runs] == [
      [0.5, 1.0, 2.0]
  ] * 2
  # What is cut off does not make a run unfinished.
  assert sorted(run.finished for run in loaded.runs) == [False, True]
  assert loaded.warnings == [
      '1 of 2 runs had not ended, so all of them count up to 8,000 online '
      f'agent steps (--unfinished): {short}.'
  ]
  assert loaded.notes == [
      f'{barely} is left out: it has done 1 of 4 iterations, none of them '
      'online.'
  ]
