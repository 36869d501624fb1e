"""Many updates per call, compiled in the form that suits the backend."""

from __future__ import annotations

import functools
from typing import Any, Callable, Optional, Sequence

import jax
import jax.numpy as jnp

from reincarnating_rl.learner.sampling import Sampler
from reincarnating_rl.replay import frame_replay

# See `make_updater`.
UpdateMany = Callable[..., Any]


@functools.lru_cache(maxsize=None)
def make_updater(
    sampler: Sampler, scan: bool, num_members: Optional[int] = None
) -> UpdateMany:
  """Compiles a learner's updates on one replay.

  Args:
    sampler: learner, replay, and the sampling from it.
    scan: True to run K updates as one scan (for a GPU), False to run K
      dispatches (for a CPU, where convolutions in a scan are many times
      slower). The results are the same.
    num_members: S, number of members to update at once; None = one learner,
      without a member axis.

  Returns:
    `update_many(state, storage, priorities, num_updates, teacher_replay=None)`.
    It returns the next state, the next priorities and a dict of [num_updates]
    metrics on the device. It donates the state and, if they are written back,
    the priorities.

    With members the leaves of the state are [S, ...], storage and priorities
    are tuples of S entries, and metrics are [num_updates, S].
  """

  def one(state, priorities, storage, teacher):
    if num_members is None:
      return sampler.update(state, storage, priorities, teacher)
    return _update_members(sampler, state, storage, priorities, teacher)

  donated = (0, 1) if sampler.prioritized else (0,)
  one_jit = jax.jit(one, donate_argnums=donated)

  def dispatches(state, priorities, storage, teacher, num_updates):
    collected = []
    for _ in range(num_updates):
      state, priorities, metrics = one_jit(state, priorities, storage, teacher)
      collected.append(metrics)
    return state, priorities, {k: [m[k] for m in collected] for k in metrics}

  @functools.partial(jax.jit, donate_argnums=donated, static_argnums=4)
  def scanned(state, priorities, storage, teacher, num_updates):
    def body(carry, _):
      state, priorities, metrics = one(carry[0], carry[1], storage, teacher)
      return (state, priorities), metrics

    carry, metrics = jax.lax.scan(body, (state, priorities), length=num_updates)
    return *carry, metrics

  def update_many(state, storage, priorities, num_updates, teacher_replay=None):
    if num_updates < 1:
      raise ValueError(f'num_updates must be positive, got {num_updates}.')
    if sampler.rehearses != (teacher_replay is not None):
      raise ValueError(
          f'teacher_data_ratio is {sampler.teacher_data_ratio}, and the data '
          f'of a teacher is {"missing" if sampler.rehearses else "given"}.'
      )
    run = scanned if scan else dispatches
    return run(state, priorities, storage, teacher_replay, num_updates)

  return update_many


def _update_members(
    sampler: Sampler,
    states: Any,
    storages: Sequence[frame_replay.Storage],
    priorities: Sequence[frame_replay.Priorities],
    teacher: Optional[frame_replay.ReplayState],
) -> tuple[Any, tuple, dict[str, jax.Array]]:
  """One update of S members: each samples its own replay, all learn at once."""
  member = lambda i: jax.tree.map(lambda x: x[i], states)
  keys, draws = zip(
      *(
          sampler.draw(member(i), storage, weights, teacher)
          for i, (storage, weights) in enumerate(zip(storages, priorities))
      )
  )
  join = lambda *leaves: jnp.stack(leaves)
  batches, metrics = (
      jax.tree.map(join, *parts)
      for parts in ([d.batch for d in draws], [d.metrics for d in draws])
  )
  states, extra = jax.vmap(sampler.learner.update)(
      states._replace(rng_key=jnp.stack(keys)), batches
  )
  if sampler.prioritized:
    priorities = [
        d.write_back(weights, values)
        for d, weights, values in zip(draws, priorities, extra.priorities)
    ]
  return states, tuple(priorities), extra.metrics | metrics
