"""Tests of means of metrics, and of how a divergence is told."""

from __future__ import annotations

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl.loop.training.events import MetricMeans
from reincarnating_rl.loop.training.events import TrainingDivergedError
from reincarnating_rl.loop.training.events import Updates


def _add(means, values, first=1, training_steps=0, rate=Fraction(1), **more):
  """Adds the losses of some updates, and other metrics."""
  metrics = {'loss': values} | more
  metrics = {k: jnp.array(v, jnp.float32) for k, v in metrics.items()}
  means.add(Updates(len(values), first, training_steps, rate), metrics)


def test_means_of_batches_of_any_size():
  means = MetricMeans()
  assert means.fetch() == means.pop() == {}
  _add(means, [1.0, 2.0])
  # As many updates as dispatches: lists of scalars.
  scalars = [jnp.float32(6.0), jnp.float32(7.0), jnp.float32(9.0)]
  means.add(Updates(3, 3, 2, Fraction(1)), {'loss': scalars})
  assert means.pending_updates == 5
  assert means.fetch() == {'loss': 5.0}
  assert means.pending_updates == 0
  _add(means, [11.0])
  assert means.pop() == {'loss': 6.0}
  assert means.pop() == {}


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('index', range(5))
def test_the_first_update_that_is_not_finite_is_named(bad, index):
  losses, norms = np.ones(5), np.ones(5)
  losses[index] = bad
  norms[index:] = bad  # What comes after is bad in more ways.
  losses[index + 1 :] = np.nan
  means = MetricMeans()
  _add(means, losses[:2], 11, 100, q=[0.0] * 2, norm=norms[:2])
  _add(means, losses[2:], 13, 102, q=[0.0] * 3, norm=norms[2:])
  with pytest.raises(TrainingDivergedError) as error:
    means.fetch()
  assert error.value.update == 11 + index
  assert error.value.training_step == 100 + index
  assert error.value.terms == ('loss', 'norm')


@pytest.mark.parametrize(
    'rate, steps', [('1/4', [12, 16, 20]), ('5/2', [10, 10, 10, 11, 11])]
)
def test_the_training_step_at_which_an_update_was_due(rate, steps):
  """Online, several updates a step or several steps an update."""
  for index, step in enumerate(steps):
    losses = np.ones(len(steps))
    losses[index] = np.nan
    means = MetricMeans()
    _add(means, losses, 1, 10, Fraction(rate))
    with pytest.raises(TrainingDivergedError) as error:
      means.pop()
    assert error.value.training_step == step


def test_the_message_is_one_sentence():
  error = TrainingDivergedError(7, 28, ['td_loss', 'gradient_norm'])
  assert str(error) == (
      'Training diverged: update 7 (training step 28) gave numbers that are '
      'not finite, in td_loss, gradient_norm: lower the learning rate, or the '
      'coefficients of the terms that are named.'
  )
  told = error.with_way_back('checkpoint 3 is the last good one')
  assert '; checkpoint 3 is the last good one: lower' in str(told)
  assert (told.update, told.training_step, told.terms) == (
      error.update,
      error.training_step,
      error.terms,
  )
