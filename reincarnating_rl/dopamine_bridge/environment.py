"""One Atari game for Dopamine's own Runner, seeded and honest about limits.

Dopamine's environment has two faults that matter to a learner and to whoever
wants the same run twice. It never seeds its emulator; and it reports a time
limit as a terminal (and at 100,000 frames, before its Runner's own limit of
27,000 agent steps). Here every episode is seeded by the package's rule, so it
equals the one that `envs.atari.AtariVector` plays under the same seed, stream
and actions; and a time limit ends the episode without a terminal.

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
    episodes: how many have begun in this stream; enters the next one's seed.
    game_over: whether the episode is over, by itself or by the time limit.
  """

  def __init__(
      self,
      environment: Any,
      seed: int,
      stream: tuple[int, ...] = (),
      max_agent_steps: int = atari.MAX_AGENT_STEPS_PER_EPISODE,
  ):
    """Takes over a game; call `reset` before `step`.

    Args:
      environment: gymnasium's, of one frame a step.
      seed: seed of the run.
      stream: what this environment is for; enters each episode's seed.
      max_agent_steps: time limit of an episode.
    """
    super().__init__(environment)
    self.episodes = 0
    self._seed = seed
    # The only member of its vector.
    self._stream = tuple(stream) + (0,)
    self._max_agent_steps = max_agent_steps
    self._agent_steps = 0
    self._game = environment.unwrapped
    # The emulator's own limit counts frames that some games take to start up.
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
    """As Dopamine's, but a time limit sets `game_over` and no terminal."""
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
    game_name: such as 'MsPacman'. Default, as of `sticky_actions`: what gin
      binds to Dopamine's `create_atari_environment`.
    sticky_actions: whether the last action is repeated with probability 0.25.
    seed: seed of the run.
    stream: what this environment is for; enters each episode's seed.
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
