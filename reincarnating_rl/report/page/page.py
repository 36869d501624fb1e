"""The page of a report: one HTML file that opens without a network.

Text from files and users is escaped where it becomes HTML, in `_tag`.
"""

from __future__ import annotations

import base64
import html
import os
from typing import Iterator, Sequence

from reincarnating_rl.report import formatting
from reincarnating_rl.report.figures import style
from reincarnating_rl.report.page import report_data
from reincarnating_rl.report.page import text
from reincarnating_rl.report.page.report_data import Report
from reincarnating_rl.report.reading import chains
from reincarnating_rl.report.reading import method_identity
from reincarnating_rl.report.reading.runs import Run
from reincarnating_rl.report.statistics import references
from reincarnating_rl.report.statistics import samples
from reincarnating_rl.report.statistics.references import NORMALIZATIONS
from reincarnating_rl.report.tables import RAW

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 2em auto;
  max-width: 70em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em;
  border-bottom: 1px solid #ddd; } h3 { font-size: 1em; }
table { border-collapse: collapse; margin: 0.6em 0; font-size: 0.92em;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.8em 0.2em 0; text-align: right; vertical-align: top; }
th { border-bottom: 1.5px solid #222; font-weight: 600; }
tr + tr td { border-top: 1px solid #eee; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
table.words th, table.words td { text-align: left; white-space: normal;
  overflow-wrap: break-word; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2em 1.5em; }
figure { margin: 0; max-width: 100%; } img { width: 100%; height: auto; }
figcaption { color: #555; font-size: 0.9em; }
.warnings { background: #fff1d6; border-left: 5px solid #d98200;
  padding: 0.2em 1em; }
.warnings h2 { border: none; margin: 0.4em 0; }
code, .path { font: 0.88em/1.4 ui-monospace, monospace; }
pre { background: #f5f5f5; padding: 0.7em; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
@media print { body { max-width: none; } }
"""
# Forbids the browser to fetch anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PIXELS_AN_INCH = 100


def to_html(report: Report, directory: str) -> str:
  """Writes a report as HTML.

  Args:
    report: content of the report.
    directory: directory of the figures.
  """
  parts = [
      *_head(report),
      *_warnings(report),
      *_headline(report),
      *_notes(report),
      *_figures(report, references.TEACHER, directory),
      *_figures(report, style.IMPROVEMENT, directory),
      *_figures(report, style.GAMES, directory),
      *_games(report),
      *_figures(report, references.HUMAN, directory),
      *_figures(report, style.LINEAGE, directory),
      *_methods(report),
      *_provenance(report),
  ]
  body = '\n'.join(parts)
  return (
      '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
      f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
      '<meta name="viewport" content="width=device-width">\n'
      f'<title>{html.escape(_title(report))}</title>\n'
      f'<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n'
  )


# -- pieces --------------------------------------------------------------------


def _tag(name: str, content: str, **attributes: str) -> str:
  """An HTML element with text; a trailing _ of a keyword is dropped."""
  given = ''.join(
      f' {key.rstrip("_")}="{html.escape(value)}"'
      for key, value in attributes.items()
  )
  return f'<{name}{given}>{html.escape(content)}</{name}>'


def _table(rows: Sequence[Sequence[str]], kind: str = '') -> str:
  """An HTML table; the first row is the header."""
  lines = [f'<div class="scroll"><table class="{kind}">']
  for i, row in enumerate(rows):
    cells = ''.join(_tag('td' if i else 'th', cell) for cell in row)
    lines.append(f'<tr>{cells}</tr>')
  return '\n'.join([*lines, '</table></div>'])


def _list(items: Sequence[str]) -> str:
  return '<ul>' + ''.join(_tag('li', item) for item in items) + '</ul>'


# -- sections ------------------------------------------------------------------


def _title(report: Report) -> str:
  games = sorted({game for m in report.methods for game in m.runs})
  methods = formatting.counts([len(report.methods)], 'method')
  return f'{methods} on {formatting.listed(games)}'


def _head(report: Report) -> Iterator[str]:
  yield _tag('h1', _title(report))


def _warnings(report: Report) -> Iterator[str]:
  if report.warnings:
    yield '<div class="warnings">'
    yield _tag('h2', 'Read this first')
    yield _list(report.warnings)
    yield '</div>'


def _headline(report: Report) -> Iterator[str]:
  what, rows = text.headline(report)
  yield _tag(
      'p',
      f'{what}. Final: the last evaluation; mean online: over the online '
      'evaluations, the area under the learning curve over its length.',
  )
  yield _table(rows)


def _notes(report: Report) -> Iterator[str]:
  if report.notes:
    yield _tag('h2', 'Notes')
    yield _list(report.notes)


_SECTIONS = {
    references.TEACHER: 'Teacher-normalized scores',
    references.HUMAN: 'Human-normalized scores',
    style.IMPROVEMENT: 'Probability of improvement',
    style.GAMES: 'Each game',
    style.LINEAGE: 'Who copied whom',
}


def _figures(report: Report, section: str, directory: str) -> Iterator[str]:
  drawn = [figure for figure in report.figures if figure.section == section]
  if not drawn:
    return
  yield _tag('h2', _SECTIONS[section])
  yield '<div class="figures">'
  for figure in drawn:
    with open(os.path.join(directory, f'{figure.name}.png'), 'rb') as f:
      image = base64.b64encode(f.read()).decode()
    names = f'{figure.name}.pdf, {figure.name}.png'
    yield (
        f'<figure style="width: {figure.width * _PIXELS_AN_INCH:.0f}px">'
        f'<img alt="{html.escape(figure.caption)}" '
        f'src="data:image/png;base64,{image}">'
        + _tag('figcaption', f'{figure.caption} ({names})')
        + '</figure>'
    )
  yield '</div>'


def _games(report: Report) -> Iterator[str]:
  yield _tag(
      'p',
      'Means over runs, with 95% bootstrap intervals and the standard '
      'deviation of the final scores of runs.',
  )
  for game in sorted({row.game for row in report.numbers.game_scores}):
    yield _tag('h3', game)
    yield _table(_game_table(report, game))
    known = [
        f'{row.name} {formatting.number(row.score)}'
        for row in report.numbers.references
        if row.game == game
    ]
    yield _tag('p', f'Measured by: {", ".join(known) or "nothing"}.')


def _game_table(report: Report, game: str) -> list[list[str]]:
  columns = [(samples.FINAL, RAW)]
  columns += [(samples.FINAL, name) for name in NORMALIZATIONS]
  columns += [(samples.AREA, RAW), (samples.START, RAW)]
  rows = [row for row in report.numbers.game_scores if row.game == game]
  cells = {(r.method, r.quantity, r.normalization): r for r in rows}
  raw = [row.value for row in rows if row.normalization == RAW]
  table = [['method', *map(_column_name, columns), 'std. dev.', 'runs']]
  for name in report.numbers.methods:
    final = cells.get((name, samples.FINAL, RAW))
    if final is None:
      continue
    line = [name]
    for column in columns:
      row = cells.get((name, *column))
      decimals = formatting.decimals_of(raw) if column[1] == RAW else 2
      line.append(
          formatting.estimate(row.value, row.low, row.high, decimals)
          if row
          else formatting.MISSING
      )
    deviation = formatting.number(final.deviation, formatting.decimals_of(raw))
    table.append([*line, deviation, str(final.runs)])
  return table


def _column_name(column: tuple[str, str]) -> str:
  quantity, normalization = column
  name = report_data.QUANTITY_WORDS[quantity]
  return name if normalization == RAW else f'{name}, {normalization}-normalized'


def _methods(report: Report) -> Iterator[str]:
  yield _tag('h2', 'Methods')
  rows = [['method', 'agent', 'configurations', 'network', 'budget', 'seeds']]
  for method in report.in_order:
    first = method.all_runs[0]
    seeds = {
        game: ', '.join(str(run.seed) for run in runs)
        for game, runs in method.runs.items()
    }
    same = len(set(seeds.values())) == 1
    rows.append(
        [
            method.name,
            first.agent,
            ', '.join(first.gin_files) or formatting.MISSING,
            first.network or formatting.MISSING,
            str(method_identity.budget(first)),
            next(iter(seeds.values()))
            if same
            else '; '.join(f'{game}: {s}' for game, s in seeds.items()),
        ]
    )
  yield _table(rows, 'words')
  different = report_data.settings_that_differ(report.in_order)
  if different:
    yield '<details>'
    yield _tag('summary', f'{len(different)} settings that differ')
    names = [method.name for method in report.in_order]
    yield _table(
        [['setting', *names], *([n, *v] for n, v in different.items())], 'words'
    )
    yield '</details>'


def _provenance(report: Report) -> Iterator[str]:
  making = report.making
  yield _tag('h2', 'Where this comes from')
  yield _tag('pre', making.command)
  yield _tag(
      'p',
      f'In {making.directory}; {making.resamples:,} resamples, seed '
      f'{making.seed}. Every number is in the files beside this page, as CSV '
      'and as JSON.',
  )
  runs = [run for method in report.in_order for run in method.all_runs]
  yield _tag('h3', 'Teachers and games')
  yield _table(_games_played(runs), 'words')
  yield _tag('h3', 'Who learned from whom')
  yield _table(chains.table(runs), 'words')
  yield _tag('h3', 'Runs')
  rows = [['directory', 'method', 'game', 'seed', 'updates', 'time', 'final']]
  for method in report.in_order:
    for run in method.all_runs:
      last = run.points[-1]
      rows.append(
          [
              run.path,
              method.name,
              run.game,
              str(run.seed),
              f'{last.updates:,}',
              formatting.duration(last.seconds),
              formatting.number(last.score),
          ]
      )
  yield _table(rows)
  yield _tag('h3', 'Versions of the runs, and of this report')
  names = dict.fromkeys(
      [n for r in runs for n in r.versions] + [*making.versions]
  )
  of_runs = lambda name: sorted({r.versions.get(name, '') for r in runs} - {''})
  yield _table(
      [
          ['package', 'runs', 'report'],
          *(
              [n, ', '.join(of_runs(n)), making.versions.get(n, '')]
              for n in names
          ),
      ]
  )


def _games_played(runs: Sequence[Run]) -> list[list[str]]:
  """Rows with each combination of game, teacher and ROM once."""
  rows: dict[tuple[str, ...], list[str]] = {}
  for run in runs:
    teacher = run.teacher
    described = (
        ['none', '', '']
        if teacher is None
        else [
            teacher.identity,
            teacher.place,
            formatting.number(run.teacher_score),
        ]
    )
    rom = (
        f'{run.rom.get("file", "?")}, md5 {run.rom.get("md5", "not recorded")}'
    )
    line = [run.game, *described, rom]
    rows.setdefault(tuple(line), line)
  header = ['game', 'teacher (checksum)', 'place', 'score', 'ROM']
  return [header, *sorted(rows.values())]
