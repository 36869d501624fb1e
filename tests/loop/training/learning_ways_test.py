"""What methods ask of a run: rehearsal, a pretraining, a beginning, a guide.

Each by itself, stopped and resumed, and refused where it makes no sense.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
from probes import Linear
import pytest
import small_runs
from small_runs import assert_same
from small_runs import DISTILLING_LEARNER
from small_runs import FRAME_SHAPE
from small_runs import make_env
from small_runs import make_params
from small_runs import make_policy
from small_runs import NETWORK
from small_runs import outcome
from small_runs import PLAIN_LEARNER

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.loop.acting import replay_writer
from reincarnating_rl.loop.acting.env_player import collect
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import CheckpointMismatchError
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.training.events import TrainingDivergedError
from reincarnating_rl.loop.training.initial_state import Beginning
from reincarnating_rl.loop.training.initial_state import OfflineLearning
from reincarnating_rl.loop.training.trainer import Trainer
from reincarnating_rl.replay import frame_replay

CONFIG = dataclasses.replace(
    small_runs.CONFIG, num_pretraining_steps=12, evaluation_steps=8
)
# Rows that are given have room beside those of the run.
ROOMY = dataclasses.replace(CONFIG, replay_capacity=400)
OFFLINE = OfflineLearning(
    dataclasses.replace(
        PLAIN_LEARNER,
        objective=learner_lib.Objective('huber', cql=True),
        optimizer=learner_lib.rmsprop_direction(),
    ),
    learner_lib.Coefficients(cql=0.5, temperature=0.1),
    learning_rate=0.02,
)


def _teacher(**options):
  return Teacher(make_policy(), 0.5, **options)


def _run(
    learner=PLAIN_LEARNER, teacher=None, offline=None, beginning=None, **changes
):
  return Run(
      dataclasses.replace(CONFIG, **changes),
      learner,
      make_env,
      random_score=-1.0,
      teacher=teacher or _teacher(),
      offline=offline,
      beginning=beginning,
  )


def _until(run, kind):
  """Carries out all phases before the first of a kind."""
  while run.plan[run.next_phase].kind != kind:
    run.run_phase(run.plan[run.next_phase])
  return run


def _kept(tree):
  return jax.tree.map(np.array, tree)


@functools.cache
def _given():
  """What a teacher's replay may look like: one stream, n = 1."""
  spec = frame_replay.ReplaySpec(
      60, 1, 1, 0.99, observation=ArraySpec(FRAME_SHAPE, 'uint8')
  ).with_q_teacher(NETWORK.num_actions)
  env, key = make_env(1, CONFIG.seed, (7,)), jax.random.PRNGKey(4)
  return spec, collect(make_policy(), env, spec, 0.5, key)[0]


def _beginning(**options):
  state = PLAIN_LEARNER.from_params(jax.random.PRNGKey(0), make_params(1))
  ones = jax.tree.map(lambda x: x + 1, state.opt_state)
  fields = {
      'params': make_params(1),
      'target_params': make_params(2),
      'opt_state': ones,
      'training_steps': 7,
      'replay': _given,
  }
  return Beginning(**fields | options)


GUIDE = GuideConfig(
    max_roll_in_steps=3, roll_out_guide_prob=0.5, roll_out_decay_period=70
)
METHODS = {
    'rehearsal': {
        'learner': DISTILLING_LEARNER,
        'teacher_data_ratio': 0.5,
        'prioritized': True,
    },
    'offline and guided': {'offline': OFFLINE, 'guide': GUIDE},
    'beginning': {
        'num_pretraining_iterations': 0,
        'teacher_steps': 0,
        'replay_capacity': ROOMY.replay_capacity,
    },
}


def _options(name):
  options = dict(METHODS[name])
  if name == 'beginning':
    options['beginning'] = _beginning()
  return options


# -- stopping and going on -----------------------------------------------------


@pytest.mark.parametrize('name', METHODS)
def test_interrupted_equals_never_interrupted(name, tmp_path):
  whole = _run(**_options(name))

  def save(run):
    RunCheckpointer(str(tmp_path / str(run.next_phase))).save(run)

  whole.run(save)
  kinds = [phase.kind for phase in whole.plan]
  # After pretraining, if there is one, and between the online phases.
  for done in {kinds.index(plan_lib.ONLINE), len(kinds) - 1} - {0}:
    run = _run(**_options(name))
    assert RunCheckpointer(str(tmp_path / str(done))).restore(run)
    assert run.next_phase == done
    run.run()
    assert run.trainer.duties.given_rows == whole.trainer.duties.given_rows
    assert_same(outcome(run), outcome(whole))


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'teacher_data_ratio': 0.5}, 'teacher_data_ratio was 0.0, is 0.5'),
        ({'guide': GUIDE}, "guide was None, is {'max_roll_in_steps': 3"),
        ({'offline': OFFLINE}, 'offline_objective was None, is Objective'),
        (
            {'beginning': Beginning(make_params())},
            'beginning was None, is params',
        ),
    ],
)
def test_a_checkpoint_of_another_method_is_refused(changes, message, tmp_path):
  run = _run()
  run.run_phase(run.plan[0])
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(run)
  with pytest.raises(CheckpointMismatchError, match=message):
    checkpointer.restore(_run(**changes))


# -- rehearsal -----------------------------------------------------------------


def test_rehearsed_data_stays_while_the_student_is_online():
  run = _run(**METHODS['rehearsal'])
  run.run()
  spec, replay = run.teacher_data
  own_spec = run.config.collection_spec()
  assert spec == own_spec.with_q_teacher(NETWORK.num_actions)
  assert not replay.storage.observation.is_deleted()


@pytest.mark.parametrize('pretraining', [0, 1])
def test_rehearsal_without_data_is_refused_at_once(pretraining):
  changes = {'teacher_steps': 0, 'num_pretraining_iterations': pretraining}
  run = _run(teacher_data_ratio=0.5, **changes)
  with pytest.raises(ValueError, match=r'teacher_data_ratio 0.5\): give a'):
    run.run()
  assert not run.records
  run = _run(teacher_data_ratio=0.5, num_pretraining_iterations=0)
  with pytest.raises(ValueError, match='teacher_data_ratio'):
    run.run_phase(run.plan[1])  # Before the collection.


def test_rehearsed_data_is_read_when_the_run_begins_and_when_it_is_resumed(
    tmp_path,
):
  reads = []

  def read():
    reads.append(1)
    spec, state = _given()
    return spec, jax.tree.map(jax.numpy.array, state)

  options = {
      'teacher': _teacher(read_data=read),
      'teacher_data_ratio': 0.5,
      'teacher_steps': 0,
      'num_pretraining_iterations': 0,
  }
  run = _run(**options)
  run.prepare_teacher_data()
  run.run_phase(run.plan[0])
  assert len(reads) == 1
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(run)
  options['teacher'] = _teacher(read_data=read)
  resumed = _run(**options)
  checkpointer.restore(resumed)
  assert len(reads) == 2 and resumed.teacher_data is not None
  resumed.prepare_teacher_data()
  assert len(reads) == 2


# -- a pretraining of its own --------------------------------------------------


def test_the_online_phase_starts_with_fresh_moments():
  run = _until(_run(offline=OFFLINE, final_learning_rate=1e-4), 'pretraining')
  trainer = run.trainer
  assert trainer.learner == OFFLINE.learner
  record = run.run_phase(run.plan[run.next_phase])
  assert 'cql_loss' in record.metrics
  before = trainer.learner_state
  assert float(before.coefficients.learning_rate) == pytest.approx(0.02)
  assert float(before.coefficients.cql) == 0.5
  assert any(np.any(x) for x in jax.tree.leaves(before.opt_state))
  params, key = _kept(before.online_params), np.array(before.rng_key)

  trainer.begin_online()
  after = trainer.learner_state
  assert trainer.learner == PLAIN_LEARNER
  assert_same(after.online_params, params)
  assert_same(after.target_params, params)
  assert_same(after.opt_state, PLAIN_LEARNER.optimizer.init(params))
  assert_same(after.rng_key, key)
  assert int(after.updates) == trainer.counters.updates_made == 12
  rate = after.coefficients.learning_rate
  assert float(rate) == pytest.approx(1e-3)
  assert float(after.coefficients.cql) == 1.0
  trainer.set_lambda(0.5)
  rate = trainer.learner_state.coefficients.learning_rate
  assert float(rate) == pytest.approx(0.55e-3)


def test_pretraining_is_by_its_own_objective_alone():
  """As a run whose only learner it is, online phases apart."""
  config = {'learning_rate': OFFLINE.learning_rate}
  own = _until(_run(offline=OFFLINE), 'online')
  only = _run(OFFLINE.learner, **config)
  coefficients = OFFLINE.coefficients
  only.trainer = Trainer(
      only.config,
      OFFLINE.learner,
      teacher=only.teacher.policy,
      coefficients=coefficients,
  )
  only = _until(only, 'online')
  assert_same(own.trainer.learner_state, only.trainer.learner_state)


def test_without_one_moments_are_kept():
  run = _until(_run(), 'online')
  moments = _kept(run.trainer.learner_state.opt_state)
  run.trainer.begin_online()
  assert_same(run.trainer.learner_state.opt_state, moments)
  assert any(np.any(x) for x in jax.tree.leaves(moments))


def test_a_pretraining_of_another_network_is_refused():
  other = Linear(num_actions=5)
  learner = dataclasses.replace(OFFLINE.learner, network=other)
  offline = dataclasses.replace(OFFLINE, learner=learner)
  with pytest.raises(ValueError, match='network of the pretraining'):
    _run(offline=offline)


def test_several_updates_a_pretraining_step():
  """The slow form: one update after another, a copy every fourth step."""
  config = dataclasses.replace(
      CONFIG,
      target_update_period=4,
      replay_ratio=1,
      updates_per_pretraining_step=3,
  )
  trainer, slow = (Trainer(config, PLAIN_LEARNER) for _ in range(2))
  spec, data = _given()
  copy = lambda: jax.tree.map(jax.numpy.array, data)
  trainer.pretrain((spec, copy()), 10)
  update = learner_lib.make_updater(
      learner_lib.Sampler(PLAIN_LEARNER, spec, 4, False), scan=False
  )
  state, (storage, priorities, _) = slow.learner_state, copy()
  for step in range(10):
    for _ in range(3):
      state, priorities, _ = update(state, storage, priorities, 1)
    if step % 4 == 0:
      state = PLAIN_LEARNER.sync_target(state)
  assert_same(trainer.learner_state, state)
  counters = trainer.counters
  assert (counters.training_steps, counters.updates_made) == (10, 30)
  run = _until(_run(updates_per_pretraining_step=3), 'online')
  assert run.records[-1].updates == 36


# -- a given beginning ---------------------------------------------------------


def test_a_student_begins_as_given():
  beginning = _beginning()
  trainer = Trainer(ROOMY, PLAIN_LEARNER, beginning=beginning)
  state = trainer.learner_state
  assert_same(state.online_params, make_params(1))
  assert_same(state.target_params, make_params(2))
  assert_same(state.opt_state, beginning.opt_state)
  assert trainer.counters.training_steps == 7
  # Three of the ten steps in which epsilon falls are left.
  assert trainer.epsilon == pytest.approx(0.01 + 0.99 * 0.3)
  trainer.begin_online()
  # There was no pretraining: the target stays as given.
  assert_same(trainer.learner_state.target_params, make_params(2))
  assert trainer.duties.given_rows == 60
  assert trainer.counters.agent_steps == 0
  spec, replay = trainer.writer.spec, trainer.writer.state
  assert spec.capacity >= 60 + 2 * 40
  eligible = np.asarray(replay.priorities.tree.leaves) > 0
  assert 20 < eligible.sum() < 60


def test_only_parameters_may_be_given():
  trainer = Trainer(CONFIG, PLAIN_LEARNER, beginning=Beginning(make_params(1)))
  state = trainer.learner_state
  assert_same(state.target_params, make_params(1))
  assert_same(state.opt_state, PLAIN_LEARNER.optimizer.init(make_params(1)))
  trainer.begin_online()
  assert trainer.duties.given_rows == 0
  assert trainer.writer.spec.capacity == CONFIG.student_capacity


def test_updates_wait_for_no_more_rows_than_were_given():
  config = dataclasses.replace(ROOMY, min_replay_history=59)
  first_updates = []
  for replay in (_given, None):
    trainer = Trainer(
        config, PLAIN_LEARNER, beginning=_beginning(replay=replay)
    )
    trainer.begin_online()
    for _ in range(4):  # Eight training steps, from seven on.
      trainer.train_step()
    first_updates.append(trainer.counters.updates_made)
  assert first_updates == [2, 0]


def test_a_replay_is_read_once_and_not_after_a_restoration(tmp_path):
  reads = []

  def read():
    reads.append(1)
    return _given()

  options = METHODS['beginning'] | {'beginning': _beginning(replay=read)}
  run = _run(**options)
  assert not reads  # Not before it is needed.
  run.run_phase(run.plan[0])
  assert len(reads) == 1
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(run)
  longer = _run(**options, num_iterations=3)
  checkpointer.restore(longer)
  assert longer.trainer.duties.given_rows == 60
  grown = longer.config.student_capacity_with(60)
  assert longer.trainer.writer.spec.capacity == grown
  assert len(reads) == 1


def test_given_rows_beyond_the_capacity_are_the_oldest():
  config = dataclasses.replace(
      CONFIG, replay_capacity=40, min_replay_history=10
  )
  trainer = Trainer(config, PLAIN_LEARNER, beginning=_beginning())
  trainer.begin_online()
  spec, source = _given()
  assert trainer.duties.given_rows == replay_writer.num_rows_kept(
      spec, 60, trainer.writer.spec
  )
  assert 40 <= trainer.duties.given_rows <= trainer.writer.spec.capacity < 60
  newest = np.asarray(source.storage.observation)[-trainer.duties.given_rows :]
  length = trainer.duties.given_rows // 2
  ring = np.asarray(trainer.writer.state.storage.observation)
  np.testing.assert_array_equal(ring[0 : 2 * length : 2], newest[:length])
  np.testing.assert_array_equal(ring[1 : 2 * length : 2], newest[length:])


def test_what_is_given_must_fit():
  other = Linear(num_actions=5)
  states = np.zeros((1,) + FRAME_SHAPE + (4,), np.uint8)
  params = other.init(jax.random.PRNGKey(0), states)['params']
  for name in ('params', 'target_params'):
    with pytest.raises(ValueError, match=f'{name} that the student'):
      Trainer(CONFIG, PLAIN_LEARNER, beginning=_beginning(**{name: params}))
  state = OFFLINE.learner.optimizer.init(make_params())
  with pytest.raises(ValueError, match='opt_state that the student'):
    Trainer(CONFIG, PLAIN_LEARNER, beginning=_beginning(opt_state=state))
  with pytest.raises(ValueError, match='would be lost'):
    Trainer(CONFIG, PLAIN_LEARNER, beginning=_beginning(), offline=OFFLINE)


# -- a guide -------------------------------------------------------------------


def test_a_guide_acts_in_training_and_not_in_evaluation():
  """At a learning rate of zero the student stays what it is."""
  options = {
      'num_pretraining_iterations': 0,
      'teacher_steps': 0,
      'learning_rate': 0.0,
      'epsilon_eval': 0.0,
  }
  guided = _run(guide=GUIDE, **options)
  guided.run()
  alone = _run(**options)
  alone.run()
  for ours, theirs in zip(guided.records, alone.records, strict=True):
    assert ours.student_score == theirs.student_score
    assert 'guide_share' not in theirs.metrics
  shares = [r.metrics['guide_share'] for r in guided.records]
  assert [r.metrics['max_roll_in_steps'] for r in guided.records] == [3.0, 2.0]
  assert all(0.2 < share < 0.9 for share in shares)
  assert int(guided.trainer.guide.state.max_roll_in_steps) == 1


def test_a_guide_needs_a_teacher():
  config = dataclasses.replace(CONFIG, guide=GUIDE)
  with pytest.raises(ValueError, match='needs a teacher'):
    Trainer(config, PLAIN_LEARNER)


# -- numbers that are not finite -----------------------------------------------

SQUARED = dataclasses.replace(
    PLAIN_LEARNER, objective=learner_lib.Objective('mse')
)


def test_divergence_stops_the_run_before_it_is_recorded():
  """Parameters of 1e30 after the first update; its own numbers are fine."""
  saved = []
  run = _run(SQUARED, learning_rate=1e30)
  with pytest.raises(TrainingDivergedError) as error:
    run.run(lambda run: saved.append(run.next_phase))
  assert saved == [1]
  assert [r.phase for r in run.records] == [plan_lib.COLLECTION]
  assert error.value.update == 2 and error.value.training_step == 1
  assert {'loss', 'td_loss', 'gradient_norm'} <= set(error.value.terms)
  message = str(error.value)
  assert 'update 2 (training step 1)' in message
  assert 'seed 3 has no checkpoint to go back to: lower' in message


def test_divergence_of_the_last_update_shows_in_the_parameters():
  run = _run(learning_rate=np.inf, num_pretraining_steps=1)
  with pytest.raises(TrainingDivergedError) as error:
    run.run()
  assert error.value.update == 1
  assert error.value.terms == ('parameters',)


def test_divergence_names_the_last_good_checkpoint():
  run = _run(
      SQUARED, learning_rate=1e30, num_pretraining_iterations=0, teacher_steps=0
  )
  run.latest_checkpoint = lambda: 7
  match = 'checkpoint 7 of seed 3 is the last good one'
  with pytest.raises(TrainingDivergedError, match=match) as error:
    run.run()
  # Due at every fourth step, from the first behind twenty on.
  assert error.value.training_step == 28
  assert error.value.update == 2
  assert not run.records
