"""The loop on a probe: phases, counts, lambda, determinism, exact resume."""

import dataclasses
from fractions import Fraction
import math
import threading

import numpy as np
from probes import table_policy
import pytest
import small_runs
from small_runs import assert_same
from small_runs import DISTILLING_LEARNER
from small_runs import FRAME_SHAPE
from small_runs import make_env
from small_runs import make_policy
from small_runs import NETWORK
from small_runs import outcome
from small_runs import PLAIN_LEARNER

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.envs import probe
from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.loop.acting.env_player import Player
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.due import due
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import CheckpointMismatchError
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.replay import frame_replay

BANDIT = probe.ContextualBandit(num_actions=NETWORK.num_actions)
CONFIG = dataclasses.replace(
    small_runs.CONFIG,
    training_steps=60,
    evaluation_steps=20,
    num_pretraining_steps=12,
    final_learning_rate=1e-4,
)


class Collector(Listener):
  """A listener that keeps what it hears."""

  def __init__(self):
    self.work = []
    self.progress = 0
    self.records = []

  def on_work(self, kind, phase, total, unit):
    self.work.append((kind, phase.iteration, total, unit))

  def on_progress(self, amount):
    self.progress += amount

  def on_metrics(self, reached, metrics):
    del reached
    assert all(math.isfinite(value) for value in metrics.values())

  def on_record(self, record):
    self.records.append(record)


def _run(config=CONFIG, score=None, **options):
  return Run(
      config,
      DISTILLING_LEARNER,
      make_env,
      random_score=-1.0,
      teacher=Teacher(make_policy(), score),
      **options,
  )


def _bandit_run(learner, teacher=None, **changes):
  """An iteration without exploration in its evaluations."""

  def make(num_envs, seed, stream=()):
    return probe.ProbeVector(
        BANDIT, num_envs, seed, stream, frame_shape=FRAME_SHAPE
    )

  config = dataclasses.replace(
      CONFIG,
      num_iterations=1,
      batch_size=16,
      evaluation_steps=100,
      epsilon_eval=0.0,
      **changes,
  )
  return Run(
      config,
      learner,
      make,
      random_score=1 / BANDIT.num_actions,
      teacher=teacher,
      coefficients=learner_lib.Coefficients(temperature=0.1),
  )


@pytest.fixture(name='done', scope='module')
def _done():
  listener = Collector()
  run = _run(listeners=[listener])
  run.run()
  return run, listener


def test_phases_and_counts(done):
  run, listener = done
  kinds = [(r.phase, r.iteration) for r in listener.records]
  assert kinds == [
      (plan_lib.TEACHER_EVALUATION, 0),
      (plan_lib.COLLECTION, 0),
      (plan_lib.PRETRAINING, 1),
      (plan_lib.ONLINE, 2),
      (plan_lib.ONLINE, 3),
  ]
  assert [r.agent_steps for r in listener.records] == [0, 0, 0, 60, 120]
  last = listener.records[-1]
  counters = run.trainer.counters
  assert counters.training_steps == 12 + 120
  # An update at each training step divisible by four, once more than twenty
  # agent steps are in the replay: from training step 12 + 22 on.
  online = len([s for s in range(34, 132) if s % 4 == 0])
  assert counters.updates_made == 12 + online == last.updates
  assert counters.updates_due == counters.updates_made
  assert int(run.trainer.learner_state.updates) == last.updates


def test_evaluations_are_announced_and_timed(done):
  run, listener = done
  kinds = [kind for kind, *_ in listener.work]
  assert kinds == [
      'teacher_evaluation',
      'data_collection',
      'pretraining',
      'evaluation',
      'online',
      'evaluation',
      'online',
      'evaluation',
  ]
  assert set(run.seconds) == set(kinds)


def test_lambda_follows_the_score(done):
  run, listener = done
  pretraining, *online = listener.records[2:]
  assert pretraining.lambda_ == 1.0
  lambda_ = 1.0
  for record in online:
    assert record.teacher_normalized == pytest.approx(
        (record.student_score + 1.0) / (run.teacher_score + 1.0)
    )
    lambda_ = max(1.0 - record.teacher_normalized, 0.0) if lambda_ else 0.0
    assert record.lambda_ == pytest.approx(lambda_)
  rate = run.trainer.learner_state.coefficients.learning_rate
  assert float(rate) == pytest.approx(lambda_ * 1e-3 + (1 - lambda_) * 1e-4)


def test_teacher_data_is_freed_and_q_values_are_stored_online(done):
  run, _ = done
  assert run.teacher_data is None
  writer = run.trainer.writer
  spec, storage = writer.spec, writer.state.storage
  head = int(writer.state.add_count) % spec.slots
  rows = np.flatnonzero(frame_replay.eligible_rows(spec, storage.flags, head))
  states = frame_replay.states(spec, storage, rows)
  np.testing.assert_allclose(
      writer.state.storage.extras['q_teacher'][rows],
      run.teacher.policy.q_values(states),
      atol=1e-5,
  )


def test_same_seed_same_run(done):
  run, _ = done
  again = _run()
  again.run()
  assert_same(outcome(run), outcome(again))


def test_other_seed_other_run(done):
  run, _ = done
  other = _run(dataclasses.replace(CONFIG, seed=4))
  other.run()
  assert [r.metrics for r in other.records] != [r.metrics for r in run.records]


@pytest.mark.parametrize('num_phases', [2, 3, 4])
def test_interrupted_equals_never_interrupted(done, tmp_path, num_phases):
  run, _ = done
  first = _run()
  for phase in first.plan[:num_phases]:
    first.run_phase(phase)
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(first)
  second = _run()
  assert checkpointer.restore(second)
  assert second.next_phase == num_phases
  second.run()
  assert_same(outcome(run), outcome(second))
  assert second.teacher_score == run.teacher_score


@pytest.mark.parametrize('ends', [[0, 1], [1]])
def test_ended_before_its_plan_equals_never_ended(done, tmp_path, ends):
  run, _ = done
  checkpointer = RunCheckpointer(str(tmp_path))
  for online in ends:
    part = _run()
    checkpointer.restore(part)
    part.stop_after(online)
    part.run()
    before = len(part.plan) - CONFIG.num_iterations
    assert part.next_phase == before + online and part.is_done
    checkpointer.save(part)
  rest = _run()
  checkpointer.restore(rest)
  rest.stop_after(100)
  assert not rest.is_done
  rest.run()
  assert_same(outcome(run), outcome(rest))


def test_what_overlaps_is_what_one_after_the_other_would_be():
  """An action before the updates that are due with it, without threads."""
  # What is learned changes what is done at once.
  without = dataclasses.replace(
      CONFIG, learning_rate=0.1, final_learning_rate=0.1, epsilon_train=0.0
  )
  config = dataclasses.replace(without, overlap=True)
  run, plain, other = map(_run, (config, config, without))
  threads = set()

  def noting(env_step):
    def step(actions):
      threads.add(threading.current_thread())
      return env_step(actions)

    return step

  def watched(run):
    """Notes in which threads the environments of a run play online."""
    threads.clear()
    begin = run._begin_online

    def begin_online():
      begin()
      run.player.env.step = noting(run.player.env.step)

    run._begin_online = begin_online
    return run

  watched(run).run()
  (thread,) = threads
  assert thread.name.startswith('environments')

  def one_by_one(phase):
    trainer, player = plain.trainer, plain.player
    while plain.steps_done < config.ticks:
      player.decide(trainer.act)
      trainer.train_step(plain.teacher_data)
      plain.finish_step()
    trainer.catch_up(plain.teacher_data)

  plain._train_online = one_by_one
  watched(plain).run()
  assert threads == {threading.main_thread()}
  assert_same(outcome(run), outcome(plain))
  # As many updates as without, from other actions.
  other.run()
  assert run.trainer.counters == other.trainer.counters
  with pytest.raises(AssertionError):
    assert_same(run.trainer.writer.state, other.trainer.writer.state)


def test_an_error_of_overlapped_environments_is_told(monkeypatch):
  run = _run(dataclasses.replace(CONFIG, overlap=True))
  made = []

  def fail(actions):
    raise EnvironmentFailedError(f'{len(actions)} broke down')

  begin = Player.begin

  def breaking(player):
    made.append(player)
    player.env.step = fail
    begin(player)

  monkeypatch.setattr(Player, 'begin', breaking)
  with pytest.raises(EnvironmentFailedError, match='broke down'):
    run.run()
  # It knows what to do again, and that what stands before it is done.
  assert len(made) == 1 and made[0].in_flight is not None
  counters = run.trainer.counters
  since = counters.training_steps - counters.online_since
  assert since == counters.agent_steps + run.config.num_envs


def test_nothing_to_restore(tmp_path):
  assert not RunCheckpointer(str(tmp_path)).restore(_run())


def test_checkpoint_of_other_settings_is_refused(tmp_path):
  run = _run()
  run.run_phase(run.plan[0])
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(run)
  other = _run(dataclasses.replace(CONFIG, batch_size=8))
  with pytest.raises(CheckpointMismatchError, match='batch_size was 4, is 8'):
    checkpointer.restore(other)


def test_a_run_may_go_on_at_another_learning_rate(tmp_path):
  run = _run()
  run.run_phase(run.plan[0])
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(run)
  other = _run(dataclasses.replace(CONFIG, learning_rate=5e-4))
  assert checkpointer.restore(other)
  rate = other.trainer.learner_state.coefficients.learning_rate
  assert float(rate) == pytest.approx(5e-4)


def test_known_score_spares_the_evaluation():
  run = _run(score=0.5)
  assert run.plan[0].kind == plan_lib.COLLECTION
  assert run.teacher_score == 0.5


def test_pretraining_without_data_is_refused():
  run = _run(dataclasses.replace(CONFIG, teacher_steps=0))
  run.run_phase(run.plan[0])
  with pytest.raises(ValueError, match='teacher_steps'):
    run.run_phase(run.plan[1])


@pytest.mark.parametrize('ratio', ['1/4', '1/3', '1', '5/2', '8'])
def test_updates_made_are_those_due(ratio):
  config = dataclasses.replace(
      CONFIG,
      num_iterations=1,
      training_steps=80,
      num_envs=1,
      replay_ratio=Fraction(ratio),
  )
  run = Run(config, PLAIN_LEARNER, make_env, random_score=0.0)
  run.run()
  counters = run.trainer.counters
  first = config.min_replay_history + 1
  expected = due(first, 80 - first, config.replay_ratio)
  assert counters.updates_made == counters.updates_due == expected


def test_learning_from_nothing_solves_the_bandit():
  run = _bandit_run(
      PLAIN_LEARNER,
      training_steps=1500,
      replay_capacity=2000,
      num_envs=4,
      replay_ratio=Fraction(1, 2),
      update_horizon=1,
      epsilon_decay_period=600,
      target_update_period=100,
      learning_rate=1e-2,
      final_learning_rate=1e-2,
  )
  run.run()
  assert run.records[-1].student_score == 1.0


def test_a_teacher_below_chance_weans_nobody():
  run = _run(score=-2.0)
  run.run()
  assert all(record.teacher_normalized is None for record in run.records)
  online = [r.lambda_ for r in run.records if r.phase == 'online']
  assert online and max(online) <= 1.0


def test_student_of_a_good_teacher_is_good_after_pretraining():
  run = _bandit_run(
      DISTILLING_LEARNER,
      Teacher(table_policy(BANDIT.optimal_q_values(0.99))),
      num_pretraining_steps=500,
      teacher_steps=400,
      teacher_epsilon=0.3,
  )
  while run.plan[run.next_phase].kind != plan_lib.ONLINE:
    run.run_phase(run.plan[run.next_phase])
  assert run.teacher_score == 1.0
  assert run.records[-1].student_score == 1.0
  assert run.records[-1].metrics['teacher_agreement'] > 0.9


def test_nothing_is_compiled_after_the_first_online_iteration(compilations):
  run = _run(dataclasses.replace(CONFIG, num_iterations=3))
  while run.next_phase < len(run.plan) - 2:
    run.run_phase(run.plan[run.next_phase])
  before = compilations.count
  run.run()
  assert compilations.count == before


def test_the_teacher_is_worth_and_leaves_the_same_to_every_seed():
  runs = []
  for seed, teacher_seed in ((3, 1), (4, 1), (3, 2)):
    config = dataclasses.replace(CONFIG, seed=seed, teacher_seed=teacher_seed)
    run = _run(config)
    for phase in run.plan[:2]:
      run.run_phase(phase)
    runs.append(run)
  one, other_student, other_teacher = runs
  assert one.teacher_score == other_student.teacher_score
  assert_same(one.teacher_data[1], other_student.teacher_data[1])
  ours, theirs = (r.teacher_data[1].storage for r in (one, other_teacher))
  assert not np.array_equal(ours.action, theirs.action)
