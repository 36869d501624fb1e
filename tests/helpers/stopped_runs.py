"""Runs with a teacher that are stopped at a chosen step, and resumed."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import CONFIG
from small_runs import DISTILLING_LEARNER
from small_runs import make_env
from small_runs import make_policy
from small_runs import outcome

from reincarnating_rl.envs.base import EnvironmentFailedError
from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.run.rollouts import ONLINE_STREAM
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.saving.supervisor import Keeper

# Index into the plan, whether the student is evaluated, steps from there.
PLACES = {
    'evaluation of the teacher': (0, True, 3),
    'collection': (1, True, 11),
    'pretraining': (2, False, 2),
    'evaluation after pretraining': (2, True, 2),
    'online': (3, False, 13),
    'evaluation': (3, True, 3),
    'online, where the ring begins anew': (4, False, 14),
    'last evaluation': (4, True, 4),
}
each_place = pytest.mark.parametrize('place', PLACES)


def make_run(
    env=make_env,
    listeners=(),
    teacher=None,
    coefficients=None,
    offline=None,
    **changes,
):
  """A run before its first phase; `changes` of CONFIG."""
  return Run(
      dataclasses.replace(CONFIG, **changes),
      DISTILLING_LEARNER,
      env,
      random_score=-1.0,
      teacher=teacher or Teacher(make_policy()),
      coefficients=coefficients or Coefficients(),
      listeners=listeners,
      offline=offline,
  )


@functools.cache
def never_stopped(seed=CONFIG.seed):
  """Outcome of the run that nothing interrupts."""
  run = make_run(seed=seed)
  run.run()
  return outcome(run)


def restored(directory, run=None, **options):
  run = run or make_run()
  assert RunCheckpointer(str(directory), **options).restore(run)
  return run


def spoil(run):
  """Makes every online parameter NaN."""
  state = run.trainer.learner_state
  nan = jax.tree.map(lambda x: jnp.full_like(x, np.nan), state.online_params)
  run.trainer.learner_state = state._replace(online_params=nan)


# -- stopping at a place -------------------------------------------------------


class Cut(Exception):
  """A run was cut off."""


def stands_in(run, place):
  """True if a run is in the phase, and the part of it, of a place."""
  phase, evaluating, _ = PLACES[place]
  there = run.stage.activity is not None
  return (run.next_phase, there) == (phase, evaluating)


def run_to(run, place, before=lambda run: None):
  """Plays up to a place; `before` is called at each step."""
  steps = 0

  def at_step(run):
    nonlocal steps
    before(run)
    steps += stands_in(run, place)
    if steps == PLACES[place][-1]:
      raise Cut

  run.at_step = at_step
  with pytest.raises(Cut):
    run.run()
  return run


class At:
  """A listener that calls `do` once a run comes to a place."""

  def __init__(self, place, do):
    self.run, self._place, self._do = None, place, do
    self._left = PLACES[place][-1]

  def __getattr__(self, name):
    return lambda *_: None

  def on_progress(self, amount):
    del amount
    self._left -= stands_in(self.run, self._place)
    if not self._left:
      self._left = -1
      self._do()


# -- environments that fail ----------------------------------------------------


class Failing:
  """Environments that call `do` at one of their steps, once."""

  def __init__(self, env, at, do):
    self._env, self._left, self._do = env, at, do

  def __getattr__(self, name):
    return getattr(self._env, name)

  def step(self, actions):
    self._left -= 1
    if not self._left:
      self._do()
    return self._env.step(actions)


def break_down():
  raise EnvironmentFailedError('an emulator broke down')


def failing_envs(do, purpose=ONLINE_STREAM, at=4, seed=None):
  """A factory of environments that fail; of one seed, or of all."""

  def make(num_envs, env_seed, stream=()):
    env = make_env(num_envs, env_seed, stream)
    wanted = stream[0] == purpose and seed in (None, env_seed)
    return Failing(env, at, do) if wanted else env

  return make


def supervised(directory, run, **options):
  """Runs to the end under a supervisor that saves into a directory."""
  options = {'stall_minutes': None} | options
  checkpointer = RunCheckpointer(str(directory))
  with Keeper([(run, checkpointer)], **options) as keeper:
    run.run(keeper.after_phase)
  checkpointer.close()
  return run
