"""The rows of a report's tables: every number, with what it is a number of.

An interval is low to high; both are None where it cannot be computed.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

RAW = 'raw'


class Aggregate(NamedTuple):
  """A metric over all games that count, and as many runs of each."""

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
  """IQM over all games that count, and as many runs of each, at one x."""

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
  """Mean return over the runs of one game at one x."""

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
  """Probability that a run of X ends higher than one of Y, over games."""

  method_x: str
  method_y: str
  value: float
  low: Optional[float]
  high: Optional[float]
  games: int


class GameScore(NamedTuple):
  """Mean over the runs of one game."""

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
  """What one run came to."""

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
  """What scores of a game are measured by: 'random', 'teacher' or 'human'."""

  game: str
  name: str
  score: float


class Numbers(NamedTuple):
  """All of them.

  Attributes:
    methods: names, the best first.
    games: those that count over all games, by normalization.
    lines: where teacher and human stand, by normalization.
    notes: what is to be said about them.
    (others): rows.
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
