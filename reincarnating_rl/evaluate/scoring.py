"""Plays whole episodes of a policy, and computes intervals of their mean."""

from __future__ import annotations

import math
from typing import Callable, Optional

import jax
import numpy as np

from reincarnating_rl.base import progress as progress_lib
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import registry
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.evaluation import Evaluation

# Games per lot; lots are played one after another.
MAX_ENVS = 64
CONFIDENCE = 0.95
_RESAMPLES = 10_000
_INDICES_AT_ONCE = 1_000_000


def lots(num_episodes: int) -> list[int]:
  """Divides episodes into lots of games that play side by side.

  Each game of a lot plays one episode to its end, so that long episodes count
  as often as short ones.

  Args:
    num_episodes: number of episodes.

  Returns:
    Number of games in each lot; lots are as equal as possible.

  Raises:
    ValueError: if there is nothing to play.
  """
  if num_episodes < 1:
    raise ValueError(
        f'At least one episode must be played, got {num_episodes}.'
    )
  count = math.ceil(num_episodes / MAX_ENVS)
  edges = [round(i * num_episodes / count) for i in range(count + 1)]
  return [stop - start for start, stop in zip(edges, edges[1:])]


def play_episodes(
    policy: Policy,
    game: str,
    num_episodes: int,
    *,
    epsilon: float,
    seed: int,
    sticky_actions: float = atari.STICKY_ACTION_PROBABILITY,
    max_agent_steps: int = atari.MAX_AGENT_STEPS_PER_EPISODE,
) -> Episodes:
  """Plays whole episodes, each in its own game; equal seeds give equal play.

  Args:
    policy: policy that acts.
    game: name in Dopamine's spelling.
    num_episodes: K.
    epsilon: probability of a random action.
    seed: seed of the episodes and of the random actions.
    sticky_actions: probability that the game repeats an action.
    max_agent_steps: time limit of an episode.

  Returns:
    K episodes, lot by lot, in the order in which they ended.

  Raises:
    ValueError: for an unknown game, or if there is nothing to play.
  """
  policy = policy._replace(params=jax.device_put(policy.params))
  make_env = registry.make_factory(
      game, sticky_actions=sticky_actions, max_agent_steps=max_agent_steps
  )
  returns, lengths = [], []
  with _Progress(num_episodes) as progress:
    for number, size in enumerate(lots(num_episodes)):
      key = jax.random.PRNGKey(seed)
      # A stream per lot keeps the seeds of all episodes apart.
      stream = (0, number) if number else ()
      env = make_env(size, seed, stream)
      if number:
        key = jax.random.fold_in(key, number)
      # With one step per game, each game ends after its first episode.
      evaluation = Evaluation(policy, env, env.reset(), size, epsilon, key)
      found = evaluation.run(at_step=progress.follow(evaluation))
      returns.append(found.returns)
      lengths.append(found.lengths)
  return Episodes(np.concatenate(returns), np.concatenate(lengths))


class _Progress:
  """Progress bar on stderr: ended episodes, and agent steps."""

  def __init__(self, num_episodes: int):
    self._bar = progress_lib.bar(
        'Evaluation', num_episodes, 'episodes', delay=progress_lib.SHORT_DELAY
    )
    self._agent_steps = 0

  def __enter__(self) -> _Progress:
    return self

  def __exit__(self, *error: object) -> None:
    self._bar.close()

  def follow(self, evaluation: Evaluation) -> Callable[[], None]:
    """Returns a callback that advances the bar to an evaluation's progress."""
    episodes, agent_steps = self._bar.n, self._agent_steps

    def at_step() -> None:
      self._agent_steps = agent_steps + evaluation.agent_steps
      text = f'{self._agent_steps:,} agent steps'
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(
          episodes + len(evaluation.tracker.finished) - self._bar.n
      )

    return at_step


def mean_interval(
    values: np.ndarray,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> Optional[tuple[float, float]]:
  """Interval around a mean, by the percentile bootstrap (Efron, 1979).

  Args:
    values: [K].
    confidence: share of the resampled means inside the interval.
    seed: seed of the resampling.
    resamples: number of resamples.

  Returns:
    Lower and upper end; None for fewer than two values.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return None
  rng = np.random.default_rng(seed)
  means = np.empty(resamples)
  at_once = max(1, _INDICES_AT_ONCE // len(values))
  for start in range(0, resamples, at_once):
    size = min(at_once, resamples - start)
    drawn = rng.integers(len(values), size=(size, len(values)))
    means[start : start + size] = values[drawn].mean(axis=1)
  tail = (1.0 - confidence) / 2
  low, high = np.quantile(means, (tail, 1.0 - tail))
  return float(low), float(high)
