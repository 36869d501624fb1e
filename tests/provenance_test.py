"""Chains of teachers: who they were, and what they cost."""

import json

import jax
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl import provenance
from reincarnating_rl import teachers

NETWORK = networks.make_network(3, features=(2, 2, 2), hidden_size=4)
STATES = np.zeros((1, 84, 84, 4), np.uint8)
PARAMS = NETWORK.init(jax.random.PRNGKey(1), STATES)['params']


def _teacher(path, agent_steps=None, number=7):
  return teachers.LoadedTeacher(
      str(path), NETWORK, PARAMS, number, agent_steps=agent_steps
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
