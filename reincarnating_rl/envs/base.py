"""Interfaces: a vector of environments, and the factory that makes it."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple, Protocol, Sequence

import numpy as np

from reincarnating_rl.base.specs import ActionSpec
from reincarnating_rl.base.specs import ArraySpec


class EnvironmentFailedError(RuntimeError):
  """An environment broke down and did not take the step it was asked for."""


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
    """State that `restore` needs to return to this point; JSON-ready."""

  def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
    """Returns to a snapshot; returns the observation there."""


class EnvironmentFactory(Protocol):
  """One kind of environment, and how to make E of it.

  Implementations are frozen dataclasses: hashable, and equal if they make
  equal environments.
  """

  @property
  def name(self) -> str:
    """Name under which `registry.make_factory` finds it."""

  @property
  def observation_spec(self) -> ArraySpec:
    """One observation before stacking, such as a frame [H, W]."""

  @property
  def stack_size(self) -> int:
    """C, consecutive observations that make a state."""

  @property
  def action_spec(self) -> ActionSpec:
    """Actions that the environments take."""

  def __call__(
      self, num_envs: int, seed: int, stream: tuple[int, ...] = ()
  ) -> VectorEnv:
    """Makes environments.

    Args:
      num_envs: E.
      seed: seed of the run.
      stream: purpose of the environments; enters the seed of each episode.
    """

  def identity(self) -> dict[str, str]:
    """Facts, beside settings, that must be equal for a run to be resumed."""

  def facts(self) -> dict[str, Any]:
    """Facts about the environment for summary.json; JSON-ready."""


def episode_seed(run_seed: int, stream: tuple[int, ...], episode: int) -> int:
  """The seed of one episode: same run, stream and number, same seed.

  Args:
    run_seed: seed of the run.
    stream: purpose of the episode (a purpose, an iteration, an environment).
    episode: number of episodes in that stream so far.

  Returns:
    A positive 31-bit integer.
  """
  sequence = np.random.SeedSequence([run_seed, *stream, episode])
  return int(sequence.generate_state(1)[0] & 0x7FFFFFFF)


def did_you_mean(name: str, names: Sequence[str]) -> str:
  """The known names nearest to an unknown one, as a question; may be ''."""
  near = difflib.get_close_matches(
      name.lower(), [known.lower() for known in names], n=3, cutoff=0.5
  )
  spelled = [known for n in near for known in names if known.lower() == n]
  return f' Did you mean {" or ".join(spelled)}?' if spelled else ''
