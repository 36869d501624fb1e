"""Tests of the directions that the learner steps in, against plain numpy."""

from __future__ import annotations

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import ValueLearner


@pytest.mark.parametrize('centered', [True, False])
def test_rmsprop_by_hand(centered):
  decay, eps = 0.9, 1e-2
  optimizer = learner_lib.rmsprop_direction(decay, eps, centered)
  gradients = ([2.0, -1.0], [0.5, 3.0])
  opt_state = optimizer.init(jnp.zeros(2))
  mean, square = np.zeros(2), np.zeros(2)
  for gradient in gradients:
    direction, opt_state = optimizer.update(jnp.array(gradient), opt_state)
    mean = decay * mean + (1 - decay) * np.array(gradient)
    square = decay * square + (1 - decay) * np.array(gradient) ** 2
    spread = square - mean**2 if centered else square
    expected = np.array(gradient) / np.sqrt(spread + eps)
    np.testing.assert_allclose(direction, expected, rtol=1e-5)


# -- Adam with weight decay ----------------------------------------------------

RATE, B1, B2, EPS, DECAY = 0.1, 0.8, 0.95, 1e-3, 0.3
SHAPES = {'kernel': (3, 2), 'bias': (2,)}


class SlowAdamW:
  """Loshchilov and Hutter (2019), algorithm 2, for one parameter."""

  def __init__(self, value: np.ndarray, decay: float):
    self.value = np.asarray(value, np.float64)
    self.decay = decay
    self.mean = self.square = np.zeros_like(self.value)
    self.steps = 0

  def step(self, gradient: np.ndarray) -> None:
    gradient = np.asarray(gradient, np.float64)
    self.steps += 1
    self.mean = B1 * self.mean + (1 - B1) * gradient
    self.square = B2 * self.square + (1 - B2) * gradient**2
    mean = self.mean / (1 - B1**self.steps)
    square = self.square / (1 - B2**self.steps)
    direction = mean / (np.sqrt(square) + EPS) + self.decay * self.value
    self.value = self.value - RATE * direction


def random_tree(rng: np.random.Generator) -> dict[str, jax.Array]:
  return {
      k: jnp.asarray(rng.normal(size=shape), jnp.float32)
      for k, shape in SHAPES.items()
  }


@pytest.mark.parametrize('decay', [0.0, DECAY])
def test_adam_with_weight_decay_by_hand(decay):
  """The matrix decays beside the moments, not through them; no bias does."""
  optimizer = learner_lib.adam_direction(B1, B2, EPS, decay)
  rng = np.random.default_rng(0)
  params = random_tree(rng)
  opt_state = optimizer.init(params)
  slow = {
      'kernel': SlowAdamW(params['kernel'], decay),
      'bias': SlowAdamW(params['bias'], 0.0),
  }
  for _ in range(5):
    gradients = random_tree(rng)
    direction, opt_state = optimizer.update(gradients, opt_state, params)
    params = jax.tree.map(lambda p, d: p - RATE * d, params, direction)
    for name, parameter in slow.items():
      parameter.step(gradients[name])
      np.testing.assert_allclose(
          params[name], parameter.value, rtol=1e-5, atol=1e-6
      )


def test_members_decay_as_they_do_alone():
  """A bias is a bias also where members are one more axis."""
  optimizer = learner_lib.adam_direction(B1, B2, EPS, DECAY)
  rng = np.random.default_rng(1)
  members = [(random_tree(rng), random_tree(rng)) for _ in range(3)]

  def direction(params, gradients):
    return optimizer.update(gradients, optimizer.init(params), params)[0]

  stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
  together = jax.vmap(direction)(*stacked)
  for i, member in enumerate(members):
    jax.tree.map(
        lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5),
        together,
        direction(*member),
    )


def test_equal_calls_are_one_object():
  """Or equal learners would compile twice."""
  adam = learner_lib.adam_direction
  assert adam() is adam(0.9, 0.999, eps=1.5e-4) is adam(weight_decay=0.0)
  assert adam(weight_decay=0.1) is adam(0.9, 0.999, 1.5e-4, 0.1)
  assert adam(weight_decay=0.1) is not adam()
  assert learner_lib.rmsprop_direction() is learner_lib.rmsprop_direction()


def test_without_weight_decay_the_state_is_that_of_adam():
  """Moments of teachers and of older checkpoints fit it."""
  params = random_tree(np.random.default_rng(2))
  ours = learner_lib.adam_direction(weight_decay=0.0).init(params)
  adam = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1.5e-4).init(params)
  assert isinstance(ours, optax.ScaleByAdamState)
  assert jax.tree.structure(ours) == jax.tree.structure(adam)


def test_a_negative_weight_decay_is_refused():
  with pytest.raises(ValueError, match='must not be negative, got -0.1'):
    learner_lib.adam_direction(weight_decay=-0.1)


class Linear(nn.Module):
  """Values linear in the pixels."""

  @nn.compact
  def __call__(self, x, rng_key=None):
    pixels = x.reshape((x.shape[0], -1)) / 255.0
    return NetworkOutput(nn.Dense(2)(pixels), pixels)


def test_the_learner_decays_its_matrices():
  """One update with a decay and one without differ by rate * decay * kernel."""
  rng = np.random.default_rng(3)
  images = lambda: jnp.asarray(rng.integers(0, 256, (4, 2, 2, 1)), jnp.uint8)
  batch = TransitionBatch(
      s_tm1=images(),
      a_tm1=jnp.array([0, 1, 0, 1]),
      r_t=jnp.arange(4.0),
      discount_t=jnp.full(4, 0.9),
      s_t=images(),
      weight=jnp.ones(4),
  )
  after = {}
  for decay in (0.0, DECAY):
    optimizer = learner_lib.adam_direction(weight_decay=decay)
    learner = ValueLearner(Linear(), Objective(), optimizer)
    state = learner.init(
        jax.random.PRNGKey(0),
        ArraySpec((2, 2, 1), 'uint8'),
        Coefficients(learning_rate=RATE),
    )
    bias = state.online_params['Dense_0']['bias'] + 1.0
    state.online_params['Dense_0']['bias'] = bias
    kernel = state.online_params['Dense_0']['kernel']
    update = jax.jit(learner.update)
    after[decay] = update(state, batch)[0].online_params['Dense_0']
  np.testing.assert_allclose(
      after[0.0]['kernel'] - after[DECAY]['kernel'],
      RATE * DECAY * kernel,
      rtol=1e-4,
      atol=1e-6,
  )
  np.testing.assert_array_equal(after[0.0]['bias'], after[DECAY]['bias'])
