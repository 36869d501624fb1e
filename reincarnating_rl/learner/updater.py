"""Many updates a call, as the backend makes them best."""

from __future__ import annotations

import functools
from typing import Any, Callable

import jax
import jax.numpy as jnp

from reincarnating_rl.learner.learner import Learner
from reincarnating_rl.learner.learner import LearnerState
from reincarnating_rl.replay import frame_replay


@functools.lru_cache(maxsize=None)
def make_updater(
    learner: Learner,
    spec: frame_replay.ReplaySpec,
    batch_size: int,
    prioritized: bool,
    scan: bool,
) -> Callable[..., Any]:
  """Compiles the learner for one replay.

  Args:
    learner: pure functions.
    spec: static description of the replay.
    batch_size: B.
    prioritized: whether priorities are written back.
    scan: run K updates as one scan (right for a GPU) or as K dispatches
      (right for a CPU, where convolutions inside a scan are many times
      slower). The results are the same.

  Returns:
    `update_many(state, storage, priorities, num_updates)` which gives (state,
    priorities, metrics of [num_updates] each, on the device), donating state
    and priorities.
  """

  def one(state, priorities, storage):
    return learner.update_from_replay(
        spec, batch_size, state, storage, priorities, prioritized
    )

  one_jit = jax.jit(one, donate_argnums=(0, 1))

  def dispatches(state, priorities, storage, num_updates):
    collected = []
    for _ in range(num_updates):
      state, priorities, metrics = one_jit(state, priorities, storage)
      collected.append(metrics)
    return state, priorities, {k: [m[k] for m in collected] for k in metrics}

  @functools.partial(jax.jit, donate_argnums=(0, 1), static_argnums=3)
  def scanned(state, priorities, storage, num_updates):
    def body(carry, _):
      state, priorities, metrics = one(*carry, storage)
      return (state, priorities), metrics

    carry, metrics = jax.lax.scan(body, (state, priorities), length=num_updates)
    return *carry, metrics

  def update_many(state, storage, priorities, num_updates):
    if num_updates < 1:
      raise ValueError(f'num_updates must be positive, got {num_updates}.')
    run = scanned if scan else dispatches
    return run(state, priorities, storage, num_updates)

  return update_many


@functools.partial(jax.jit, donate_argnums=0)
def sync_target(state: LearnerState) -> LearnerState:
  """Copies the online parameters into the target; donates the state."""
  return state._replace(
      target_params=jax.tree.map(jnp.copy, state.online_params)
  )
