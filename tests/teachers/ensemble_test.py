"""Several teachers as one: what it says, and what cannot be one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from probes import Linear
from probes import NUM_ACTIONS
import pytest
import small_policy

from reincarnating_rl import teachers
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.loop.saving.compatibility import fingerprint
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.ensemble import BEST
from reincarnating_rl.teachers.ensemble import best_q_values
from reincarnating_rl.teachers.ensemble import Combination
from reincarnating_rl.teachers.ensemble import COMBINATIONS
from reincarnating_rl.teachers.ensemble import members_of
from reincarnating_rl.teachers.ensemble import mixes_policies
from reincarnating_rl.teachers.ensemble import mixture_q_values
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

FRAME_SHAPE = (6, 6)
STATES = np.random.default_rng(0).integers(
    256, size=(40,) + FRAME_SHAPE + (4,), dtype=np.uint8
)


def make_teacher(path='a', seed=0, num_actions=NUM_ACTIONS, **fields):
  network = Linear(num_actions)
  params = network.init(jax.random.PRNGKey(seed), STATES)['params']
  fields = {'checkpoint_number': 7, 'game': 'Pong'} | fields
  return teachers.LoadedTeacher(path, network, params, **fields)


def make_replay(num_rows=12):
  """Rows of random frames, one episode."""
  rng = np.random.default_rng(1)
  spec = frame_replay.ReplaySpec(
      num_rows, 1, 1, 0.9, 4, ArraySpec(FRAME_SHAPE, 'uint8')
  )
  storage = frame_replay.Storage(
      observation=jnp.asarray(
          rng.integers(256, size=(num_rows,) + FRAME_SHAPE, dtype=np.uint8)
      ),
      action=jnp.zeros(num_rows, jnp.int32),
      reward=jnp.zeros(num_rows, jnp.float32),
      flags=jnp.zeros(num_rows, jnp.uint8).at[0].set(frame_replay.FIRST),
  )
  return TeacherReplay(spec, storage)


def softmax(logits):
  """Slow and in float64."""
  logits = np.asarray(logits, np.float64)
  powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


# -- a mixture of policies -----------------------------------------------------


@pytest.mark.parametrize('temperature', [0.1, 1.0, 7.0])
def test_the_policy_of_a_mixture_is_the_mixture_of_policies(temperature):
  q_values = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
  weights = np.array([0.2, 0.5, 0.3], np.float32)
  mixed = jax.jit(mixture_q_values)(q_values, weights, temperature)
  policies = [softmax(q / temperature) for q in q_values]
  expected = sum(w * p for w, p in zip(weights, policies))
  np.testing.assert_allclose(softmax(mixed / temperature), expected, rtol=1e-4)
  # Its largest value is on the scale of theirs.
  largest = sum(w * q.max() for w, q in zip(weights, q_values))
  assert float(mixed.max()) == pytest.approx(largest, rel=1e-5)


def test_teachers_that_agree_are_each_of_them():
  q_values = np.array([[1.0, 3.0, -2.0]] * 2, np.float32)
  mixed = mixture_q_values(q_values, np.float32([0.25, 0.75]), 0.5)
  np.testing.assert_allclose(mixed, q_values[0], atol=1e-5)


def test_a_teacher_without_weight_says_nothing():
  q_values = np.array([[1.0, 3.0, -2.0], [90.0, 0.0, 5.0]], np.float32)
  mixed = mixture_q_values(q_values, np.float32([1.0, 0.0]), 0.5)
  np.testing.assert_allclose(mixed, q_values[0], atol=1e-5)


def test_huge_values_and_probabilities_of_zero_stay_finite():
  """At temperature 0.1 a gap of 3000 is a probability of e^-30000."""
  q_values = np.array([[3000.0, 0.0, -3000.0], [0.0, 3000.0, -3000.0]])
  mixed = mixture_q_values(
      q_values.astype(np.float32), np.float32([0.5, 0.5]), 0.1
  )
  np.testing.assert_allclose(mixed, [3000.0, 3000.0, -3000.0], atol=0.1)
  np.testing.assert_allclose(softmax(mixed / 0.1), [0.5, 0.5, 0.0], atol=1e-3)


# -- the best in each state ----------------------------------------------------


def test_the_best_is_the_one_that_promises_most():
  q_values = np.array([[1.0, 2.0], [-9.0, 2.5], [2.4, 2.4]], np.float32)
  np.testing.assert_array_equal(best_q_values(q_values), q_values[1])
  # As good as each other: the first.
  tied = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
  np.testing.assert_array_equal(best_q_values(tied), tied[0])


def test_each_state_has_a_best_teacher_of_its_own():
  members = [make_teacher('a', 0), make_teacher('b', 1)]
  ensemble = teachers.combine(members, Combination(BEST))
  of_each = np.stack([m.q_values(STATES) for m in members])
  best = of_each.max(axis=-1).argmax(axis=0)
  assert set(best) == {0, 1}
  expected = of_each[best, np.arange(len(STATES))]
  np.testing.assert_allclose(ensemble.q_values(STATES), expected, rtol=1e-6)


# -- as a teacher --------------------------------------------------------------


def test_an_ensemble_is_asked_like_any_teacher():
  members = [make_teacher('a', 0), make_teacher('b', 1)]
  how = Combination(weights=(1, 3))
  ensemble = teachers.combine(members, how, temperature=0.5)
  assert ensemble.num_actions == NUM_ACTIONS and ensemble.game == 'Pong'
  assert members_of(ensemble) == tuple(members)
  assert (ensemble.weights, ensemble.temperature) == ([0.25, 0.75], 0.5)
  of_each = [softmax(m.q_values(STATES) / 0.5) for m in members]
  np.testing.assert_allclose(
      softmax(ensemble.q_values(STATES) / 0.5),
      0.25 * of_each[0] + 0.75 * of_each[1],
      rtol=1e-4,
  )
  assert ensemble.score is None and ensemble.checkpoint_number is None
  assert ensemble.describe() == (
      'a mixture of 2 policies, weights 0.25, 0.75, 4 actions, no replay'
  )


def test_states_may_have_any_leading_dimensions():
  of_atari = [small_policy.make(seed=seed) for seed in (0, 1)]
  members = [
      teachers.LoadedTeacher('a', policy.network, policy.params, 7)
      for policy in of_atari
  ]
  states = np.random.default_rng(4).integers(
      256, size=(2, 3, 84, 84, 4), dtype=np.uint8
  )
  for combine in COMBINATIONS:
    ensemble = teachers.combine(members, Combination(combine))
    variables = {'params': ensemble.params}
    output = ensemble.network.apply(variables, states)
    flat = ensemble.q_values(states.reshape((6,) + states.shape[2:]))
    np.testing.assert_allclose(
        output.q_values.reshape(flat.shape), flat, atol=1e-6
    )
    assert output.representation.shape == (2, 3, 2 * 4)


def test_weight_one_is_that_teacher_alone():
  members = [make_teacher('a', 0), make_teacher('b', 1)]
  ensemble = teachers.combine(members, Combination(weights=(1, 0)), 0.1)
  np.testing.assert_allclose(
      ensemble.q_values(STATES), members[0].q_values(STATES), atol=1e-5
  )


def test_the_same_teacher_twice_is_that_teacher():
  teacher = make_teacher()
  for combine in COMBINATIONS:
    ensemble = teachers.combine([teacher, teacher], Combination(combine))
    np.testing.assert_allclose(
        ensemble.q_values(STATES), teacher.q_values(STATES), atol=1e-5
    )


def test_the_network_that_acts_is_asked():
  target = make_teacher(seed=5).params
  acts = make_teacher(target_params=target, acts_with_target=True)
  ensemble = teachers.combine([acts, acts])
  np.testing.assert_allclose(
      ensemble.q_values(STATES), acts.q_values(STATES), atol=1e-5
  )


def test_one_teacher_stays_as_it_is():
  teacher = make_teacher()
  assert teachers.combine([teacher]) is teacher
  assert members_of(teacher) == (teacher,)
  assert not mixes_policies(teacher) and not mixes_policies(None)


def test_an_ensemble_can_be_of_new_networks():
  """Its parameters are made as those of any network."""
  ensemble = teachers.combine([make_teacher(), make_teacher()])
  fresh = ensemble.network.init(jax.random.PRNGKey(3), STATES)['params']
  assert jax.tree.structure(fresh) == jax.tree.structure(ensemble.params)
  np.testing.assert_array_equal(fresh['weights'], [0.5, 0.5])


def test_another_temperature_is_another_mixture_and_the_same_best():
  members = [make_teacher('a', 0), make_teacher('b', 1)]
  mixture = teachers.combine(members)
  cold = mixture.at_temperature(0.1)
  assert (mixture.temperature, cold.temperature) == (1.0, np.float32(0.1))
  assert cold.network == mixture.network
  assert hash(cold.network) == hash(mixture.network)
  best = teachers.combine(members, Combination(BEST))
  assert best.at_temperature(0.1) is best
  assert best.temperature is None and best.weights is None


def test_checksums_know_members_order_weights_and_combination():
  members = [make_teacher('a', 0), make_teacher('b', 1)]
  checksum = lambda *args: fingerprint(teachers.combine(*args).params)
  assert checksum(members) == checksum(members, Combination(weights=(2, 2)))
  different = [
      checksum(members),
      checksum(members[::-1]),
      checksum(members, Combination(weights=(1, 2))),
      checksum(members, Combination(), 0.1),
      checksum(members, Combination(BEST)),
      checksum(members + members[:1]),
      fingerprint(members[0].params),
  ]
  assert len(set(different)) == len(different)


# -- data ----------------------------------------------------------------------


def test_data_are_those_of_the_first_that_left_some(caplog):
  empty = make_teacher('a', 0)
  left = make_teacher('b', 1, replay=make_replay())
  later = make_teacher('c', 2, replay=make_replay())
  with caplog.at_level('INFO', logger='absl'):
    ensemble = teachers.combine([empty, left, later])
  assert ensemble.replay is left.replay
  assert '12 rows of b' in caplog.text
  assert 'are those of b, not those of c.' in caplog.text
  # All of them are asked about it.
  spec, state = ensemble.replay_with_q_values(1)
  states = frame_replay.states(
      spec, state.storage, jnp.arange(len(left.replay))
  )
  np.testing.assert_allclose(
      state.storage.extras['q_teacher'], ensemble.q_values(states), atol=1e-5
  )


# -- what cannot be one --------------------------------------------------------


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'combine': 'mean'}, "combine is 'mean'; choose one of mixture, best"),
        ({'weights': (1, -1)}, r'zero or more .* got \(1, -1\)'),
        ({'weights': (0, 0)}, r'not all of them zero, got \(0, 0\)'),
        ({'weights': (1, float('nan'))}, 'must be a tuple of numbers'),
        ({'weights': ()}, r'got \(\)'),
        ({'weights': ('a', 'b')}, "got .'a', 'b'"),
        ({'weights': 2}, 'got 2'),
        ({'combine': BEST, 'weights': (1, 2)}, 'by its values alone'),
    ],
)
def test_combinations_that_make_no_sense(fields, message):
  with pytest.raises(ValueError, match=message) as error:
    Combination(**fields)
  assert str(error.value).endswith('.') and '\n' not in str(error.value)


@pytest.mark.parametrize('num_teachers', [1, 2])
def test_every_teacher_has_a_weight(num_teachers):
  members = [make_teacher()] * num_teachers
  message = rf'is \(1, 2, 3\), which is 3 for {num_teachers} teachers'
  with pytest.raises(ValueError, match=message):
    teachers.combine(members, Combination(weights=(1, 2, 3)))


@pytest.mark.parametrize(
    'other, message',
    [
        (
            {'num_actions': 6},
            'one number of actions, but a has 4, c has 4, b has 6.',
        ),
        ({'game': 'Boxing'}, 'one game, but a plays Pong, b plays Boxing.'),
    ],
)
def test_teachers_that_do_not_fit(other, message):
  unknown = make_teacher('c', game=None)
  with pytest.raises(teachers.TeacherError, match=message):
    teachers.combine([make_teacher(), unknown, make_teacher('b', **other)])
  assert teachers.combine([unknown, make_teacher()]).game == 'Pong'
