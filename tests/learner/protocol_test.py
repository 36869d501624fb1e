"""A learner that is no value learner trains, is reset, saved and resumed."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from small_runs import ALONE
from small_runs import make_env
from toy_actor_critic import ActorCritic

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.envs.probe import ContextualBandit
from reincarnating_rl.envs.probe import ProbeVector
from reincarnating_rl.learner.resets import ResetSchedule
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving.checkpoint import CheckpointMismatchError
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer

LEARNER = ActorCritic(num_actions=4)
REMEMBERING = ActorCritic(num_actions=4, remembers=True)
RESETS = ResetSchedule(30, kept=(('critic', 0.5),))


def _run(learner=LEARNER, **changes):
  config = dataclasses.replace(ALONE, resets=RESETS, **changes)
  return Run(config, learner, make_env, random_score=-1.0)


def _outcome(run):
  trainer = run.trainer
  return {
      'records': [r.to_json() | {'seconds': None} for r in run.records],
      'arrays': jax.device_get(
          (trainer.learner_state, trainer.writer.state, trainer.act_key)
      ),
  }


def _assert_same(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture(scope='module', params=[LEARNER, REMEMBERING], ids=str)
def whole(request):
  run = _run(request.param)
  run.run()
  return run


def test_it_is_trained_and_reset(whole):
  assert len(whole.trainer.counters.resets) == 1
  assert whole.trainer.counters.updates_made > 0
  assert whole.records[-1].metrics['actor_loss'] != 0


def test_a_reset_keeps_what_its_schedule_says():
  observation = ArraySpec((6, 6, 4), 'uint8')
  state = LEARNER.init(jax.random.PRNGKey(0), observation)
  key = jax.random.PRNGKey(1)
  after = LEARNER.reset(state, RESETS, key, observation)
  fresh = LEARNER.init(key, observation).params
  jax.tree.map(
      np.testing.assert_array_equal, after.params['actor'], fresh['actor']
  )
  half = jax.tree.map(
      lambda old, new: 0.5 * old + 0.5 * new,
      state.params['critic'],
      fresh['critic'],
  )
  jax.tree.map(np.testing.assert_allclose, after.params['critic'], half)


def test_cut_off_and_resumed_it_ends_the_same(tmp_path, whole):
  class Cut(BaseException):
    """Ends a process."""

  learner = whole.trainer.learner
  run, steps = _run(learner), 0

  def at_step(run):
    nonlocal steps
    steps += 1
    if steps == 50:
      raise Cut

  run.at_step = at_step
  with pytest.raises(Cut):
    run.run()
  checkpointer = RunCheckpointer(str(tmp_path))
  assert checkpointer.save(run)
  checkpointer.close()
  resumed, checkpointer = _run(learner), RunCheckpointer(str(tmp_path))
  assert checkpointer.restore(resumed)
  checkpointer.close()
  resumed.run()
  _assert_same(_outcome(resumed), _outcome(whole))


def test_another_learner_is_refused(tmp_path, whole):
  checkpointer = RunCheckpointer(str(tmp_path))
  assert checkpointer.save(whole)
  checkpointer.close()
  other = Run(whole.config, ActorCritic(3), make_env, random_score=-1.0)
  checkpointer = RunCheckpointer(str(tmp_path))
  with pytest.raises(CheckpointMismatchError, match='num_actions=4'):
    checkpointer.restore(other)
  checkpointer.close()


@pytest.mark.parametrize('stacked', [False, True])
def test_members_side_by_side_are_runs_alone(whole, stacked):
  learner = whole.trainer.learner
  runs = [_run(learner, seed=seed) for seed in (whole.config.seed, 8)]
  SideBySide(runs, stacked).run()
  ours, theirs = _outcome(runs[0]), _outcome(whole)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, ours['arrays'], theirs['arrays'])


def test_what_an_actor_remembers_begins_anew_with_each_episode():
  run = _run(REMEMBERING)
  run.run()
  steps = run.player.tracker.lengths
  # An episode that has just ended is not told so before the next step.
  np.testing.assert_array_equal(
      np.where(run.player.first, 0, run.player.carry), steps
  )


def test_it_learns_which_action_pays():
  def bandit(num_envs, seed, stream=()):
    return ProbeVector(
        ContextualBandit(3, 4), num_envs, seed, stream, frame_shape=(6, 6)
    )

  run = Run(
      dataclasses.replace(
          ALONE,
          training_steps=400,
          num_iterations=1,
          replay_capacity=1_000,
          replay_ratio=2,
          learning_rate=3e-3,
      ),
      LEARNER,
      bandit,
      random_score=0.0,
  )
  run.run()
  assert run.records[-1].student_score == pytest.approx(1.0)
