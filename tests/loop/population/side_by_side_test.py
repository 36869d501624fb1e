"""Runs side by side: each is what it would be alone, in every detail."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import functools

import jax
import numpy as np
from probes import Linear
from probes import SMALL_RUN
import pytest

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.envs import probe
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.population import side_by_side
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.training import member_settings

FRAME_SHAPE = (8, 8)
GRID = probe.Gridworld(3, 3)
CONFIG = dataclasses.replace(
    SMALL_RUN,
    num_pretraining_steps=20,
    replay_ratio=Fraction(1, 2),
    prioritized=True,
    epsilon_decay_period=50,
    final_learning_rate=1e-4,
    frame_shape=FRAME_SHAPE,
)
NETWORK = Linear()
LEARNER = learner_lib.ValueLearner(
    NETWORK,
    learner_lib.Objective('huber', distill='policy'),
    learner_lib.adam_direction(),
)
SEEDS = (3, 4, 5)
_make_env = functools.partial(
    probe.ProbeVector, GRID, max_agent_steps=7, frame_shape=FRAME_SHAPE
)


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
  """Of the two that tests have: one to compile for."""
  device = jax.devices()[0]
  monkeypatch.setattr(side_by_side, 'device_of', lambda *_: device)


@functools.cache
def _teacher_policy():
  states = np.zeros((1,) + FRAME_SHAPE + (4,), np.uint8)
  return value_policy(
      NETWORK, NETWORK.init(jax.random.PRNGKey(9), states)['params']
  )


def _run(
    seed,
    teacher=None,
    learner=LEARNER,
    coefficients=None,
    member=None,
    **changes,
):
  return Run(
      dataclasses.replace(CONFIG, seed=seed, **changes),
      learner,
      _make_env,
      random_score=0.0,
      teacher=teacher or Teacher(_teacher_policy()),
      coefficients=coefficients or learner_lib.Coefficients(),
      member=member,
  )


def _assert_same(run, alone, exact):
  """Everything that a run comes to, of two runs."""
  close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
  same = np.testing.assert_array_equal if exact else close
  for ours, theirs in zip(run.records, alone.records, strict=True):
    ours, theirs = ours.to_json(), theirs.to_json()
    ours, theirs = (r | r.pop('metrics') for r in (ours, theirs))
    assert ours.keys() == theirs.keys()
    assert ours.pop('episodes') == theirs.pop('episodes')
    del ours['seconds'], theirs['seconds']
    for name, value in theirs.items():
      if isinstance(value, (str, dict, type(None))):
        assert ours[name] == value
      else:
        same(ours[name], value, err_msg=name)
  for part in ('learner_state', 'act_key'):
    for x, y in zip(
        jax.tree.leaves(getattr(run.trainer, part)),
        jax.tree.leaves(getattr(alone.trainer, part)),
        strict=True,
    ):
      same(x, y)
  ours, theirs = (r.trainer.writer.state for r in (run, alone))
  np.testing.assert_array_equal(
      ours.storage.observation, theirs.storage.observation
  )
  np.testing.assert_array_equal(ours.storage.action, theirs.storage.action)
  same(ours.priorities.tree.leaves, theirs.priorities.tree.leaves)
  assert run.trainer.counters == alone.trainer.counters


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
  seeds = SEEDS[:2] if stacked and way != 'qdagger' else SEEDS
  changes = WAYS[way]
  teacher = Teacher(_teacher_policy())
  runs = [_run(seed, teacher, **changes) for seed in seeds]
  order = []
  SideBySide(runs, stacked).run(lambda run: order.append(run.config.seed))
  assert order == list(seeds) * len(runs[0].plan)
  for run in runs:
    alone = _run(run.config.seed, **changes)
    alone.run()
    _assert_same(run, alone, exact=not stacked)


def test_the_teacher_is_evaluated_and_collects_once():
  teacher = Teacher(_teacher_policy())
  made = []

  def make_env(num_envs, seed, stream=()):
    made.append(seed)
    return _make_env(num_envs, seed, stream)

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
  teacher = Teacher(_teacher_policy())
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
    for record in run.records:
      record.member.clear()
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

  teacher = Teacher(_teacher_policy())
  with pytest.raises(KeyboardInterrupt):
    SideBySide([_run(s, teacher) for s in SEEDS]).run(save)
  teacher = Teacher(_teacher_policy())
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
  teacher = Teacher(_teacher_policy())
  with pytest.raises(ValueError, match='their num_envs are 2 and 3'):
    SideBySide([_run(3, teacher), _run(4, teacher, num_envs=3)])
  other = dataclasses.replace(LEARNER, objective=learner_lib.Objective('mse'))
  with pytest.raises(ValueError, match='one network, objective and optimizer'):
    SideBySide([_run(3, teacher), _run(4, teacher, learner=other)])
