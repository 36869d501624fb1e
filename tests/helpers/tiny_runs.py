"""Runs of seconds through the entry point, and the files that they leave.

All have one shape of network and replay, so that a process compiles each piece
once. On a probe an episode begins at once; an emulator takes as long to begin
one as for hundreds of steps.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Callable, Sequence

from absl.testing import flagsaver
import gin
from paths import TESTDATA

from reincarnating_rl import train

GAME = 'create_atari_environment.game_name'
PROBE = 'probe/ObservedReward-6'  # with as many actions as Pong
# A teacher of Pong with a replay; its files name no game.
TEACHER = TESTDATA / 'dopamine_406_small'
# What makes a method is left as its config has it.
BUDGET = {
    'Runner.num_iterations': 2,
    'Runner.training_steps': 48,
    'Runner.evaluation_steps': 20,
    'Runner.max_steps_per_episode': 30,
    'RunnerWithTeacher.num_pretraining_steps': 3,
    'RunnerWithTeacher.num_envs': 2,
    'RunnerWithTeacher.num_eval_envs': 1,
    'RunnerWithTeacher.teacher_steps': 0,
    'JaxDQNAgent.min_replay_history': 30,
    'JaxDQNAgent.epsilon_decay_period': 40,
    'ReplayBuffer.max_capacity': 90,
    'ReplayBuffer.batch_size': 4,
}
NARROW = {
    'ImpalaRainbowNetwork.nn_scale': 1,
    'ImpalaRainbowNetwork.stack_sizes': (4, 4, 4),
    'ImpalaRainbowNetwork.num_blocks': 1,
    'ImpalaRainbowNetwork.hidden_size': 16,
    'NatureDQNNetwork.features': (4, 8, 8),
    'NatureDQNNetwork.hidden_size': 16,
    'FullRainbowNetwork.features': (4, 8, 8),
    'FullRainbowNetwork.hidden_size': 16,
    'ImpalaImplicitQuantileNetwork.stack_sizes': (4, 4, 4),
    'ImpalaImplicitQuantileNetwork.num_blocks': 1,
    'ImpalaImplicitQuantileNetwork.hidden_size': 16,
}
TINY = BUDGET | {f'reincarnation_networks.{k}': v for k, v in NARROW.items()}
# With one pretraining iteration: on data that the teacher left, or collects.
_PRETRAINING = {'RunnerWithTeacher.num_pretraining_iterations': 1}
BINDINGS = TINY | {GAME: PROBE} | _PRETRAINING
COLLECTING = TINY | _PRETRAINING | {'RunnerWithTeacher.teacher_steps': 40}


def binding_flags(bindings: dict[str, Any]) -> list[str]:
  """Flags of `train` that bind values."""
  return [f'--gin_bindings={name} = {v!r}' for name, v in bindings.items()]


def with_flags(do: Callable[[], Any], flags: Sequence[Any]) -> Any:
  """Calls a function with flags of `train`, from an empty gin on."""
  gin.clear_config()
  train.FLAGS.unparse_flags()
  with flagsaver.flagsaver():
    train.FLAGS(['train', *map(str, flags)])
    return do()


def run_train(*flags: Any) -> None:
  """Runs the entry point in this process."""
  with_flags(lambda: train.main(['train']), flags)


def summary(base_dir: Any) -> dict[str, Any]:
  """summary.json of a run."""
  path = pathlib.Path(base_dir) / 'summary.json'
  return json.loads(path.read_text(encoding='utf-8'))


def metrics(base_dir: Any) -> list[dict[str, float]]:
  """Losses and returns of each phase, from the newest checkpoint."""
  folders = (pathlib.Path(base_dir) / 'checkpoints').glob('[0-9]*')
  newest = max(folders, key=lambda path: int(path.name))
  document = json.loads((newest / 'document.json').read_text(encoding='utf-8'))
  return [record['metrics'] for record in document['state']['records']]
