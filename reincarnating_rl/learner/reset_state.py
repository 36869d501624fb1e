"""Applies a reset schedule to a learner's state."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from reincarnating_rl.learner.learner import Learner
from reincarnating_rl.learner.learner import LearnerState
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.learner.resets import shrink_and_perturb


def reset_state(
    learner: Learner,
    state: LearnerState,
    schedule: ResetSchedule,
    rng_key: jax.Array,
    observation_shape: tuple[int, ...],
) -> LearnerState:
  """The state right after a reset.

  Args:
    learner: whose state it is.
    state: the state; not donated.
    schedule: what becomes of each part.
    rng_key: of the fresh weights; another one at each reset.
    observation_shape: (H, W, C).

  Returns:
    The new state, whose annealing begins anew; key, coefficients and the count
    of updates go on.

  Raises:
    ValueError: if the schedule names a part that the network does not have.
  """
  online_key, target_key = jax.random.split(rng_key)
  shares = schedule.shares(state.online_params)
  fresh = lambda key: learner.init(key, observation_shape).online_params
  online = shrink_and_perturb(state.online_params, fresh(online_key), shares)
  if schedule.target == 'copy':
    target = jax.tree.map(jnp.copy, online)
  else:
    target = shrink_and_perturb(state.target_params, fresh(target_key), shares)
  opt_state = state.opt_state
  if not schedule.keep_optimizer:
    opt_state = learner.optimizer.init(online)
  return state._replace(
      online_params=online,
      target_params=target,
      opt_state=opt_state,
      since_reset=jnp.int32(0),
  )
