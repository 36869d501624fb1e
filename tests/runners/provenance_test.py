"""Chains of teachers: who they were, and what they cost."""

import json

import jax
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl import teachers
from reincarnating_rl.runners import provenance

NETWORK = networks.make_network(3, features=(2, 2, 2), hidden_size=4)
STATES = np.zeros((1, 84, 84, 4), np.uint8)


def _teacher(path, agent_steps=None, number=7, seed=1):
  params = NETWORK.init(jax.random.PRNGKey(seed), STATES)['params']
  return teachers.LoadedTeacher(
      str(path), NETWORK, params, number, agent_steps=agent_steps
  )


def _leave_summary(folder, teacher, online, collected):
  """What a run leaves that had this teacher."""
  folder.mkdir()
  document = {
      'config': {'teacher': teacher},
      'frames': provenance.frames(online, collected, teacher),
  }
  (folder / 'summary.json').write_text(json.dumps(document))


def test_a_chain_of_three(tmp_path):
  first = provenance.of_teacher(_teacher('bundled:Pong', 1000))
  assert first['frames'] == 4000 and first['ancestors'] == []
  _leave_summary(tmp_path / 'second', first, online=200, collected=50)
  second = provenance.of_teacher(_teacher(tmp_path / 'second', 200))
  assert second['frames'] == 4 * 250
  assert [a['path'] for a in second['ancestors']] == ['bundled:Pong']
  _leave_summary(tmp_path / 'third', second, online=300, collected=0)
  third = provenance.of_teacher(_teacher(tmp_path / 'third', 300))
  paths = [a['path'] for a in third['ancestors']]
  assert paths == [str(tmp_path / 'second'), 'bundled:Pong']
  assert all('ancestors' not in a for a in third['ancestors'])
  assert third['params_crc32c'] == first['params_crc32c']
  assert provenance.frames(25, 10, third) == {
      'online': 100,
      'collected': 40,
      'before': 4000 + 1000 + 1200,
      'chain': 4000 + 1000 + 1200 + 140,
  }


def test_several_teachers_are_all_named(tmp_path):
  first, second = _teacher('a', 100), _teacher('b', 20, number=8)
  weights = teachers.Combination(weights=(1, 3))
  both = provenance.of_teacher(teachers.combine([first, second], weights, 0.5))
  assert both['path'] == 'a and b' and both['checkpoint_number'] is None
  assert (both['combine'], both['weights']) == ('mixture', [0.25, 0.75])
  assert both['temperature'] == 0.5
  assert both['teachers'] == [
      provenance.of_teacher(first),
      provenance.of_teacher(second),
  ]


def test_what_several_teachers_share_counts_once(tmp_path):
  """Two students of one teacher, and an earlier checkpoint of the first."""
  root = provenance.of_teacher(_teacher('bundled:Pong', 1000, seed=0))
  for name in ('one', 'two'):
    _leave_summary(tmp_path / name, root, online=0, collected=10)
  members = [
      _teacher(tmp_path / 'one', 100, number=1, seed=1),
      _teacher(tmp_path / 'one', 200, number=2, seed=2),
      _teacher(tmp_path / 'two', 300, seed=3),
  ]
  together = provenance.of_teacher(teachers.combine(members))
  links = [(a['path'], a['frames']) for a in together['ancestors']]
  assert links == [
      (str(tmp_path / 'one'), 4 * 210),
      ('bundled:Pong', 4000),
      (str(tmp_path / 'two'), 4 * 310),
  ]
  assert together['frames'] == 0
  frames = provenance.frames(25, 5, together)
  assert frames['before'] == 4 * (210 + 310) + 4000
  # Who learns from a student of theirs has all of them behind it.
  _leave_summary(tmp_path / 'heir', together, online=25, collected=5)
  heir = provenance.of_teacher(_teacher(tmp_path / 'heir', 25, seed=4))
  assert len(heir['ancestors']) == 1 + len(links)
  before = provenance.frames(0, 0, heir)['before']
  assert before == frames['before'] + 4 * (25 + 5)


def test_the_same_teacher_twice_has_played_once(tmp_path):
  twice = teachers.combine([_teacher('a', 100), _teacher('elsewhere/a', 100)])
  known = provenance.of_teacher(twice)
  assert len(known['teachers']) == 2
  assert provenance.frames(0, 0, known)['before'] == 400


def test_from_nothing():
  assert provenance.frames(25, 0, None) == {
      'online': 100,
      'collected': 0,
      'before': 0,
      'chain': 100,
  }


def test_what_nobody_knows_is_not_made_up(tmp_path):
  unknown = provenance.of_teacher(_teacher(tmp_path, None))
  found = provenance.frames(25, 10, unknown)
  assert found['before'] is None and found['chain'] is None
  assert found['online'] == 100


def test_a_summary_that_is_damaged_ends_the_chain(tmp_path):
  (tmp_path / 'summary.json').write_text('{')
  assert provenance.of_teacher(_teacher(tmp_path, 10))['ancestors'] == []
