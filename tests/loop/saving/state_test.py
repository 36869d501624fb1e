"""Every step is one at which a run can be cut off and go on as if never."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import functools
import json
import types

import jax
import numpy as np
import pytest
from small_runs import assert_same
from small_runs import DISTILLING_LEARNER
from small_runs import make_params
from small_runs import NETWORK
from small_runs import outcome
from stopped_runs import make_run

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.base.stateful import StateMismatchError
from reincarnating_rl.envs import probe
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.learner.resets import PRESETS
from reincarnating_rl.loop.config.guide_config import GuideConfig
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving import compatibility
from reincarnating_rl.loop.saving import replays
from reincarnating_rl.loop.saving import state as state_lib
from reincarnating_rl.loop.training.initial_state import OfflineLearning
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import ring

OFFLINE = OfflineLearning(
    dataclasses.replace(
        DISTILLING_LEARNER, objective=learner_lib.Objective('huber', cql=True)
    ),
    learner_lib.Coefficients(cql=0.5, temperature=0.1),
    learning_rate=0.02,
)
# What a run can have beside the plainest one, each with what it may hold in
# the middle of a phase: groups of updates and rows that wait, a guide's turns.
WAYS = {
    'plain': {},
    'prioritized, in groups': {'prioritized': True, 'updates_per_call': 3},
    'guide, one environment': {
        'guide': GuideConfig(max_roll_in_steps=3, roll_out_guide_prob=0.5),
        'num_envs': 1,
        'replay_ratio': '1/8',
    },
    'rehearsal': {'teacher_data_ratio': 0.5},
    'resets': {
        'resets': dataclasses.replace(
            PRESETS['full'], unit='agent_steps', period=24
        )
    },
    'offline learning': {'offline': OFFLINE},
}


class Saved:
  """A run as a checkpoint holds it, through JSON and copies on the host."""

  def __init__(self, run):
    snapshot = state_lib.snapshot(run)
    self.document = json.loads(json.dumps(snapshot.document))
    self.arrays = snapshot.arrays
    self._rows = {
        name: [(start, ring.read(start, stop))] if stop else []
        for name, ring in replays.of_run(run).items()
        for start, stop in [snapshot.windows[name]]
    }

  def brought_back(self, run):
    state_lib.restore(run, self.document, self.arrays, self._read_rows)
    return run

  def _read_rows(self, name):
    return self._rows[name]


@pytest.mark.parametrize('name', WAYS)
def test_cut_off_at_any_step_it_ends_the_same(name):
  run, cuts = make_run(**WAYS[name]), []

  def keep(run):
    cuts.append((run.where(), Saved(run)))

  run.at_step = keep
  run.run()
  expected = outcome(run)
  places = [place for place, _ in cuts]
  assert len(set(places)) == len(run.plan)
  # All would take minutes; an odd stride comes to every kind of step.
  for place, saved in cuts[:: max(len(cuts) // 12, 1) | 1]:
    resumed = saved.brought_back(make_run(**WAYS[name]))
    assert resumed.where() == place
    resumed.run()
    assert_same(outcome(resumed), expected)


def test_a_run_cut_off_twice_ends_the_same():
  run = make_run()
  run.run()
  expected = outcome(run)
  cut, saved = make_run(), None
  for stop in (9, 60):
    if saved is not None:
      cut = saved.brought_back(make_run())
    steps = 0

    def count(run, stop=stop):
      nonlocal steps, saved
      steps += 1
      if steps > stop and run.stage.take_up is None:
        saved = Saved(run)
        raise KeyboardInterrupt

    cut.at_step = count
    with pytest.raises(KeyboardInterrupt):
      cut.run()
  last = saved.brought_back(make_run())
  last.run()
  assert_same(outcome(last), expected)


class Stalls:
  """Environments that do not answer a step any more."""

  def __init__(self, env, after):
    self._env, self._left = env, after

  def __getattr__(self, name):
    return getattr(self._env, name)

  def step(self, actions):
    self._left -= 1
    if not self._left:
      raise TimeoutError
    return self._env.step(actions)


@pytest.mark.parametrize('purpose', [1, 2, 3, 4])
def test_cut_off_while_the_emulator_is_waited_for_it_ends_the_same(purpose):
  """Teacher's evaluation, collection, online, student's evaluation."""
  run = make_run()
  run.run()
  expected = outcome(run)
  stalling = make_run()
  make_env = stalling.stage._make_env

  def make(num_envs, seed, stream):
    env = make_env(num_envs, seed, stream)
    return Stalls(env, 3) if stream[0] == purpose else env

  stalling.stage._make_env = make
  with pytest.raises(TimeoutError):
    stalling.run()
  resumed = Saved(stalling).brought_back(make_run())
  resumed.run()
  assert_same(outcome(resumed), expected)


# -- what is saved-------------------------------------------------------------

_LEAVES = (
    *(bool, int, float, str, bytes, type(None), np.ndarray, np.generic),
    *(
        Fraction,
        jax.Array,
        types.FunctionType,
        types.MethodType,
        functools.partial,
    ),
)


def _walk(value, seen, found):
  """Every object of ours that lives in a run, by its class."""
  if isinstance(value, _LEAVES) or id(value) in seen:
    return
  seen.add(id(value))
  if isinstance(value, dict):
    children = list(value.values())
  elif isinstance(value, (list, tuple, set, frozenset)):
    children = list(value)
  elif isinstance(value, Stateful):
    found.setdefault(type(value), []).append(value)
    children = [v for k, v in vars(value).items() if k in value.SAVED]
  else:
    frozen = dataclasses.is_dataclass(value) and (
        value.__dataclass_params__.frozen
    )
    assert frozen or isinstance(
        value, probe.ProbeVector
    ), f'{type(value).__name__} lives in a run and is not Stateful'
    return
  for child in children:
    _walk(child, seen, found)


def test_everything_alive_is_saved_or_rebuilt():
  run = make_run(guide=GuideConfig(max_roll_in_steps=3))
  found = {}

  def look(run):
    _walk(run, set(), found)

  run.at_step = look
  run.run()
  names = {kind.__name__ for kind in found}
  assert names >= {'Run', 'Trainer', 'Player', 'Evaluation', 'ReplayWriter'}
  for kind, objects in found.items():
    saved, rebuilt = set(kind.SAVED), set(kind.REBUILT)
    assert not saved & rebuilt
    there = set().union(*(vars(o) for o in objects))
    assert (
        there - saved - rebuilt == set()
    ), f'{kind}: neither saved nor rebuilt'
    assert saved <= there, f'{kind}: gone'


def test_what_is_made_anew_does_not_change():
  run, before = make_run(), {}
  kept = ('config', 'plan', 'teacher')

  def look(run):
    now = {k: vars(run)[k] for k in kept} | {
        'eval_key': np.array(run.trainer.eval_key)
    }
    before.setdefault('first', now)
    for k in kept:
      assert before['first'][k] is now[k]
    np.testing.assert_array_equal(before['first']['eval_key'], now['eval_key'])

  run.at_step = look
  run.run()
  assert before


# -- what does not fit ---------------------------------------------------------


def _cut_online(**changes):
  run = make_run(**changes)
  while run.plan[run.next_phase].kind != 'online':
    run.run_phase(run.plan[run.next_phase])
  run.run_phase(run.plan[run.next_phase])
  return Saved(run)


def test_a_network_of_another_shape_is_refused():
  saved = _cut_online()
  prefix = 'trainer/learner_state/online'
  name = next(n for n in saved.arrays if n.startswith(prefix))
  saved.arrays[name] = saved.arrays[name][..., :-1]
  told = name.removeprefix('trainer/')
  with pytest.raises(StateMismatchError, match=f'{told} was float32'):
    saved.brought_back(make_run())
  del saved.arrays[name]
  with pytest.raises(StateMismatchError, match='is missing'):
    saved.brought_back(make_run())


def test_teachers_are_told_apart():
  run, other = make_run(), make_run()
  params = jax.tree.map(lambda x: x + 1, make_params())
  other.teacher = Teacher(value_policy(NETWORK, params))
  ours, theirs = compatibility.settings(run), compatibility.settings(other)
  assert {k for k in ours if ours[k] != theirs[k]} == {'teacher'}


def test_coefficients_are_settings():
  run = make_run()
  run.trainer.coefficients = learner_lib.Coefficients(distill=2.0)
  changed = (
      compatibility.settings(run).items()
      - compatibility.settings(make_run()).items()
  )
  assert dict(changed) == {'coefficient distill': '2.0'}


def test_blocks_come_back_across_the_end_of_a_ring():
  saved = _cut_online()
  run = saved.brought_back(make_run())
  writer = run.trainer.writer
  spec, storage = writer.spec, writer.state.storage
  whole = jax.device_get(storage)
  start = spec.slots - 3
  columns = blocks.read(spec, storage, start, start + 7, at_once=4)
  rows = np.arange(start, start + 7) % spec.slots
  rows = (
      rows[:, None] * spec.num_streams + np.arange(spec.num_streams)
  ).ravel()
  for name, column in ring.by_name(whole).items():
    np.testing.assert_array_equal(columns[name], column[rows])
  empty = jax.tree.map(lambda x: jax.numpy.zeros_like(x), storage)
  back = blocks.write(spec, empty, start, columns)
  np.testing.assert_array_equal(back.observation[rows], whole.observation[rows])
  assert (
      not np.asarray(back.observation)
      .any(axis=(1, 2))[np.setdiff1d(np.arange(spec.capacity), rows)]
      .any()
  )
