"""Evaluation of a policy over whole episodes, in parallel environments."""

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
  """Sums rewards and steps of the episodes in E environments.

  Attributes:
    returns: [E] float64, returns of the running episodes so far.
    lengths: [E] int64, their agent steps so far.
    finished: (return, length) of the episodes that ended since the last `pop`.
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
    """Adds one step of all environments.

    Args:
      reward: [E] rewards.
      ended: [E] bool, True where this step ends an episode.
      counted: [E] bool, True for the environments whose episodes are kept;
        None = all.
    """
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
  """Evaluation of a policy over a minimum of agent steps.

  Each environment has an equal share of the steps, and finishes the episode in
  which its share ends; Dopamine's single environment does the same. Stopping
  all of them at once would prefer short episodes to long ones.

  Attributes:
    env: E environments.
    tracker: returns and lengths of their episodes.
    playing: [E] bool, True for environments whose episodes still count.
    steps: steps of each environment so far.
    agent_steps: steps so far of the environments that counted.
    rng_key: key of the next actions.
    observation: [E, ...], the present observation.
    first: [E] bool, True where the observation begins an episode.
    carry: carry of the actor.
    in_flight: [E] actions that the environments have not answered yet; None
      between steps.
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
      policy: policy to evaluate.
      env: E environments, freshly started.
      observation: [E, ...], their first observation.
      min_agent_steps: least agent steps of all environments together.
      epsilon: probability of a random action.
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
    """Plays until the evaluation is complete.

    Args:
      on_progress: called with the agent steps since its last call.
      at_step: called after each step of all environments.

    Returns:
      The finished episodes, at least one per environment.
    """
    while self.playing.any():
      on_progress(self._step())
      at_step()
    return self.tracker.pop()

  def _step(self) -> int:
    """Takes one step of all environments; returns the steps that count."""
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
  """Runs a whole `Evaluation`; see there for the arguments."""
  evaluation = Evaluation(
      policy, env, observation, min_agent_steps, epsilon, rng_key
  )
  return evaluation.run(on_progress)
