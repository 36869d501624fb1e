"""Populations: what a file may say, and what becomes of each member."""

from __future__ import annotations

import json

import pytest

from reincarnating_rl.learner import Coefficients
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training import member_settings

MEMBERS = [
    {'learning_rate': 1e-4, 'gamma': 0.98},
    {'final_learning_rate': 0, 'lambda_scale': 3, 'gamma': 1.0},
]


def read(tmp_path, members):
  """What is read of a file with that text, or that JSON."""
  text = members if isinstance(members, str) else json.dumps(members)
  path = tmp_path / 'population.json'
  path.write_text(text, encoding='utf-8')
  return member_settings.read(str(path))


def test_members_share_a_mixture_of_one_temperature():
  differ = [{'distill_temperature': 0.1}, {'distill_temperature': 1.0}]
  with pytest.raises(ValueError, match='to 0.1, 1, but its members share'):
    member_settings.check_teacher(differ, True)
  with pytest.raises(ValueError, match="to 0.1, the agent's own, but"):
    member_settings.check_teacher([differ[0], {}], True)
  member_settings.check_teacher(differ, False)
  member_settings.check_teacher([differ[0], differ[0]], True)
  member_settings.check_teacher([{}, {'margin': 1.0}], True)
  with pytest.raises(ValueError, match='mutations changes distill_temp'):
    member_settings.check_teacher([], True, ['gamma', 'distill_temperature'])
  member_settings.check_teacher([], False, ['distill_temperature'])
  member_settings.check_teacher([], True, ['gamma'])


def test_members_are_read_as_they_stand(tmp_path):
  assert read(tmp_path, MEMBERS) == MEMBERS


def test_a_member_may_be_as_all_are(tmp_path):
  assert read(tmp_path, [{}, {'margin': 0.5}]) == [{}, {'margin': 0.5}]


@pytest.mark.parametrize('name', member_settings.NAMES)
def test_members_may_differ_in_every_name(tmp_path, name):
  member = {name: 0.5}
  assert read(tmp_path, [member]) == [member]


@pytest.mark.parametrize(
    'members, message',
    [
        ('', 'population .*population.json cannot be read'),
        ('[{"gamma": 0.9}', 'population.json cannot be read'),
        ([], 'must be a list with an object a member'),
        ({'gamma': 0.9}, 'must be a list with an object a member'),
        ([{}, 0.9], 'Member 1 of .*population.json is no object: 0.9'),
        ([{}, ['gamma']], 'Member 1 of .* is no object'),
        (
            [{'batch_size': 4}],
            'Member 0 of .* sets batch_size; members can differ in '
            + ', '.join(member_settings.NAMES),
        ),
        ([{}, {'margin': '1'}], "Member 1 of .* sets margin to '1', which"),
        ([{'cql_coefficient': None}], 'sets cql_coefficient to None'),
        ([{'learning_rate': [1e-4]}], 'sets learning_rate to .0.0001., which'),
        ([{'lambda_scale': True}], 'sets lambda_scale to True'),
        ([{'learning_rate': -1e-4}], 'sets learning_rate to -0.0001'),
        ('[{"margin": NaN}]', 'sets margin to nan'),
        ([{'gamma': 0}], 'sets gamma to 0, which is no number in its range'),
        ([{'gamma': 1.01}], 'sets gamma to 1.01'),
        ([{'distill_temperature': 0.0}], 'sets distill_temperature to 0.0'),
        (
            [{'gamma': 0.9}, {}, {'margin': 1}],
            r'Members \[1, 2\] of .* lack gamma',
        ),
    ],
)
def test_what_is_no_population_is_refused(tmp_path, members, message):
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path, members)
  sentence = str(error.value)
  assert '\n' not in sentence and sentence.endswith('.')


def test_infinity_is_refused(tmp_path):
  with pytest.raises(ValueError, match='sets learning_rate to inf'):
    read(tmp_path, '[{"learning_rate": Infinity}]')


def test_a_file_of_other_bytes_is_refused(tmp_path):
  path = tmp_path / 'population.json'
  path.write_bytes(b'\xff\xfe[]')
  with pytest.raises(ValueError, match='population .* cannot be read'):
    member_settings.read(str(path))


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(ValueError, match='population .*none.json cannot be read'):
    member_settings.read(str(tmp_path / 'none.json'))


def test_the_settings_of_a_member():
  config = RunConfig(seed=4, learning_rate=1e-3, final_learning_rate=1e-5)
  fast = member_settings.config_of(
      config, {'learning_rate': 1e-2, 'gamma': 0.5}
  )
  assert (fast.learning_rate, fast.final_learning_rate) == (1e-2, 1e-5)
  # The discount is a coefficient, not the one that the replay was made with.
  assert (fast.seed, fast.gamma) == (4, config.gamma)
  slow = member_settings.config_of(config, {'final_learning_rate': 1e-6})
  assert (slow.learning_rate, slow.final_learning_rate) == (1e-3, 1e-6)
  assert member_settings.config_of(config, {}) == config


def test_the_coefficients_of_a_member():
  of_all = Coefficients(distill=3.0, temperature=0.1, margin=2.0)
  member = {
      'td_loss_coefficient': 0.5,
      'distill_temperature': 0.2,
      'cql_coefficient': 0.25,
      'margin': 0.75,
      'gamma': 0.98,
      'learning_rate': 1e-2,
  }
  assert member_settings.coefficients_of(of_all, member) == Coefficients(
      td=0.5,
      distill=3.0,
      temperature=0.2,
      cql=0.25,
      margin=2.0,
      margin_size=0.75,
      gamma=0.98,
  )
  assert member_settings.coefficients_of(of_all, {}) == of_all


@pytest.mark.parametrize(
    'member, distill, margin',
    [
        ({'lambda_scale': 2}, 6.0, 4.0),
        ({'lambda_scale': 0}, 0.0, 0.0),
        ({'lambda_scale': 0.5, 'distill_loss_coefficient': 5.0}, 2.5, 1.0),
        ({'lambda_scale': 0.5, 'margin_coefficient': 5.0}, 1.5, 2.5),
    ],
)
def test_lambda_scales_what_falls_with_it(member, distill, margin):
  of_all = Coefficients(distill=3.0, margin=2.0, cql=7.0)
  found = member_settings.coefficients_of(of_all, member)
  assert (found.distill, found.margin) == (distill, margin)
  assert (found.cql, found.td) == (7.0, 1.0)


def test_a_discount_of_its_own_and_an_annealed_one_contradict_each_other():
  with pytest.raises(ValueError, match='sets gamma, and so does the annealing'):
    member_settings.check_objective(MEMBERS, has_annealing=True)
  member_settings.check_objective(MEMBERS, has_annealing=False)
  member_settings.check_objective([{'learning_rate': 1e-4}], has_annealing=True)
  member_settings.check_objective([], has_annealing=True)


def test_a_member_in_words():
  words = member_settings.describe({'learning_rate': 1e-4, 'gamma': 0.98})
  assert words == 'learning_rate 0.0001, gamma 0.98'
