"""Many updates of the learner from replays, alone and with a teacher's data."""

from __future__ import annotations

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import networks
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.replay import frame_replay

ADAM = learner_lib.adam_direction()
ACTIONS = 3

# -- many updates --------------------------------------------------------------

FRAME = ArraySpec((10, 10), 'uint8')
SPEC = frame_replay.ReplaySpec(
    60, num_streams=2, update_horizon=2, gamma=0.9, observation=FRAME
).with_q_teacher(ACTIONS)
BATCH_SIZE = 5
NUM_UPDATES = 4
SMALL = ValueLearner(
    networks.make_network(ACTIONS, features=(2, 2, 2), hidden_size=4),
    Objective(double=True, distill='policy'),
    ADAM,
)
LEARNED = Coefficients(learning_rate=1e-2, lambda_=1.0)


@functools.cache
def small_rows() -> frame_replay.Rows:
  rng = np.random.default_rng(0)
  shape = (SPEC.slots, SPEC.num_streams)
  ends = rng.random(shape) < 0.1
  flags = np.where(ends, rng.choice([2, 4], shape), 0)
  flags[0] |= frame_replay.FIRST
  flags[1:][ends[:-1]] |= frame_replay.FIRST
  return frame_replay.Rows(
      rng.integers(0, 256, shape + FRAME.shape).astype(np.uint8),
      rng.integers(0, ACTIONS, shape).astype(np.int32),
      rng.normal(size=shape).astype(np.float32),
      flags.astype(np.uint8),
      {'q_teacher': rng.normal(size=shape + (ACTIONS,)).astype(np.float32)},
  )


def small_replay() -> frame_replay.ReplayState:
  return jax.jit(frame_replay.from_rows, static_argnums=0)(SPEC, small_rows())


@functools.cache
def small_params():
  init = SMALL.init(jax.random.PRNGKey(7), SPEC.state)
  return jax.tree.map(np.array, init.online_params)


def small_state(seed=0):
  return SMALL.from_params(jax.random.PRNGKey(seed), small_params(), LEARNED)


def updater(scan: bool, prioritized: bool = True):
  return learner_lib.make_updater(
      learner_lib.Sampler(SMALL, SPEC, BATCH_SIZE, prioritized), scan=scan
  )


def run_updates(update_many, num_updates=NUM_UPDATES, seed=0, calls=1):
  """State, priorities, and the metrics of all updates in a row."""
  replay = small_replay()
  state, priorities = small_state(seed), replay.priorities
  collected = []
  for _ in range(calls):
    state, priorities, metrics = update_many(
        state, replay.storage, priorities, num_updates
    )
    collected.append({k: np.stack(v) for k, v in metrics.items()})
  joined = {k: np.concatenate([m[k] for m in collected]) for k in collected[0]}
  return state, priorities, joined


def assert_close(a, b):
  jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b
  )


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('prioritized', [True, False])
def test_scanned_updates_equal_dispatched_ones(prioritized):
  scanned = run_updates(updater(True, prioritized))
  dispatched = run_updates(updater(False, prioritized))
  assert_close(scanned, dispatched)
  metrics = scanned[2]
  assert metrics['loss'].shape == (NUM_UPDATES,)
  assert len(set(metrics['loss'].tolist())) == NUM_UPDATES
  leaves = np.asarray(scanned[1].tree.leaves)
  assert (len(np.unique(leaves)) > 2) == prioritized


def test_many_updates_equal_single_ones():
  assert_equal(
      run_updates(updater(False)),
      run_updates(updater(False), num_updates=1, calls=NUM_UPDATES),
  )


def test_an_update_from_replay_is_its_parts():
  """Sampling, updating, writing back; the keys split in that order."""
  replay = small_replay()
  fast_state, fast_priorities, fast_metrics = run_updates(updater(False), 1)
  state = small_state()
  rng_key, sample_key = jax.random.split(state.rng_key)
  batch, indices = jax.jit(frame_replay.sample, static_argnums=(0, 4))(
      SPEC, replay.storage, replay.priorities, sample_key, BATCH_SIZE
  )
  state, extra = jax.jit(SMALL.update)(state._replace(rng_key=rng_key), batch)
  priorities = jax.jit(frame_replay.update_priorities)(
      replay.priorities, indices, extra.priorities
  )
  assert_close(fast_state, state)
  assert_close(fast_priorities, priorities)
  assert_close({k: v[0] for k, v in fast_metrics.items()}, extra.metrics)
  assert (np.asarray(priorities.tree.leaves)[np.asarray(indices)] != 1.0).all()


def test_the_same_seed_is_the_same_run():
  first = run_updates(updater(False), seed=3)
  assert_equal(first, run_updates(updater(False), seed=3))
  other = run_updates(updater(False), seed=4)
  assert (first[2]['loss'] != other[2]['loss']).all()


@pytest.mark.parametrize('scan', [False, True])
def test_no_updates_at_all_are_refused(scan):
  replay = small_replay()
  with pytest.raises(ValueError, match='must be positive, got 0'):
    updater(scan)(small_state(), replay.storage, replay.priorities, 0)


@pytest.mark.parametrize('scan', [False, True])
def test_nothing_is_compiled_after_the_first_call(scan, compilations):
  update_many = updater(scan)
  replay = small_replay()
  state, priorities, _ = update_many(
      small_state(), replay.storage, replay.priorities, NUM_UPDATES
  )
  SMALL.sync_target(small_state())
  Coefficients().as_arrays()
  before = compilations.count
  for lambda_ in (1.0, 0.5, 0.0):
    coefficients = Coefficients(
        learning_rate=1e-4 * lambda_,
        lambda_=lambda_,
        temperature=0.1,
        distill=3.0,
    )
    state = state._replace(coefficients=coefficients.as_arrays())
    state = SMALL.sync_target(state)
    state, priorities, _ = update_many(
        state, replay.storage, priorities, NUM_UPDATES
    )
    assert float(state.coefficients.lambda_) == lambda_
  assert compilations.count == before
  jax.jit(lambda x: x * 2 + 1)(jnp.ones(3))
  assert compilations.count > before  # It does count.


@pytest.mark.parametrize('scan', [False, True])
def test_nothing_crosses_to_the_host(scan):
  update_many = updater(scan)
  replay = small_replay()
  state, priorities, _ = update_many(
      small_state(), replay.storage, replay.priorities, NUM_UPDATES
  )
  with jax.transfer_guard('disallow'):
    with pytest.raises(Exception, match='Disallowed host-to-device'):
      jnp.add(state.updates, np.ones(3))  # The guard guards.
    state, priorities, metrics = update_many(
        state, replay.storage, priorities, NUM_UPDATES
    )
  # The guard does not see the CPU's reads; a traced array cannot be read.
  jax.eval_shape(
      lambda *args: update_many(*args, NUM_UPDATES),
      state,
      replay.storage,
      priorities,
  )
  for values in metrics.values():
    assert all(isinstance(value, jax.Array) for value in values)


@pytest.mark.parametrize('scan', [False, True])
def test_state_and_priorities_are_donated_and_frames_stay(scan):
  replay = small_replay()
  pointer = replay.storage.observation.unsafe_buffer_pointer()
  state = small_state()
  given = jax.tree.map(jnp.array, state.online_params)
  state = state._replace(online_params=given)
  updater(scan)(state, replay.storage, replay.priorities, NUM_UPDATES)
  for leaf in jax.tree.leaves((given, state.opt_state, replay.priorities)):
    assert leaf.is_deleted()
  for leaf in jax.tree.leaves(replay.storage):
    assert not leaf.is_deleted()
  assert replay.storage.observation.unsafe_buffer_pointer() == pointer
  np.testing.assert_array_equal(
      np.asarray(replay.storage.observation).reshape(
          small_rows().observation.shape
      ),
      small_rows().observation,
  )


def test_what_a_state_was_made_of_survives_donation():
  params = jax.tree.map(jnp.asarray, small_params())
  given = (jax.random.PRNGKey(0), params, LEARNED.as_arrays())
  kept = jax.tree.map(np.array, given)
  replay = small_replay()
  updater(False)(SMALL.from_params(*given), *replay[:2], 1)
  assert_equal(given, kept)


# -- rehearsal -----------------------------------------------------------------

TEACHER_SPEC = frame_replay.ReplaySpec(
    40, num_streams=1, update_horizon=3, gamma=0.8, observation=FRAME
).with_q_teacher(ACTIONS)


class Linear(nn.Module):
  """Values linear in the pixels: compiles in no time."""

  @nn.compact
  def __call__(self, x, rng_key=None):
    pixels = x.reshape((x.shape[0], -1)) / 255.0
    return NetworkOutput(nn.Dense(ACTIONS)(pixels), pixels)


LINEAR = ValueLearner(Linear(), Objective(double=True, distill='policy'), ADAM)


def demonstration_share(online, batch, coefficients):
  """A term whose mean is the share of the teacher's transitions."""
  del online, coefficients
  return batch.demonstration / batch.weight


COUNTED = ValueLearner(
    LINEAR.network,
    Objective(
        extra=(learner_lib.Term('share', demonstration_share, lambda _: 0.0),)
    ),
    ADAM,
)


@functools.cache
def teacher_rows() -> frame_replay.Rows:
  rng = np.random.default_rng(1)
  shape = (TEACHER_SPEC.slots, 1)
  flags = np.zeros(shape, np.uint8)
  flags[::8] = frame_replay.FIRST
  flags[7::8] = frame_replay.TERMINAL
  return frame_replay.Rows(
      rng.integers(0, 256, shape + (10, 10)).astype(np.uint8),
      rng.integers(0, ACTIONS, shape).astype(np.int32),
      rng.normal(size=shape).astype(np.float32),
      flags,
      {'q_teacher': rng.normal(size=shape + (ACTIONS,)).astype(np.float32)},
  )


def teacher_replay() -> frame_replay.ReplayState:
  return jax.jit(frame_replay.from_rows, static_argnums=0)(
      TEACHER_SPEC, teacher_rows()
  )


@functools.cache
def linear_params():
  init = LINEAR.init(jax.random.PRNGKey(7), SPEC.state)
  return jax.tree.map(np.array, init.online_params)


def linear_state():
  return LINEAR.from_params(jax.random.PRNGKey(0), linear_params(), LEARNED)


def rehearse(ratio, num_updates, learner=LINEAR, scan=False, batch_size=5):
  """State, priorities and metrics after updates on learned priorities."""
  update_many = learner_lib.make_updater(
      learner_lib.Sampler(learner, SPEC, batch_size, True, TEACHER_SPEC, ratio),
      scan=scan,
  )
  replay = prioritized_replay()
  return update_many(
      learner.from_params(jax.random.PRNGKey(0), linear_params(), LEARNED),
      replay.storage,
      replay.priorities,
      num_updates,
      teacher_replay(),
  )


def prioritized_replay() -> frame_replay.ReplayState:
  """With priorities that differ, so that importance weights do."""
  replay = small_replay()
  rng = np.random.default_rng(2)
  leaves = replay.priorities.tree.leaves
  leaves *= rng.uniform(0.5, 3.0, leaves.shape).astype(np.float32)
  tree = frame_replay.sum_tree.from_leaves(leaves)
  return replay._replace(
      priorities=frame_replay.Priorities(tree, jnp.float32(3.0))
  )


@pytest.mark.parametrize('ratio', [1 / 16, 0.5])
def test_each_sample_is_the_teachers_with_that_probability(ratio):
  _, _, metrics = rehearse(ratio, 50, COUNTED, batch_size=40)
  shares = np.array([float(share) for share in metrics['share']])
  counts = np.round(shares * 40).astype(int)
  np.testing.assert_allclose(shares * 40, counts, atol=1e-4)
  test = stats.binomtest(int(counts.sum()), 50 * 40, ratio)
  assert test.pvalue > 1e-3
  # Independently in each place, not so many a batch.
  assert 0.5 < counts.var() / (40 * ratio * (1 - ratio)) < 1.8


def given_fields(batch):
  return [(k, x) for k, x in batch._asdict().items() if x is not None]


def test_a_rehearsing_update_is_its_parts():
  """Choosing row by row, on the host."""
  fast_state, fast_priorities, fast_metrics = rehearse(0.5, 1)
  replay, teacher, state = (
      prioritized_replay(),
      teacher_replay(),
      linear_state(),
  )
  rng_key, sample_key = jax.random.split(state.rng_key)
  rng_key, mix_key = jax.random.split(rng_key)
  teacher_key, place_key = jax.random.split(mix_key)
  sample = jax.jit(frame_replay.sample, static_argnums=(0, 4))
  students, indices = sample(SPEC, *replay[:2], sample_key, BATCH_SIZE)
  teachers, _ = sample(TEACHER_SPEC, *teacher[:2], teacher_key, BATCH_SIZE)
  taken = np.asarray(jax.random.bernoulli(place_key, 0.5, (BATCH_SIZE,)))
  assert 0 < taken.sum() < BATCH_SIZE
  # The slow form: one transition after another.
  leaves = np.array(replay.priorities.tree.leaves)
  indices = np.asarray(indices)
  importance = 1 / np.sqrt(leaves[indices] + 1e-10)
  largest = max(w for w, t in zip(importance, taken) if not t)
  rows = []
  for i in range(BATCH_SIZE):
    source = teachers if taken[i] else students
    row = {k: np.asarray(x[i]) for k, x in given_fields(source)}
    row['weight'] = np.float32(1.0 if taken[i] else importance[i] / largest)
    row['demonstration'] = np.float32(taken[i])
    rows.append(row)
  batch = TransitionBatch(
      **{k: np.stack([r[k] for r in rows]) for k in rows[0]}
  )
  state, extra = jax.jit(LINEAR.update)(state._replace(rng_key=rng_key), batch)
  written = [i for i in range(BATCH_SIZE) if not taken[i]]
  for i in written:
    leaves[indices[i]] = 0.0
  for i in written:
    leaves[indices[i]] = max(leaves[indices[i]], extra.priorities[i])
  assert_close(fast_state, state)
  assert_close({k: v[0] for k, v in fast_metrics.items()}, extra.metrics)
  np.testing.assert_allclose(fast_priorities.tree.leaves, leaves, rtol=1e-4)
  np.testing.assert_allclose(
      fast_priorities.tree.total, leaves.sum(), rtol=1e-4
  )
  largest = max([3.0] + [float(extra.priorities[i]) for i in written])
  assert float(fast_priorities.max_priority) == pytest.approx(largest, rel=1e-4)


def test_rehearsal_of_nothing_but_the_teacher_leaves_priorities_alone():
  before = jax.tree.map(np.array, prioritized_replay().priorities)
  state, priorities, metrics = rehearse(1.0, 3, COUNTED)
  assert_equal(priorities, before)
  assert [float(share) for share in metrics['share']] == [1.0] * 3
  assert all(np.isfinite(loss) for loss in metrics['loss'])
  assert int(state.updates) == 3


def test_rehearsal_scanned_equals_dispatched():
  assert_close(
      jax.tree.map(np.asarray, rehearse(0.5, 3, scan=True)[:2]),
      jax.tree.map(np.asarray, rehearse(0.5, 3)[:2]),
  )


def test_the_teachers_data_is_only_read():
  teacher, replay = teacher_replay(), small_replay()
  update_many = learner_lib.make_updater(
      learner_lib.Sampler(LINEAR, SPEC, BATCH_SIZE, True, TEACHER_SPEC, 0.5),
      scan=False,
  )
  update_many(linear_state(), *replay[:2], 1, teacher)
  assert_equal(teacher, teacher_replay())


def test_teachers_values_are_asked_for_only_if_needed():
  without = lambda replay: replay._replace(
      storage=replay.storage._replace(extras={})
  )
  for learner, refused in ((LINEAR, True), (COUNTED, False)):
    update_many = learner_lib.make_updater(
        learner_lib.Sampler(learner, SPEC, BATCH_SIZE, True, TEACHER_SPEC, 0.5),
        scan=False,
    )
    state = learner.from_params(jax.random.PRNGKey(0), linear_params(), LEARNED)
    replay = without(small_replay())
    args = (state, *replay[:2], 1, teacher_replay())
    if refused:
      with pytest.raises(ValueError, match="needs the teacher's Q-values"):
        update_many(*args)
    else:
      assert 'teacher_kl' not in update_many(*args)[2]


@pytest.mark.parametrize('ratio', [0.0, 0.5])
def test_a_ratio_and_data_go_together(ratio):
  update_many = learner_lib.make_updater(
      learner_lib.Sampler(LINEAR, SPEC, BATCH_SIZE, True, TEACHER_SPEC, ratio),
      scan=False,
  )
  given = None if ratio else teacher_replay()
  with pytest.raises(ValueError, match=f'teacher_data_ratio is {ratio}'):
    update_many(linear_state(), *small_replay()[:2], 1, given)
  with pytest.raises(ValueError, match='between 0 and 1, got 1.5'):
    learner_lib.make_updater(
        learner_lib.Sampler(LINEAR, SPEC, 5, True, TEACHER_SPEC, 1.5),
        scan=False,
    )
  with pytest.raises(ValueError, match="needs a teacher's data"):
    learner_lib.make_updater(
        learner_lib.Sampler(LINEAR, SPEC, 5, True, None, 0.5), scan=False
    )
