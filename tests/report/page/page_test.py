"""The whole report: its files, its page, its refusals."""

from __future__ import annotations

import csv
from html import parser
import json
import os
import pathlib

from absl import flags
from paths import ROOT
import pytest
import written_runs
from written_runs import write_run

from reincarnating_rl.base import errors
from reincarnating_rl.report import __main__ as report
from reincarnating_rl.report.figures import style

TABLES = (
    'aggregates',
    'curves',
    'curves_by_game',
    'profiles',
    'improvement',
    'scores_by_game',
    'scores_by_run',
    'references',
)
# Elements that need no end tag.
_VOID = ('meta', 'img')


def _report(*args):
  """Runs the entry point in this process, with flags of its own."""
  values = flags.FlagValues()
  report.define_flags(values)
  command = ['report', '--bootstrap', '100', *map(str, args)]
  report.main(values(command), values)


class Page(parser.HTMLParser):
  """Parses a page; collects its text, elements and attributes."""

  def __init__(self, path: pathlib.Path):
    super().__init__()
    self.source = path.read_text(encoding='utf-8')
    self.tags, self.attributes, self.texts, self._open = [], [], [], []
    self.feed(self.source)
    self.close()
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, *attr) for attr in attrs]
    if tag not in _VOID:
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)

  @property
  def text(self) -> str:
    return '\n'.join(self.texts)


@pytest.fixture(name='study', scope='module')
def _study(tmp_path_factory):
  """(folder of runs, folder of their report, with all its figures)."""
  folder = tmp_path_factory.mktemp('study')
  written_runs.write_study(folder / 'runs', seeds=2, evaluations=3, methods=2)
  with pytest.MonkeyPatch.context() as patch:
    # Subsets of TrueType fonts take most of the time; one test has them.
    patch.setitem(style.SETTINGS, 'pdf.fonttype', 3)
    patch.setattr(style, 'DPI', 50)
    _report(folder / 'runs', '--out', folder / 'out')
  return folder / 'runs', folder / 'out'


quickly = pytest.mark.usefixtures('labels_of_figures')


def test_everything_is_there(study):
  _, out = study
  names = set(os.listdir(out))
  figures = {name[:-4] for name in names if name.endswith('.png')}
  assert figures == {
      f'{kind}_{normalization}{suffix}'
      for normalization in ('teacher', 'human')
      for kind, suffixes in {
          'curve': ('_agent_steps', '_seconds'),
          'aggregates': ('_final', '_area'),
          'profile': ('',),
      }.items()
      for suffix in suffixes
  } | {'games_agent_steps', 'games_seconds', 'improvement'}
  assert names == {
      'report.html',
      'numbers.json',
      *(f'{name}.csv' for name in TABLES),
      *(f'{name}.{kind}' for name in figures for kind in ('png', 'pdf')),
  }


def test_the_page_opens_without_a_network(study):
  page = Page(study[1] / 'report.html')
  assert not {'script', 'link', 'iframe', 'object', 'a'} & set(page.tags)
  sources = [
      value
      for _, name, value in page.attributes
      if name in ('src', 'href', 'srcset', 'data', 'action', 'background')
  ]
  assert len(sources) == 13
  assert all(source.startswith('data:image/png;base64,') for source in sources)
  assert not {'url(', '@import', 'http:', 'https:'} & set(page.source.split())
  assert 'url(' not in page.source and '://' not in page.source


def test_the_page_tells_what_the_files_tell(study):
  runs, out = study
  page = Page(out / 'report.html')
  document = json.loads((out / 'numbers.json').read_text())
  row = document['aggregates'][0]
  assert (
      f'{row["value"]:.2f} [{row["low"]:.2f}, {row["high"]:.2f}]' in page.text
  )
  assert document['making']['command'] in page.text
  for method in document['methods']:
    for run in method['runs']:
      assert run['path'] in page.text
      assert run['rom']['md5'] in page.text
  assert 'Read this first' not in page.text
  assert str(runs) in page.text


@pytest.mark.parametrize('name', TABLES)
def test_tables_are_the_same_as_csv_and_json(study, name):
  _, out = study
  fields = {
      'improvement': 'improvements',
      'scores_by_game': 'game_scores',
      'scores_by_run': 'run_scores',
      'curves_by_game': 'game_curves',
  }
  document = json.loads((out / 'numbers.json').read_text())
  with open(out / f'{name}.csv', encoding='utf-8', newline='') as f:
    table = list(csv.DictReader(f))
  expected = document[fields.get(name, name)]
  assert len(table) == len(expected) > 0
  for cells, row in zip(table, expected):
    assert list(cells) == list(row)
    for key, value in row.items():
      assert cells[key] == ('' if value is None else str(value))


def test_what_the_documentation_does_by_hand_is_the_same(study, capsys):
  _, out = study
  text = (ROOT / 'docs' / 'reports.md').read_text(encoding='utf-8')
  section = text.split('## The same with rliable')[1].split('\n## ')[0]
  lines = [line[4:] for line in section.splitlines() if line.startswith('    ')]
  program = '\n'.join(lines).replace('DIR/', f'{out}/')
  exec(compile(program, 'reports.md', 'exec'), names := {})
  value, interval = (numbers[names['method']] for numbers in names['estimate'])
  row = names['row']
  assert [row['value']] == pytest.approx(value)
  assert [[row['low']], [row['high']]] == pytest.approx(interval)
  assert capsys.readouterr().out


@quickly
def test_the_terminal_shows_the_headline(study, tmp_path, capsys):
  _report(study[0] / '0', '--out', tmp_path / 'out')
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith('IQM of teacher-normalized scores over 2 games')
  assert lines[-1] == str(tmp_path / 'out' / 'report.html')
  assert any(line.startswith('qdagger_dqn  ') for line in lines)


@quickly
def test_the_same_command_makes_the_same_numbers(study, tmp_path):
  runs, out = study
  _report(runs, '--out', tmp_path / 'out')
  for name in (f'{name}.csv' for name in TABLES):
    assert (out / name).read_bytes() == (tmp_path / 'out' / name).read_bytes()


def test_the_same_figure_makes_the_same_files(tmp_path):
  names = ('1.png', '1.pdf', '2.png', '2.pdf')
  for name in ('1', '2'):
    with style.new_figure(2.0, 1.0) as figure:
      figure.add_subplot().plot([1, 2])
      style.save(figure, str(tmp_path), name)
  png_1, pdf_1, png_2, pdf_2 = [(tmp_path / n).read_bytes() for n in names]
  assert (png_1, pdf_1) == (png_2, pdf_2)
  assert png_1.startswith(b'\x89PNG') and pdf_1.startswith(b'%PDF')


# -- what is said on the page --------------------------------------------------


@quickly
def test_names_out_of_files_stay_text(tmp_path):
  evil = '<script>alert("x")</script>&'
  write_run(tmp_path / 'runs' / 'a', [1.0, 2.0], gin_files=[f'{evil}.gin'])
  write_run(tmp_path / 'runs' / '<b>', [1.0, 2.0], network=evil, agent='x')
  _report(tmp_path / 'runs', '--out', tmp_path / 'out')
  page = Page(tmp_path / 'out' / 'report.html')
  assert 'script' not in page.tags and 'b' not in page.tags
  assert evil in page.text


@pytest.mark.parametrize('name', ['_a', '$a_{', '$x$ and $\\y$', 'a_b', '$'])
def test_names_out_of_files_stay_text_in_figures(tmp_path, name):
  with style.new_figure(3.0, 2.0) as figure:
    axes = figure.add_subplot()
    axes.plot([1, 2], label=style.plain(name))
    axes.set_title(style.plain(name))
    style.add_legend(figure, [axes])
    figure.draw_without_rendering()
    assert len(figure.legends[0].texts) == 1


@quickly
def test_mixing_is_refused_and_said_on_the_page_where_allowed(tmp_path, capsys):
  a = write_run(tmp_path / 'runs' / 'a', [1.0, 2.0])
  b = write_run(tmp_path / 'runs' / 'b', [1.0, 3.0], seed=2, md5='old')
  out = tmp_path / 'out'
  with pytest.raises(errors.UserError, match='not averaged; --mix rom'):
    _report(tmp_path / 'runs', '--out', out)
  assert not out.exists()
  _report(tmp_path / 'runs', '--out', out, '--mix', 'rom')
  page = Page(out / 'report.html')
  (warning,) = [text for text in page.texts if '--mix rom)' in text]
  assert a in warning and b in warning and 'averaged' in warning
  assert page.texts.index(warning) < page.texts.index('method')
  assert 'Warning: ' in capsys.readouterr().err


def test_a_single_seed_is_said_on_page_and_figures(tmp_path, labels_of_figures):
  write_run(tmp_path / 'runs' / 'a', [1.0, 2.0], 0.5)
  _report(tmp_path / 'runs', '--out', tmp_path / 'out')
  assert len(labels_of_figures) == 12
  for name, texts in labels_of_figures.items():
    assert 'qdagger_dqn (one run: no interval)' in texts, name
  page = Page(tmp_path / 'out' / 'report.html')
  assert 'intervals are impossible' in page.text
  assert '95% stratified' not in page.text
  document = json.loads((tmp_path / 'out' / 'numbers.json').read_text())
  assert all(row['low'] is None for row in document['aggregates'])


def test_remarks_on_what_is_far_away_stand_clear_of_each_other():
  with style.new_figure(3.0, 2.0) as figure:
    axes = figure.add_subplot()
    axes.plot([1, 2], [0.50, 0.51])
    style.add_reference(axes, 'teacher', 1.0)
    style.add_reference(axes, 'human', 0.96)
    style.add_reference(axes, 'human', -3.0)
    figure.draw_without_rendering()
    teacher, human, below = (t.get_window_extent() for t in axes.texts)
    assert human.y1 <= teacher.y0
    assert below.y1 < human.y0
    assert axes.bbox.y0 <= below.y0 and teacher.y1 <= axes.bbox.y1


def test_texts_of_panels_stand_clear_of_each_other(tmp_path, monkeypatch):
  boxes = {}

  def save(figure, directory, name):
    if name.startswith('aggregates'):
      figure.draw_without_rendering()
      width = figure.bbox.width
      titles = [a.title.get_window_extent() for a in figure.axes]
      labels = [
          label.get_window_extent()
          for label in figure.axes[0].get_yticklabels()
      ]
      boxes[name] = width, titles, labels
    for kind in ('png', 'pdf'):
      (pathlib.Path(directory) / f'{name}.{kind}').write_bytes(b'')

  monkeypatch.setattr(style, 'save', save)
  for i, rate in enumerate((0.0001, 0.0003, 0.001)):
    write_run(
        tmp_path / 'runs' / f'{i}',
        [1.0, 2.0],
        gin_files=['qdagger_rainbow.gin'],
        member={'learning_rate': rate},
    )
  _report(tmp_path / 'runs', '--out', tmp_path / 'out')
  assert len(boxes) == 4
  for width, titles, labels in boxes.values():
    assert labels and min(box.x0 for box in labels) >= 0
    assert titles[-1].x1 <= width
    assert all(a.x1 < b.x0 for a, b in zip(titles, titles[1:]))
    bottom_up = sorted(labels, key=lambda box: box.y0)
    assert all(a.y1 <= b.y0 for a, b in zip(bottom_up, bottom_up[1:]))


def test_a_single_seed_of_one_game_or_method_is_said(
    tmp_path, labels_of_figures
):
  for i, (game, seed) in enumerate([('Pong', 1), ('Pong', 2), ('Boxing', 1)]):
    write_run(tmp_path / 'runs' / f'{i}', [1.0, 2.0], game=game, seed=seed)
  write_run(tmp_path / 'runs' / 'b', [1.0], agent='b', gin_files=['b.gin'])
  _report(tmp_path / 'runs', '--out', tmp_path / 'out', '--mix', 'budget')
  games = labels_of_figures['games_agent_steps']
  assert 'qdagger_dqn (one run where there is no band)' in games
  assert 'b (one run: no interval)' in games
  assert {'Boxing', 'mean return', 'thousand online agent steps'} <= games
  pairs = ' '.join(labels_of_figures['improvement'])
  assert 'No interval where one of them has one run.' in pairs


@quickly
def test_who_copied_whom_is_on_the_page(tmp_path, labels_of_figures):
  rates = [{'learning_rate': 1e-7}, {'learning_rate': 3e-4}]
  for number, rate in enumerate(rates, 1):
    directory = tmp_path / 'runs' / f'run_{number}'
    write_run(directory, [1.0, 2.0], seed=number, member=rate)
  population = {'run_numbers': [1, 2], 'mutated': ['learning_rate']}
  population |= {'members': rates, 'exploits': []}
  (tmp_path / 'runs' / 'population.json').write_text(json.dumps(population))
  _report(tmp_path / 'runs', '--out', tmp_path / 'out')
  assert {'run 1', 'run 2'} <= labels_of_figures['lineage_1']
  page = Page(tmp_path / 'out' / 'report.html')
  assert 'Who copied whom' in page.texts
  (caption,) = [text for text in page.texts if 'lineage_1.png' in text]
  assert caption.startswith(str(tmp_path / 'runs'))


@quickly
def test_unfinished_runs_are_said_on_the_page(tmp_path):
  write_run(tmp_path / 'runs' / 'a', [1.0, 2.0])
  b = write_run(tmp_path / 'runs' / 'b', [1.0, 2.0], seed=2)
  written_runs.edit(b, lambda d: d['iterations'].pop())
  _report(tmp_path / 'runs', '--out', tmp_path / 'out')
  assert f'{b} is left out' in Page(tmp_path / 'out' / 'report.html').text
  _report(tmp_path / 'runs', '--out', tmp_path / 'out', '--unfinished')
  page = Page(tmp_path / 'out' / 'report.html')
  assert 'count up to 4,000 online agent steps' in page.text


@quickly
def test_labels_and_splits_reach_the_page(tmp_path):
  write_run(tmp_path / 'runs' / 'a', [1.0, 2.0])
  write_run(tmp_path / 'runs' / 'b', [1.0, 2.0, 3.0])
  args = [tmp_path / 'runs', '--out', tmp_path / 'out', '--split', 'budget']
  name = 'qdagger_dqn, online_agent_steps=12000'
  _report(*args, '--label', f'{name}=Long runs')
  text = Page(tmp_path / 'out' / 'report.html').text
  assert 'Long runs' in text and '(--split budget)' in text


# -- where it goes -------------------------------------------------------------


@quickly
def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path):
  run = write_run(tmp_path / 'a', [1.0, 2.0])
  other = write_run(tmp_path / 'b', [1.0, 2.0], agent='b', gin_files=['b.gin'])
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'paper.tex').write_text('mine')
  _report(run, other, '--out', out)
  assert (out / 'improvement.png').exists()
  _report(run, '--out', out)
  assert not (out / 'improvement.png').exists()
  assert (out / 'paper.tex').read_text() == 'mine'
  assert sorted(os.listdir(tmp_path)) == ['a', 'b', 'out']


@quickly
def test_a_file_of_someone_else_stays(tmp_path):
  run = write_run(tmp_path / 'a', [1.0, 2.0])
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'numbers.json').write_text('{"made_by": "me", "files": ["x"]}')
  with pytest.raises(errors.UserError, match='numbers.json is there and is no'):
    _report(run, '--out', out)
  assert os.listdir(out) == ['numbers.json']
  assert sorted(os.listdir(tmp_path)) == ['a', 'out']


@quickly
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
  run = write_run(tmp_path / 'a', [1.0, 2.0])

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(report.files, 'write_numbers', full)
  with pytest.raises(
      errors.UserError, match='cannot be written .No space left'
  ):
    _report(run, '--out', tmp_path / 'deep' / 'out')
  assert not (tmp_path / 'deep' / 'out').exists()
  assert not list(tmp_path.glob('**/*.part'))


@pytest.mark.parametrize(
    'args, message',
    [
        ([], 'Name directories of runs'),
        (['RUN'], '--out is missing'),
        (['RUN', '--out', 'FILE'], 'is no directory'),
        (['RUN', '--out', 'OUT', '--bootstrap', '10'], 'too few'),
        (['RUN', '--out', 'OUT', '--seed', '-1'], '--seed -1'),
        (['RUN', '--out', 'OUT', '--mix', 'seeds'], '--mix seeds is not known'),
        (['RUN', '--out', 'OUT', '--split', 'rom'], '--split rom is not known'),
        (['RUN', '--out', 'OUT', '--label', 'x'], 'not of the form'),
        (['RUN', '--out', 'OUT', '--label', 'x=y'], 'no such method'),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, args, message):
  places = {
      'RUN': write_run(tmp_path / 'run', [1.0]),
      'FILE': tmp_path / 'run' / 'summary.json',
      'OUT': tmp_path / 'out',
  }
  with pytest.raises(errors.UserError, match=message):
    _report(*(places.get(arg, arg) for arg in args))
  assert not (tmp_path / 'out').exists()
