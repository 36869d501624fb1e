"""Trains a teacher from nothing and saves it in this package's own format.

  python -um reincarnating_rl.train_teacher --game Pong --base_dir /tmp/teacher

Needs neither Dopamine nor TensorFlow. Interrupted, it goes on from its newest
checkpoint when it is started again with the same flags.
"""

from __future__ import annotations

from fractions import Fraction
import os

from absl import app
from absl import flags
from absl import logging

from reincarnating_rl import learner as learner_lib
from reincarnating_rl import networks

FLAGS = flags.FLAGS

_GAME = flags.DEFINE_string('game', 'Pong', 'Game, such as MsPacman.')
_BASE_DIR = flags.DEFINE_string('base_dir', None, 'Where everything goes.', required=True)
_AGENT = flags.DEFINE_enum('agent', 'dqn', ['dqn', 'rainbow'], 'What to train.')
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the run.')
_ITERATIONS = flags.DEFINE_integer('num_iterations', 20, 'Iterations.')
_TRAINING_STEPS = flags.DEFINE_integer(
    'training_steps', 50_000, 'Agent steps of an iteration.'
)
_EVALUATION_STEPS = flags.DEFINE_integer(
    'evaluation_steps', 20_000, 'Agent steps of an evaluation, at least.'
)
_NUM_ENVS = flags.DEFINE_integer('num_envs', 8, 'Environments side by side.')
_REPLAY_RATIO = flags.DEFINE_string(
    'replay_ratio', '1/4', 'Updates per agent step.'
)
_UPDATE_HORIZON = flags.DEFINE_integer('update_horizon', 3, 'n of the returns.')
_DOUBLE = flags.DEFINE_bool('double', True, 'Double Q-learning.')
_PRIORITIZED = flags.DEFINE_bool('prioritized', True, 'Prioritized replay.')
_LEARNING_RATE = flags.DEFINE_float('learning_rate', 1e-4, 'Of Adam.')
_ADAM_EPS = flags.DEFINE_float('adam_eps', 1.5e-4, 'Epsilon of Adam.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Of an update.')
_CAPACITY = flags.DEFINE_integer(
    'replay_capacity', 200_000, 'Agent steps kept.'
)
_MIN_HISTORY = flags.DEFINE_integer(
    'min_replay_history', 10_000, 'Agent steps before the first update.'
)
_TARGET_PERIOD = flags.DEFINE_integer(
    'target_update_period', 4_000, 'Agent steps between target copies.'
)
_EPSILON_DECAY = flags.DEFINE_integer(
    'epsilon_decay_period', 50_000, 'Agent steps of the decay from 1.'
)
_EPSILON_TRAIN = flags.DEFINE_float('epsilon_train', 0.01, 'Final exploration.')


def main(argv):
  del argv
  # Imported late: flags and --help answer at once.
  from reincarnating_rl.envs.atari import AtariVector
  from reincarnating_rl.loop.checkpoint import RunCheckpointer
  from reincarnating_rl.loop.plan import RunConfig
  from reincarnating_rl.loop.run import Run
  from reincarnating_rl import scores

  config = RunConfig(
      game=_GAME.value,
      seed=_SEED.value,
      num_iterations=_ITERATIONS.value,
      training_steps=_TRAINING_STEPS.value,
      evaluation_steps=_EVALUATION_STEPS.value,
      num_envs=_NUM_ENVS.value,
      replay_ratio=Fraction(_REPLAY_RATIO.value),
      update_horizon=_UPDATE_HORIZON.value,
      prioritized=_PRIORITIZED.value,
      learning_rate=_LEARNING_RATE.value,
      batch_size=_BATCH_SIZE.value,
      replay_capacity=_CAPACITY.value,
      min_replay_history=_MIN_HISTORY.value,
      target_update_period=_TARGET_PERIOD.value,
      epsilon_decay_period=_EPSILON_DECAY.value,
      epsilon_train=_EPSILON_TRAIN.value,
  )
  make_env = lambda num, stream: AtariVector(
      config.game, num, config.seed, stream
  )
  num_actions = make_env(1, ()).num_actions
  distributional = _AGENT.value == 'rainbow'
  network = networks.make_network(
      num_actions,
      num_atoms=networks.DEFAULT_NUM_ATOMS if distributional else 1,
      distributional=distributional,
  )
  learner = learner_lib.Learner(
      network,
      learner_lib.Objective(
          'categorical' if distributional else 'huber', double=_DOUBLE.value
      ),
      learner_lib.adam_direction(eps=_ADAM_EPS.value),
  )

  class Log:
    def on_phase_start(self, *a): pass
    def on_progress(self, n): pass
    def on_metrics(self, step, m):
      if step % 5000 < 800: logging.info('%d %s', step, {k: round(v, 4) for k, v in m.items()})
    def on_record(self, r):
      logging.info('%s', r)

  run = Run(config, learner, make_env, scores.random_score(config.game), listeners=[Log()])
  checkpointer = RunCheckpointer(os.path.join(_BASE_DIR.value, 'checkpoints'))
  if checkpointer.restore(run):
    logging.info('Resumed after %d phases.', run.counters.next_phase)
  run.run(after_phase=checkpointer.save)


if __name__ == '__main__':
  app.run(main)
