"""Runs side by side: each is what it would be alone, in every detail."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import small_runs
from small_runs import assert_close
from small_runs import assert_same
from small_runs import DISTILLING_LEARNER
from small_runs import make_policy
from small_runs import outcome

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.training import member_settings

CONFIG = dataclasses.replace(
    small_runs.CONFIG,
    training_steps=60,
    num_pretraining_steps=20,
    replay_ratio=Fraction(1, 2),
    prioritized=True,
    epsilon_decay_period=50,
    final_learning_rate=1e-4,
)
SEEDS = (3, 4, 5)
pytestmark = pytest.mark.usefixtures('one_device')


def _run(
    seed,
    teacher=None,
    learner=DISTILLING_LEARNER,
    coefficients=None,
    member=None,
    **changes,
):
  return Run(
      dataclasses.replace(CONFIG, seed=seed, **changes),
      learner,
      small_runs.make_env,
      random_score=0.0,
      teacher=teacher or Teacher(make_policy()),
      coefficients=coefficients or learner_lib.Coefficients(),
      member=member,
  )


def _assert_same(run, alone, exact):
  """Both have come to the same, a member's settings apart."""
  ours, theirs = outcome(run), outcome(alone)
  for found in (ours, theirs):
    for part in (found, *found['records']):
      del part['member']
  (assert_same if exact else assert_close)(ours, theirs)


WAYS = {
    'qdagger': {},
    'rehearsal': {'teacher_data_ratio': 0.5},
    'guided': {'guide': GuideConfig(max_roll_in_steps=3)},
    'reset': {
        'resets': ResetSchedule(
            20,
            others_kept=0.5,
            keep_priorities=False,
            updates_after=3,
            distill_updates_after=5,
        )
    },
    'grouped': {'replay_ratio': Fraction(5, 2), 'updates_per_call': 4},
    'overlapped': {'overlap': True},
}


@pytest.mark.parametrize(
    'way, stacked',
    [('qdagger', False), ('reset', False), ('overlapped', False)]
    + [(way, True) for way in WAYS],
)
def test_seeds_side_by_side_equal_single_runs(way, stacked):
  # The more there are, the longer it takes to compile what they do as one.
  seeds = SEEDS[:2] if stacked else SEEDS
  changes = WAYS[way]
  teacher = Teacher(make_policy())
  runs = [_run(seed, teacher, **changes) for seed in seeds]
  order = []
  SideBySide(runs, stacked).run(lambda run: order.append(run.config.seed))
  assert order == list(seeds) * len(runs[0].plan)
  for run in runs:
    alone = _run(run.config.seed, **changes)
    alone.run()
    _assert_same(run, alone, exact=not stacked)


def test_the_teacher_is_evaluated_and_collects_once():
  teacher = Teacher(make_policy())
  made = []

  def make_env(num_envs, seed, stream=()):
    made.append(seed)
    return small_runs.make_env(num_envs, seed, stream)

  runs = [_run(seed, teacher) for seed in SEEDS]
  for run in runs:
    run.stage._make_env = make_env
  group = SideBySide(runs)
  for _ in range(2):
    phase = runs[0].plan[runs[0].next_phase]
    group._run_phase([0, 1, 2], phase, lambda run: None)
  assert made == [CONFIG.teacher_seed] * 2
  # One copy of the data, which all only read.
  assert all(run.teacher_data is runs[0].teacher_data for run in runs)


POPULATION = (
    {'learning_rate': 1e-2, 'distill_temperature': 0.5, 'gamma': 0.9},
    {'final_learning_rate': 1e-5, 'lambda_scale': 3.0, 'gamma': 0.5},
)


def _alone(index):
  """A run with the settings of a member, and no member itself."""
  settings = POPULATION[index]
  return _run(
      index,
      coefficients=member_settings.coefficients_of(
          learner_lib.Coefficients(distill=2.0), settings
      ),
      **{k: v for k, v in settings.items() if 'learning_rate' in k},
  )


def test_members_of_a_population_equal_runs_with_their_settings():
  teacher = Teacher(make_policy())
  of_all = learner_lib.Coefficients(distill=2.0)
  runs = [
      _run(i, teacher, coefficients=of_all, member=POPULATION[i])
      for i in range(2)
  ]
  SideBySide(runs, stacked=True).run()
  for i, run in enumerate(runs):
    alone = _alone(i)
    alone.run()
    assert all(r.member == POPULATION[i] for r in run.records)
    _assert_same(run, alone, exact=False)
  one, two = (run.trainer.learner_state.coefficients for run in runs)
  np.testing.assert_allclose((one.gamma, two.gamma), (0.9, 0.5))
  np.testing.assert_allclose((one.distill, two.distill), (2.0, 6.0))


def test_who_was_stopped_earlier_catches_up(tmp_path):
  checkpointers = [RunCheckpointer(str(tmp_path / str(s))) for s in SEEDS]

  def save(run):
    checkpointers[SEEDS.index(run.config.seed)].save(run)
    if run.next_phase == 3 and run.config.seed == SEEDS[1]:
      raise KeyboardInterrupt

  teacher = Teacher(make_policy())
  with pytest.raises(KeyboardInterrupt):
    SideBySide([_run(s, teacher) for s in SEEDS]).run(save)
  teacher = Teacher(make_policy())
  runs = [_run(s, teacher) for s in SEEDS]
  for run, checkpointer in zip(runs, checkpointers):
    assert checkpointer.restore(run)
  assert [run.next_phase for run in runs] == [3, 3, 2]
  SideBySide(runs).run()
  for run in runs:
    alone = _run(run.config.seed)
    alone.run()
    _assert_same(run, alone, exact=True)


def test_runs_that_are_not_alike_are_refused():
  teacher = Teacher(make_policy())
  with pytest.raises(ValueError, match='their num_envs are 2 and 3'):
    SideBySide([_run(3, teacher), _run(4, teacher, num_envs=3)])
  other = dataclasses.replace(
      DISTILLING_LEARNER, objective=learner_lib.Objective('mse')
  )
  with pytest.raises(ValueError, match='one network, objective and optimizer'):
    SideBySide([_run(3, teacher), _run(4, teacher, learner=other)])
