"""Headline of a report as text."""

from __future__ import annotations

from reincarnating_rl.report import formatting
from reincarnating_rl.report.page.report_data import Report
from reincarnating_rl.report.statistics import samples


def headline(report: Report) -> tuple[str, list[list[str]]]:
  """Title and rows, the header first, of the main table."""
  if report.headline is None:
    return _of_games(report)
  games = report.numbers.games[report.headline]
  rows = [
      ['method', 'final', 'mean online', 'after pretraining', 'runs × games']
  ]
  for method in report.in_order:
    cells = [method.name]
    for quantity in samples.QUANTITIES:
      row = report.iqm(method.name, quantity)
      cells.append(
          formatting.estimate(row.value, row.low, row.high)
          if row
          else formatting.MISSING
      )
    final = report.iqm(method.name, samples.FINAL)
    size = f'{final.runs_a_game} × {final.games}' if final else ''
    rows.append([*cells, size])
  what = (
      f'IQM of {report.headline}-normalized scores over '
      f'{formatting.counts([len(games)], "game")} ({formatting.listed(games)})'
  )
  if any(row.low is not None for row in report.numbers.aggregates):
    what += f', {formatting.INTERVALS}'
  return what, rows


def _of_games(report: Report) -> tuple[str, list[list[str]]]:
  """Raw scores per game, where no scores can be normalized."""
  rows = [['method', 'game', 'final', 'runs']]
  for row in report.numbers.game_scores:
    if (row.quantity, row.normalization) == (samples.FINAL, 'raw'):
      score = formatting.estimate(row.value, row.low, row.high)
      rows.append([row.method, row.game, score, str(row.runs)])
  if all(row.low is None for row in report.numbers.game_scores):
    return 'Mean return', rows
  return f'Mean return, {formatting.INTERVALS}', rows
