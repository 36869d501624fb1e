"""The picture of who copied whom, of directories as groups write them."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from written_runs import write_run

from reincarnating_rl import show_run
from reincarnating_rl.base import errors
from reincarnating_rl.loop.population.lineage import Exploit
from reincarnating_rl.loop.population.pbt import Copy
from reincarnating_rl.report.figures import lineage as drawing
from reincarnating_rl.report.figures import style
from reincarnating_rl.report.reading import lineage
from reincarnating_rl.report.reading import loading
from reincarnating_rl.rundir import learning_curve

RATES = (
    {'learning_rate': 1e-5},
    {'learning_rate': 1e-3},
    {'learning_rate': 1e-4},
)
# Run 3 copies run 2, then run 2 copies run 3, which ends highest.
CURVES = ((0.0, 1.0, 2.0), (5.0, 1.5, 4.0), (-3.0, 6.0, 7.0))


def _write(tmp_path, exploits=None, curves=CURVES):
  for number, curve in enumerate(curves, 1):
    write_run(tmp_path / f'run_{number}', curve, seed=number)
  if exploits is None:
    after = (*RATES[:2], {'learning_rate': 8e-4})
    exploits = [
        Exploit(1, 1, 4000, (0.0, 5.0, -3.0), RATES, (Copy(2, 1, after[2]),)),
        Exploit(
            2,
            2,
            8000,
            (1.0, 1.5, 6.0),
            after,
            (Copy(1, 2, {'learning_rate': 1e-3}),),
        ),
    ]
  document = {
      'run_numbers': [1, 2, 3],
      'mutated': ['learning_rate'],
      'members': RATES,
      'exploits': [exploit.to_json() for exploit in exploits],
  }
  (tmp_path / 'population.json').write_text(json.dumps(document))
  (tmp_path / 'summary.json').write_text(
      json.dumps({'runs': ['run_1', 'run_2', 'run_3']})
  )
  return str(tmp_path)


def test_the_line_of_the_best_is_found_from_the_end(tmp_path):
  history = lineage.read(_write(tmp_path))
  assert history.best == 2
  leading = [(s.run, s.start, s.stop) for s in history.stretches if s.leads]
  assert leading == [(1, 0, 4000), (2, 4000, 8000), (2, 8000, 12000)]
  assert history.line_of_best == [
      (4000, 5.0),
      (8000, 6.0),
      (12000, 7.0),
  ]
  copied = [
      (s.run, s.parent, s.start) for s in history.stretches if s.run != s.parent
  ]
  assert copied == [(2, 1, 4000), (1, 2, 8000)]
  rates = [s.member['learning_rate'] for s in history.stretches if s.run == 2]
  assert rates == [1e-4, 8e-4, 8e-4]


def test_show_run_prints_the_table_and_draws_the_picture(tmp_path, capsys):
  directory = _write(tmp_path)
  show_run.main(['show_run', directory])
  printed = capsys.readouterr().out
  lines = [' '.join(line.split()) for line in printed.splitlines()]
  assert '1 1e-05 -> 1e-05 2.00' in lines
  assert '2 0.001 -> 0.001 4.00 3' in lines
  assert '3* 0.0001 -> 0.0008 7.00 2' in lines
  for ending in ('png', 'pdf'):
    assert (tmp_path / f'lineage.{ending}').stat().st_size > 5000


@pytest.mark.usefixtures('labels_of_figures')
def test_a_report_draws_each_group_once(tmp_path, monkeypatch):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'b').mkdir()
  first = _write(tmp_path / 'a')
  _write(tmp_path / 'b', curves=((0.0,), (1.0,), ()))
  alone = write_run(tmp_path / 'alone', (1.0, 2.0))
  runs = loading.load([first, str(tmp_path / 'b'), alone]).runs
  out = tmp_path / 'out'
  out.mkdir()
  (drawn,), notes = drawing.draw_groups(runs, str(out))
  assert not notes
  assert drawn.section == style.LINEAGE and first in drawn.caption
  assert {p.name for p in out.iterdir()} == {'lineage_1.png', 'lineage_1.pdf'}
  # Who stands in a run's directory finds what is above it.
  monkeypatch.chdir(os.path.join(first, 'run_1'))
  runs = loading.load(['.']).runs
  assert len(drawing.draw_groups(runs, str(out))[0]) == 1


def test_a_group_that_lacks_a_member_is_noted_and_not_drawn(tmp_path):
  directory = _write(tmp_path)
  shutil.rmtree(tmp_path / 'run_2')
  runs = loading.load([str(tmp_path / 'run_1')]).runs
  drawn, (note,) = drawing.draw_groups(runs, str(tmp_path))
  assert not drawn
  assert note.startswith(f'The lineage of {directory} is not drawn: ')
  assert 'run_2 holds no summary.json' in note


def test_nobody_need_have_copied(tmp_path, labels_of_figures):
  history = lineage.read(_write(tmp_path, exploits=[]))
  assert [s.run for s in history.stretches if s.leads] == [2]
  drawing.draw(history, str(tmp_path))
  assert {'run 1', 'run 2', 'run 3'} <= labels_of_figures['lineage']


def test_a_group_that_does_not_copy_is_no_lineage(tmp_path):
  directory = _write(tmp_path)
  (tmp_path / 'population.json').unlink()
  with pytest.raises(
      errors.UserError, match='several runs: name one of run_1, '
  ):
    show_run.main(['show_run', directory])


def test_a_path_that_is_no_run_is_one_sentence(tmp_path, capsys, monkeypatch):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='cannot be read .Not a directory'):
    show_run.main(['show_run', str(tmp_path / 'file')])
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'summary.json').write_bytes(b'\xff\xfe')
  with pytest.raises(errors.UserError, match='is damaged'):
    show_run.main(['show_run', str(tmp_path / 'other')])
  # One that is not ours to write to: its table is there.
  run = write_run(tmp_path / 'run', [1.0, 2.0])
  (tmp_path / 'run' / learning_curve.FILE_NAME).mkdir()
  with pytest.raises(errors.UserError, match='cannot be written'):
    show_run.main(['show_run', run])
  assert 'student, online 2' in capsys.readouterr().out


def test_what_cannot_be_drawn_is_one_sentence(tmp_path):
  directory = _write(tmp_path, curves=((0.0,), (1.0,), ()))
  with pytest.raises(errors.UserError, match='has no lineage yet'):
    show_run.main(['show_run', directory])
  (tmp_path / 'population.json').write_text('{')
  with pytest.raises(
      errors.UserError, match='no record of a population, or dam'
  ):
    show_run.main(['show_run', directory])
