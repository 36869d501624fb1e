"""Scores of a policy over whole episodes, in many environments at once."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import jax
import numpy as np

from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.loop.acting import act
from reincarnating_rl.loop.acting import Policy


class Episodes(NamedTuple):
  """Finished episodes, in the order in which they ended."""

  returns: np.ndarray  # [K] float64, sums of unclipped rewards
  lengths: np.ndarray  # [K] int64, agent steps

  @property
  def mean_return(self) -> float:
    return float(np.mean(self.returns))


class EpisodeTracker:
  """Sums rewards and steps of the episodes that run in E environments."""

  def __init__(self, num_envs: int):
    self.returns = np.zeros(num_envs, np.float64)
    self.lengths = np.zeros(num_envs, np.int64)
    self._finished: list[tuple[float, int]] = []

  def step(
      self,
      reward: np.ndarray,
      ended: np.ndarray,
      counted: Optional[np.ndarray] = None,
  ) -> None:
    """Adds one step; `counted` [E] bool (default all): episodes to keep."""
    self.returns += reward
    self.lengths += 1
    for e in np.flatnonzero(ended):
      if counted is None or counted[e]:
        self._finished.append((float(self.returns[e]), int(self.lengths[e])))
      self.returns[e] = 0.0
      self.lengths[e] = 0

  def pop(self) -> Episodes:
    """Returns the finished episodes and forgets them."""
    finished, self._finished = self._finished, []
    returns, lengths = zip(*finished) if finished else ((), ())
    return Episodes(np.array(returns, np.float64), np.array(lengths, np.int64))


def evaluate(
    policy: Policy,
    env: VectorEnv,
    observation: np.ndarray,
    min_agent_steps: int,
    epsilon: float,
    rng_key: jax.Array,
    on_progress: Callable[[int], None] = lambda steps: None,
) -> Episodes:
  """Plays whole episodes until enough agent steps are taken.

  Each environment has an equal share of the steps and finishes the episode in
  which its share ends, as Dopamine's single environment does: stopping all at
  once would count short episodes more often than long ones.

  Args:
    policy: who acts.
    env: E environments, freshly started.
    observation: [E, C, H, W] uint8, their first observation.
    min_agent_steps: to take in all environments together.
    epsilon: of the epsilon-greedy policy.
    rng_key: consumed.
    on_progress: called with the agent steps taken since its last call.

  Returns:
    The finished episodes, at least one an environment.
  """
  tracker = EpisodeTracker(env.num_envs)
  share = -(-min_agent_steps // env.num_envs)
  playing = np.ones(env.num_envs, np.bool_)
  epsilon = np.float32(epsilon)
  steps = 0
  while playing.any():
    actions, rng_key = act(
        policy.network, policy.params, observation, epsilon, rng_key
    )
    step = env.step(np.asarray(actions))
    observation = step.observation
    steps += 1
    ended = step.terminal | step.truncated
    tracker.step(step.reward, ended, playing)
    on_progress(int(playing.sum()))
    playing &= ~(ended & (steps >= share))
  return tracker.pop()
