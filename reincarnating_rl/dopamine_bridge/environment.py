"""One Atari game for Dopamine's own Runner, seeded and honest about limits.

Dopamine's environment has two faults. It never seeds its emulator. And it
reports a time limit as a terminal (at 100,000 frames, before its Runner's own
limit of 27,000 agent steps). Here every episode is seeded by the package's
rule: it equals the episode that `envs.atari` plays under the same seed, stream
and actions. A time limit ends the episode without a terminal.

  Runner.create_environment_fn = @create_seeded_atari_environment
"""

from __future__ import annotations

from typing import Any, Optional

from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine

prepare_dopamine()

from dopamine.discrete_domains import atari_lib
import gin
import numpy as np

from reincarnating_rl.envs import atari
from reincarnating_rl.envs.base import episode_seed

NO_LIMIT = 0  # as the emulator understands it


class SeededAtari(atari_lib.AtariPreprocessing):
  """Dopamine's preprocessing with episodes seeded by rule.

  Attributes:
    episodes: number of episodes begun in this stream; enters the next seed.
    game_over: True if the episode is over, by itself or by the time limit.
  """

  def __init__(
      self,
      environment: Any,
      seed: int,
      stream: tuple[int, ...] = (),
      max_agent_steps: int = atari.MAX_AGENT_STEPS_PER_EPISODE,
  ):
    """Wraps a game; call `reset` before `step`.

    Args:
      environment: gymnasium environment with one frame a step.
      seed: seed of the run.
      stream: purpose of the environment; enters the seed of each episode.
      max_agent_steps: time limit of an episode.
    """
    super().__init__(environment)
    self.episodes = 0
    self._seed = seed
    # As the first environment of a vector.
    self._stream = tuple(stream) + (0,)
    self._max_agent_steps = max_agent_steps
    self._agent_steps = 0
    self._game = environment.unwrapped
    # The emulator's own limit would count the start-up frames of some games.
    self._game.ale.setInt('max_num_frames_per_episode', NO_LIMIT)

  def reset(self) -> np.ndarray:
    """Starts the next episode: [84, 84, 1] uint8."""
    seed = episode_seed(self._seed, self._stream, self.episodes)
    self.episodes += 1
    self._agent_steps = 0
    # Settings and seed are read when the game is loaded, and only then.
    self._game.ale.setInt('random_seed', seed)
    self._game.load_game()
    return super().reset()

  def step(self, action: int) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
    """Steps like Dopamine's; a time limit sets `game_over`, no terminal."""
    result = super().step(action)
    self._agent_steps += 1
    self.game_over |= self._agent_steps >= self._max_agent_steps
    return result


@gin.configurable('create_seeded_atari_environment')
def create_atari_environment(
    game_name: Optional[str] = None,
    sticky_actions: Optional[bool] = None,
    *,
    seed: int = 0,
    stream: tuple[int, ...] = (),
    max_agent_steps: int = atari.MAX_AGENT_STEPS_PER_EPISODE,
) -> SeededAtari:
  """Builds the environment as Dopamine's function of this name does.

  Args:
    game_name: game such as 'MsPacman'. Default, as for `sticky_actions`: the
      binding of Dopamine's `create_atari_environment`.
    sticky_actions: True if the last action is repeated with probability 0.25.
    seed: seed of the run.
    stream: purpose of the environment; enters the seed of each episode.
    max_agent_steps: time limit of an episode.

  Raises:
    ValueError: for an unknown game, or if Dopamine is bound to wrap it for PPO.
  """
  options = {'game_name': game_name, 'sticky_actions': sticky_actions}
  given = {k: v for k, v in options.items() if v is not None}
  if game_name is not None:
    atari.check_game(game_name)
  preprocessing = atari_lib.create_atari_environment(**given)
  if not isinstance(preprocessing, atari_lib.AtariPreprocessing):
    raise ValueError(
        'create_atari_environment is bound to another preprocessing than '
        f'that of value-based agents: {type(preprocessing).__name__}.'
    )
  return SeededAtari(preprocessing.environment, seed, stream, max_agent_steps)
