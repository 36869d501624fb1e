"""Many updates a call, as the backend makes them best.

With rehearsal each sample comes from a teacher's data with some probability,
else from the student's replay.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Optional, Sequence

import jax
import jax.numpy as jnp

from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner.learner import Draw
from reincarnating_rl.learner.learner import Learner
from reincarnating_rl.learner.learner import LearnerState
from reincarnating_rl.replay import frame_replay

# See `make_updater`.
UpdateMany = Callable[..., Any]


@functools.lru_cache(maxsize=None)
def make_updater(
    learner: Learner,
    spec: frame_replay.ReplaySpec,
    batch_size: int,
    prioritized: bool,
    scan: bool,
    teacher_spec: Optional[frame_replay.ReplaySpec] = None,
    teacher_data_ratio: float = 0.0,
    num_members: Optional[int] = None,
) -> UpdateMany:
  """Compiles the learner for one replay.

  Args:
    learner: pure functions.
    spec: static description of the replay.
    batch_size: B.
    prioritized: whether priorities are written back.
    scan: run K updates as one scan (right for a GPU) or as K dispatches
      (right for a CPU, where convolutions inside a scan are many times
      slower). The results are the same.
    teacher_spec: static description of the teacher's data.
    teacher_data_ratio: probability that a sample comes from there. At 0 no
      such data is wanted, and nothing is compiled for it.
    num_members: S, to update so many members at once; None = one, without a
      member axis.

  Returns:
    `update_many(state, storage, priorities, num_updates, teacher_replay=None)`
    which gives (state, priorities, metrics of [num_updates] each, on the
    device), donating the state, and the priorities if they are written back.
    With members the state's leaves are [S, ...], storage and priorities are
    tuples of S, and metrics are [num_updates, S].

  Raises:
    ValueError: if the ratio is no probability, or lacks a teacher_spec.
  """
  if not 0.0 <= teacher_data_ratio <= 1.0:
    raise ValueError(
        'teacher_data_ratio must be between 0 and 1, got '
        f'{teacher_data_ratio}.'
    )
  rehearses = teacher_data_ratio > 0
  if rehearses and teacher_spec is None:
    raise ValueError(
        f"teacher_data_ratio {teacher_data_ratio} needs a teacher's data."
    )

  def make_mix(teacher):
    if not rehearses:
      return None
    return functools.partial(
        _mix_in,
        learner,
        teacher_spec,
        teacher,
        teacher_data_ratio,
    )

  def one(state, priorities, storage, teacher):
    mix = make_mix(teacher)
    if num_members is None:
      return learner.update_from_replay(
          spec, batch_size, state, storage, priorities, prioritized, mix
      )
    draw = functools.partial(learner.draw, spec, batch_size, mix=mix)
    return _update_members(
        learner, draw, prioritized, state, storage, priorities
    )

  donated = (0, 1) if prioritized else (0,)
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
      state, priorities, metrics = one(*carry, storage, teacher)
      return (state, priorities), metrics

    carry, metrics = jax.lax.scan(body, (state, priorities), length=num_updates)
    return *carry, metrics

  def update_many(state, storage, priorities, num_updates, teacher_replay=None):
    if num_updates < 1:
      raise ValueError(f'num_updates must be positive, got {num_updates}.')
    if rehearses != (teacher_replay is not None):
      raise ValueError(
          f'teacher_data_ratio is {teacher_data_ratio}, and the data of a '
          f'teacher is {"missing" if rehearses else "given"}.'
      )
    run = scanned if scan else dispatches
    return run(state, priorities, storage, teacher_replay, num_updates)

  return update_many


def _update_members(
    learner: Learner,
    draw: Callable[..., tuple[jax.Array, Draw]],
    prioritized: bool,
    states: LearnerState,
    storages: Sequence[frame_replay.Storage],
    priorities: Sequence[frame_replay.Priorities],
) -> tuple[LearnerState, tuple, dict[str, jax.Array]]:
  """One update of S members: each draws from its own, all learn at once."""
  member = lambda i: jax.tree.map(lambda x: x[i], states)
  keys, draws = zip(
      *(
          draw(member(i), storage, weights)
          for i, (storage, weights) in enumerate(zip(storages, priorities))
      )
  )
  join = lambda *leaves: jnp.stack(leaves)
  batches, metrics = (
      jax.tree.map(join, *parts)
      for parts in ([d.batch for d in draws], [d.metrics for d in draws])
  )
  states, extra = jax.vmap(learner.update)(
      states._replace(rng_key=jnp.stack(keys)), batches
  )
  if prioritized:
    priorities = [
        d.written_back(weights, values)
        for d, weights, values in zip(draws, priorities, extra.priorities)
    ]
  return states, tuple(priorities), extra.metrics | metrics


def _mix_in(
    learner: Learner,
    teacher_spec: frame_replay.ReplaySpec,
    teacher: frame_replay.ReplayState,
    ratio: float,
    state: LearnerState,
    rng_key: jax.Array,
    batch: TransitionBatch,
) -> tuple[TransitionBatch, jax.Array]:
  """Puts the teacher's transitions in the place of some of the student's.

  Both kinds are gathered in full, which costs little beside an update. The
  discount of a step is the same in both; n is at most the data's own.

  Args:
    learner: who says of what horizon its returns are.
    teacher_spec: static description of the teacher's data.
    teacher: the data.
    ratio: probability of each place to be taken.
    state: of the learner.
    rng_key: consumed.
    batch: the student's B transitions, weighed by importance.

  Returns:
    The mixed batch: `demonstration` is 1 where the teacher's transitions are,
    their weight is 1, and the weights of the student's are over the largest
    of those that are left. And [B] bool, where those are.

  Raises:
    ValueError: if either lacks the teacher's Q-values and they are needed.
  """
  sample_key, place_key = jax.random.split(rng_key)
  size = batch.r_t.shape[0]
  taught, _ = frame_replay.sample(
      teacher_spec,
      teacher.storage,
      teacher.priorities,
      sample_key,
      size,
      learner.horizon(teacher_spec, state),
  )
  own = ~jax.random.bernoulli(place_key, ratio, (size,))
  largest = jnp.where(own, batch.weight, 0.0).max()
  weight = batch.weight / jnp.where(own.any(), largest, 1.0)
  batch = batch._replace(weight=weight)
  taught = taught._replace(weight=jnp.ones_like(weight))
  if not learner.objective.needs_teacher:
    batch, taught = (x._replace(q_teacher=None) for x in (batch, taught))
  elif batch.q_teacher is None or taught.q_teacher is None:
    raise ValueError(
        "The objective needs the teacher's Q-values: they must stand beside "
        "the teacher's data and beside the student's."
    )

  def choose(student: jax.Array, teacher: jax.Array) -> jax.Array:
    mask = own.reshape((size,) + (1,) * (student.ndim - 1))
    return jnp.where(mask, student, teacher)

  mixed = jax.tree.map(choose, batch, taught)
  demonstration = 1.0 - own.astype(jnp.float32)
  return mixed._replace(demonstration=demonstration), own


@functools.partial(jax.jit, donate_argnums=0)
def sync_target(state: LearnerState) -> LearnerState:
  """Copies the online parameters into the target; donates the state."""
  return state._replace(
      target_params=jax.tree.map(jnp.copy, state.online_params)
  )
