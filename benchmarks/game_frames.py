"""Frames of a real game for benchmarks: noise could not be compressed."""

from __future__ import annotations

from typing import Iterator

import numpy as np

from reincarnating_rl.envs.registry import make_factory

GAME = 'Breakout'
PLAYED_STEPS = 4000  # agent steps, repeated with variations
CHUNK_ROWS = 2000


def play(most: int) -> np.ndarray:
  """[T, 84, 84] uint8 frames of a random game, T <= `most`."""

  env = make_factory(GAME)(1, 0, (0,))
  rng = np.random.default_rng(0)
  observation = env.reset()
  frames = []
  for _ in range(min(PLAYED_STEPS, most)):
    frames.append(observation[0, -1].copy())
    observation = env.step(rng.integers(0, env.num_actions, 1)).observation
  return np.stack(frames)


def varied(played: np.ndarray, num_rows: int) -> Iterator[np.ndarray]:
  """Chunks of frames: the game repeated, shifted further each time."""
  for start in range(0, num_rows, CHUNK_ROWS):
    rows = np.arange(start, min(start + CHUNK_ROWS, num_rows))
    shift = start // len(played)
    yield np.roll(played[rows % len(played)], shift, axis=2)
