"""Trains a teacher from scratch and saves it in this package's own format.

  python -um reincarnating_rl.train_teacher --game Pong --base_dir /tmp/pong

BASE_DIR then is a teacher directory (`--teacher_checkpoint_dir /tmp/pong`) with
the newest and the best parameters, and the replay of the newest. Neither
Dopamine nor TensorFlow is needed. Run the same command again to resume after
the last iteration. A larger `--num_iterations` prolongs the run, and
`--learning_rate` may be lowered meanwhile.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import os
import subprocess
import sys
from typing import Any, Sequence

from absl import flags
from absl import logging

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors

_GAME = flags.DEFINE_string('game', 'Pong', 'Game, such as MsPacman.')
_BASE_DIR = flags.DEFINE_string(
    'base_dir', None, 'Teacher directory to write.', required=True
)
_AGENT = flags.DEFINE_enum(
    'agent', 'dqn', ['dqn', 'rainbow'], 'Nature DQN, or C51 on its encoder.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the run.')
_NUM_ITERATIONS = flags.DEFINE_integer('num_iterations', 40, 'Iterations.')
_TRAINING_STEPS = flags.DEFINE_integer(
    'training_steps', 50_000, 'Agent steps of an iteration.'
)
_EVALUATION_STEPS = flags.DEFINE_integer(
    'evaluation_steps', 20_000, 'Agent steps of an evaluation, at least.'
)
_NUM_ENVS = flags.DEFINE_integer('num_envs', 8, 'Environments side by side.')
_REPLAY_RATIO = flags.DEFINE_string(
    'replay_ratio', '1/4', 'Updates per agent step, a fraction or decimal.'
)
_UPDATE_HORIZON = flags.DEFINE_integer(
    'update_horizon', 3, 'n of the n-step returns.'
)
_DOUBLE = flags.DEFINE_bool('double', False, 'Double Q-learning.')
_PRIORITIZED = flags.DEFINE_bool('prioritized', True, 'Prioritized replay.')
_LEARNING_RATE = flags.DEFINE_float('learning_rate', 1e-4, 'Learning rate.')
_ADAM_EPS = flags.DEFINE_float('adam_eps', 1e-5, 'Epsilon of Adam.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'Transitions an update.')
_GAMMA = flags.DEFINE_float('gamma', 0.99, 'Discount of one agent step.')
_REPLAY_CAPACITY = flags.DEFINE_integer(
    'replay_capacity', 200_000, 'Agent steps that the replay keeps.'
)
_MIN_REPLAY_HISTORY = flags.DEFINE_integer(
    'min_replay_history', 10_000, 'Agent steps before the first update.'
)
_TARGET_UPDATE_PERIOD = flags.DEFINE_integer(
    'target_update_period', 4_000, 'Agent steps between copies of the target.'
)
_EPSILON_DECAY_PERIOD = flags.DEFINE_integer(
    'epsilon_decay_period', 60_000, 'Agent steps of the decay from 1.'
)
_EPSILON_TRAIN = flags.DEFINE_float('epsilon_train', 0.01, 'Final exploration.')
_HIDDEN_SIZE = flags.DEFINE_integer(
    'hidden_size', 512, 'Width of the dense layer.'
)
_FEATURES = flags.DEFINE_list(
    'features', ['32', '64', '64'], 'Widths of the three convolutions.'
)

_COMMAND = 'python -um reincarnating_rl.train_teacher'
RESUME_FOLDER = 'resume'
EPSILON_EVAL = 0.001


def network_options(num_actions: int) -> dict[str, Any]:
  """Keyword arguments of `networks.make_network`, from the flags."""
  from reincarnating_rl import networks

  distributional = _AGENT.value == 'rainbow'
  return {
      'num_actions': num_actions,
      'encoder': 'nature',
      'num_atoms': networks.DEFAULT_NUM_ATOMS if distributional else 1,
      'distributional': distributional,
      'hidden_size': _HIDDEN_SIZE.value,
      'features': [int(width) for width in _FEATURES.value],
  }


def run_config() -> Any:
  """Settings of the run, from the flags.

  Raises:
    ValueError: if they make no sense.
  """
  from reincarnating_rl.loop.config.plan import RunConfig

  return RunConfig(
      game=_GAME.value,
      seed=_SEED.value,
      num_iterations=_NUM_ITERATIONS.value,
      training_steps=_TRAINING_STEPS.value,
      evaluation_steps=_EVALUATION_STEPS.value,
      num_envs=_NUM_ENVS.value,
      replay_ratio=parse_ratio(_REPLAY_RATIO.value),
      update_horizon=_UPDATE_HORIZON.value,
      gamma=_GAMMA.value,
      prioritized=_PRIORITIZED.value,
      learning_rate=_LEARNING_RATE.value,
      batch_size=_BATCH_SIZE.value,
      replay_capacity=_REPLAY_CAPACITY.value,
      min_replay_history=_MIN_REPLAY_HISTORY.value,
      target_update_period=_TARGET_UPDATE_PERIOD.value,
      epsilon_decay_period=_EPSILON_DECAY_PERIOD.value,
      epsilon_train=_EPSILON_TRAIN.value,
      epsilon_eval=EPSILON_EVAL,
  )


def parse_ratio(text: str) -> Fraction:
  """'1/4' or '0.25' as an exact fraction.

  Raises:
    ValueError: for anything else.
  """
  try:
    return Fraction(text)
  except (ValueError, ZeroDivisionError) as e:
    raise ValueError(
        f"replay_ratio is {text!r}; write a fraction or decimal such as '1/4'."
    ) from e


def git_revision() -> str:
  """Revision of this code if it is a git checkout, else 'unknown'."""
  folder = os.path.dirname(os.path.abspath(__file__))
  command = ['git', '-C', folder, 'describe', '--always', '--dirty']
  try:
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'


class TeacherWriter:
  """Saves the newest and the best parameters of a run as a teacher."""

  def __init__(self, directory: str, network: dict[str, Any]):
    self._directory = directory
    self._network = network

  def save(self, run: Any) -> None:
    """Adds the run's present parameters, and removes superseded ones."""
    from reincarnating_rl.replay import frame_replay
    from reincarnating_rl.rundir.summary import versions
    from reincarnating_rl.teachers.formats import native
    from reincarnating_rl.teachers.teacher_replay import TeacherReplay

    trainer = run.trainer
    number = run.records[-1].iteration
    manifest = native.Manifest(
        game=run.config.game,
        network=self._network,
        update_horizon=run.config.update_horizon,
        scores={str(r.iteration): r.student_score for r in run.records},
        agent_steps={str(r.iteration): r.agent_steps for r in run.records},
        provenance={
            'command': ' '.join([_COMMAND] + sys.argv[1:]),
            'git_revision': git_revision(),
            'versions': versions(),
            'config': {
                k: str(v) for k, v in dataclasses.asdict(run.config).items()
            },
        },
    )
    spec = trainer.writer.spec
    storage = frame_replay.oldest_first(spec, trainer.writer.state)
    rows = storage.action.shape[0]
    replay = TeacherReplay(dataclasses.replace(spec, capacity=rows), storage)
    native.write_checkpoint(
        self._directory,
        manifest,
        number,
        trainer.learner_state.online_params,
        replay=replay,
    )
    scores = {r.iteration: r.student_score for r in run.records}
    best = max(scores, key=lambda n: (scores[n], n))
    native.keep_checkpoints(self._directory, {number, best})


def make_learner(network: Any) -> Any:
  """The learner, from the flags."""
  from reincarnating_rl import learner as learner_lib

  td = 'categorical' if _AGENT.value == 'rainbow' else 'huber'
  return learner_lib.ValueLearner(
      network,
      learner_lib.Objective(td, double=_DOUBLE.value),
      learner_lib.adam_direction(eps=_ADAM_EPS.value),
  )


def make_run(base_dir: str) -> tuple[Any, Any, TeacherWriter]:
  """The run, its checkpointer and the writer of its teacher.

  Raises:
    ValueError: one sentence, for flags that make no sense.
  """
  from reincarnating_rl import networks
  from reincarnating_rl.base import run_lock as base_dir_lib
  from reincarnating_rl.base import scores
  from reincarnating_rl.envs import registry
  from reincarnating_rl.loop.run.run import Run
  from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
  from reincarnating_rl.rundir.progress_bars import ProgressBar

  config = run_config()
  make_env = config.environment()
  options = network_options(registry.num_actions(make_env))
  network = networks.make_network(**options)
  base_dir = base_dir_lib.make(base_dir)
  base_dir_lib.take(base_dir)
  run = Run(
      config,
      make_learner(network),
      make_env,
      scores.random_score(config.game),
      listeners=[ProgressBar(config.num_iterations)],
  )
  checkpointer = RunCheckpointer(os.path.join(base_dir, RESUME_FOLDER))
  if checkpointer.restore(run):
    logging.info('Going on after iteration %d.', run.next_phase)
  return run, checkpointer, TeacherWriter(base_dir, options)


def main(argv: Sequence[str]) -> None:
  del argv
  with errors.user_errors():
    run, checkpointer, writer = make_run(_BASE_DIR.value)

  from reincarnating_rl.loop.saving.supervisor import Keeper
  from reincarnating_rl.loop.training.events import TrainingDivergedError

  with errors.user_errors(TrainingDivergedError):
    with Keeper(
        [(run, checkpointer)], how_to_resume=command_line.how_to_resume()
    ) as keeper:

      def after_phase(run: Any) -> None:
        record = run.records[-1]
        logging.info(
            'Iteration %d: score %.2f after %d agent steps, %d updates.',
            record.iteration,
            record.student_score,
            record.agent_steps,
            record.updates,
        )
        writer.save(run)
        keeper.after_phase(run)

      run.run(after_phase)
      keeper.finish()
      checkpointer.close()


if __name__ == '__main__':
  command_line.run(main)
