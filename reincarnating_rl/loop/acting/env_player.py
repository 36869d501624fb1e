"""Environments in play: where they stand, and what their episodes returned."""

from __future__ import annotations

from concurrent import futures
from typing import Any, Callable, Mapping, Optional

import jax
import numpy as np

from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.envs.base import VectorStep
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Actor
from reincarnating_rl.learner.policy import Carry
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.evaluation import EpisodeTracker
from reincarnating_rl.loop.acting.replay_writer import COLLECTED_ROWS
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.replay import frame_replay

# (observations [E, ...], [E] bool that is True where they begin an episode,
# the actor's carry) -> ([E, ...] actions, the next carry).
Act = Callable[[np.ndarray, np.ndarray, Carry], tuple[np.ndarray, Carry]]


class Player(Stateful):
  """E environments that are acted in, step by step.

  Attributes:
    env: the environments.
    tracker: returns and lengths of their episodes.
    observation: [E, ...], what to act on next.
    first: [E] bool, True where it begins an episode.
    carry: what the actor remembers; `()` if nothing.
    in_flight: [E] actions that the environments have been given and not yet
      answered; None between steps.
    waiting: whether somebody waits for that answer.
  """

  SAVED = ('tracker', 'first', 'carry', 'in_flight')
  REBUILT = ('env', 'observation', 'waiting', '_beside', '_answer')

  def __init__(self, env: VectorEnv, actor: Actor):
    """Starts fresh episodes everywhere.

    Args:
      env: the environments.
      actor: who will act in them.
    """
    self.env = env
    self.tracker = EpisodeTracker(env.num_envs)
    self.observation = env.reset()
    self.first = np.ones(env.num_envs, np.bool_)
    self.carry = actor.initial_carry(env.num_envs)
    self.in_flight: Optional[np.ndarray] = None
    self.waiting = False
    self._beside: Optional[futures.Executor] = None
    self._answer: Optional[futures.Future[VectorStep]] = None

  def get_state(self) -> dict[str, Any]:
    return super().get_state() | {'env': self.env.snapshot()}

  def set_state(self, state: Mapping[str, Any]) -> None:
    super().set_state(state)
    self.observation = self.env.restore(state['env'])

  def step(self, act: Act, store: Callable[..., None]) -> None:
    """Acts once everywhere and hands the step on to be stored.

    Actions that are in flight already, since a step was cut off, are taken
    again instead.

    Args:
      act: who decides.
      store: called as `ReplayWriter.append` is.
    """
    self.decide(act)
    self.finish(store)

  def decide(self, act: Act) -> None:
    """The first half of `step`: actions are in flight."""
    if self.in_flight is None:
      self.in_flight, self.carry = act(self.observation, self.first, self.carry)

  def begin(self) -> None:
    """Lets the environments play on a thread of their own until `finish`."""
    if self._beside is None:
      self._beside = futures.ThreadPoolExecutor(1, 'environments')
    self._answer = self._beside.submit(self.env.step, self.in_flight)

  @property
  def has_answer(self) -> bool:
    """Whether environments that `begin` let play are waiting to be asked."""
    return self._answer is not None and self._answer.done()

  def finish(self, store: Callable[..., None]) -> None:
    """The second half of `step`.

    Args:
      store: as there.
    """
    actions, self.waiting = self.in_flight, True
    try:
      step = self._answer.result() if self._answer else self.env.step(actions)
    finally:
      self.waiting, self._answer = False, None
    self.in_flight = None
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


class Collection(Stateful):
  """A policy that plays to fill a replay, its Q-values beside each step.

  Attributes:
    player: E environments.
    writer: of the replay, E streams.
    rng_key: draws the next actions.
  """

  SAVED = ('player', 'writer', 'rng_key')
  REBUILT = ('_policy', '_epsilon')

  def __init__(
      self,
      policy: Policy,
      env: VectorEnv,
      spec: frame_replay.ReplaySpec,
      epsilon: float,
      rng_key: jax.Array,
  ):
    """Builds a collection before its first step.

    Args:
      policy: who acts.
      env: E environments.
      spec: of the replay, E streams.
      epsilon: probability of a random action.
      rng_key: consumed.
    """
    self.player = Player(env, policy.actor)
    self.writer = ReplayWriter(spec, policy)
    self.writer.name = COLLECTED_ROWS
    self.rng_key = rng_key
    self._policy = policy
    self._epsilon = np.float32(epsilon)

  @property
  def agent_steps(self) -> int:
    """Taken so far."""
    return self.writer.slots_written * self.player.env.num_envs

  def run(
      self,
      on_progress: Callable[[int], None] = lambda steps: None,
      at_step: Callable[[], None] = lambda: None,
  ) -> tuple[frame_replay.ReplayState, Episodes]:
    """Plays on until the replay is full.

    Args:
      on_progress: called with the agent steps taken since its last call.
      at_step: called after each step of all environments.

    Returns:
      The replay, and the episodes that came to their end.
    """
    num_envs = self.player.env.num_envs
    while self.writer.slots_written < self.writer.spec.slots:
      self.player.step(self._act, self.writer.append)
      on_progress(num_envs)
      at_step()
    return self.writer.state, self.player.tracker.pop()

  def _act(
      self, observation: np.ndarray, first: np.ndarray, carry: Carry
  ) -> tuple[np.ndarray, Carry]:
    actions, carry, self.rng_key = act(
        *self._policy, observation, first, carry, self._epsilon, self.rng_key
    )
    return np.asarray(actions), carry


def collect(
    policy: Policy,
    env: VectorEnv,
    spec: frame_replay.ReplaySpec,
    epsilon: float,
    rng_key: jax.Array,
    on_progress: Callable[[int], None] = lambda steps: None,
) -> tuple[frame_replay.ReplayState, Episodes]:
  """A whole `Collection`; see there."""
  return Collection(policy, env, spec, epsilon, rng_key).run(on_progress)
