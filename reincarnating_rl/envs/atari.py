"""Atari 2600 as Dopamine plays it, many games at once, in ale-py's C++.

Frame skip 4, maximum of the last two greyscale screens, 84 x 84 area resize,
sticky actions with probability 0.25, minimal action set, whole episodes of at
most 27,000 agent steps. Observations are stacks of four frames, zero before
an episode's start. Rewards are not clipped here.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any, Optional

from ale_py.roms import get_all_rom_ids
from ale_py.vector_env import AtariVectorEnv
import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.specs import DiscreteActions
from reincarnating_rl.envs import roms
from reincarnating_rl.envs.base import did_you_mean
from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.envs.base import episode_seed
from reincarnating_rl.envs.base import VectorStep

MAX_AGENT_STEPS_PER_EPISODE = 27_000
FRAME_SKIP = 4
STICKY_ACTION_PROBABILITY = 0.25
# Settings that a factory takes beside the game.
SETTINGS = frozenset(('max_agent_steps', 'sticky_actions'))

# ale-py bundles them, but a single player's emulator exits on loading one.
_MULTIPLAYER_ROMS = frozenset(('combat', 'joust', 'maze_craze', 'warlords'))


@functools.lru_cache(maxsize=None)
def _rom_names() -> dict[str, str]:
  """Games in Dopamine's spelling to ale-py's names, which cannot be derived.

  ('UpNDown' is 'up_n_down', 'TicTacToe3D' is 'tic_tac_toe_3d'.)
  """
  names = set(get_all_rom_ids()) - _MULTIPLAYER_ROMS
  return {name.title().replace('_', ''): name for name in sorted(names)}


def rom_name(game: str) -> str:
  """'MsPacman' to ale-py's 'ms_pacman'.

  Raises:
    ValueError: for an unknown game.
  """
  check_game(game)
  return _rom_names()[game]


def available_games() -> tuple[str, ...]:
  """Games that ale-py bundles for one player, in Dopamine's spelling."""
  return tuple(sorted(_rom_names()))


def check_game(game: str) -> None:
  """Raises a ValueError, with the nearest names, if there is no such game."""
  if game in available_games():
    return
  hint = did_you_mean(game, available_games())
  raise ValueError(f'There is no Atari game called {game!r}.{hint}')


def game_of_path(path: str) -> Optional[str]:
  """The game in the <Game>/<run> at the end of a path, or None."""
  folders = os.path.normpath(path).split(os.sep)
  if folders[-1] == 'checkpoints':
    folders.pop()
  game = folders[-2] if len(folders) > 1 else None
  return game if game in available_games() else None


def use_roms(folder: str, game: str) -> None:
  """Plays a game with the ROM in a folder, instead of ale-py's.

  Args:
    folder: folder with files such as ms_pacman.bin.
    game: name in Dopamine's spelling; its ROM must be in the folder.

  Raises:
    ValueError: if the ROM is missing, or the file is no ROM.
  """
  name = rom_name(game)
  roms.use(roms.find(folder, name), name)


def rom_in_use(game: str) -> roms.Rom:
  """The ROM that a game is played with."""
  return roms.in_use(rom_name(game))


@functools.lru_cache(maxsize=None)
def _num_actions(game: str, rom_md5: str) -> int:
  """Size of the minimal action set; only an emulator with the ROM knows it."""
  del rom_md5  # Another ROM, another answer.
  return AtariVector(game, 1, 0).num_actions


@dataclasses.dataclass(frozen=True)
class AtariFactory:
  """A game of Atari as an `EnvironmentFactory`.

  Attributes:
    game: name in Dopamine's spelling, such as 'MsPacman'.
    max_agent_steps: time limit of an episode.
    sticky_actions: probability that the last action is repeated.

  Raises:
    ValueError: for an unknown game, with the nearest names.
  """

  game: str
  max_agent_steps: int = MAX_AGENT_STEPS_PER_EPISODE
  sticky_actions: float = STICKY_ACTION_PROBABILITY

  def __post_init__(self):
    check_game(self.game)

  @property
  def name(self) -> str:
    return self.game

  @property
  def observation_spec(self) -> ArraySpec:
    return ArraySpec((84, 84), 'uint8')

  @property
  def stack_size(self) -> int:
    return 4

  @property
  def action_spec(self) -> DiscreteActions:
    return DiscreteActions(_num_actions(self.game, rom_in_use(self.game).md5))

  def __call__(
      self, num_envs: int, seed: int, stream: tuple[int, ...] = ()
  ) -> AtariVector:
    return AtariVector(
        self.game,
        num_envs,
        seed,
        stream,
        max_agent_steps=self.max_agent_steps,
        sticky_actions=self.sticky_actions,
    )

  def identity(self) -> dict[str, str]:
    """Checksum of the ROM."""
    return {'ROM': rom_in_use(self.game).md5}

  def facts(self) -> dict[str, Any]:
    """The ROM that is played."""
    rom = rom_in_use(self.game)
    return {
        'rom': {
            'file': os.path.basename(rom.path),
            'md5': rom.md5,
            'shipped_with_ale_py': rom.is_standard,
        }
    }


class AtariVector:
  """E games of Atari that step together.

  Attributes:
    num_envs: E.
    num_actions: size of the game's minimal action set.
  """

  def __init__(
      self,
      game: str,
      num_envs: int,
      seed: int,
      stream: tuple[int, ...] = (),
      *,
      max_agent_steps: int = MAX_AGENT_STEPS_PER_EPISODE,
      sticky_actions: float = STICKY_ACTION_PROBABILITY,
  ):
    """Builds the environments; call `reset` before `step`.

    Args:
      game: name in Dopamine's spelling, such as 'MsPacman'.
      num_envs: E.
      seed: seed of the run.
      stream: purpose of the environments; enters the seed of each episode.
      max_agent_steps: time limit of an episode.
      sticky_actions: probability that the last action is repeated.

    Raises:
      ValueError: for an unknown game.
    """
    self.game = game
    self.num_envs = num_envs
    self._seed = seed
    self._stream = tuple(stream)
    threads = min(num_envs, os.cpu_count() or 1)
    self._env = AtariVectorEnv(
        rom_name(game),
        num_envs,
        num_threads=threads,
        max_num_frames_per_episode=max_agent_steps * FRAME_SKIP,
        repeat_action_probability=sticky_actions,
        noop_max=0,
        use_fire_reset=False,
        reward_clipping=False,
        episodic_life=False,
    )
    actions: Any = self._env.single_action_space
    self.num_actions = int(actions.n)
    self._episodes = np.zeros(num_envs, np.int64)
    self._actions: list[list[int]] = [[] for _ in range(num_envs)]

  def start_stream(self, stream: tuple[int, ...]) -> np.ndarray:
    """Starts fresh episodes of another stream, counted from zero."""
    self._stream = tuple(stream)
    self._episodes[:] = 0
    return self.reset()

  def reset(self) -> np.ndarray:
    """Starts a fresh episode everywhere: [E, C, H, W] uint8."""
    return self._reset(np.ones(self.num_envs, np.bool_))

  def step(self, actions: np.ndarray) -> VectorStep:
    """Takes [E] int actions; ended games start their next episode at once.

    Raises:
      ValueError: for an action that the game does not have.
      EnvironmentFailedError: if an emulator fails to take it.
    """
    actions = np.asarray(actions, np.int32)
    if not 0 <= actions.min() <= actions.max() < self.num_actions:
      # The emulator would wait forever for a valid action.
      raise ValueError(
          f'{self.game} has {self.num_actions} actions, got {actions.tolist()}.'
      )
    try:
      observation, reward, terminal, truncated, _ = self._env.step(actions)
    except RuntimeError as e:
      raise EnvironmentFailedError(
          f'An emulator of {self.game} failed: {e}'
      ) from e
    # Logged last: a snapshot taken during the step must not contain it.
    for log, action in zip(self._actions, actions.tolist()):
      log.append(action)
    # Where both are flagged, the game's own end counts.
    truncated = truncated & ~terminal
    ended = terminal | truncated
    if ended.any():
      observation = self._reset(ended)
    return VectorStep(
        observation, reward.astype(np.float32), terminal, truncated
    )

  def _reset(self, mask: np.ndarray) -> np.ndarray:
    (which,) = np.where(mask)
    seeds = [self._episode_seed(e, int(self._episodes[e])) for e in which]
    for e in which:
      self._episodes[e] += 1
      self._actions[e] = []
    return self._reset_with_seeds(mask, seeds)

  def _episode_seed(self, env: int, episode: int) -> int:
    return episode_seed(self._seed, self._stream + (env,), episode)

  def _reset_with_seeds(self, mask: np.ndarray, seeds: list[int]) -> np.ndarray:
    options = None if mask.all() else {'reset_mask': mask}
    observation, _ = self._env.reset(
        seed=np.asarray(seeds, np.int64), options=options
    )
    return observation

  def snapshot(self) -> dict[str, Any]:
    """Seeds and actions of the running episodes, to play them again."""
    return {
        'stream': list(self._stream),
        'episodes': self._episodes.tolist(),
        'actions': [list(log) for log in self._actions],
    }

  def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
    """Plays the running episodes of a snapshot again.

    The emulator's own state cannot be saved exactly, but an episode is a
    function of its seed and actions. All games step together: a game with a
    shorter log is reset, and joins, when the others have as many actions left.

    Args:
      snapshot: return value of `snapshot`.

    Returns:
      [E, C, H, W] uint8, the observation at the snapshot.

    Raises:
      ValueError: if it holds another number of environments.
    """
    logs = snapshot['actions']
    if len(logs) != self.num_envs:
      raise ValueError(
          f'The snapshot holds {len(logs)} environments, this run has '
          f'{self.num_envs}.'
      )
    self._stream = tuple(snapshot['stream'])
    self._episodes[:] = snapshot['episodes']
    self._actions = [list(log) for log in logs]
    seeds = [
        self._episode_seed(e, int(self._episodes[e]) - 1)
        for e in range(self.num_envs)
    ]
    lengths = np.array([len(log) for log in logs])
    longest = int(lengths.max())
    observation = self._reset_with_seeds(
        np.ones(self.num_envs, np.bool_), seeds
    )
    for t in range(longest):
      starting = (lengths == longest - t) & (lengths < longest)
      if starting.any():
        self._reset_with_seeds(
            starting, [s for s, m in zip(seeds, starting) if m]
        )
      actions = np.array(
          [
              log[t - longest + len(log)] if t >= longest - len(log) else 0
              for log in logs
          ],
          np.int32,
      )
      observation = self._env.step(actions)[0]
    fresh = (lengths == 0) & (longest > 0)
    if fresh.any():
      observation = self._reset_with_seeds(
          fresh, [s for s, m in zip(seeds, fresh) if m]
      )
    return observation
