"""Acting in environments, with everything that a resume needs.

`Player` steps E environments; `Collection` fills a replay with a policy.
"""

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

# ([E, ...] observations, [E] bool that is True where an episode begins, carry)
# -> ([E, ...] actions, next carry).
Act = Callable[[np.ndarray, np.ndarray, Carry], tuple[np.ndarray, Carry]]


class Player(Stateful):
  """E environments and the state of acting in them.

  Attributes:
    env: E environments.
    tracker: returns and lengths of their episodes.
    observation: [E, ...], the present observation.
    first: [E] bool, True where the observation begins an episode.
    carry: carry of the actor; `()` for a feed-forward actor.
    in_flight: [E] actions that the environments have not answered yet; None
      between steps. A checkpoint may be taken while they are in flight.
    waiting: True while `finish` waits for the environments.
  """

  SAVED = ('tracker', 'first', 'carry', 'in_flight')
  REBUILT = ('env', 'observation', 'waiting', '_beside', '_answer')

  def __init__(self, env: VectorEnv, actor: Actor):
    """Starts an episode in each environment.

    Args:
      env: E environments.
      actor: actor of the policy that will act.
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
    """Takes one step of all environments and stores it.

    If a checkpoint was taken in the middle of a step, its actions are still in
    flight after a resume. Then `act` is not called and they are used again.

    Args:
      act: function that chooses the actions.
      store: function with the arguments of `ReplayWriter.append`.
    """
    self.decide(act)
    self.finish(store)

  def decide(self, act: Act) -> None:
    """First half of `step`: chooses actions, which are then in flight."""
    if self.in_flight is None:
      self.in_flight, self.carry = act(self.observation, self.first, self.carry)

  def begin(self) -> None:
    """Starts the environments' step on a separate thread; see `finish`."""
    if self._beside is None:
      self._beside = futures.ThreadPoolExecutor(1, 'environments')
    self._answer = self._beside.submit(self.env.step, self.in_flight)

  @property
  def has_answer(self) -> bool:
    """True if the step that `begin` started is done."""
    return self._answer is not None and self._answer.done()

  def finish(self, store: Callable[..., None]) -> None:
    """Second half of `step`: waits for the environments and stores the step.

    Args:
      store: see `step`.
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
  """Collection of data: a policy fills a replay, with its Q-values.

  Attributes:
    player: E environments.
    writer: writer of the replay, with E streams.
    rng_key: key of the next actions.
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
      policy: policy that acts, the teacher's for example.
      env: E environments.
      spec: spec of the replay, with E streams.
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
    """Agent steps collected so far."""
    return self.writer.slots_written * self.player.env.num_envs

  def run(
      self,
      on_progress: Callable[[int], None] = lambda steps: None,
      at_step: Callable[[], None] = lambda: None,
  ) -> tuple[frame_replay.ReplayState, Episodes]:
    """Plays until the replay is full.

    Args:
      on_progress: called with the agent steps since its last call.
      at_step: called after each step of all environments.

    Returns:
      The replay, and the episodes that ended.
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
  """Runs a whole `Collection`; see there for the arguments."""
  return Collection(policy, env, spec, epsilon, rng_key).run(on_progress)
