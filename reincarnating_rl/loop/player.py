"""Environments in play: where they stand, and what their episodes returned."""

from __future__ import annotations

from typing import Callable

import numpy as np

from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.loop.evaluation import EpisodeTracker


class Player:
  """E environments that are acted in, step by step.

  Attributes:
    env: the environments.
    tracker: returns and lengths of their episodes.
    observation: [E, C, H, W] uint8, what to act on next.
    first: [E] bool, whether that begins an episode.
  """

  def __init__(self, env: VectorEnv):
    """Starts fresh episodes everywhere."""
    self.env = env
    self.tracker = EpisodeTracker(env.num_envs)
    self.observation = env.reset()
    self.first = np.ones(env.num_envs, np.bool_)

  def step(
      self,
      act: Callable[[np.ndarray], np.ndarray],
      store: Callable[..., None],
  ) -> None:
    """Acts once everywhere and hands the step on to be stored.

    Args:
      act: from [E, C, H, W] observations to [E] actions.
      store: called as `ReplayWriter.append` is.
    """
    actions = act(self.observation)
    step = self.env.step(actions)
    store(
        self.observation,
        actions,
        step.reward,
        first=self.first,
        terminal=step.terminal,
        truncated=step.truncated,
    )
    ended = step.terminal | step.truncated
    self.tracker.step(step.reward, ended)
    self.observation = step.observation
    self.first = ended
