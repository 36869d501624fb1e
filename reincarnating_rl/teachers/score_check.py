"""Does a teacher play as well here as it did where it was trained?

A wrong ROM, action set or preprocessing raises no error: the teacher just
plays badly, and everything that is learned from it is worthless.
"""

from __future__ import annotations

from typing import Optional

from reincarnating_rl.base import scores
from reincarnating_rl.teachers.teacher import LoadedTeacher

# Shares of the way from random play to the expected score. A recorded score is
# this very network's; a published one is of others, trained otherwise.
_OF_RECORDED = 0.5
_OF_PUBLISHED = 0.2
# Below these agent steps (10M frames) nobody expects published scores.
_TRAINED_AGENT_STEPS = 2_500_000
# An expected score this close to random play, in shares of the distance from
# random to human play, proves nothing.
_MEANINGFUL = 0.05


def doubt(teacher: LoadedTeacher, game: str, score: float) -> Optional[str]:
  """One sentence if a teacher plays far below what is expected, else None.

  Args:
    teacher: the teacher.
    game: in Dopamine's spelling.
    score: its mean return here.
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
