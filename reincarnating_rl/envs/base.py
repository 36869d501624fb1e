"""What the loop asks of a vector environment."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np


class EnvironmentFailedError(RuntimeError):
  """An environment has broken down: a step that was asked for was not taken."""


class VectorStep(NamedTuple):
  """Result of one agent step in every environment.

  Where an episode ended, `observation` is the first one of the next episode.
  """

  observation: np.ndarray  # [E, C, H, W] uint8, oldest frame first
  reward: np.ndarray  # [E] float32, unclipped
  terminal: np.ndarray  # [E] bool, the environment ended
  truncated: np.ndarray  # [E] bool, a time limit cut the episode


class VectorEnv(Protocol):
  """E environments that step together; every episode is seeded by rule."""

  num_envs: int
  num_actions: int

  def start_stream(self, stream: tuple[int, ...]) -> np.ndarray:
    """Starts fresh episodes of another stream, counted from zero."""

  def reset(self) -> np.ndarray:
    """Starts a fresh episode everywhere: [E, C, H, W] uint8."""

  def step(self, actions: np.ndarray) -> VectorStep:
    """Takes [E] int actions; raises an EnvironmentFailedError if it cannot."""

  def snapshot(self) -> dict[str, Any]:
    """What `restore` needs to come back to this very state; JSON-ready."""

  def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
    """Comes back to a snapshot; returns the observation there."""


def episode_seed(run_seed: int, stream: tuple[int, ...], episode: int) -> int:
  """The seed of one episode: same run, stream and number, same seed.

  Args:
    run_seed: seed of the run.
    stream: what the episode is for (a purpose, an iteration, an environment).
    episode: count of episodes in that stream so far.

  Returns:
    A positive 31-bit integer.
  """
  sequence = np.random.SeedSequence([run_seed, *stream, episode])
  return int(sequence.generate_state(1)[0] & 0x7FFFFFFF)
