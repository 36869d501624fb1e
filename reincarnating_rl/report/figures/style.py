"""Look of the figures: sizes, colours and legends for a paper.

Fonts are embedded as TrueType, which conferences require.
"""

from __future__ import annotations

import contextlib
import math
import os
import textwrap
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence

from reincarnating_rl.report import formatting

# Okabe and Ito (2008): distinct for the colour-blind and in grey.
_COLORS = (
    '#0072B2',
    '#D55E00',
    '#009E73',
    '#CC79A7',
    '#E69F00',
    '#56B4E9',
    '#000000',
)
_MARKERS = 'osD^vPX'
_DASHES = ('-', '--', ':', '-.')
REFERENCE_STYLES: dict[str, dict[str, Any]] = {
    'teacher': {'color': '0.25', 'linestyle': (0, (5, 2))},
    'human': {'color': '0.45', 'linestyle': (0, (1, 1.5))},
    'random': {'color': '0.7', 'linestyle': (0, (3, 1.5, 1, 1.5))},
}
WIDTH = 6.75  # inches; the text width of most conferences
DPI = 200
SETTINGS: dict[Any, Any] = {
    'font.size': 8.5,
    'axes.titlesize': 9,
    'axes.labelsize': 8.5,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.linewidth': 0.7,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '0.92',
    'grid.linewidth': 0.6,
    'xtick.labelsize': 8,
    'ytick.labelsize': 8,
    'legend.fontsize': 8,
    'legend.frameon': False,
    'lines.linewidth': 1.5,
    'lines.markersize': 3.5,
    'pdf.fonttype': 42,
}
# Inches; the page shows two such figures side by side.
NARROW = 0.75 * WIDTH
GAMES, IMPROVEMENT, LINEAGE = 'games', 'improvement', 'lineage'
# Characters per line of a label beside panels.
LABEL_LENGTH = 26
_SINGLE = '(one run: no interval)'
_SOME_SINGLE = '(one run where there is no band)'
_REMARK_ROW = 9  # points
# Characters of a legend per inch.
_LEGEND_LENGTH = 15
_LEGEND_ROW = 0.165  # inches


class Drawn(NamedTuple):
  """A figure that was drawn.

  Attributes:
    name: name of the files, without their endings.
    section: section of the page: a normalization, GAMES, IMPROVEMENT or
      LINEAGE.
    width: width in inches.
    caption: caption, with the number of runs.
  """

  name: str
  section: str
  width: float
  caption: str


class Look(NamedTuple):
  """Look of one method in all figures; `band` is the opacity of bands."""

  color: str
  marker: str
  linestyle: str
  band: float


def looks(methods: Sequence[str]) -> dict[str, Look]:
  """Gives each method a look; colours repeat only once all are used."""
  return {
      name: Look(
          _COLORS[i % len(_COLORS)],
          _MARKERS[(i + i // len(_COLORS)) % len(_MARKERS)],
          _DASHES[i // len(_COLORS) % len(_DASHES)],
          # Paler where many bands overlap.
          band=min(0.16, 0.8 / len(methods)),
      )
      for i, name in enumerate(methods)
  }


@contextlib.contextmanager
def new_figure(width: float, height: float) -> Iterator[Any]:
  """Makes a figure, in inches, that is laid out without overlaps."""
  import matplotlib
  from matplotlib.figure import Figure

  with matplotlib.rc_context(SETTINGS):
    yield Figure(figsize=(width, height), layout='constrained')


def save(figure: Any, directory: str, name: str) -> None:
  """Writes PNG and PDF; equal figures give equal bytes."""
  path = os.path.join(directory, name)
  figure.savefig(f'{path}.png', dpi=DPI, metadata={'Software': None})
  # Keeps the layout, which takes a third of the time to compute.
  figure.set_layout_engine('none')
  figure.savefig(f'{path}.pdf', metadata={'CreationDate': None})


def plain(name: str) -> str:
  """Escapes a name so that matplotlib shows it unchanged.

  matplotlib reads text between dollars as mathematics, and leaves labels with
  a leading underscore out of legends.
  """
  return name.replace('$', r'\$').replace('_', ' _', name.startswith('_'))


def add_legend(figure: Any, axes: Sequence[Any]) -> None:
  """Adds one legend below all axes, and makes the figure higher by as much.

  Args:
    figure: the figure.
    axes: axes whose lines the legend names, each name once.
  """
  handles: dict[str, Any] = {}
  for some in axes:
    for handle, label in zip(*some.get_legend_handles_labels()):
      handles.setdefault(label, handle)
  longest = max(map(len, handles)) + 6
  room = _LEGEND_LENGTH * figure.get_figwidth()
  columns = min(len(handles), max(1, int(room / longest)))
  figure.legend(
      handles.values(),
      handles.keys(),
      loc='outside lower center',
      ncols=columns,
      handlelength=2.6,
      columnspacing=1.6,
  )
  height = math.ceil(len(handles) / columns) * _LEGEND_ROW + _LEGEND_ROW
  figure.set_figheight(figure.get_figheight() + height)


def add_reference(axes: Any, name: str, score: float) -> None:
  """Adds a reference score as a horizontal line.

  A score far outside the drawn range becomes a remark at the edge; that of
  random play, where scores begin, is left out then.

  Args:
    axes: axes with all curves drawn.
    name: 'random', 'teacher' or 'human'.
    score: the score.
  """
  low, high = axes.dataLim.intervaly
  span = max(high - low, 1e-9)
  style = REFERENCE_STYLES[name]
  if low - 0.7 * span <= score <= high + 0.7 * span:
    axes.axhline(score, label=name, linewidth=1.0, zorder=1, **style)
    return
  if name == 'random':
    return
  above = score > high
  number = formatting.number(score, formatting.decimals_of([score]))
  arrow = '↑' if above else '↓'
  # Next to the remarks that are already there.
  row = sum(text.get_text().endswith(arrow) for text in axes.texts)
  axes.annotate(
      f'{name} {number} {arrow}',
      (0.99, 0.99 if above else 0.01),
      xytext=(0, (-1 if above else 1) * _REMARK_ROW * row),
      textcoords='offset points',
      xycoords='axes fraction',
      ha='right',
      va='top' if above else 'bottom',
      fontsize=7,
      color='0.35',
  )


def add_line(
    axes: Any,
    x: Sequence[float],
    rows: Sequence[Any],
    label: str,
    look: Look,
    step: Optional[str] = None,
    **line: Any,
) -> None:
  """Adds a line with its band of intervals.

  Args:
    axes: the axes.
    x: one x per row.
    rows: rows of one method, with `value`, `low` and `high`.
    label: label in the legend.
    look: look of the method.
    step: 'pre', 'post' or 'mid' for steps; None for straight lines.
    **line: further properties of the line.
  """
  if step is not None:
    line['drawstyle'] = f'steps-{step}'
  axes.plot(
      x,
      [row.value for row in rows],
      color=look.color,
      linestyle=look.linestyle,
      label=label,
      zorder=3,
      **line,
  )
  if rows[0].low is not None:
    axes.fill_between(
        x,
        [row.low for row in rows],
        [row.high for row in rows],
        color=look.color,
        alpha=look.band,
        linewidth=0,
        step=step,
        zorder=2,
    )


def label(name: str, rows: Sequence[Any], length: Optional[int] = None) -> str:
  """Label of a method, with a remark where it has no interval.

  Args:
    name: name of the method.
    rows: rows of the method.
    length: characters per line, where words allow; None = one line.
  """
  parts = [plain(name)]
  single = [row.low is None for row in rows]
  if any(single):
    parts.append(_SINGLE if all(single) else _SOME_SINGLE)
  if length is None:
    return ' '.join(parts)
  wrap = lambda part: textwrap.fill(
      part, length, break_long_words=False, break_on_hyphens=False
  )
  return '\n'.join(map(wrap, parts))


def intervals(rows: Iterable[Any], marks: str, each: str = '') -> str:
  """Part of a caption: '; bands: 95% stratified bootstrap intervals, ...'.

  Args:
    rows: rows of a figure; without any interval the text is empty.
    marks: mark that shows the intervals, such as 'bands'.
    each: variable at one value of which an interval holds, such as 'x'.
  """
  if all(row.low is None for row in rows):
    return ''
  text = f'; {marks}: {formatting.INTERVALS}'
  return f'{text}, one {each} at a time' if each else text


def runs_of(rows: Iterable[Any], games: Sequence[str]) -> str:
  """Part of a caption: '3 runs of each of 2 games (Boxing, Pong)'."""
  runs = formatting.counts([row.runs_a_game for row in rows], 'run')
  return (
      f'{runs} of each of {formatting.counts([len(games)], "game")} '
      f'({formatting.listed(games)})'
  )
