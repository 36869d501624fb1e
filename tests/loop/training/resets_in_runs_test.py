"""Runs whose network is reset: when, what is learned then, and resuming."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import functools

import jax
import jax.numpy as jnp
import numpy as np
from probes import table_policy
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

from reincarnating_rl.learner import Annealing
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.config import estimate as forecast_lib
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.population import side_by_side
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.teacher import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.training.initial_state import check_resets
from reincarnating_rl.loop.training.trainer import Trainer
from reincarnating_rl.loop.training.update_schedule import Distill
from reincarnating_rl.loop.training.update_schedule import Duties
from reincarnating_rl.loop.training.update_schedule import Learn
from reincarnating_rl.loop.training.update_schedule import Reset
from reincarnating_rl.replay import frame_replay

# An update every step of both environments, from agent step 22 on; three
# iterations of 20 such steps.
CONFIG = dataclasses.replace(
    small_runs.CONFIG,
    num_iterations=3,
    num_pretraining_steps=12,
    replay_ratio=Fraction(1, 2),
    prioritized=True,
    epsilon_decay_period=50,
    final_learning_rate=1e-4,
    distill_decay_period=0,
)
RESETS = ResetSchedule(
    30,
    others_kept=0.5,
    keep_priorities=False,
    updates_after=3,
    distill_updates_after=5,
)
BY_UPDATES = dataclasses.replace(RESETS, period=15, unit='updates')
# Of each schedule: the online agent steps of its resets, and the updates of
# each phase, by hand: those after a reset are 3 + 5.
BY_HAND = {
    RESETS: ([30, 60, 90], [0, 0, 12, 9 + 8, 20 + 8, 20 + 8]),
    BY_UPDATES: ([52, 82], [0, 0, 12, 9, 20 + 8, 20 + 8]),
}
each_schedule = pytest.mark.parametrize(
    'schedule', BY_HAND, ids=lambda schedule: schedule.unit
)


def _run(
    schedule,
    learner=DISTILLING_LEARNER,
    coefficients=Coefficients(),
    teacher=None,
    **changes,
):
  """A run that has not begun, with a teacher if the learner needs one."""
  if learner.objective.needs_teacher:
    teacher = Teacher(teacher or make_policy())
  return Run(
      dataclasses.replace(CONFIG, resets=schedule, **changes),
      learner,
      make_env,
      random_score=-1.0,
      teacher=teacher,
      coefficients=coefficients,
  )


@functools.cache
def _done(schedule):
  """A run that is over, and of its updates what each was made with."""
  run, seen = _run(schedule), []
  learn = run.trainer._learn

  def recorded(work, teacher_data):
    coefficients = run.trainer.learner_state.coefficients
    rates = (float(coefficients.lambda_), float(coefficients.learning_rate))
    seen.append((work.offline, work.updates.count, *rates))
    learn(work, teacher_data)

  run.trainer._learn = recorded
  run.run()
  return run, seen


# -- when ----------------------------------------------------------------------


@each_schedule
def test_resets_and_updates_are_those_foretold(schedule):
  run, _ = _done(schedule)
  resets, updates = BY_HAND[schedule]
  counters = run.trainer.counters
  assert counters.resets == resets
  assert counters.online_since == 12
  made = np.diff([record.updates for record in run.records], prepend=0)
  assert list(made) == updates
  assert counters.updates_made == counters.updates_due == sum(updates)
  foretold = forecast_lib.forecast(run.config, run.plan)
  assert [f.updates for f in foretold] == updates
  assert [step for f in foretold for step in f.resets] == resets
  so_far = np.cumsum([len(f.resets) for f in foretold])
  online = run.records[3:]
  assert [r.metrics['resets'] for r in online] == list(so_far[3:])


@each_schedule
def test_a_run_that_ends_before_its_plan_has_the_resets_of_the_plan(schedule):
  """However near they are to that end."""
  whole, _ = _done(schedule)
  run = _run(schedule)
  run.stop_after(2)
  run.run()
  assert run.records == whole.records[:-1]
  assert run.trainer.counters.resets


def test_updates_that_wait_are_made_before_the_reset():
  """Four are due when it comes, and three are made in one go."""
  resets = ResetSchedule(30)
  duties = Duties(
      dataclasses.replace(CONFIG, resets=resets, updates_per_call=3)
  )
  works = []
  while duties.counters.agent_steps <= 30:
    for work in duties.of_step():
      if isinstance(work, Learn):
        duties.counters.updates_made += work.updates.count
        works.append(work.updates.count)
      elif isinstance(work, Reset):
        works.append(work)
    duties.counters.agent_steps += 2
  assert works == [3, 1, Reset(0)]


# -- what is learned then ------------------------------------------------------


@each_schedule
def test_after_a_reset_distillation_has_its_full_weight(schedule):
  run, seen = _done(schedule)
  offline = [update for update in seen if update[0]]
  resets, _ = BY_HAND[schedule]
  assert sum(u[1] for u in offline) == 12 + 5 * len(resets)
  for _, _, lambda_, rate in offline:
    assert (lambda_, rate) == (1.0, pytest.approx(1e-3))
  # Lambda falls to 0 after the first iteration; in it there are 9 updates,
  # and 3 more on the student's replay if there is a reset.
  online = [update for update in seen if not update[0]]
  lambdas = np.repeat([u[2] for u in online], [u[1] for u in online])
  rates = np.repeat([u[3] for u in online], [u[1] for u in online])
  pulled = 12 if schedule is RESETS else 9
  expected = [1.0] * pulled + [0.0] * (len(lambdas) - pulled)
  np.testing.assert_array_equal(lambdas, expected)
  np.testing.assert_allclose(rates, np.where(expected, 1e-3, 1e-4), rtol=1e-6)
  coefficients = run.trainer.learner_state.coefficients
  assert (run.trainer.lambda_, float(coefficients.lambda_)) == (0.0, 0.0)


def test_distillation_comes_first_after_a_reset():
  _, seen = _done(BY_UPDATES)
  # 12 of pretraining, 9 + 6 online; the reset, then 5 offline and 3 online.
  pieces = [(offline, count) for offline, count, *_ in seen]
  offline = [i for i, piece in enumerate(pieces) if piece == (True, 5)]
  assert len(offline) == 2
  assert sum(count for _, count in pieces[: offline[0]]) == 12 + 15
  assert all(pieces[i + 1] == (False, 3) for i in offline)


def test_distillation_brings_the_policy_back_though_lambda_is_zero():
  """Without a TD term, nothing at all would be learned at lambda 0."""
  schedule = ResetSchedule(60, distill_updates_after=300)
  coefficients = Coefficients(td=0.0, temperature=0.1)
  # It is sure of one action in each of the eight states.
  teacher = table_policy(np.eye(4)[np.arange(8) % 4])
  run = _run(
      schedule, DISTILLING_LEARNER, coefficients, teacher, learning_rate=1e-2
  )
  trainer, found = run.trainer, []
  do = trainer.do

  def agreement():
    spec, replay = run.teacher_data
    rows = np.arange(spec.capacity)
    states = frame_replay.states(spec, replay.storage, rows)
    ours = trainer.policy.q_values(states).argmax(-1)
    theirs = replay.storage.extras['q_teacher'].argmax(-1)
    return float(np.mean(ours == theirs))

  def watched(work, teacher_data):
    do(work, teacher_data)
    if isinstance(work, (Distill, Reset)):
      found.append((type(work), trainer.lambda_, agreement()))

  trainer.do = watched
  run.run()
  kinds, lambdas, agreements = zip(*found)
  assert kinds == (Reset, Distill, Distill)
  assert lambdas == (0.0, 0.0, 0.0)
  after_reset, _, distilled = agreements
  assert after_reset < 0.7
  assert distilled > 0.9


def test_priorities_become_equal_unless_they_are_kept():
  run = _run(BY_UPDATES)  # Its first reset is after the first iteration.
  for phase in run.plan[:4]:
    run.run_phase(phase)
  trainer = run.trainer
  before = jax.device_get(trainer.writer.state.priorities)
  leaves = before.tree.leaves
  assert len(np.unique(leaves)) > 3

  keeping = dataclasses.replace(BY_UPDATES, keep_priorities=True)
  trainer.config = dataclasses.replace(run.config, resets=keeping)
  trainer.do(Reset(0), None)
  assert_same(trainer.writer.state.priorities, before)

  trainer.config = run.config
  trainer.do(Reset(1), None)
  after = trainer.writer.state.priorities
  np.testing.assert_array_equal(after.tree.leaves, leaves > 0)
  assert float(after.max_priority) == 1.0


def test_each_reset_has_fresh_weights_of_its_own():
  trainers = [_trainer(resets=ResetSchedule(30)) for _ in range(3)]
  for trainer, index in zip(trainers, (0, 0, 1)):
    trainer.do(Reset(index), None)
  one, same, other = (t.learner_state.online_params for t in trainers)
  assert_same(one, same)
  kernels = [params['Dense_0']['kernel'] for params in (one, other)]
  assert not np.isclose(*kernels).all(axis=-1).any()


def test_annealing_begins_anew_at_each_reset(compilations):
  # n: 4, 4, 3, 3, 3, 3, 2, 2, ...
  annealing = Annealing(8, update_horizon=(4, 2), gamma=(0.9, 0.99))
  learner = dataclasses.replace(PLAIN_LEARNER, annealing=annealing)
  schedule = ResetSchedule(30, updates_after=2, annealing=annealing)
  run = _run(schedule, learner, update_horizon=4)
  trainer, seen = run.trainer, []
  take_outcome = trainer.take_outcome

  def recorded(work, priorities, metrics):
    seen.extend(zip(metrics['update_horizon'], metrics['gamma']))
    take_outcome(work, priorities, metrics)

  trainer.take_outcome = recorded
  run.run_phase(run.plan[0])
  assert trainer.counters.resets == [30]
  compiled = compilations.count
  run.run()
  assert compilations.count == compiled
  assert trainer.counters.resets == [30, 60, 90]

  horizons, gammas = np.array(seen).T
  falling = [4, 4, 3, 3, 3, 3] + [2] * 11
  # Four updates before the first reset; two at once and fifteen after each.
  np.testing.assert_array_equal(horizons, falling[:4] + 3 * falling)
  assert np.all(np.diff(gammas[4:13]) > 0)
  np.testing.assert_allclose(gammas[[0, 4, 20, 21]], [0.9, 0.9, 0.99, 0.9])
  means = [record.metrics['update_horizon'] for record in run.records]
  first, second = 4 + 2 + 5, 20 + 2
  np.testing.assert_allclose(
      means[:2],
      [horizons[:first].mean(), horizons[first : first + second].mean()],
      rtol=1e-6,
  )


# -- resuming ------------------------------------------------------------------


@each_schedule
def test_interrupted_equals_never_interrupted(schedule, tmp_path):
  """After the first iteration, in which one of the two had a reset."""
  run, _ = _done(schedule)
  first = _run(schedule)
  for phase in first.plan[:4]:
    first.run_phase(phase)
  assert len(first.trainer.counters.resets) == (schedule is RESETS)
  checkpointer = RunCheckpointer(str(tmp_path))
  checkpointer.save(first)
  second = _run(schedule)
  assert checkpointer.restore(second)
  checkpointer.close()
  second.run()
  assert_same(outcome(second), outcome(run))


# -- a target that trails, and one that acts -----------------------------------


def _preferring(action):
  """Parameters with which that action is the best everywhere."""
  zeros = jax.tree.map(jnp.zeros_like, make_params())
  zeros['Dense_0']['bias'] = jax.nn.one_hot(action, NETWORK.num_actions)
  return zeros


def _trainer(learner=PLAIN_LEARNER, **changes):
  """One whose network prefers action 1 and whose target prefers action 2."""
  changes = {'epsilon_train': 0.0, 'epsilon_decay_period': 0} | changes
  trainer = Trainer(dataclasses.replace(CONFIG, **changes), learner)
  trainer.learner_state = trainer.learner_state._replace(
      online_params=_preferring(1), target_params=_preferring(2)
  )
  return trainer


@pytest.mark.parametrize('acts, expected', [(False, 1), (True, 2)])
def test_who_acts(acts, expected):
  trainer = _trainer(act_with_target=acts)
  frames = np.zeros((2, 4) + FRAME_SHAPE, np.uint8)
  actions, _ = trainer.act(frames, np.array([False, False]))
  np.testing.assert_array_equal(actions, [expected] * 2)
  values = trainer.policy.q_values(np.moveaxis(frames, 1, -1))
  np.testing.assert_array_equal(values.argmax(-1), [expected] * 2)


@pytest.mark.parametrize('target_ema, expected', [(0.0, 1), (0.1, 2)])
def test_a_target_that_trails_is_not_copied(target_ema, expected):
  trainer = _trainer(dataclasses.replace(PLAIN_LEARNER, target_ema=target_ema))
  trainer.sync_target()
  assert_same(trainer.learner_state.target_params, _preferring(expected))


@pytest.mark.parametrize('acts, expected', [(False, 1), (True, 2)])
def test_who_acts_in_a_group(acts, expected):
  runs = [
      _run(None, PLAIN_LEARNER, seed=seed, act_with_target=acts)
      for seed in (3, 4)
  ]
  for run in runs:
    run.begin(run.plan[0])
    run.trainer = _trainer(act_with_target=acts)
  group = side_by_side._Group(jax.local_devices()[0], runs)
  group.decide()
  np.testing.assert_array_equal(group._actions, [[expected] * 2] * 2)


# -- bad input -----------------------------------------------------------------


@pytest.mark.parametrize(
    'schedule, changes, message',
    [
        (
            ResetSchedule(15, unit='updates'),
            {'replay_ratio': 8},
            'is 15 updates, but 16 updates are made at once in 2 environments, '
            'every 16',
        ),
        (
            ResetSchedule(19),
            {'updates_per_call': 10},
            'is 19 agent steps, but 10 updates are made at once in 2 '
            'environments, every 20',
        ),
        (ResetSchedule(1), {'replay_ratio': 1}, 'is 1 agent steps.*every 2'),
        (
            ResetSchedule(30),
            {'num_iterations': 0},
            'no online iterations .Runner.num_iterations is 0',
        ),
    ],
)
def test_resets_that_no_run_can_make_are_refused(schedule, changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, resets=schedule, **changes)


@pytest.mark.parametrize(
    'schedule, changes',
    [
        (ResetSchedule(16, unit='updates'), {'replay_ratio': 8}),
        (ResetSchedule(20), {'updates_per_call': 10}),
        (ResetSchedule(2), {'replay_ratio': 1}),
    ],
)
def test_the_shortest_period_is_allowed(schedule, changes):
  config = dataclasses.replace(CONFIG, resets=schedule, **changes)
  foretold = forecast_lib.forecast(config, plan_lib.make_plan(config, False))
  assert any(f.resets for f in foretold)


@pytest.mark.parametrize(
    'schedule, message',
    [
        (
            RESETS,
            'followed by 5 updates of distillation, but .*no distillation',
        ),
        (
            ResetSchedule(30, kept=(('encoder', 0.5),)),
            'names encoder; the parts of this network are Dense_0',
        ),
    ],
)
def test_resets_that_do_not_fit_the_learner_are_refused(schedule, message):
  config = dataclasses.replace(CONFIG, resets=schedule)
  with pytest.raises(ValueError, match=message):
    check_resets(config, PLAIN_LEARNER)
  with pytest.raises(ValueError, match=message):
    Trainer(config, PLAIN_LEARNER)


def test_distillation_needs_the_data_of_the_teacher():
  run = _run(RESETS, teacher_steps=0, num_pretraining_iterations=0)
  with pytest.raises(ValueError, match='the distillation after resets'):
    run.run()
