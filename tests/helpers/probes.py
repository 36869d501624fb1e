"""The probes that several tests play, and the smallest network to play them."""

from __future__ import annotations

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.envs.probe import ConstantReward
from reincarnating_rl.envs.probe import ContextualBandit
from reincarnating_rl.envs.probe import DelayedReward
from reincarnating_rl.envs.probe import draw_states
from reincarnating_rl.envs.probe import Gridworld
from reincarnating_rl.envs.probe import ObservedReward
from reincarnating_rl.envs.probe import ProbeVector
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.config.plan import RunConfig

NUM_ACTIONS = 4
PROBES = (
    ConstantReward(-0.5, NUM_ACTIONS),
    ObservedReward((1.0, -1.0, 0.25), NUM_ACTIONS),
    DelayedReward(4, num_actions=NUM_ACTIONS),
    DelayedReward(4, terminal=False, num_actions=NUM_ACTIONS),
    ContextualBandit(6, NUM_ACTIONS),
    Gridworld(3, 3),
)
SMALL_RUN = RunConfig(
    game='probe',
    seed=3,
    num_iterations=2,
    training_steps=60,
    evaluation_steps=20,
    num_pretraining_iterations=1,
    num_pretraining_steps=12,
    teacher_steps=64,
    num_envs=2,
    num_eval_envs=4,
    batch_size=4,
    update_horizon=2,
    replay_capacity=400,
    min_replay_history=20,
    target_update_period=16,
    epsilon_decay_period=10,
    learning_rate=1e-3,
)
TIME_LIMIT = 10  # agent steps; no multiple of a corridor's length
each_probe = pytest.mark.parametrize('probe', PROBES, ids=repr)


def small_vector(probe, num_envs=3, seed=0, **options):
  options = {'frame_shape': (8, 8), 'max_agent_steps': TIME_LIMIT} | options
  return ProbeVector(probe, num_envs, seed, **options)


class Linear(nn.Module):
  """Values linear in the pixels: compiles in no time."""

  num_actions: int = 4

  @nn.compact
  def __call__(self, x, rng_key=None):
    pixels = x.reshape((x.shape[0], -1)) / 255.0
    return NetworkOutput(nn.Dense(self.num_actions)(pixels), pixels)


class Table(nn.Module):
  """Reads the state off the newest frame, and looks its values up."""

  values: tuple[tuple[float, ...], ...]  # [S, A]

  @property
  def num_actions(self):
    return len(self.values[0])

  def __call__(self, x, rng_key=None):
    frames = draw_states(len(self.values), x.shape[1:3]) > 0
    newest = x[..., -1] > 0  # [B, H, W]
    overlap = jnp.einsum('bhw,shw->bs', newest * 1.0, frames * 1.0)
    q_values = jnp.array(self.values)[overlap.argmax(axis=1)]
    return NetworkOutput(q_values, q_values)


def table_policy(q_values: np.ndarray) -> Policy:
  """A teacher that thinks [S, A] so of a probe."""
  return value_policy(Table(tuple(map(tuple, q_values.tolist()))), {})
