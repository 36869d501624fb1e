"""Scores of a policy over whole episodes, in many environments at once."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Optional

import jax
import numpy as np

from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Policy


class Episodes(NamedTuple):
  """Finished episodes, in the order in which they ended."""

  returns: np.ndarray  # [K] float64, sums of unclipped rewards
  lengths: np.ndarray  # [K] int64, agent steps

  @property
  def mean_return(self) -> float:
    return float(np.mean(self.returns))

  def to_json(self) -> dict[str, list]:
    return {'returns': self.returns.tolist(), 'lengths': self.lengths.tolist()}

  @classmethod
  def from_json(cls, saved: Mapping[str, list]) -> Episodes:
    return cls(
        np.array(saved['returns'], np.float64),
        np.array(saved['lengths'], np.int64),
    )


class EpisodeTracker(Stateful):
  """Sums rewards and steps of the episodes that run in E environments.

  Attributes:
    returns: [E] float64, of the running episodes so far.
    lengths: [E] int64, agent steps of them.
    finished: return and length of those that ended, until they are popped.
  """

  SAVED = ('returns', 'lengths', 'finished')

  def __init__(self, num_envs: int):
    self.returns = np.zeros(num_envs, np.float64)
    self.lengths = np.zeros(num_envs, np.int64)
    self.finished: list[tuple[float, int]] = []

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
        self.finished.append((float(self.returns[e]), int(self.lengths[e])))
      self.returns[e] = 0.0
      self.lengths[e] = 0

  def pop(self) -> Episodes:
    """Returns the finished episodes and forgets them."""
    finished, self.finished = self.finished, []
    returns, lengths = zip(*finished) if finished else ((), ())
    return Episodes(np.array(returns, np.float64), np.array(lengths, np.int64))


class Evaluation(Stateful):
  """Whole episodes of a policy, until enough agent steps are taken.

  Each environment has an equal share of the steps and finishes the episode in
  which its share ends, as Dopamine's single environment does: stopping all at
  once would count short episodes more often than long ones.

  Attributes:
    env: E environments.
    tracker: of their episodes.
    playing: [E] bool, which of them still count.
    steps: taken in each of them.
    agent_steps: taken in those that counted.
    rng_key: draws the next actions.
    observation: [E, ...], what to act on next.
    first: [E] bool, True where it begins an episode.
    carry: what the actor remembers.
    in_flight: [E] actions that the environments have been given and not yet
      answered; None between steps.
  """

  SAVED = (
      'tracker',
      'playing',
      'steps',
      'agent_steps',
      'rng_key',
      'first',
      'carry',
      'in_flight',
  )
  REBUILT = ('env', 'observation', '_policy', '_share', '_epsilon')

  def __init__(
      self,
      policy: Policy,
      env: VectorEnv,
      observation: np.ndarray,
      min_agent_steps: int,
      epsilon: float,
      rng_key: jax.Array,
  ):
    """Builds an evaluation before its first step.

    Args:
      policy: who acts.
      env: E environments, freshly started.
      observation: [E, ...], their first observation.
      min_agent_steps: to take in all environments together.
      epsilon: of the epsilon-greedy policy.
      rng_key: consumed.
    """
    self.env = env
    self.tracker = EpisodeTracker(env.num_envs)
    self.playing = np.ones(env.num_envs, np.bool_)
    self.steps = 0
    self.agent_steps = 0
    self.rng_key = rng_key
    self.observation = observation
    self.first = np.ones(env.num_envs, np.bool_)
    self.carry = policy.actor.initial_carry(env.num_envs)
    self.in_flight: Optional[np.ndarray] = None
    self._policy = policy
    self._share = -(-min_agent_steps // env.num_envs)
    self._epsilon = np.float32(epsilon)

  def get_state(self) -> dict[str, Any]:
    return super().get_state() | {'env': self.env.snapshot()}

  def set_state(self, state: Mapping[str, Any]) -> None:
    super().set_state(state)
    self.observation = self.env.restore(state['env'])

  def run(
      self,
      on_progress: Callable[[int], None] = lambda steps: None,
      at_step: Callable[[], None] = lambda: None,
  ) -> Episodes:
    """Plays on to the end.

    Args:
      on_progress: called with the agent steps taken since its last call.
      at_step: called after each step of all environments.

    Returns:
      The finished episodes, at least one an environment.
    """
    while self.playing.any():
      on_progress(self._step())
      at_step()
    return self.tracker.pop()

  def _step(self) -> int:
    """Acts once everywhere; returns the agent steps that count."""
    if self.in_flight is None:
      actions, self.carry, self.rng_key = act(
          *self._policy,
          self.observation,
          self.first,
          self.carry,
          self._epsilon,
          self.rng_key,
      )
      self.in_flight = np.asarray(actions)
    step = self.env.step(self.in_flight)
    self.in_flight = None
    self.observation = step.observation
    self.steps += 1
    ended = self.first = step.terminal | step.truncated
    self.tracker.step(step.reward, ended, self.playing)
    counted = int(self.playing.sum())
    self.agent_steps += counted
    self.playing &= ~(ended & (self.steps >= self._share))
    return counted


def evaluate(
    policy: Policy,
    env: VectorEnv,
    observation: np.ndarray,
    min_agent_steps: int,
    epsilon: float,
    rng_key: jax.Array,
    on_progress: Callable[[int], None] = lambda steps: None,
) -> Episodes:
  """A whole `Evaluation`; see there."""
  evaluation = Evaluation(
      policy, env, observation, min_agent_steps, epsilon, rng_key
  )
  return evaluation.run(on_progress)
