"""One picture of a film: the game on the left, Q-values on the right.

Static parts are drawn once. Pillow draws the rest, in some 10 ms per picture;
matplotlib takes five to eight times as long. Shape letters: T steps shown, A
actions.
"""

from __future__ import annotations

import collections
from typing import NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image
from PIL import ImageDraw

from reincarnating_rl.evaluate import canvas
from reincarnating_rl.evaluate import plots

# Agent steps per second of play: 60 screens per second, 4 per step.
STEPS_PER_SECOND = 15.0
STEPS_SHOWN = 90
# The scale of the bars fits the last two seconds.
_STEPS_COMPARED = 30

_MARGIN = 24
_HEADER = 58
_FOOTER = 32
_GAP = 36
_RIGHT_WIDTH = 716
_SCREEN_HEIGHT = 640  # largest height of the screen, in pixels
_LEAST_HEIGHT = 620  # height that plots of 18 actions need
_NAMES_WIDTH = 164
_TITLE, _BETWEEN, _TIMES = 22, 26, 26
# Height of an action's row; curves take the remaining height.
_LOWEST_ROW, _HIGHEST_ROW = 15.5, 34.0
_LOWEST_CURVES = 60


class Moment(NamedTuple):
  """State of an episode at one agent step.

  Attributes:
    screen: [H, W, 3] uint8.
    q_student: [A] Q-values of the student.
    q_teacher: [A] Q-values of the teacher; None without one.
    action: action that comes next.
    reward: reward of the step before.
    score: sum of rewards so far.
    step: agent steps so far.
    over: True if the episode has ended; Q-values are those of the step before.
    played: False if filming stops before the action.
  """

  screen: np.ndarray
  q_student: np.ndarray
  q_teacher: Optional[np.ndarray]
  action: int
  reward: float
  score: float
  step: int
  over: bool = False
  played: bool = True

  @property
  def explored(self) -> bool:
    """True if the action is not the greedy one."""
    return self.action != int(self.q_student.argmax())

  @property
  def differs(self) -> bool:
    """True if student and teacher have different greedy actions."""
    if self.q_teacher is None:
      return False
    return int(self.q_student.argmax()) != int(self.q_teacher.argmax())


def costs(history: Sequence[Moment]) -> np.ndarray:
  """Costs of the student's greedy actions by the teacher's Q-values.

  Args:
    history: T moments with a teacher.

  Returns:
    [T] in [0, 1]: 0 for the teacher's own greedy action, 1 for the largest span
    of its Q-values in the history.
  """
  teacher = _teacher_values(history)
  student = np.array([m.q_student.argmax() for m in history])
  chosen = np.take_along_axis(teacher, student[:, None], axis=1)[:, 0]
  lost = teacher.max(axis=1) - chosen
  return lost / max(np.ptp(teacher, axis=1).max(), np.finfo(np.float32).tiny)


def _teacher_values(history: Sequence[Moment]) -> np.ndarray:
  """[T, A] Q-values of the teacher."""
  return np.stack([m.q_teacher for m in history if m.q_teacher is not None])


class Texts(NamedTuple):
  """Texts that every picture shows.

  Attributes:
    game: name of the game.
    student: caption of the student.
    teacher: caption of the teacher; '' without a teacher.
    footer: settings of the episode.
  """

  game: str
  student: str
  teacher: str
  footer: str


class Panel:
  """Draws the moments of one episode in order.

  Attributes:
    size: (width, height) of a picture; both even, as MP4 requires.
  """

  def __init__(
      self,
      screen_shape: Sequence[int],
      action_names: Sequence[str],
      texts: Texts,
  ):
    """Computes the layout.

    Args:
      screen_shape: (H, W, ...) of the screen.
      action_names: [A] names of the actions.
      texts: texts of every picture.
    """
    height, width = screen_shape[:2]
    self._scale = max(1, _SCREEN_HEIGHT // height)
    self._screen_size = (width * self._scale, height * self._scale)
    self._left = _MARGIN + self._screen_size[0] + _GAP
    self._right = self._left + _RIGHT_WIDTH
    self._bottom = _HEADER + max(self._screen_size[1], _LEAST_HEIGHT)
    even = lambda x: x + x % 2
    self.size = (even(self._right + _MARGIN), even(self._bottom + _FOOTER))
    self._names = list(action_names)
    self._texts = texts
    self._has_teacher = bool(texts.teacher)
    self._history: collections.deque[Moment] = collections.deque(
        maxlen=STEPS_SHOWN
    )
    self._steps = self._agreed = 0
    self._lay_out()
    self._background = self._draw_background()

  @property
  def agreement(self) -> Optional[float]:
    """Share of steps with the same greedy action; None without a teacher."""
    if not self._has_teacher or not self._steps:
      return None
    return self._agreed / self._steps

  # -- layout ----------------------------------------------------------------

  def _lay_out(self) -> None:
    """Places curves above bars; with fewer actions curves are higher."""
    count = 1 + self._has_teacher
    fixed = count * (_TITLE + _BETWEEN) - _BETWEEN + _TIMES + _TITLE
    if not self._has_teacher:
      fixed += _BETWEEN  # of the rewards
    room = self._bottom - _HEADER - fixed
    wanted = (room - count * room / 4) / len(self._names)
    row = float(np.clip(wanted, _LOWEST_ROW, _HIGHEST_ROW))
    height = int(max((room - row * len(self._names)) / count, _LOWEST_CURVES))
    self._curves, top = [], _HEADER + _TITLE
    for _ in range(count):
      box = (self._left, top, self._right, top + height)
      self._curves.append(plots.Curves(box, STEPS_SHOWN, STEPS_PER_SECOND))
      top += height + _BETWEEN + _TITLE
    # Marks of rewards and differences are below the student's curves; without
    # a teacher, below the times there.
    end = self._curves[0].field[3]
    self._events = end + _BETWEEN // 2
    bars = self._curves[-1].field[3] + _TIMES
    if not self._has_teacher:
      self._events, bars = self._events + _BETWEEN // 2, bars + _BETWEEN
    self._lay_out_bars(bars, row)

  def _lay_out_bars(self, top: int, row: float) -> None:
    """Places a row per action, with a bar per network.

    Args:
      top: y of the titles.
      row: height of a row.
    """
    self._bars_top, self._row_height = top, row
    middle = lambda i: round(top + _TITLE + row * (i + 0.5))
    self._rows = [middle(i) for i in range(len(self._names))]
    left, count = self._left + _NAMES_WIDTH, len(self._curves)
    width = (self._right - left) / count
    self._columns = [round(left + i * width + 12) for i in range(count)]
    self._bars = [
        plots.Bars((x, round(x + width - 12)), self._rows, color)
        for x, color in zip(self._columns, (canvas.STUDENT, canvas.TEACHER))
    ]

  def _draw_background(self) -> Image.Image:
    image = Image.new('RGB', self.size, canvas.PAPER)
    draw = ImageDraw.Draw(image)
    texts = self._texts
    canvas.text_left(draw, _MARGIN, 32, texts.game, 22, bold=True)
    canvas.text_left(
        draw,
        _MARGIN,
        self._bottom + _FOOTER // 2,
        texts.footer,
        11,
        canvas.SOFT,
    )
    who = 'Student' if self._has_teacher else ''
    titles = [(who, texts.student, canvas.STUDENT)]
    if self._has_teacher:
      titles.append(('Teacher', texts.teacher, canvas.TEACHER))
    for curves, (who, name, color) in zip(self._curves, titles):
      left, top, _, _ = curves.field
      self._draw_title(draw, left, top - _TITLE // 2 - 1, who, name, color)
      curves.draw_axis(draw, labels=curves is self._curves[-1])
    y = self._bars_top + _TITLE // 2 - 1
    for left, (who, _, color) in zip(self._columns, titles):
      title = f'{who} now'.strip().capitalize()
      canvas.text_left(draw, left, y, title, 13, color, True)
    self._draw_legend(draw)
    for action, y in enumerate(self._rows):
      chip = canvas.ACTIONS[action % len(canvas.ACTIONS)]
      left, half = self._left + 18, min(5, self._row_height / 3)
      draw.rectangle((left, y - half, left + 2 * half, y + half), chip)
    return image

  def _draw_legend(self, draw: ImageDraw.ImageDraw) -> None:
    """Draws the legend of the marks into the footer."""
    y, x = self._bottom + _FOOTER // 2, self._right
    entries = [
        ('bars: Q less its mean over actions', ''),
        ('point won, lost', 'points'),
    ]
    if self._has_teacher:
      text = 'greedy actions differ (darker: at more cost, says the teacher)'
      entries.append((text, 'difference'))
    for text, mark in entries:
      canvas.text_right(draw, x, y, text, 11, canvas.SOFT)
      x -= round(canvas.font(11).getlength(text)) + 8
      if mark == 'points':
        canvas.triangle(draw, (x - 5, y), 4, canvas.ALARM, 'down')
        canvas.triangle(draw, (x - 16, y), 4, canvas.GAIN, 'up')
        x -= 22
      elif mark == 'difference':
        draw.line((x - 3, y - 4, x - 3, y + 4), canvas.ALARM, 2)
      x -= 14

  def _draw_title(
      self,
      draw: ImageDraw.ImageDraw,
      left: int,
      middle: int,
      who: str,
      name: str,
      color: canvas.Color,
  ) -> None:
    title = f'{who} Q(s, a)'.strip()
    canvas.text_left(draw, left, middle, title, 13, color, True)
    start = left + round(canvas.font(13, True).getlength(title)) + 12
    name = canvas.fitting(name, self._right - start, 12)
    canvas.text_left(draw, start, middle, name, 12, canvas.SOFT)

  # -- a picture -------------------------------------------------------------

  def draw(self, moment: Moment) -> Image.Image:
    """Draws the picture of the next moment."""
    if not moment.over:
      # Screens are large and not needed again.
      self._history.append(moment._replace(screen=np.empty(0, np.uint8)))
      self._steps += moment.played
      self._agreed += moment.played and not moment.differs
    image = self._background.copy()
    draw = ImageDraw.Draw(image)
    self._draw_screen(image, moment)
    self._draw_header(draw, moment)
    self._draw_curves(image)
    self._draw_names(draw, moment)
    for bars, q_values in zip(self._bars, self._q_values()):
      reach = plots.reach_of(q_values[-_STEPS_COMPARED:])
      bars.draw(draw, q_values[-1], reach)
    return image

  def _q_values(self) -> list[np.ndarray]:
    """[T, A] Q-values of each network."""
    found = [np.stack([m.q_student for m in self._history])]
    if self._has_teacher:
      found.append(_teacher_values(self._history))
    return found

  def _draw_screen(self, image: Image.Image, moment: Moment) -> None:
    screen = Image.fromarray(moment.screen).resize(
        self._screen_size, Image.Resampling.NEAREST
    )
    image.paste(screen, (_MARGIN, _HEADER))
    if moment.over:
      draw = ImageDraw.Draw(image, 'RGBA')
      middle = _MARGIN + self._screen_size[0] // 2
      y = _HEADER + self._screen_size[1] // 2
      draw.rectangle(
          (_MARGIN, y - 30, _MARGIN + self._screen_size[0] - 1, y + 30),
          canvas.INK + (215,),
      )
      text = f'Episode over, score {canvas.number(moment.score, 0)}'
      face = canvas.font(22, True)
      draw.text((middle, y), text, canvas.PAPER, face, anchor='mm')

  def _draw_header(self, draw: ImageDraw.ImageDraw, moment: Moment) -> None:
    right = _MARGIN + self._screen_size[0]
    score = f'score {canvas.number(moment.score, 0)}'
    canvas.text_right(draw, right, 32, score, 22, bold=True)
    seconds = moment.step / STEPS_PER_SECOND
    time = f'{int(seconds // 60)}:{seconds % 60:04.1f}, step {moment.step:,}'
    canvas.text_right(draw, self._right, 32, time, 14, canvas.SOFT)
    if self._has_teacher:
      left = self._curves[0].field[0]
      text = f'same greedy action in {self.agreement:.0%} of the steps'
      canvas.text_left(draw, left, 32, text, 14, canvas.INK)

  def _draw_curves(self, image: Image.Image) -> None:
    differs = np.array([m.differs for m in self._history])
    cost = costs(self._history) if self._has_teacher else 0.0 * differs
    for curves, q_values in zip(self._curves, self._q_values()):
      curves.draw(image, q_values, differs, cost)
    draw = ImageDraw.Draw(image)
    rewards = np.array([m.reward for m in self._history])
    plots.draw_differences(draw, self._curves[0], self._events, differs)
    plots.draw_rewards(draw, self._curves[0], self._events, rewards)

  def _draw_names(self, draw: ImageDraw.ImageDraw, moment: Moment) -> None:
    """Writes the names of the actions and marks the chosen one."""
    size = 13 if self._row_height >= 20 else 11
    half = self._row_height / 2 - 1
    for action, (y, name) in enumerate(zip(self._rows, self._names)):
      chosen = action == moment.action
      if chosen:
        canvas.triangle(
            draw, (self._left + 7, y), min(6, half), canvas.INK, 'right'
        )
      color = canvas.INK if chosen else canvas.SOFT
      text = f'{name} (random)' if chosen and moment.explored else name
      text = canvas.fitting(text, _NAMES_WIDTH - 34, size, chosen)
      canvas.text_left(draw, self._left + 34, y, text, size, color, chosen)
