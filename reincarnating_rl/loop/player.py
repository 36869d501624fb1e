"""Environments in play: where they stand, and what their episodes returned."""

from __future__ import annotations

from typing import Callable

import jax
import numpy as np

from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.loop.acting import act
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.evaluation import Episodes
from reincarnating_rl.loop.evaluation import EpisodeTracker
from reincarnating_rl.loop.store import ReplayWriter
from reincarnating_rl.replay import frame_replay


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
      act: Callable[[np.ndarray, np.ndarray], np.ndarray],
      store: Callable[..., None],
  ) -> None:
    """Acts once everywhere and hands the step on to be stored.

    Args:
      act: from [E, C, H, W] observations, and [E] bool whether they begin an
        episode, to [E] actions.
      store: called as `ReplayWriter.append` is.
    """
    actions = act(self.observation, self.first)
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


def collect(
    policy: Policy,
    env: VectorEnv,
    spec: frame_replay.ReplaySpec,
    epsilon: float,
    rng_key: jax.Array,
    on_progress: Callable[[int], None] = lambda steps: None,
) -> tuple[frame_replay.ReplayState, Episodes]:
  """Fills a replay with what a policy does, its Q-values beside each step.

  Args:
    policy: who acts.
    env: E environments.
    spec: of the replay, E streams.
    epsilon: probability of a random action.
    rng_key: consumed.
    on_progress: called with the agent steps taken since its last call.

  Returns:
    The replay, full, and the episodes that came to their end.
  """
  player, writer = Player(env), ReplayWriter(spec, policy)
  epsilon = np.float32(epsilon)

  def policy_acts(observation: np.ndarray, first: np.ndarray) -> np.ndarray:
    nonlocal rng_key
    del first
    actions, rng_key = act(
        policy.network, policy.params, observation, epsilon, rng_key
    )
    return np.asarray(actions)

  for _ in range(spec.slots):
    player.step(policy_acts, writer.append)
    on_progress(env.num_envs)
  writer.flush()
  return writer.state, player.tracker.pop()
