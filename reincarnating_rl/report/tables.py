"""Rows of a report's tables.

`low` and `high` are the bounds of an interval; both are None where it cannot
be computed.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

RAW = 'raw'


class Aggregate(NamedTuple):
  """A metric over all games that count, with equally many runs per game."""

  normalization: str
  quantity: str
  metric: str
  method: str
  value: float
  low: Optional[float]
  high: Optional[float]
  runs_a_game: int
  games: int


class CurvePoint(NamedTuple):
  """IQM at one x over all games that count, with equally many runs per game."""

  normalization: str
  axis: str
  method: str
  x: float
  value: float
  low: Optional[float]
  high: Optional[float]
  runs_a_game: int
  games: int


class GameCurvePoint(NamedTuple):
  """Mean return at one x over the runs of one game."""

  game: str
  axis: str
  method: str
  x: float
  value: float
  low: Optional[float]
  high: Optional[float]
  runs: int


class ProfilePoint(NamedTuple):
  """Share of runs with a final score above tau."""

  normalization: str
  method: str
  tau: float
  value: float
  low: Optional[float]
  high: Optional[float]


class Improvement(NamedTuple):
  """Probability that a run of X ends above a run of Y, mean over games."""

  method_x: str
  method_y: str
  value: float
  low: Optional[float]
  high: Optional[float]
  games: int


class GameScore(NamedTuple):
  """Mean score over the runs of one game."""

  game: str
  method: str
  quantity: str
  normalization: str
  value: float
  low: Optional[float]
  high: Optional[float]
  deviation: Optional[float]
  runs: int


class RunScore(NamedTuple):
  """Score of one run, raw and normalized, and its training budget."""

  method: str
  game: str
  seed: int
  quantity: str
  raw: float
  teacher: Optional[float]
  human: Optional[float]
  agent_steps: int
  updates: int
  seconds: Optional[float]
  path: str


class ReferenceScore(NamedTuple):
  """Reference score of a game; the name is 'random', 'teacher' or 'human'."""

  game: str
  name: str
  score: float


class Numbers(NamedTuple):
  """All numbers of a report.

  Attributes:
    methods: names of the methods, the best first.
    games: games that count over all games, by normalization.
    lines: scores of teacher and human, by normalization, then by name.
    notes: sentences about games and runs that do not count.
    aggregates: rows; so are all further attributes.
  """

  methods: list[str]
  games: dict[str, tuple[str, ...]]
  lines: dict[str, dict[str, float]]
  notes: list[str]
  aggregates: list[Aggregate]
  curves: list[CurvePoint]
  game_curves: list[GameCurvePoint]
  profiles: list[ProfilePoint]
  improvements: list[Improvement]
  game_scores: list[GameScore]
  run_scores: list[RunScore]
  references: list[ReferenceScore]
