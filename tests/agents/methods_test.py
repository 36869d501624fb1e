"""Agents as data: what each one minimises, begins with, and how to add one."""

import gin
import jax
import numpy as np
from paths import TESTS
import pytest

from reincarnating_rl import teachers
from reincarnating_rl.agents import dqn
from reincarnating_rl.agents import iqn
from reincarnating_rl.agents import rainbow
from reincarnating_rl.agents.methods import METHOD_TYPES
from reincarnating_rl.agents.methods import Reload
from reincarnating_rl.agents.reloading import begin_as
from reincarnating_rl.dopamine_bridge import gin_files
from reincarnating_rl.learner import adam_direction
from reincarnating_rl.learner import Objective
from reincarnating_rl.learner import Quantile
from reincarnating_rl.learner import rmsprop_direction
from reincarnating_rl.learner import TD_LOSSES
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.learner.learner import ATARI_STATE
from reincarnating_rl.runners import runner as _  # noqa: F401, registers names

TEACHER = str(TESTS / 'testdata' / 'dopamine_406_small')


def method(agent_class, config, *bindings):
  gin_files.parse([f'{config}.gin'], bindings)
  return agent_class(num_actions=3, seed=1).method()


# -- what each config minimises ------------------------------------------------


def test_qdagger():
  got = method(dqn.QDaggerDQNAgent, 'qdagger_dqn')
  assert got.objective == Objective('huber', distill='policy')
  assert (got.coefficients.distill, got.coefficients.temperature) == (3.0, 0.1)
  assert (got.distill_decay_period, got.lr_decay, got.wean) == (
      1_500_000,
      True,
      True,
  )
  got = method(rainbow.QDaggerRainbowAgent, 'qdagger_rainbow')
  assert got.objective == Objective('categorical', distill='policy')
  assert got.coefficients.distill == 1.0


@pytest.mark.parametrize('method_type', METHOD_TYPES)
def test_dagger_and_its_mixture(method_type):
  binding = f"QDaggerRainbowAgent.method_type = '{method_type}'"
  got = method(rainbow.QDaggerRainbowAgent, 'qdagger_rainbow', binding)
  assert got.objective.distill == 'policy'
  assert (got.objective.td is None) == (method_type == 'dagger')
  assert got.wean == got.lr_decay == (method_type == 'reincarnation')


@pytest.mark.parametrize('method_type', METHOD_TYPES)
def test_priorities_are_of_a_td_loss(method_type):
  binding = f"QDaggerRainbowAgent.method_type = '{method_type}'"
  gin_files.parse(['qdagger_rainbow.gin'], [binding])
  agent = rainbow.QDaggerRainbowAgent(num_actions=3, seed=1)
  assert agent.student_settings().prioritized == (method_type != 'dagger')


def test_drq():
  got = method(rainbow.QDaggerRainbowAgent, 'qdagger_drq').objective
  assert (got.td, got.double) == (TD_LOSSES['huber'], True)
  assert got.augment


def test_iqn():
  got = method(iqn.QDaggerIQNAgent, 'qdagger_iqn').objective
  assert (got.td, got.distill) == (Quantile(64, 64), 'policy')


def test_dqfd_with_the_actions_of_the_teacher():
  got = method(dqn.DQfDAgent, 'dqfd_dqn')
  assert got.offline is None
  assert got.objective.margin == 'elementwise' and got.objective.needs_teacher
  binding = 'DQfDAgent.dqfd_margin = True'
  assert method(dqn.DQfDAgent, 'dqfd_dqn', binding).objective.margin == 'dqfd'


def test_dqfd_with_the_actions_of_the_data():
  """Offline they are an example; online they are the student's own."""
  binding = 'DQfDAgent.use_teacher_actions = False'
  got = method(dqn.DQfDAgent, 'dqfd_dqn', binding)
  assert got.objective == Objective('huber')
  assert got.offline.objective.margin == 'elementwise'
  assert not got.offline.objective.needs_teacher
  gin.clear_config()
  gin_files.parse(['dqfd_dqn.gin'], [binding])
  offline = dqn.DQfDAgent(num_actions=3, seed=1).make_offline_learning()
  assert offline.keeps_optimizer and offline.learning_rate is None


def test_pretraining_has_its_own_optimizer():
  gin_files.parse(['pretrained_dqn.gin'], [])
  agent = dqn.PretrainedDQNAgent(num_actions=3, seed=1)
  offline = agent.make_offline_learning()
  assert offline.learner.objective == Objective('huber', cql=True)
  assert (offline.learning_rate, offline.keeps_optimizer) == (1e-4, False)
  assert agent.student_settings().learning_rate == 1e-5
  assert agent.method().objective == Objective('huber')


def test_rehearsal():
  got = method(dqn.PretrainedDQNAgent, 'rehearsal_dqn')
  assert got.teacher_data_ratio == 1 / 16
  only = 'PretrainedDQNAgent.use_offline_samples_only = True'
  got = method(dqn.PretrainedDQNAgent, 'rehearsal_dqn', only)
  assert got.teacher_data_ratio == 1.0


def test_both_forms_of_jsrl():
  guide = method(dqn.JSRLAgent, 'jsrl_dqn').guide
  assert not guide.roll_in_guide and guide.guide_prob(1_250_000) == 0.5
  guide = method(
      dqn.JSRLAgent,
      'jsrl_dqn',
      'JSRLAgent.roll_in_guide = True',
      'JSRLAgent.roll_out_guide_prob = 0.0',
  ).guide
  assert guide.roll_in_guide and guide.guide_prob(0) == 0.0
  schedule = 'dopamine.jax.agents.dqn.dqn_agent.identity_epsilon'
  stays = f'JSRLAgent.roll_out_decay_fn = @{schedule}'
  assert method(dqn.JSRLAgent, 'jsrl_dqn', stays).guide.guide_prob(10**9) == 1.0


AGENTS = {
    dqn.QDaggerDQNAgent: 'qdagger_dqn',
    dqn.DQfDAgent: 'dqfd_dqn',
    dqn.PretrainedDQNAgent: 'pretrained_dqn',
    dqn.JSRLAgent: 'jsrl_dqn',
    dqn.ReloadedDQNAgent: 'reloaded_dqn',
    dqn.TeacherDQNAgent: 'dqn',
    dqn.ReincarnationDQNAgent: 'dqn',
    rainbow.QDaggerRainbowAgent: 'qdagger_rainbow',
    rainbow.TeacherRainbowAgent: 'rainbow',
    rainbow.ReincarnationRainbowAgent: 'rainbow',
    iqn.QDaggerIQNAgent: 'qdagger_iqn',
    iqn.ReincarnationIQNAgent: 'qdagger_iqn',
}


def bound(agent_class, *bindings):
  gin.clear_config()
  gin_files.parse([f'{AGENTS[agent_class]}.gin'], bindings)
  return agent_class(num_actions=3, seed=1).student_settings()


@pytest.mark.parametrize('name', ['reincarnation', 'persistent'])
@pytest.mark.parametrize('agent_class', AGENTS, ids=lambda a: a.__name__)
def test_updates_of_a_pretraining_step_of_every_agent(agent_class, name):
  binding = f'{agent_class.__name__}.num_updates_per_{name}_step = 4'
  assert bound(agent_class, binding).updates_per_pretraining_step == 4


def test_a_binding_of_the_agent_wins_over_one_of_its_family():
  of_all = 'ReincarnationDQNAgent.num_updates_per_reincarnation_step = 4'
  own = 'QDaggerDQNAgent.num_updates_per_reincarnation_step = 2'
  number = 'updates_per_pretraining_step'
  assert getattr(bound(dqn.QDaggerDQNAgent, of_all), number) == 4
  assert getattr(bound(dqn.QDaggerDQNAgent, of_all, own), number) == 2
  # Parsed again, what was used says the same.
  for bindings, expected in (((of_all,), 4), ((of_all, own), 2)):
    bound(dqn.QDaggerDQNAgent, *bindings)
    used = gin.operative_config_str()
    gin.clear_config()
    gin.parse_config(used)
    agent = dqn.QDaggerDQNAgent(num_actions=3, seed=1)
    assert getattr(agent.student_settings(), number) == expected
    assert 'QDaggerDQNAgent.distill_temperature = 0.1' in used


def test_updates_of_a_training_step_of_rainbow():
  ratio = lambda *b: bound(rainbow.QDaggerRainbowAgent, *b).replay_ratio
  dopamines = 'JaxFullRainbowAgent.num_updates_per_train_step = 2'
  assert ratio(dopamines) == 2 / 4
  own = 'QDaggerRainbowAgent.num_updates_per_train_step = 3'
  assert ratio(dopamines, own) == 3 / 4


@pytest.mark.parametrize('agent_class', AGENTS, ids=lambda a: a.__name__)
def test_what_an_agent_does_not_take_is_refused(agent_class):
  for name in ('no_such_parameter', 'args', 'kwargs', 'gamma'):
    with pytest.raises(ValueError, match=f'named .{name}'):
      bound(agent_class, f'{agent_class.__name__}.{name} = 1')


def test_an_agent_of_the_user_takes_and_refuses_the_same():
  @gin.configurable(module='of_a_user')
  class Mine(dqn.ReincarnationDQNAgent):
    """Without a constructor."""

  @gin.configurable(module='of_a_user')
  class WithItsOwn(dqn.ReincarnationDQNAgent):
    """As agents of the earlier release had one."""

    def __init__(self, num_actions, mine=1, summary_writer=None, seed=None):
      self.mine = mine
      super().__init__(
          num_actions=num_actions, summary_writer=summary_writer, seed=seed
      )

  gin.parse_config('Mine.data_augmentation = True\nWithItsOwn.mine = 2')
  assert Mine(3, seed=1).objective().augment
  assert WithItsOwn(3, seed=1).mine == 2
  for name in ('Mine.no_such', 'WithItsOwn.no_such', 'WithItsOwn.kwargs'):
    with pytest.raises(ValueError, match='have a parameter named'):
      gin.parse_config(f'{name} = 1')


# -- fine-tuning ---------------------------------------------------------------


def _learner(teacher, direction):
  return ValueLearner(teacher.network, Objective(), direction)


def test_a_reloaded_student_is_its_teacher():
  teacher = teachers.load(TEACHER)
  learner = _learner(teacher, adam_direction())
  beginning = begin_as(teacher, learner, Reload(), 3, 0.99)
  state = beginning.state(
      learner, jax.random.PRNGKey(0), ATARI_STATE, _no_coefficients()
  )
  same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  same(state.online_params, teacher.params)
  same(state.target_params, teacher.target_params)
  same(state.opt_state.mu, teacher.optimizer.mu)
  same(state.opt_state.nu, teacher.optimizer.nu)
  assert state.opt_state.count == teacher.optimizer.count == 274
  assert beginning.training_steps == teacher.training_steps == 1293
  spec, replay = beginning.replay()
  leaves = np.asarray(replay.priorities.tree.leaves)[: spec.capacity]
  np.testing.assert_array_equal(leaves > 0, teacher.replay.valid(3))


def _no_coefficients():
  from reincarnating_rl.learner import Coefficients

  return Coefficients()


@pytest.mark.parametrize(
    'path, direction, words',
    [
        ('dopamine_315_prelinen', adam_direction(), 'no optimizer state'),
        ('dopamine_406_small', rmsprop_direction(), 'no optimizer state'),
        ('tf1_small', adam_direction(), 'no replay, no count of training'),
    ],
)
def test_what_a_teacher_does_not_have_is_said(path, direction, words, caplog):
  teacher = teachers.load(str(TESTS / 'testdata' / path), read_replay=False)
  with caplog.at_level('WARNING'):
    learner = _learner(teacher, direction)
    beginning = begin_as(teacher, learner, Reload(), 1, 0.99)
  assert words in caplog.text and 'starts with fresh ones' in caplog.text
  assert beginning.opt_state is None


def test_what_is_not_wanted_is_not_taken(caplog):
  teacher = teachers.load(TEACHER, read_replay=False)
  learner = _learner(teacher, adam_direction())
  with caplog.at_level('WARNING'):
    beginning = begin_as(teacher, learner, Reload(False, False), 1, 0.99)
  assert beginning.replay is None and beginning.opt_state is None
  assert 'fresh' not in caplog.text
