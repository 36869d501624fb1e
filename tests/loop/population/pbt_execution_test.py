"""Runs that copy each other: exact copies, and nothing lost however it ends."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil

from copying_groups import CONFIG
from copying_groups import Cut
from copying_groups import die_at
from copying_groups import generator
from copying_groups import Group
from copying_groups import make_run
from copying_groups import MEMBERS
from copying_groups import outcome
from copying_groups import Points
from copying_groups import TRAINING
import jax
import numpy as np
import pytest
from small_runs import assert_close
from small_runs import assert_same
from small_runs import FRAME_SHAPE
from small_runs import load
from small_runs import PLAIN_LEARNER

from reincarnating_rl.base.errors import StoppedError
from reincarnating_rl.envs import probe
from reincarnating_rl.loop.population import lineage as lineage_lib
from reincarnating_rl.loop.population import pbt_execution as exploits_lib
from reincarnating_rl.loop.population.lineage import Lineage
from reincarnating_rl.loop.population.pbt import Copy
from reincarnating_rl.loop.population.pbt import Mutation
from reincarnating_rl.loop.population.pbt import PopulationBasedTraining
from reincarnating_rl.loop.population.pbt_execution import Exploits
from reincarnating_rl.loop.population.side_by_side import SideBySide
from reincarnating_rl.loop.saving.checkpoint import LINEAGE
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer

pytestmark = pytest.mark.usefixtures('one_device')


@functools.cache
def never_stopped(directory, copy_replay=False):
  training = dataclasses.replace(TRAINING, copy_replay=copy_replay)
  return outcome(Group(directory, training).run())


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """What a group comes to that nothing befalls."""
  directory = str(tmp_path_factory.mktemp('whole'))
  return lambda copy_replay=False: never_stopped(
      f'{directory}/{copy_replay}', copy_replay
  )


# -- copies --------------------------------------------------------------------


def _state_of(run):
  return jax.device_get(run.trainer.learner_state)


def test_a_copy_equals_its_source_bit_for_bit():
  source, target = (make_run(i, MEMBERS[i]) for i in (1, 2))
  SideBySide([source, target]).run()
  before, other = _state_of(target), _state_of(source)
  source.trainer.set_lambda(0.75)
  exploits_lib.copy_student(source, target)
  target.trainer.settle({'learning_rate': 0.5})
  after = _state_of(target)
  for name in ('online_params', 'target_params', 'opt_state', 'updates'):
    assert_same(getattr(after, name), getattr(other, name))
  assert_same(after.rng_key, before.rng_key)  # Keys stay its own.
  assert target.trainer.lambda_ == 0.75
  np.testing.assert_allclose(after.coefficients.lambda_, 0.75)
  np.testing.assert_allclose(after.coefficients.learning_rate, 0.5)


@pytest.mark.parametrize('stacked', [False, True])
def test_who_copied_goes_on_as_a_run_that_began_so(
    tmp_path, stacked, monkeypatch
):
  """The very step is the source's: same parameters until the next update."""
  seen = []
  copy = exploits_lib.copy_student

  def look(source, target):
    copy(source, target)
    seen.append((source.config.seed, target.config.seed))
    assert_same(
        _state_of(target).online_params, _state_of(source).online_params
    )

  monkeypatch.setattr(exploits_lib, 'copy_student', look)
  group = Group(tmp_path).run(stacked)
  document, exploits = lineage_lib.read(str(tmp_path))
  assert document['members'] == list(MEMBERS)
  told = [(c.source, c.target) for e in exploits for c in e.copies]
  assert told == seen and seen
  for exploit in exploits:
    for copied in exploit.copies:
      record = group.runs[copied.target].records[exploit.phase]
      assert record.member == copied.member
      rate = copied.member['learning_rate']
      np.testing.assert_allclose(record.metrics['learning_rate'], rate)
    for run, score, member in zip(group.runs, exploit.scores, exploit.members):
      assert run.records[exploit.phase - 1].student_score == score
      assert run.records[exploit.phase - 1].member == member


def test_stacked_and_one_by_one_copy_the_same(tmp_path, whole):
  group = Group(tmp_path).run(stacked=True)
  found, lineage = outcome(group)
  expected, expected_lineage = whole()
  assert lineage['exploits'] and lineage == expected_lineage
  for ours, theirs in zip(found, expected):
    assert ours['member'] == theirs['member']
    assert_close(ours['arrays'], theirs['arrays'])


@pytest.mark.parametrize('stacked', [False, True])
def test_an_exploit_compiles_nothing(tmp_path, stacked, compilations):
  counts = []

  def on_phase(run):
    if run.config.seed == len(MEMBERS) - 1:
      counts.append(compilations.count)

  Group(tmp_path).run(stacked, on_phase)
  assert len(lineage_lib.read(str(tmp_path))[1]) == 2
  assert len(set(counts[1:])) == 1


def test_the_same_seeds_have_the_same_lineage(tmp_path, whole):
  assert_same(outcome(Group(tmp_path).run()), whole())


def test_between_exploits_nobody_copies(tmp_path):
  training = dataclasses.replace(TRAINING, interval=2)
  Group(tmp_path, training, MEMBERS[:2]).run()
  exploits = lineage_lib.read(str(tmp_path))[1]
  assert [exploit.iteration for exploit in exploits] == [2]


# -- the replay ----------------------------------------------------------------


def test_a_replay_is_copied_where_it_is_wanted(tmp_path, monkeypatch):
  seen = []
  copy = exploits_lib.copy_replay

  def look(source, target, device, iteration):
    writers = source.trainer.writer, target.trainer.writer
    theirs, mine = (jax.device_get(w.state.storage) for w in writers)
    copy(source, target, device, iteration)
    spec, state = writers[1].spec, jax.device_get(writers[1].state)
    slots = np.arange(state.add_count - 3, state.add_count) % spec.slots
    own = (slots[:, None] * spec.num_streams + np.arange(2)).ravel()
    others = np.setdiff1d(np.arange(spec.capacity), own)
    np.testing.assert_array_equal(
        state.storage.observation[others], theirs.observation[others]
    )
    np.testing.assert_array_equal(
        state.storage.observation[own], mine.observation[own]
    )
    assert not np.any(state.priorities.tree.leaves[own])
    seen.append(writers[1].name)

  monkeypatch.setattr(exploits_lib, 'copy_replay', look)
  training = dataclasses.replace(TRAINING, copy_replay=True)
  group = Group(tmp_path, training, MEMBERS[:2]).run()
  assert set(seen) <= {'student_1', 'student_2'} and seen
  # As a teacher, it has the replay that it ended with.
  for run in group.runs:
    loaded = load(tmp_path / f'run_{run.config.seed}').replay
    writer = run.trainer.writer
    actions = jax.device_get(writer.state.storage.action)
    valid = np.asarray(loaded.valid(CONFIG.update_horizon)).ravel()
    found = loaded.transitions(np.flatnonzero(valid), CONFIG.update_horizon)
    np.testing.assert_array_equal(found.action, actions[valid])


# -- cut off -------------------------------------------------------------------


@pytest.mark.parametrize(
    'copy_replay, slow_disk', [(False, False), (False, True), (True, False)]
)
def test_killed_at_any_moment_it_has_the_same_lineage(
    tmp_path, whole, copy_replay, slow_disk
):
  """Copies of the directory are what a process leaves that dies just then."""
  training = dataclasses.replace(TRAINING, copy_replay=copy_replay)
  group = Group(tmp_path / 'whole', training)

  def keep(index):
    for checkpointer in group.checkpointers:
      checkpointer.wait()
    shutil.copytree(tmp_path / 'whole', tmp_path / str(index))

  with pytest.MonkeyPatch.context() as patch:
    names = Points(patch, slow_disk, keep).names
    group.run()
  assert names.count('add') == 2 and names.count('copy_student') >= 3
  # From the end of the first iteration to that of the last.
  moments = range(names.index('add') - 2, len(names) - 2)
  for at in moments[:: 2 if copy_replay or slow_disk else 1]:
    again = Group(tmp_path / str(at), training).run()
    assert_same(outcome(again), whole(copy_replay))


def test_killed_again_and_again_it_has_the_same_lineage(tmp_path, whole):
  """Also within iterations: saved at every step."""
  deaths, moments = 0, iter(range(24, 240, 18))
  while True:
    with pytest.MonkeyPatch.context() as patch:
      Points(patch, each=die_at(next(moments)))
      try:
        group = Group(tmp_path).run(checkpoint_every=1e-9)
        break
      except Cut:
        deaths += 1
  assert deaths >= 3
  assert_same(outcome(group), whole())


def test_a_decision_that_is_written_holds(tmp_path):
  """Nobody decides again, whatever the scores are then."""
  directory, added = str(tmp_path), []
  with pytest.MonkeyPatch.context() as patch:
    add = Lineage.add

    def add_and_die(lineage, exploit):
      forced = Copy(0, 3, {'learning_rate': 0.125})
      add(lineage, exploit._replace(copies=(forced,)))
      added.append(exploit)
      raise Cut

    patch.setattr(Lineage, 'add', add_and_die)
    with pytest.raises(Cut):
      Group(directory).run()
  group = Group(directory).run()
  assert group.runs[0].records[1].member == {'learning_rate': 0.125}
  exploits = lineage_lib.read(directory)[1]
  assert [e.iteration for e in exploits] == [1, 2] and len(added) == 1


def test_what_was_decided_for_runs_that_are_gone_does_not_hold(tmp_path, whole):
  with open(tmp_path / 'population.json', 'w') as f:
    exploit = lineage_lib.Exploit(
        1, 1, 24, (0.0,) * 4, MEMBERS, (Copy(0, 1, {'learning_rate': 9.0}),)
    )
    document = {'run_numbers': [], 'mutated': [], 'members': []}
    json.dump(document | {'exploits': [exploit.to_json()]}, f)
  assert_same(outcome(Group(tmp_path).run()), whole())


def test_a_source_that_has_gone_on_is_named(tmp_path):
  Group(tmp_path).run()
  first, *_ = lineage_lib.read(str(tmp_path))[1]
  copy = first.copies[0]
  again = Group(tmp_path)
  assert again.runs[copy.target].copied_after
  again.runs[copy.target].copied_after = 0
  with pytest.raises(ValueError) as error:
    Exploits(TRAINING, again.runs, again.lineage, generator)
  sentence = str(error.value)
  assert f'Run {copy.target} went back' in sentence
  assert f'remove the newest checkpoints of run {copy.source}' in sentence
  assert '\n' not in sentence and sentence.endswith('.')


@pytest.mark.parametrize('other', [None, *LINEAGE])
def test_what_was_copied_stays_with_the_settings_that_it_came_by(
    tmp_path, other
):
  """A fork that copies in other ways has settings of its own."""
  settings = dict.fromkeys(LINEAGE, 'as it was')
  run, checkpointer = make_run(0, MEMBERS[0]), RunCheckpointer(
      str(tmp_path), identity=settings
  )
  run.copied_after = 1
  run.trainer.settle({'learning_rate': 0.25, 'margin': 2.0})
  assert checkpointer.save(run)
  checkpointer.close()
  if other is not None:
    settings[other] = 'another'
  again = make_run(0, MEMBERS[0])
  forked = RunCheckpointer(str(tmp_path), identity=settings)
  assert forked.restore(again, any_settings=other is not None)
  forked.close()
  rate = again.trainer.learner_state.coefficients.learning_rate
  if other is None:
    assert again.trainer.member == run.trainer.member
    assert again.copied_after == 1
    np.testing.assert_allclose(rate, 0.25)
  else:
    assert again.trainer.member == MEMBERS[0]
    assert again.copied_after == 0
    np.testing.assert_allclose(rate, MEMBERS[0]['learning_rate'])


def test_a_disk_that_is_full_ends_it_before_anything_is_copied(
    tmp_path, monkeypatch, whole
):
  def full(lineage):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(Lineage, 'write', full)
    with pytest.raises(
        StoppedError, match='population.json could not be saved'
    ):
      Group(tmp_path).run()
  assert not (tmp_path / 'population.json').exists()
  assert_same(outcome(Group(tmp_path).run()), whole())


def test_a_damaged_file_is_named(tmp_path):
  (tmp_path / 'population.json').write_text('[{"learning_rate": 1}]')
  with pytest.raises(ValueError, match='population.json is no record of a'):
    Group(tmp_path)


def test_too_short_an_iteration_has_no_replay_to_copy():
  training = dataclasses.replace(TRAINING, copy_replay=True)
  config = dataclasses.replace(CONFIG, training_steps=8)
  runs = [make_run(i, {}, config) for i in range(2)]
  with pytest.raises(ValueError, match='4 steps of each environment between'):
    Exploits(training, runs, None, generator)


# -- learning ------------------------------------------------------------------


def test_the_planted_learning_rate_is_found(tmp_path):
  bandit = probe.ContextualBandit(3, PLAIN_LEARNER.network.num_actions)
  config = dataclasses.replace(
      CONFIG,
      num_iterations=7,
      training_steps=120,
      evaluation_steps=120,
      replay_capacity=60,
      prioritized=False,
      epsilon_decay_period=60,
  )

  def make(num_envs, seed, stream=()):
    return probe.ProbeVector(
        bandit, num_envs, seed, stream, frame_shape=FRAME_SHAPE
    )

  good = 0.02
  members = [{'learning_rate': r} for r in (0.0, 1e-7, good, 2e-7)]
  training = PopulationBasedTraining(
      interval=1,
      mutations=(Mutation('learning_rate', 'bounds', (0.0, 1.0)),),
  )
  group = Group(tmp_path, training, members, config=config, env=make).run()
  for run in group.runs:
    rate = run.trainer.member['learning_rate']
    # Descending from the good one: times some powers of the factors.
    power = np.log(rate / good) / np.log(1.25)
    assert abs(power - round(power)) < 1e-6 and abs(power) <= 6
  assert np.mean([run.records[-1].student_score for run in group.runs]) > 0.8
