"""Agents one step at a time: equal to the loop, and under Dopamine's Runner."""

from fractions import Fraction
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reincarnating_rl.dopamine_bridge import compat

compat.prepare_dopamine()

# pylint: disable=wrong-import-position
from dopamine.discrete_domains import run_experiment

from reincarnating_rl import networks
from reincarnating_rl.agents import dqn
from reincarnating_rl.agents import rainbow
from reincarnating_rl.dopamine_bridge import environment as environment_lib
from reincarnating_rl.dopamine_bridge import gin_files
from reincarnating_rl.dopamine_bridge import networks as networks_lib
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.envs import probe
from reincarnating_rl.learner import TD_LOSSES
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.acting.env_player import Player
from reincarnating_rl.loop.training.trainer import Trainer
from reincarnating_rl.networks import spec

NUM_ACTIONS = 3
BINDINGS = (
    'JaxDQNAgent.min_replay_history = 16',
    'JaxDQNAgent.target_update_period = 20',
    'JaxDQNAgent.epsilon_decay_period = 20',
    'ReplayBuffer.max_capacity = 200',
    'ReplayBuffer.batch_size = 4',
    'reincarnation_networks.FullRainbowNetwork.hidden_size = 16',
    'reincarnation_networks.NatureDQNNetwork.hidden_size = 16',
)


def _teacher(num_actions=NUM_ACTIONS):
  network = networks.make_network(
      num_actions, features=(4, 8, 8), hidden_size=16
  )
  states = np.zeros((1, 84, 84, 4), np.uint8)
  params = network.init(jax.random.PRNGKey(9), states)['params']
  return value_policy(network, params)


def _agent(agent_class, config, num_actions=NUM_ACTIONS, seed=5):
  gin_files.parse([config], BINDINGS)
  return agent_class(num_actions=num_actions, seed=seed)


def _env():
  description = probe.ContextualBandit(num_states=4, num_actions=NUM_ACTIONS)
  return probe.ProbeVector(description, 1, seed=1)


def _corridor():
  description = probe.DelayedReward(length=6, num_actions=NUM_ACTIONS)
  return probe.ProbeVector(description, 1, seed=1, max_agent_steps=4)


def _play_one_step_at_a_time(agent, env, num_steps):
  """Drives an agent as Dopamine's Runner does."""
  frame = lambda observation: observation[0, -1][..., None]
  action = agent.begin_episode(frame(env.reset()))
  for _ in range(num_steps - 1):
    step = env.step(np.array([action]))
    reward = float(step.reward[0])
    if step.terminal[0] or step.truncated[0]:
      agent.end_episode(reward, bool(step.terminal[0]))
      action = agent.begin_episode(frame(step.observation))
    else:
      action = agent.step(reward, frame(step.observation))


def _play_in_the_loop(trainer, env, num_steps):
  player = Player(env, trainer.policy.actor)
  for _ in range(num_steps):
    trainer.train_step()
    player.step(trainer.act, trainer.store)


@pytest.mark.parametrize(
    'agent_class, config, make_env',
    [
        (dqn.QDaggerDQNAgent, 'qdagger_dqn.gin', _env),
        (rainbow.QDaggerRainbowAgent, 'qdagger_rainbow.gin', _corridor),
    ],
)
def test_one_step_at_a_time_equals_the_loop(agent_class, config, make_env):
  agent = _agent(agent_class, config)
  agent.set_teacher(_teacher())
  _play_one_step_at_a_time(agent, make_env(), 60)

  trainer = Trainer(
      agent.trainer.config,
      agent.make_learner(),
      teacher=_teacher(),
      coefficients=agent.method().coefficients,
  )
  trainer.begin_online()
  _play_in_the_loop(trainer, make_env(), 60)

  assert trainer.counters.updates_made == agent.trainer.counters.updates_made
  assert trainer.counters.updates_made > 5
  for ours, theirs in zip(
      jax.tree.leaves(agent.trainer.learner_state),
      jax.tree.leaves(trainer.learner_state),
      strict=True,
  ):
    np.testing.assert_array_equal(ours, theirs)


def test_evaluation_neither_stores_nor_learns():
  agent = _agent(dqn.ReincarnationDQNAgent, 'dqn.gin')
  agent.eval_mode = True
  _play_one_step_at_a_time(agent, _env(), 10)
  assert agent.trainer.counters.agent_steps == 0
  assert agent.trainer.counters.training_steps == 0


def test_student_without_its_teacher_is_refused():
  agent = _agent(dqn.QDaggerDQNAgent, 'qdagger_dqn.gin')
  with pytest.raises(ValueError, match='call set_teacher'):
    agent.begin_episode(np.zeros((84, 84, 1), np.uint8))


def test_teacher_agent_plays_the_teachers_policy():
  gin_files.parse(['qdagger_dqn.gin'], BINDINGS)
  agent = dqn.TeacherDQNAgent(num_actions=NUM_ACTIONS, seed=0)
  teacher = _teacher()
  agent.set_teacher(teacher)
  agent.epsilon_eval = 0.0
  frame = np.random.default_rng(0).integers(0, 256, (84, 84, 1), np.uint8)
  action = agent.begin_episode(frame)
  state = np.zeros((1, 84, 84, 4), np.uint8)
  state[..., -1] = frame[None, ..., 0]
  assert action == int(teacher.q_values(state).argmax())
  agent.end_episode(1.0)
  assert agent.trainer.counters.agent_steps == 0


@pytest.mark.parametrize(
    'agent_class, config',
    [
        (dqn.QDaggerDQNAgent, 'qdagger_dqn.gin'),
        (rainbow.QDaggerRainbowAgent, 'qdagger_rainbow.gin'),
    ],
)
def test_under_dopamines_own_runner(tmp_path, agent_class, config):
  gin_files.parse(
      [config],
      BINDINGS
      + (
          "create_atari_environment.game_name = 'Pong'",
          'Runner.num_iterations = 1',
          'Runner.training_steps = 30',
          'Runner.evaluation_steps = 10',
          'Runner.max_steps_per_episode = 20',
      ),
  )

  def create_agent(session, environment, summary_writer=None):
    del session
    agent = agent_class(environment.action_space.n, seed=1)
    agent.set_teacher(_teacher(environment.action_space.n))
    return agent

  runner = run_experiment.Runner(
      str(tmp_path),
      create_agent,
      functools.partial(environment_lib.create_atari_environment, seed=1),
  )
  runner.run_experiment()
  counters = runner._agent.trainer.counters
  assert counters.agent_steps == 40  # two whole episodes
  assert counters.updates_made > 0

  # Dopamine's own checkpoint brings parameters and counters back.
  again = run_experiment.Runner(
      str(tmp_path),
      create_agent,
      functools.partial(environment_lib.create_atari_environment, seed=1),
  )
  for ours, theirs in zip(
      jax.tree.leaves(runner._agent.trainer.learner_state.online_params),
      jax.tree.leaves(again._agent.trainer.learner_state.online_params),
      strict=True,
  ):
    np.testing.assert_array_equal(ours, theirs)
  assert again._agent.training_steps == runner._agent.training_steps


def test_what_the_agent_takes_from_gin():
  gin_files.parse(
      ['qdagger_rainbow.gin'],
      BINDINGS
      + (
          "JaxDQNAgent.optimizer = 'rmsprop'",
          'create_optimizer.centered = True',
          'JaxFullRainbowAgent.vmax = 5.0',
          'JaxFullRainbowAgent.vmin = -1.0',
          'JaxFullRainbowAgent.num_updates_per_train_step = 2',
          'OutOfGraphReplayBuffer.batch_size = 4',
      ),
  )
  agent = rainbow.QDaggerRainbowAgent(num_actions=NUM_ACTIONS, seed=0)
  found = agent.student_settings()
  assert found.batch_size == 4
  assert found.replay_capacity == 200
  assert found.update_horizon == 3
  assert found.prioritized
  assert found.learning_rate == 1e-4
  assert found.final_learning_rate == 1e-5
  assert found.replay_ratio == 0.5
  atoms = agent.make_learner().network.atoms
  assert atoms[0] == -1.0 and atoms[-1] == 5.0 and len(atoms) == 51
  assert agent.method().objective.td == TD_LOSSES['categorical']


def test_contradicting_bindings_are_refused():
  gin_files.parse(
      ['qdagger_dqn.gin'], BINDINGS + ('OutOfGraphReplayBuffer.batch_size = 8',)
  )
  with pytest.raises(ValueError, match='contradict'):
    settings.batch_size()


def test_unknown_optimizer_is_refused():
  with pytest.raises(ValueError, match="'adamw', 'rmsprop' or 'sgd'"):
    settings.optimizer_settings('lion')


def test_foreign_network_is_refused():
  gin_files.parse(
      ['qdagger_dqn.gin'],
      BINDINGS + ('JaxDQNAgent.network = @ClassicControlDQNNetwork',),
  )
  with pytest.raises(ValueError, match='ClassicControlDQNNetwork is bound'):
    dqn.QDaggerDQNAgent(num_actions=2, seed=0)


def test_unknown_method_type_is_refused():
  gin_files.parse(
      ['qdagger_rainbow.gin'],
      BINDINGS + ("QDaggerRainbowAgent.method_type = 'sarsa'",),
  )
  with pytest.raises(ValueError, match='sarsa'):
    rainbow.QDaggerRainbowAgent(num_actions=2, seed=0)


@pytest.mark.parametrize(
    'binding, words',
    [
        ("JaxFullRainbowAgent.replay_scheme = 'prioritised'", 'choose one of'),
        (
            "ReincarnationRainbowAgent.teacher_replay_scheme = 'prioritized'",
            'is drawn from uniformly',
        ),
        ('JaxDQNAgent.update_period = 0', 'update_period must be a positive'),
        ("compute.dtype = 'float16'", 'choose one of float32, bfloat16'),
        ("JaxDQNAgent.update_period = '4'", "positive number, got '4'"),
        ('JaxFullRainbowAgent.num_updates_per_train_step = -1', 'got -1'),
    ],
)
def test_values_that_mean_nothing_are_refused(binding, words):
  gin_files.parse(['qdagger_rainbow.gin'], (*BINDINGS, binding))
  with pytest.raises(ValueError, match=words):
    rainbow.QDaggerRainbowAgent(num_actions=2, seed=0).student_settings()


@pytest.mark.parametrize(
    'network',
    [
        'NatureDQNNetwork',
        'ImpalaDQNNetwork',
        'ImplicitQuantileNetwork',
        'ImpalaImplicitQuantileNetwork',
        'FullRainbowNetwork',
        'ImpalaRainbowNetwork',
    ],
)
def test_networks_compute_in_what_is_bound(network):
  atoms = {'num_atoms': 3} if 'Rainbow' in network else {}
  make = lambda: getattr(networks_lib, network)(2, **atoms)
  plain = make()
  gin_files.parse([], ["compute.dtype = 'bfloat16'"])
  found = make()
  assert plain.encoder.dtype == plain.head.dtype == jnp.float32
  assert found.encoder.dtype == found.head.dtype == jnp.bfloat16
  # A run of it is a teacher as others are.
  assert spec.from_json(spec.to_json(found)) == found
  states = np.zeros((1, 84, 84, 4), np.uint8)
  params = jax.eval_shape(lambda: found.init(jax.random.PRNGKey(0), states))
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}


def test_names_of_the_earlier_release_are_known():
  gin_files.parse(
      ['qdagger_dqn.gin'],
      (
          *BINDINGS,
          'TeacherDQNAgent.load_replay = True',
          'ReincarnationDQNAgent.data_augmentation = True',
          "ReincarnationRainbowAgent.teacher_replay_scheme = 'uniform'",
      ),
  )
  assert dqn.QDaggerDQNAgent(num_actions=2, seed=0).method().objective.augment


def test_fractions_of_a_period_are_exact():
  gin_files.parse(
      ['qdagger_dqn.gin'], (*BINDINGS, 'JaxDQNAgent.update_period = 2.5')
  )
  agent = dqn.QDaggerDQNAgent(num_actions=2, seed=0)
  assert agent.student_settings().replay_ratio == Fraction(2, 5)


@pytest.mark.parametrize('config', gin_files.shipped())
def test_every_shipped_config_parses(config):
  gin_files.parse([config], [])
