"""Reference scores that normalize: random play, teachers, humans."""

from __future__ import annotations

import collections
from typing import Mapping, NamedTuple, Optional, Sequence

from reincarnating_rl.base import scores
from reincarnating_rl.report.reading.runs import Run
from reincarnating_rl.report.tables import ReferenceScore

TEACHER, HUMAN = NORMALIZATIONS = ('teacher', 'human')


class References(NamedTuple):
  """Mean returns that scores are normalized by.

  Attributes:
    random: score of a random policy, by game.
    teachers: score of each teacher, by game, then by the teacher's identity.
    notes: sentences about references that were evaluated differently.
  """

  random: Mapping[str, float]
  teachers: Mapping[str, Mapping[str, float]]
  notes: list[str]

  def teacher_score(self, run: Run) -> Optional[float]:
    """Score of the run's teacher, else of the only teacher of its game."""
    teachers = self.teachers.get(run.game, {})
    if run.teacher is not None:
      return teachers.get(run.teacher.identity)
    return next(iter(teachers.values())) if len(teachers) == 1 else None

  def reference(self, game: str, name: str) -> Optional[float]:
    """Score of the human, or of the only teacher, of a game."""
    if name == HUMAN:
      known = scores.REFERENCE_SCORES.get(game)
      return known and known.human
    teachers = self.teachers.get(game, {})
    return next(iter(teachers.values())) if len(teachers) == 1 else None

  def rows(self) -> list[ReferenceScore]:
    """Rows of all references, by game."""
    found = []
    for game in sorted({*self.random, *self.teachers}):
      measured = [('random', self.random.get(game))]
      measured += [
          (TEACHER, score) for score in self.teachers.get(game, {}).values()
      ]
      measured.append((HUMAN, self.reference(game, HUMAN)))
      found += [
          ReferenceScore(game, name, score)
          for name, score in measured
          if score is not None
      ]
    return found

  def scale(
      self, run: Run, normalization: str
  ) -> Optional[tuple[float, float]]:
    """(score that becomes 0, score that becomes 1); None if unknown."""
    if normalization == HUMAN:
      known = scores.REFERENCE_SCORES.get(run.game)
      return known and (known.random, known.human)
    random, teacher = self.random.get(run.game), self.teacher_score(run)
    if random is None or teacher is None or teacher <= random:
      return None
    return random, teacher

  def normalized(
      self, run: Run, normalization: str, score: float
  ) -> Optional[float]:
    """Normalized score of a run; None if it cannot be normalized."""
    scale = self.scale(run, normalization)
    return scale and scores.normalized_score(score, *scale)

  def lacking(self, run: Run, normalization: str) -> str:
    """Reason why a run's scores cannot be normalized, in words."""
    game = run.game
    if normalization == HUMAN:
      return f'{game} has no published human score'
    teachers = self.teachers.get(game, {})
    if not teachers:
      return f'no run on {game} knows the score of a teacher'
    if self.random.get(game) is None:
      return f'no run on {game} knows the score of a random policy'
    teacher = self.teacher_score(run)
    if teacher is None and run.teacher is None:
      return (
          f'{run.path} has no teacher of its own, and {game} has '
          f'{len(teachers)} different ones here'
      )
    if teacher is None:
      return f'no run knows the score of the teacher of {run.path}'
    return (
        f"the teacher's {teacher:.2f} on {game} is not above random play's "
        f'{self.random[game]:.2f}'
    )


def collect(runs: Sequence[Run]) -> References:
  """Collects one score per reference from some runs.

  A teacher, or a random policy, that several runs evaluated differently gets
  the mean of these evaluations.
  """
  # Score -> first run that measured it, by game (and teacher).
  random: dict[str, dict[float, Run]] = collections.defaultdict(dict)
  teachers: dict[str, dict[str, dict[float, Run]]] = collections.defaultdict(
      dict
  )
  for run in runs:
    if run.random_score is not None:
      random[run.game].setdefault(run.random_score, run)
    if run.teacher is not None and run.teacher_score is not None:
      of_game = teachers[run.game].setdefault(run.teacher.identity, {})
      of_game.setdefault(run.teacher_score, run)
  notes: list[str] = []

  def mean(what: str, measured: Mapping[float, Run]) -> float:
    value = sum(measured) / len(measured)
    if len(measured) > 1:
      listed = ', '.join(f'{s:.2f} in {r.path}' for s, r in measured.items())
      notes.append(
          f'{what} was evaluated differently ({listed}): the mean, '
          f'{value:.2f}, counts for all runs.'
      )
    return value

  return References(
      {
          game: mean(f'Random play of {game}', measured)
          for game, measured in sorted(random.items())
      },
      {
          game: {
              teacher: mean(f'The teacher of {game}', measured)
              for teacher, measured in of_game.items()
          }
          for game, of_game in sorted(teachers.items())
      },
      notes,
  )
