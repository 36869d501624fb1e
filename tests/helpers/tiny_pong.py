"""Bindings of a run on Pong that takes seconds.

An emulator loads its game anew for each episode, which takes as long as many
hundred steps: episodes are few, and games one at a time.
"""

BINDINGS = {
    'Runner.num_iterations': 1,
    'Runner.training_steps': 40,
    'Runner.evaluation_steps': 8,
    'Runner.max_steps_per_episode': 40,
    'RunnerWithTeacher.num_eval_envs': 1,
    'RunnerWithTeacher.num_pretraining_iterations': 1,
    'RunnerWithTeacher.num_pretraining_steps': 4,
    'RunnerWithTeacher.teacher_steps': 40,
    'ReplayBuffer.max_capacity': 200,
    'ReplayBuffer.batch_size': 4,
    'JaxDQNAgent.min_replay_history': 20,
    'JaxDQNAgent.network': '@reincarnation_networks.NatureDQNNetwork',
    'reincarnation_networks.NatureDQNNetwork.features': (4, 8, 8),
    'reincarnation_networks.NatureDQNNetwork.hidden_size': 16,
}
