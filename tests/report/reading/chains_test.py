"""Who learned from whom, as reports tell it."""

import json

import written_runs

from reincarnating_rl.report.reading import chains
from reincarnating_rl.report.reading import finding
from reincarnating_rl.report.reading import runs as runs_lib


def _link(path, **facts):
  return {
      'path': path,
      'checkpoint_number': 3,
      'agent': 'dqn',
      'frames': 1000,
      'recorded_score': None,
  } | facts


def _run(directory, change):
  path = written_runs.write_run(directory, [1.0], seed=1)
  written_runs.edit(path, change)
  [(found, document)] = finding.find([path]).summaries.items()
  return runs_lib.read(found, document)


def test_a_chain_is_told_from_the_nearest_on(tmp_path):
  def learned_from_a_run(document):
    document['config']['teacher'] |= _link(
        '/runs/fine', agent='reloaded_dqn', frames=400, recorded_score=15.5
    )
    document['config']['teacher']['ancestors'] = [
        _link('bundled:Pong', frames=2_500_000)
    ]
    document['frames'] = {
        'online': 16_000,
        'collected': 0,
        'before': 2_500_400,
        'chain': 2_516_400,
    }

  run = _run(tmp_path / 'run', learned_from_a_run)
  assert [link.path for link in run.teacher.chain.links] == [
      '/runs/fine',
      'bundled:Pong',
  ]
  header, row = chains.table([run, run])
  assert row == [
      'Pong',
      'qdagger_dqn',
      '/runs/fine (reloaded_dqn, 400 frames, score 15.50) ← '
      'bundled:Pong (dqn, 2,500,000 frames)',
      '16,000',
      '0',
      '2,516,400',
  ]
  assert len(header) == len(row)


def test_several_teachers_are_all_named(tmp_path):
  def learned_from_two(document):
    members = [_link('/a'), _link('/b', frames=None)]
    document['config']['teacher'] |= {
        'path': '/a and /b',
        'combine': 'best',
        'teachers': members,
        'ancestors': [*members, _link('/c')],
    }

  run = _run(tmp_path / 'run', learned_from_two)
  assert [link.path for link in run.teacher.chain.links] == ['/a', '/b', '/c']
  _, row = chains.table([run])
  assert row[2] == (
      '/a (dqn, 1,000 frames) and /b (dqn, – frames) ← /c (dqn, 1,000 frames)'
  )
  # Frames of older runs are not recorded.
  assert row[3:] == ['–'] * 3


def test_nobody_taught_it(tmp_path):
  def alone(document):
    document['config']['teacher'] = None
    document['frames'] = {'online': 8, 'collected': 0, 'before': 0, 'chain': 8}

  run = _run(tmp_path / 'run', alone)
  assert chains.table([run])[1][2:] == ['nobody', '8', '0', '8']
  assert json.dumps(dict(run.frames))
