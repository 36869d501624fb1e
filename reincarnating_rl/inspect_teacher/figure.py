"""Figure of states from a teacher's data, with its Q-values."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.base import errors
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import registry

FILE_TYPES = ('.png', '.pdf', '.svg')
# Number of states, and agent steps between states of random play.
NUM_STATES = 6
_PLAY_INTERVAL = 60
_PLAY_SEED = 0
# Characters of the title per column.
_TITLE_LENGTH = 50
_GREEDY_COLOR, _OTHER_COLOR = '#d9722b', '#b9c6d6'


class States(NamedTuple):
  """States to show.

  Attributes:
    states: [K, H, W, C] uint8, oldest frame first.
    titles: [K] source of each state.
    actions: [K] int, actions taken; None if not shown.
  """

  states: np.ndarray
  titles: list[str]
  actions: Optional[np.ndarray] = None


def check_path(path: str) -> None:
  """Refuses a path that cannot be written, before anything is read.

  Raises:
    UserError: for an unknown type of file, or a folder that does not exist.
  """
  if not path.lower().endswith(FILE_TYPES):
    raise errors.UserError(
        f'--figure {path} is no type of file that can be drawn: let it end in '
        f'{", ".join(FILE_TYPES[:-1])} or {FILE_TYPES[-1]}.'
    )
  folder = os.path.dirname(path) or '.'
  if not os.path.isdir(folder):
    raise errors.UserError(
        f'--figure {path} cannot be written: there is no folder {folder}; make '
        'it, or name another.'
    )
  if os.path.isdir(path) or not os.access(folder, os.W_OK):
    raise errors.UserError(
        f'--figure {path} cannot be written: it is a folder, or you may not '
        'write there; name another file.'
    )


def states_to_show(
    teacher: Any, game: Optional[str], read_replay: bool
) -> States:
  """Selects states of the teacher's data, else of a short random play.

  Args:
    teacher: a loaded teacher.
    game: its game; None if unknown.
    read_replay: True if its data may be read.

  Raises:
    UserError: if there are neither data nor a game to play.
  """
  if teacher.replay is None:
    reason = 'has no replay'
  elif not read_replay:
    reason = 'has a replay that is not to be read'
  else:
    states = _states_of_replay(teacher.replay)
    if states is not None:
      return states
    reason = 'has no usable row in its replay'
  if game not in atari.available_games():
    raise errors.UserError(
        f'There is nothing to draw into --figure: {teacher.path} {reason}, and '
        'its game, to play it instead, is unknown; name the teacher by a path '
        'that ends in <Game>/<run>, or leave out --figure.'
    )
  return _states_of_play(game)


def _states_of_replay(replay: Any) -> Optional[States]:
  """Selects evenly spread usable rows; None if no row is usable."""
  n_step = replay.only_horizon or 1
  (rows,) = np.nonzero(replay.valid(n_step))
  if not len(rows):
    return None
  places = (np.arange(NUM_STATES) + 0.5) * len(rows) / NUM_STATES
  rows = rows[np.unique(places.astype(int))]
  chosen = replay.transitions(rows, n_step)
  kind = 'reward' if n_step == 1 else f'{n_step}-step return'
  signed = lambda x: f'{x:+.3g}' if x else '0'
  titles = [
      f'row {row:,}, {kind} {signed(reward)}'
      for row, reward in zip(rows, chosen.reward)
  ]
  for i in np.flatnonzero(chosen.terminal):
    titles[i] += ', terminal'
  return States(chosen.state, titles, chosen.action)


def _states_of_play(game: str) -> States:
  env = registry.make_factory(game)(1, _PLAY_SEED)
  rng = np.random.default_rng(_PLAY_SEED)
  observation = env.reset()
  states, titles = [], []
  for step in range(1, NUM_STATES * _PLAY_INTERVAL + 1):
    observation = env.step(rng.integers(0, env.num_actions, 1)).observation
    if step % _PLAY_INTERVAL == 0:
      states.append(np.moveaxis(observation[0], 0, -1))
      titles.append(f'step {step} of a random play')
  return States(np.stack(states), titles)


def draw(
    shown: States,
    q_values: np.ndarray,
    names: Sequence[str],
    title: str,
    path: str,
) -> None:
  """Draws each state beside the teacher's Q-values there.

  Args:
    shown: K states.
    q_values: [K, A] float32.
    names: [A] names of the actions.
    title: title of the figure.
    path: path of the file.

  Raises:
    UserError: if the file cannot be written.
  """
  from matplotlib.figure import Figure

  num_columns = min(2, len(shown.states))
  num_rows = math.ceil(len(shown.states) / num_columns)
  height = 2.55 * num_rows + 0.9
  figure = Figure(figsize=(6.2 * num_columns, height))
  grid = figure.add_gridspec(
      num_rows,
      num_columns,
      left=0.03,
      right=0.985,
      top=1 - 0.7 / height,
      bottom=0.5 / height,
      hspace=0.22,
      wspace=0.08,
  )
  # Enough decimals to tell the actions apart in most states.
  span = max(float(np.median(np.ptp(q_values, axis=1))), 1e-6)
  decimals = int(np.clip(2 - math.floor(math.log10(span)), 2, 4))
  for i in range(len(shown.states)):
    # Columns: older frames, newest frame, names, bars, numbers.
    parts = grid[i // num_columns, i % num_columns].subgridspec(
        3, 5, width_ratios=(0.72, 2.3, 1.05, 1.5, 0.45), wspace=0.04
    )
    _draw_frames(figure, parts, shown.states[i], shown.titles[i])
    action = None if shown.actions is None else int(shown.actions[i])
    bars = figure.add_subplot(parts[:, 3])
    _draw_q_values(bars, q_values[i], names, action, decimals)
  # Keep the end, which tells more of a path than its start.
  longest = _TITLE_LENGTH * num_columns
  if len(title) > longest:
    title = '...' + title[3 - longest :]
  figure.suptitle(title, x=0.03, y=1 - 0.15 / height, ha='left', va='top')
  _draw_legend(figure, shown.actions is not None)
  try:
    figure.savefig(path, dpi=150)
  except OSError as e:
    raise errors.UserError(
        f'--figure {path} cannot be written ({e.strerror or e}): name another '
        'file.'
    ) from e


def _draw_frames(
    figure: Any, parts: Any, state: np.ndarray, title: str
) -> None:
  """Draws the newest frame large, the older frames small beside it."""
  older = state.shape[-1] - 1
  for lag in range(older + 1):
    where = parts[:, 1] if lag == 0 else parts[older - lag, 0]
    axes = figure.add_subplot(where)
    axes.imshow(state[..., older - lag], cmap='gray', vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
      spine.set_color('0.6')
    if lag == 0:
      axes.set_title(title, fontsize=8.5, loc='left', pad=4)
    else:
      axes.set_ylabel(f't-{lag}', fontsize=6.5, color='0.4', labelpad=2)


def _draw_q_values(
    axes: Any,
    q_values: np.ndarray,
    names: Sequence[str],
    action: Optional[int],
    decimals: int,
) -> None:
  """Draws a bar per action, from the mean over actions."""
  actions = np.arange(len(q_values))
  greedy = int(q_values.argmax())
  mean = float(q_values.mean())
  colors = [_GREEDY_COLOR if a == greedy else _OTHER_COLOR for a in actions]
  axes.barh(actions, q_values - mean, left=mean, color=colors, height=0.72)
  axes.axvline(mean, color='0.35', linewidth=0.8)
  reach = max(float(np.ptp(q_values)), 1e-6)
  axes.set_xlim(q_values.min() - 0.04 * reach, q_values.max() + 0.04 * reach)
  axes.set_ylim(len(q_values) - 0.4, -0.6)
  axes.set_xticks([])
  size = 7.5 if len(q_values) <= 9 else 6.0
  axes.set_yticks(actions, names, fontsize=size)
  axes.tick_params(axis='y', length=0, pad=9)
  axes.spines[:].set_visible(False)
  beside = axes.get_yaxis_transform()
  for a, value in zip(actions, q_values):
    axes.text(
        1.03,
        a,
        f'{round(float(value), decimals) + 0.0:.{decimals}f}',  # no -0.00
        transform=beside,
        fontsize=size,
        va='center',
        fontweight='bold' if a == greedy else 'normal',
    )
  if action is not None and action < len(q_values):
    axes.plot(
        -0.045, action, 'k>', markersize=4.5, transform=beside, clip_on=False
    )


def _draw_legend(figure: Any, has_actions: bool) -> None:
  from matplotlib.lines import Line2D
  from matplotlib.patches import Patch

  handles = [
      Patch(color=_GREEDY_COLOR, label='greedy action'),
      Patch(color=_OTHER_COLOR, label='other actions'),
      Line2D([], [], color='0.35', linewidth=0.8, label='mean over actions'),
  ]
  if has_actions:
    marker = Line2D([], [], color='k', marker='>', linestyle='')
    marker.set_label('action that was taken')
    handles.append(marker)
  figure.legend(
      handles=handles,
      loc='lower center',
      ncols=len(handles),
      frameon=False,
      fontsize=8,
  )
