"""Probes: tiny environments whose optimal values are known in closed form.

A learner that does not find these values is wrong. The probe that fails tells
where: rewards, observations, discounts and n-step returns, actions, terminals
against time limits, exploration. A probe is a description (states,
transitions, values). `ProbeVector` plays a probe as a vector environment whose
frames show the state as one white block. A run plays one by its name:
'probe/Gridworld', or 'probe/ContextualBandit-6' with 6 actions.

Shape letters: S states, A actions, E environments, C stacked frames.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, NamedTuple, Optional, Protocol

import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.specs import DiscreteActions
from reincarnating_rl.envs.base import did_you_mean
from reincarnating_rl.envs.base import episode_seed
from reincarnating_rl.envs.base import VectorStep

WHITE = 255
_PREFIX = 'probe/'
# Settings that a factory takes beside the name.
SETTINGS = frozenset(('max_agent_steps', 'frame_shape'))


class Outcome(NamedTuple):
  """Result of one action; after a terminal `state` means nothing."""

  state: int
  reward: float
  terminal: bool = False


class Probe(Protocol):
  """A small Markov decision process: random starts, fixed transitions."""

  @property
  def num_states(self) -> int:
    """S."""

  @property
  def num_actions(self) -> int:
    """A."""

  def start(self, rng: np.random.Generator) -> int:
    """Draws the state in which an episode begins."""

  def step(self, state: int, action: int) -> Outcome:
    """Takes an action in a state."""

  def optimal_q_values(self, gamma: float) -> np.ndarray:
    """[S, A] float32, in closed form."""


@dataclasses.dataclass(frozen=True)
class ConstantReward:
  """One state, one step, one reward: is a reward learned at all?"""

  reward: float = 1.0
  num_actions: int = 2
  num_states = 1

  def start(self, rng: np.random.Generator) -> int:
    return 0

  def step(self, state: int, action: int) -> Outcome:
    return Outcome(0, self.reward, terminal=True)

  def optimal_q_values(self, gamma: float) -> np.ndarray:
    """[1, A], the reward."""
    return np.full((1, self.num_actions), self.reward, np.float32)


@dataclasses.dataclass(frozen=True)
class ObservedReward:
  """One step, and a reward that the frame tells: is the frame looked at?"""

  rewards: tuple[float, ...] = (1.0, -1.0)
  num_actions: int = 2

  @property
  def num_states(self) -> int:
    return len(self.rewards)

  def start(self, rng: np.random.Generator) -> int:
    return int(rng.integers(self.num_states))

  def step(self, state: int, action: int) -> Outcome:
    return Outcome(state, self.rewards[state], terminal=True)

  def optimal_q_values(self, gamma: float) -> np.ndarray:
    """[S, A], each state's reward."""
    rewards = np.array(self.rewards, np.float32)
    return np.repeat(rewards[:, None], self.num_actions, axis=1)


@dataclasses.dataclass(frozen=True)
class DelayedReward:
  """A corridor of k steps with a reward at its end: discounts, n-step returns.

  Every action leads on, so n-step returns are right for any n. A corridor
  that is not `terminal` leads from its end back to its beginning, forever,
  and needs a time limit. The values are wrong if a learner takes a limit for a
  terminal, a terminal for a limit, or lets a return run into the next episode.
  """

  length: int = 5
  terminal: bool = True
  reward: float = 1.0
  num_actions: int = 2

  @property
  def num_states(self) -> int:
    return self.length

  def start(self, rng: np.random.Generator) -> int:
    return 0

  def step(self, state: int, action: int) -> Outcome:
    last = state == self.length - 1
    return Outcome(
        (state + 1) % self.length,
        self.reward if last else 0.0,
        terminal=last and self.terminal,
    )

  def optimal_q_values(self, gamma: float) -> np.ndarray:
    """[S, A], reward * gamma^(k - 1 - s), and / (1 - gamma^k) without end."""
    steps = self.length - 1 - np.arange(self.length)
    values = self.reward * gamma**steps
    if not self.terminal:
      values = values / (1.0 - gamma**self.length)
    values = values.astype(np.float32)
    return np.repeat(values[:, None], self.num_actions, axis=1)


@dataclasses.dataclass(frozen=True)
class ContextualBandit:
  """One step; state s pays for action s mod A only: are actions told apart?"""

  num_states: int = 4
  num_actions: int = 3

  def start(self, rng: np.random.Generator) -> int:
    return int(rng.integers(self.num_states))

  def step(self, state: int, action: int) -> Outcome:
    right = action == state % self.num_actions
    return Outcome(state, float(right), terminal=True)

  def optimal_q_values(self, gamma: float) -> np.ndarray:
    """[S, A], the rewards."""
    rewarded = np.arange(self.num_states) % self.num_actions
    return np.eye(self.num_actions, dtype=np.float32)[rewarded]


@dataclasses.dataclass(frozen=True)
class Gridworld:
  """A room to leave by its last corner, from a random start.

  State s is the cell at row s // width, column s % width. Walls stop a step.
  Reaching the last cell pays 1 and ends the episode; a wrong policy stays
  inside until the time limit.
  """

  height: int = 3
  width: int = 3
  num_actions = 4  # up, right, down, left

  @property
  def num_states(self) -> int:
    """Cells but the last, which is never observed."""
    return self.height * self.width - 1

  def start(self, rng: np.random.Generator) -> int:
    return int(rng.integers(self.num_states))

  def step(self, state: int, action: int) -> Outcome:
    row, column = divmod(state, self.width)
    down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[action]
    row = int(np.clip(row + down, 0, self.height - 1))
    column = int(np.clip(column + right, 0, self.width - 1))
    cell = row * self.width + column
    out = cell == self.num_states
    return Outcome(cell, float(out), terminal=out)

  def optimal_q_values(self, gamma: float) -> np.ndarray:
    """[S, 4], gamma to the number of steps that are left after this one."""
    cells = [
        [self.step(s, a).state for a in range(self.num_actions)]
        for s in range(self.num_states)
    ]
    row, column = np.divmod(np.array(cells), self.width)
    distance = (self.height - 1 - row) + (self.width - 1 - column)
    return (gamma**distance).astype(np.float32)


class ProbeVector:
  """E copies of a probe that step together; a `VectorEnv`.

  Attributes:
    probe: probe that is played.
    num_envs: E.
    num_actions: A.
  """

  def __init__(
      self,
      probe: Probe,
      num_envs: int,
      seed: int,
      stream: tuple[int, ...] = (),
      *,
      max_agent_steps: Optional[int] = None,
      frame_shape: tuple[int, int] = (84, 84),
      stack_size: int = 4,
  ):
    """Builds the environments; call `reset` before `step`.

    Args:
      probe: probe to play.
      num_envs: E.
      seed: seed of the run.
      stream: purpose of the environments; enters the seed of each episode.
      max_agent_steps: time limit of an episode, None for none.
      frame_shape: (H, W).
      stack_size: C.

    Raises:
      ValueError: if the frame has no room for a pixel per state.
    """
    self.probe = probe
    self.num_envs = num_envs
    self.num_actions = probe.num_actions
    self._seed = seed
    self._stream = tuple(stream)
    self._max_agent_steps = math.inf
    if max_agent_steps is not None:
      self._max_agent_steps = max_agent_steps
    self._frames = draw_states(probe.num_states, frame_shape)
    self._stacks = np.zeros(
        (num_envs, stack_size) + tuple(frame_shape), np.uint8
    )
    self._episodes = np.zeros(num_envs, np.int64)
    # States of each running episode; the last one is the present.
    self._states: list[list[int]] = [[] for _ in range(num_envs)]

  @property
  def states(self) -> np.ndarray:
    """[E] int64, present state of each environment."""
    return np.array([visited[-1] for visited in self._states])

  def start_stream(self, stream: tuple[int, ...]) -> np.ndarray:
    """Starts fresh episodes of another stream, counted from zero."""
    self._stream = tuple(stream)
    self._episodes[:] = 0
    return self.reset()

  def reset(self) -> np.ndarray:
    """Starts a fresh episode everywhere: [E, C, H, W] uint8."""
    for env in range(self.num_envs):
      self._start_episode(env)
    return self._stacks.copy()

  def step(self, actions: np.ndarray) -> VectorStep:
    """Takes [E] int actions; the next episode follows an ended one at once."""
    reward = np.zeros(self.num_envs, np.float32)
    terminal = np.zeros(self.num_envs, np.bool_)
    truncated = np.zeros(self.num_envs, np.bool_)
    for env, action in enumerate(np.asarray(actions).tolist()):
      visited = self._states[env]
      outcome = self.probe.step(visited[-1], action)
      reward[env] = outcome.reward
      terminal[env] = outcome.terminal
      late = len(visited) >= self._max_agent_steps
      truncated[env] = late and not outcome.terminal
      if terminal[env] or truncated[env]:
        self._start_episode(env)
      else:
        self._enter(env, outcome.state)
    return VectorStep(self._stacks.copy(), reward, terminal, truncated)

  def _start_episode(self, env: int) -> None:
    seed = episode_seed(
        self._seed, self._stream + (env,), int(self._episodes[env])
    )
    self._episodes[env] += 1
    self._states[env] = []
    self._stacks[env] = 0
    self._enter(env, self.probe.start(np.random.default_rng(seed)))

  def _enter(self, env: int, state: int) -> None:
    self._states[env].append(state)
    self._stacks[env, :-1] = self._stacks[env, 1:]
    self._stacks[env, -1] = self._frames[state]

  def snapshot(self) -> dict[str, Any]:
    """Episode counts and the states of the running episodes; JSON-ready."""
    return {
        'stream': list(self._stream),
        'episodes': self._episodes.tolist(),
        'states': [list(visited) for visited in self._states],
    }

  def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
    """Returns to a snapshot; returns the observation there.

    Raises:
      ValueError: if it holds another number of environments.
    """
    states = snapshot['states']
    if len(states) != self.num_envs:
      raise ValueError(
          f'The snapshot holds {len(states)} environments, this run has '
          f'{self.num_envs}.'
      )
    self._stream = tuple(snapshot['stream'])
    self._episodes[:] = snapshot['episodes']
    self._states = [[] for _ in states]
    self._stacks[:] = 0
    for env, visited in enumerate(states):
      for state in visited:
        self._enter(env, state)
    return self._stacks.copy()


def draw_states(num_states: int, frame_shape: tuple[int, int]) -> np.ndarray:
  """One frame for each state, a white block in a place of its own.

  Args:
    num_states: S.
    frame_shape: (H, W).

  Returns:
    [S, H, W] uint8.

  Raises:
    ValueError: if the frame has no room for a pixel per state.
  """
  side = math.ceil(math.sqrt(num_states))
  height, width = (size // side for size in frame_shape)
  if not height or not width:
    raise ValueError(
        f'Frames of {frame_shape} have no room for {num_states} states.'
    )
  frames = np.zeros((num_states,) + tuple(frame_shape), np.uint8)
  for state, frame in enumerate(frames):
    row, column = divmod(state, side)
    top, left = row * height, column * width
    frame[top : top + height, left : left + width] = WHITE
  return frames


@dataclasses.dataclass(frozen=True)
class ProbeFactory:
  """A probe as an `EnvironmentFactory`.

  Attributes:
    probe: probe to play.
    max_agent_steps: time limit of an episode; None for none.
    frame_shape: (H, W).
    stack_size: C.
  """

  probe: Probe
  max_agent_steps: Optional[int] = None
  frame_shape: tuple[int, int] = (84, 84)
  stack_size: int = 4

  @property
  def name(self) -> str:
    kind = type(self.probe)
    base = f'{_PREFIX}{kind.__name__}'
    if self.probe.num_actions == kind().num_actions:
      return base
    return f'{base}-{self.probe.num_actions}'

  @property
  def observation_spec(self) -> ArraySpec:
    return ArraySpec(tuple(self.frame_shape), 'uint8')

  @property
  def action_spec(self) -> DiscreteActions:
    return DiscreteActions(self.probe.num_actions)

  def __call__(
      self, num_envs: int, seed: int, stream: tuple[int, ...] = ()
  ) -> ProbeVector:
    return ProbeVector(
        self.probe,
        num_envs,
        seed,
        stream,
        max_agent_steps=self.max_agent_steps,
        frame_shape=self.frame_shape,
        stack_size=self.stack_size,
    )

  def identity(self) -> dict[str, str]:
    """Nothing beside the name."""
    return {}

  def facts(self) -> dict[str, Any]:
    """Nothing beside the name."""
    return {}


PROBES: dict[str, type[Probe]] = {
    f'{_PREFIX}{kind.__name__}': kind
    for kind in (
        ConstantReward,
        ObservedReward,
        DelayedReward,
        ContextualBandit,
        Gridworld,
    )
}


def is_probe(name: str) -> bool:
  """True if a name has the form of a probe's."""
  return name.startswith(_PREFIX)


def make_factory(name: str, **settings: Any) -> ProbeFactory:
  """The factory of a probe by its name.

  Args:
    name: 'probe/Gridworld', or 'probe/ContextualBandit-6' with 6 actions.
    **settings: further fields of the factory.

  Raises:
    ValueError: for an unknown name, with the nearest ones.
  """
  base, number = re.findall(r'^(.*?)(?:-(\d+))?$', name)[0]
  kind = PROBES.get(base)
  options = {'num_actions': int(number)} if number else {}
  if kind is None or (options and kind is Gridworld):
    hint = did_you_mean(base, tuple(PROBES))
    raise ValueError(f'There is no probe called {name!r}.{hint}')
  return ProbeFactory(kind(**options), **settings)
