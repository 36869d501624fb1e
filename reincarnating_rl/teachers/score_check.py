"""Compares the score of a teacher with the score that is expected of it.

A wrong ROM, action set or preprocessing raises no error: the teacher just
plays badly, and the student learns nothing useful from it.
"""

from __future__ import annotations

from typing import Optional

from reincarnating_rl.base import scores
from reincarnating_rl.teachers.teacher import LoadedTeacher

# Thresholds: shares of the distance from random play to the expected score. A
# recorded score is that of this network; a published one is that of others.
_OF_RECORDED = 0.5
_OF_PUBLISHED = 0.2
# Agents reach published scores after this many agent steps (10M frames).
_TRAINED_AGENT_STEPS = 2_500_000
# Smallest meaningful distance of an expected score from random play, as a share
# of the distance from random to human play.
_MEANINGFUL = 0.05


def doubt(teacher: LoadedTeacher, game: str, score: float) -> Optional[str]:
  """Returns a warning if a teacher plays far below its expected score.

  Args:
    teacher: the teacher.
    game: game in Dopamine's spelling.
    score: measured mean return.

  Returns:
    One sentence, or None.
  """
  if game not in scores.REFERENCE_SCORES:
    return None
  random, human = scores.REFERENCE_SCORES[game]
  trained = (teacher.known_agent_steps or 0) >= _TRAINED_AGENT_STEPS
  published = scores.published_dqn_score(game) if trained else None
  if teacher.score is not None:
    expected, share, what = (
        teacher.score,
        _OF_RECORDED,
        'its checkpoint records',
    )
  elif published is not None:
    expected, share, what = published, _OF_PUBLISHED, 'a DQN is known to reach'
  else:
    return None
  distance = expected - random
  if distance < _MEANINGFUL * abs(human - random):
    return None
  if score >= random + share * distance:
    return None
  return (
      f'The teacher scores {score:.2f} on {game}, but {what} {expected:.2f} '
      f'(random play: {random:.2f}): likely causes are another version of the '
      'ROM (--atari_roms_path), another action set, other preprocessing or '
      'stickiness of actions, or too short an evaluation '
      '(Runner.evaluation_steps).'
  )
