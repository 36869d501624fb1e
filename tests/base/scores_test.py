"""Tests of the score table and of normalization."""

from __future__ import annotations

import math

import pytest

from reincarnating_rl.base import scores


def test_the_table_holds_the_57_games():
  assert len(scores.REFERENCE_SCORES) == 57
  for game, reference in scores.REFERENCE_SCORES.items():
    assert game[0].isupper() and game.isalnum(), game
    assert math.isfinite(reference.random) and math.isfinite(reference.human)
    assert reference.human > reference.random, game


@pytest.mark.parametrize(
    'game, random, human',
    [
        ('Pong', -20.7, 14.6),
        ('Breakout', 1.7, 30.5),
        ('Seaquest', 68.4, 42054.7),
        ('MontezumaRevenge', 0.0, 4753.3),
        ('Skiing', -17098.1, -4336.9),
    ],
)
def test_known_scores(game, random, human):
  assert scores.REFERENCE_SCORES[game] == (random, human)
  assert scores.random_score(game) == random


def test_a_score_of_zero_is_a_score():
  assert scores.random_score('Freeway') == 0.0


@pytest.mark.parametrize('game', ['AirRaid', 'pong', ''])
def test_a_game_outside_the_table_has_no_score(game):
  assert scores.random_score(game) is None


def test_the_games_of_the_table_are_spelled_as_the_emulator_does():
  from reincarnating_rl.envs import atari

  assert set(scores.REFERENCE_SCORES) <= set(atari.available_games())


@pytest.mark.parametrize(
    'score, random, reference, expected',
    [
        (-20.7, -20.7, 14.6, 0.0),
        (14.6, -20.7, 14.6, 1.0),
        (3.0, 1.0, 5.0, 0.5),
        (0.0, 1.0, 5.0, -0.25),
        (9.0, 1.0, 5.0, 2.0),
        (3.0, 5.0, 1.0, 0.5),  # A teacher below the random policy.
    ],
)
def test_normalized_score(score, random, reference, expected):
  result = scores.normalized_score(score, random, reference)
  assert result == pytest.approx(expected)


def test_a_reference_that_equals_random_is_refused():
  with pytest.raises(ValueError, match='-20.7 equals the random score'):
    scores.normalized_score(1.0, -20.7, -20.7)
