"""A TD loss of one's own is one class."""

from __future__ import annotations

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner.td import select_action

GAMMA = 0.5
TEMPERATURE = 2.0
BATCH_SIZE = 3
NUM_ACTIONS = 2


class Scaled(nn.Module):
  """Linear values; a TD loss may ask for them at another scale."""

  @nn.compact
  def __call__(self, states, rng_key=None, scale=1.0):
    pixels = states.reshape((states.shape[0], -1)) / 255.0
    values = scale * nn.Dense(NUM_ACTIONS)(pixels)
    return NetworkOutput(values, pixels)


@dataclasses.dataclass(frozen=True)
class SoftQLearning(learner_lib.TDLoss):
  """Bootstraps from a softmax policy's expected value, scaled by two."""

  temperature: float = TEMPERATURE

  @property
  def target_options(self):
    return {'scale': 2.0}

  def losses(self, outputs, batch, network):
    policy = jax.nn.softmax(outputs.selector / self.temperature)
    value_t = jnp.sum(policy * outputs.target.q_values, axis=-1)
    targets = batch.r_t + batch.discount_t * value_t
    errors = jax.lax.stop_gradient(targets) - select_action(
        outputs.online.q_values, batch.a_tm1
    )
    return jnp.abs(errors)


LEARNER = learner_lib.ValueLearner(
    Scaled(),
    learner_lib.Objective(SoftQLearning()),
    learner_lib.adam_direction(),
)


def _batch():
  rng = np.random.default_rng(0)
  images = lambda: rng.integers(0, 256, (BATCH_SIZE, 2, 2, 1)).astype(np.uint8)
  return TransitionBatch(
      s_tm1=images(),
      a_tm1=jnp.array([0, 1, 1]),
      r_t=jnp.array([0.5, -1.0, 0.25]),
      discount_t=jnp.array([GAMMA, 0.0, GAMMA]),
      s_t=images(),
      weight=jnp.ones(BATCH_SIZE),
  )


def _values(params, states):
  kernel, bias = params['Dense_0']['kernel'], params['Dense_0']['bias']
  pixels = states.reshape(len(states), -1).astype(np.float64) / 255.0
  return pixels @ np.asarray(kernel, np.float64) + np.asarray(bias)


def test_an_update_uses_it_with_its_options():
  state = LEARNER.init(jax.random.PRNGKey(0), ArraySpec((2, 2, 1), 'uint8'))
  batch = _batch()
  expected = []
  for i in range(BATCH_SIZE):
    q_t = 2.0 * _values(state.target_params, batch.s_t)[i]
    odds = np.exp(q_t / TEMPERATURE)
    value = odds @ q_t / odds.sum()
    target = batch.r_t[i] + batch.discount_t[i] * value
    q = _values(state.online_params, batch.s_tm1)[i, batch.a_tm1[i]]
    expected.append(abs(target - q))
  state, extra = jax.jit(LEARNER.update)(state, batch)
  np.testing.assert_allclose(extra.metrics['td_loss'], np.mean(expected), 1e-5)
  np.testing.assert_allclose(
      extra.priorities, np.sqrt(np.array(expected) + 1e-10), 1e-5
  )


def test_losses_of_other_settings_are_others():
  assert SoftQLearning() == SoftQLearning()
  assert SoftQLearning(1.0) != SoftQLearning()
  assert learner_lib.Objective('huber').td == learner_lib.QLearning()


def test_a_loss_that_defines_nothing_says_so():
  with pytest.raises(TypeError, match='TDLoss defines no losses'):
    learner_lib.TDLoss().losses(None, None, None)
