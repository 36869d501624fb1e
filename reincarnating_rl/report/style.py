"""How figures look: sizes of a paper's column, colours that all can tell apart.

Fonts are embedded as TrueType, which conferences ask for.
"""

from __future__ import annotations

import contextlib
import math
import os
import textwrap
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence

from reincarnating_rl.report import formatting

# Okabe and Ito (2008): distinct to the colour-blind and in grey.
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
REFERENCE_STYLES = {
    'teacher': {'color': '0.25', 'linestyle': (0, (5, 2))},
    'human': {'color': '0.45', 'linestyle': (0, (1, 1.5))},
    'random': {'color': '0.7', 'linestyle': (0, (3, 1.5, 1, 1.5))},
}
WIDTH = 6.75  # inches; the text width of most conferences
DPI = 200
SETTINGS = {
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
# Inches; two of them stand beside each other on the page.
NARROW = 0.75 * WIDTH
GAMES, IMPROVEMENT, LINEAGE = 'games', 'improvement', 'lineage'
# Characters of a label beside panels, which need their own room.
LABEL_LENGTH = 26
_SINGLE = '(one run: no interval)'
_SOME_SINGLE = '(one run where there is no band)'
_REMARK_ROW = 9  # points
# Characters of a legend that fit into an inch.
_LEGEND_LENGTH = 15
_LEGEND_ROW = 0.165  # inches


class Drawn(NamedTuple):
  """A figure that was drawn.

  Attributes:
    name: of its files, without what they end in.
    section: of the page: a normalization, GAMES, IMPROVEMENT or LINEAGE.
    width: inches.
    caption: what it shows, of how many runs.
  """

  name: str
  section: str
  width: float
  caption: str


class Look(NamedTuple):
  """Of one method, in all figures of a report; how opaque its bands are."""

  color: str
  marker: str
  linestyle: str
  band: float


def looks(methods: Sequence[str]) -> dict[str, Look]:
  """A look for each method; every colour comes before one comes again."""
  return {
      name: Look(
          _COLORS[i % len(_COLORS)],
          _MARKERS[(i + i // len(_COLORS)) % len(_MARKERS)],
          _DASHES[i // len(_COLORS) % len(_DASHES)],
          # Many bands lie upon each other.
          band=min(0.16, 0.8 / len(methods)),
      )
      for i, name in enumerate(methods)
  }


@contextlib.contextmanager
def new_figure(width: float, height: float) -> Iterator[Any]:
  """A figure of so many inches, laid out without overlaps."""
  import matplotlib
  from matplotlib.figure import Figure

  with matplotlib.rc_context(SETTINGS):
    yield Figure(figsize=(width, height), layout='constrained')


def save(figure: Any, directory: str, name: str) -> None:
  """Writes it as PNG and as PDF, the same bytes for the same figure."""
  path = os.path.join(directory, name)
  figure.savefig(f'{path}.png', dpi=DPI, metadata={'Software': None})
  figure.savefig(f'{path}.pdf', metadata={'CreationDate': None})


def plain(name: str) -> str:
  """A name as a text that matplotlib shows as it is.

  It takes what is between dollars for mathematics, and leaves labels that
  begin with an underscore out of legends.
  """
  return name.replace('$', r'\$').replace('_', ' _', name.startswith('_'))


def add_legend(figure: Any, axes: Sequence[Any]) -> None:
  """One legend below all axes, which makes the figure so much higher.

  Args:
    figure: to put it on.
    axes: those whose lines it names, each name once.
  """
  handles = {}
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
  """A horizontal line; a remark where it is far from all that is drawn.

  Random play's has none: it is where scores begin.
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
  # Each below, or above, those that stand there.
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
  """Values and intervals of some rows, over x.

  Args:
    axes: to draw on.
    x: one a row.
    rows: of one method.
    label: in the legend.
    look: of the method.
    step: how matplotlib's bands go between them; None = straight.
    **line: what else the line is.
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
  """The name of a method, and that it has no interval where it has none.

  Args:
    name: of the method.
    rows: of it.
    length: characters of a line, if words allow; None = all in one line.
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
  """'; bands: 95% stratified bootstrap intervals, one x at a time'.

  Args:
    rows: of a figure; where none has an interval there is nothing to say.
    marks: what shows them.
    each: what they hold for, one at a time.
  """
  if all(row.low is None for row in rows):
    return ''
  text = f'; {marks}: {formatting.INTERVALS}'
  return f'{text}, one {each} at a time' if each else text


def runs_of(rows: Iterable[Any], games: Sequence[str]) -> str:
  """'3 runs of each of 2 games (Boxing, Pong)'."""
  runs = formatting.counts([row.runs_a_game for row in rows], 'run')
  return (
      f'{runs} of each of {formatting.counts([len(games)], "game")} '
      f'({formatting.listed(games)})'
  )
