"""The screen of one Atari game in colour, beside the game that a network plays.

`AtariVector` gives the observations of networks: small, grey, four frames in
one step. `AtariScreen` plays the same episode again, with the same seed and
actions, in an emulator of its own, and gives the screen that people see.
Nothing that is learned or scored comes from here.
"""

from __future__ import annotations

from typing import NamedTuple

import ale_py
import numpy as np

from reincarnating_rl.envs import atari
from reincarnating_rl.envs.base import episode_seed

_NO_LIMIT = 0  # as the emulator understands it


class ScreenStep(NamedTuple):
  """Result of one agent step."""

  reward: float  # unclipped
  game_over: bool


class AtariScreen:
  """A game that follows one member of an `AtariVector`.

  Sprites flicker. Each pixel is therefore the larger one of the last two
  screens, as in the network's frames.

  Attributes:
    rgb: [H, W, 3] uint8.
    grey: [H, W] uint8, before it is made smaller for the network.
  """

  def __init__(
      self,
      game: str,
      seed: int,
      stream: tuple[int, ...] = (),
      *,
      member: int = 0,
      sticky_actions: float = atari.STICKY_ACTION_PROBABILITY,
  ):
    """Starts the first episode.

    Args:
      game: name in Dopamine's spelling.
      seed: seed of the vector environment.
      stream: stream of the vector environment.
      member: index of the game to follow.
      sticky_actions: probability that the last action is repeated.

    Raises:
      ValueError: for an unknown game.
    """
    self._rom = atari.rom_in_use(game).path
    self._seed = seed
    self._stream = tuple(stream) + (member,)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    self._ale = ale_py.ALEInterface()
    self._ale.setFloat('repeat_action_probability', sticky_actions)
    self._ale.setInt('max_num_frames_per_episode', _NO_LIMIT)
    self.reset(0)

  @property
  def action_names(self) -> list[str]:
    """Names of the actions of the game's minimal set."""
    return [action.name for action in self._actions]

  def reset(self, episode: int) -> None:
    """Starts that episode of the member, counted from zero."""
    seed = episode_seed(self._seed, self._stream, episode)
    # Settings and seed are read when the game is loaded, and only then.
    self._ale.setInt('random_seed', seed)
    self._ale.loadROM(self._rom)
    self._ale.reset_game()
    self._actions = self._ale.getMinimalActionSet()
    self.rgb = self._ale.getScreenRGB()
    self.grey = self._ale.getScreenGrayscale()

  def step(self, action: int) -> ScreenStep:
    """Takes an action of the game's minimal set, for four frames."""
    reward = 0.0
    for _ in range(atari.FRAME_SKIP):
      before = self._ale.getScreenRGB(), self._ale.getScreenGrayscale()
      reward += self._ale.act(self._actions[action])
      if self._ale.game_over():
        break
    self.rgb = np.maximum(before[0], self._ale.getScreenRGB())
    self.grey = np.maximum(before[1], self._ale.getScreenGrayscale())
    return ScreenStep(reward, self._ale.game_over())
