"""A teacher that plays worse than it did says so; others are quiet."""

import pytest

from reincarnating_rl import networks
from reincarnating_rl.base import scores
from reincarnating_rl.teachers import score_check
from reincarnating_rl.teachers.teacher import LoadedTeacher


def _teacher(score=None, training_steps=None):
  network = networks.make_network(6)
  return LoadedTeacher(
      't', network, {}, 1, score=score, training_steps=training_steps
  )


@pytest.mark.parametrize(
    'recorded, training_steps, game, score, doubted',
    [
        (16.0, None, 'Pong', 15.0, False),
        (16.0, None, 'Pong', -2.0, False),  # just above half of the way
        (16.0, None, 'Pong', -20.0, True),
        (16.0, None, 'NoReference', -20.0, False),
        (-20.5, None, 'Pong', -21.0, False),  # it was no better there
        (None, None, 'Pong', -21.0, False),  # nothing is known
        (None, 1000, 'Pong', -21.0, False),  # hardly trained
        (None, 50_000_000, 'Pong', -21.0, True),
        (None, 50_000_000, 'Breakout', 300.0, False),
        (None, 50_000_000, 'Breakout', 2.0, True),
        (None, 50_000_000, 'MontezumaRevenge', 0.0, False),
        (400.0, 50_000_000, 'Breakout', 100.0, True),  # the record counts
    ],
)
def test_when_there_is_doubt(recorded, training_steps, game, score, doubted):
  sentence = score_check.doubt(_teacher(recorded, training_steps), game, score)
  assert (sentence is not None) == doubted
  if doubted:
    assert f'{score:.2f} on {game}' in sentence
    assert '--atari_roms_path' in sentence and '\n' not in sentence


def test_published_scores_are_of_games_with_references():
  assert set(scores.PUBLISHED_DQN_SCORES) <= set(scores.REFERENCE_SCORES)
  assert len(scores.PUBLISHED_DQN_SCORES) == 49
  assert scores.published_dqn_score('Pong') == 18.9
  assert scores.published_dqn_score('Tetris') is None
