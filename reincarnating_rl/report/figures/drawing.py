"""Draws all figures of the numbers of a report."""

from __future__ import annotations

from reincarnating_rl.report.figures import comparisons
from reincarnating_rl.report.figures import curves
from reincarnating_rl.report.figures import style
from reincarnating_rl.report.statistics import samples
from reincarnating_rl.report.statistics.references import NORMALIZATIONS
from reincarnating_rl.report.tables import Numbers


def draw(numbers: Numbers, directory: str) -> list[style.Drawn]:
  """Draws each figure that there are numbers for, as PNG and PDF.

  Args:
    numbers: numbers of the report.
    directory: directory for the files.
  """
  looks = style.looks(numbers.methods)
  drawn = []
  for normalization in NORMALIZATIONS:
    drawn += [
        curves.draw_curves(numbers, looks, normalization, axis, directory)
        for axis in samples.AXES
    ]
    drawn += [
        comparisons.draw_aggregates(
            numbers, looks, normalization, quantity, directory
        )
        for quantity in (samples.FINAL, samples.AREA)
    ]
    drawn.append(
        comparisons.draw_profiles(numbers, looks, normalization, directory)
    )
  drawn += [
      curves.draw_game_curves(numbers, looks, axis, directory)
      for axis in samples.AXES
  ]
  drawn.append(comparisons.draw_improvements(numbers, directory))
  return [figure for figure in drawn if figure is not None]
