"""Films: of the game as it is played, and with the marks where they belong."""

from __future__ import annotations

import os
import sys

import numpy as np
from PIL import Image
import pytest
import small_policy

from reincarnating_rl.envs import atari
from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.evaluate import canvas
from reincarnating_rl.evaluate import panel as panel_lib
from reincarnating_rl.evaluate import video
from reincarnating_rl.evaluate import writers
from reincarnating_rl.evaluate.panel import Moment

STEPS = 12  # of an episode, where its time limit is meant
PLAY = video.Play('Pong', 0.3, 5, max_agent_steps=STEPS)


# -- what is filmed ------------------------------------------------------------


def test_the_network_is_given_what_the_vector_environment_gives():
  filmed = video.Filmed(
      PLAY._replace(max_agent_steps=50), small_policy.make(), None
  )
  env = atari.AtariVector('Pong', 1, PLAY.seed, max_agent_steps=50)
  observation, actions = env.reset(), []
  for moment in filmed.moments(60):
    if moment.over:
      break
    np.testing.assert_array_equal(filmed.observation, observation)
    actions.append(moment.action)
    observation = env.step(np.array([moment.action])).observation
  assert moment.over and moment.step == len(actions) == 50
  assert len(set(actions)) > 1


def test_what_is_shown_is_what_the_networks_think():
  student, teacher = small_policy.make(), small_policy.make(seed=1)
  filmed = video.Filmed(PLAY, student, teacher)
  found = []
  for moment in filmed.moments(8):
    states = np.moveaxis(filmed.observation, 1, -1)
    for q, policy in ((moment.q_student, student), (moment.q_teacher, teacher)):
      np.testing.assert_array_equal(q, policy.q_values(states)[0])
    assert moment.differs == (
        moment.q_student.argmax() != moment.q_teacher.argmax()
    )
    assert moment.explored == (moment.action != moment.q_student.argmax())
    found.append(moment)
  # What the last step led to is seen, too.
  assert [m.step for m in found] == list(range(9))
  assert {m.explored for m in found} == {True, False}
  assert (found[0].screen != found[-1].screen).any()


@pytest.mark.parametrize('limit', [1, 5, STEPS])
def test_the_last_step_has_its_reward_where_filming_stops(limit):
  filmed = video.Filmed(PLAY, small_policy.make(), None)
  step, earned = filmed.screen.step, []

  def rewarded(action):
    earned.append(1.0)
    outcome = step(action)
    return outcome._replace(reward=outcome.reward + 1.0)

  env_step = filmed._env.step

  def alike(actions):
    outcome = env_step(actions)
    return outcome._replace(reward=outcome.reward + 1.0)

  filmed.screen.step, filmed._env.step = rewarded, alike
  last = list(filmed.moments(limit))[-1]
  assert last.step == len(earned) == limit
  # None is scored in so few steps but what is added here.
  assert (last.score, last.reward) == (limit, 1.0)
  assert last.over == (limit == STEPS)
  assert last.played == last.over


def test_a_screen_of_another_game_is_noticed():
  filmed = video.Filmed(PLAY, small_policy.make(), None)
  outcome = filmed.screen.step(0)
  filmed.screen.step = lambda action: outcome._replace(reward=7.0)
  with pytest.raises(EnvironmentFailedError, match='at step 0'):
    list(filmed.moments(3))


# -- pictures ------------------------------------------------------------------


def moment(step, student=0, teacher=None, reward=0.0, num_actions=6, **fields):
  """One with a greedy action of each network."""
  q = np.linspace(0.0, 0.5, num_actions, dtype=np.float32)
  values = lambda greedy: np.where(np.arange(num_actions) == greedy, 1.0, q)
  return Moment(
      np.full((210, 160, 3), 90, np.uint8),
      values(student),
      None if teacher is None else values(teacher),
      student,
      reward,
      0.0,
      step,
      **fields,
  )


def make_panel(teacher='teacher', num_actions=6, shape=(210, 160, 3)):
  names = [f'ACTION{i}' for i in range(num_actions)]
  texts = panel_lib.Texts('Game', 'student', teacher, 'footer')
  return panel_lib.Panel(shape, names, texts)


def marks(panel, picture):
  """Columns in which a tick says that greedy actions differ."""
  row = np.asarray(picture)[panel._events - 3]
  (at,) = np.nonzero((row == canvas.ALARM).all(axis=-1))
  return at - panel._curves[0].field[0]


def test_marks_stand_where_greedy_actions_differ():
  panel = make_panel()
  differing = {3, 4, 9}
  for step in range(12):
    teacher = 1 if step in differing else 0
    picture = panel.draw(moment(step, 0, teacher))
  found = marks(panel, picture)
  ages = np.array([11 - step for step in sorted(differing)])
  for x in panel._curves[0].x_of(ages):
    assert np.abs(found - x).min() <= 1.5
  assert len(found) <= 3 * len(differing)
  assert panel.agreement == 9 / 12
  # The last picture repeats a step that was counted.
  panel.draw(moment(12, 0, 1, over=True))
  assert panel.agreement == 9 / 12


def test_no_marks_where_they_agree_and_none_without_a_teacher():
  for teacher, name in ((2, 'teacher'), (None, '')):
    panel = make_panel(name)
    for step in range(4):
      picture = panel.draw(moment(step, 2, teacher))
    assert not len(marks(panel, picture))
    assert panel.agreement == (1.0 if name else None)


def test_the_cost_of_another_action():
  history = [moment(0, 0, 0), moment(1, 5, 0), moment(2, 0, 5)]
  assert history[1].q_teacher.min() == np.float32(0.1)
  # Of 1 - 0.5 and 1 - 0, over the largest span.
  np.testing.assert_allclose(panel_lib.costs(history), [0.0, 0.5, 1.0])
  equal = history[0]._replace(q_teacher=np.ones(6))
  np.testing.assert_array_equal(panel_lib.costs([equal]), [0.0])


def test_rewards_are_marked():
  panel = make_panel()
  for step, reward in enumerate((0.0, 2.0, 0.0, -1.0)):
    picture = np.asarray(panel.draw(moment(step, 0, 0, reward)))
  strip = picture[panel._events - 6 : panel._events + 6]
  for color in (canvas.GAIN, canvas.ALARM):
    assert (strip == color).all(axis=-1).any()


@pytest.mark.parametrize('num_actions', [1, 3, 18])
@pytest.mark.parametrize('teacher', ['', 'teacher'])
@pytest.mark.parametrize('height', [210, 250])
def test_everything_has_its_place(num_actions, teacher, height):
  panel = make_panel(teacher, num_actions, (height, 160, 3))
  width, bottom = panel.size
  assert width % 2 == bottom % 2 == 0
  assert panel._rows[-1] < panel._bottom < bottom
  assert all(a < b for a, b in zip(panel._rows, panel._rows[1:]))
  best = 0 if teacher else None
  shown = moment(0, 0, best, num_actions=num_actions)
  picture = panel.draw(
      shown._replace(screen=np.zeros((height, 160, 3), np.uint8))
  )
  assert picture.size == panel.size
  # The margins stay empty.
  pixels = np.asarray(picture)
  assert (pixels[:, -10:] == 255).all() and (pixels[-8:] == 255).all()


@pytest.mark.parametrize('low, high', [(0.0, 1.0), (-0.3, 17.2), (1e-3, 2e-3)])
def test_ticks_are_round_and_within(low, high):
  found, decimals = canvas.ticks(low, high)
  assert 1 <= len(found) <= 6
  assert low <= found.min() + 1e-9 and found.max() <= high + 1e-9
  written = [canvas.number(x, decimals) for x in found]
  assert len(set(written)) == len(found)
  np.testing.assert_allclose(
      [float(w.replace('\N{MINUS SIGN}', '-')) for w in written], found
  )


def test_words_that_fit():
  assert canvas.fitting('short', 100, 12) == 'short'
  shortened = canvas.fitting('/a/very/long/path/to/run_1', 80, 12)
  assert canvas.font(12).getlength(shortened) <= 80
  assert shortened.startswith('/a') and shortened.endswith('_1')
  assert canvas.number(-0.001, 2) == '0.00'


# -- files ---------------------------------------------------------------------


def film(path, teacher=True, max_steps=9, **options):
  return video.film(
      PLAY._replace(**options),
      small_policy.make(),
      small_policy.make(seed=1) if teacher else None,
      texts=('student', 'teacher'),
      path=str(path),
      max_steps=max_steps,
  )


def test_an_mp4_and_a_gif(tmp_path):
  av = pytest.importorskip('av')
  found = film(tmp_path / 'new' / 'film', max_steps=40)
  # Twelve steps, the end, and that for a second more.
  assert found.over and found.agent_steps == STEPS
  assert found.pictures == STEPS + 1 + 15
  with av.open(found.mp4) as file:
    frames = list(file.decode(video=0))
    assert file.streams.video[0].average_rate == 15
  size = make_panel().size
  assert len(frames) == found.pictures
  assert (frames[0].width, frames[0].height) == size == (1280, 720)
  with Image.open(found.gif) as file:
    assert file.size == (size[0] // 2, size[1] // 2)
    # Every third, five a second; equal ones are one that lasts longer.
    seconds = 0.0
    for number in range(file.n_frames):
      file.seek(number)
      seconds += file.info['duration'] / 1000
  assert seconds == pytest.approx(-(-found.pictures // 3) / 5)
  assert 0 <= found.agreement <= 1
  names = {p.name for p in (tmp_path / 'new').iterdir()}
  assert names == {'film.mp4', 'film.gif'}


def test_without_an_encoder_there_is_a_gif(tmp_path, monkeypatch, caplog):
  monkeypatch.setitem(sys.modules, 'av', None)
  found = film(tmp_path / 'film', teacher=False)
  assert found.mp4 is None and os.path.getsize(found.gif) > 1000
  assert (found.over, found.agent_steps, found.agreement) == (False, 9, None)
  assert "pip install 'reincarnating_rl[video]'" in caplog.text
  with pytest.raises(writers.MissingEncoderError):
    writers.Mp4Writer(str(tmp_path / 'x.mp4'), (2, 2), 15)


def test_a_film_that_breaks_off_leaves_no_file(tmp_path, monkeypatch):
  def fail(self, shown):
    raise KeyboardInterrupt

  monkeypatch.setattr(panel_lib.Panel, 'draw', fail)
  with pytest.raises(KeyboardInterrupt):
    film(tmp_path / 'film')
  assert not list(tmp_path.iterdir())


def test_a_gif_ends_where_it_gets_long(tmp_path):
  path = tmp_path / 'x.gif'
  writer = writers.GifWriter(str(path), fps=15, every=2, most=3)
  for shade in range(0, 250, 10):
    writer.add(Image.new('RGB', (20, 10), (shade, 0, 0)))
  writer.close()
  with Image.open(path) as file:
    assert (file.n_frames, file.size) == (3, (10, 5))
