"""Evaluates a trained teacher and bundles its parameters with the package.

  python scripts/bundle_teacher.py --teacher /tmp/pong

Rounds the parameters to the dtype in which they are stored, plays whole
episodes with them, and writes them into the package with a record of their
origin. No replay is bundled: runs let the teacher collect data.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Sequence

from absl import flags
import jax
import numpy as np

from reincarnating_rl import teachers
from reincarnating_rl.base import command_line
from reincarnating_rl.base import files
from reincarnating_rl.envs.atari import STICKY_ACTION_PROBABILITY
from reincarnating_rl.evaluate import scoring
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.teachers.formats import native

_TEACHER = flags.DEFINE_string(
    'teacher', None, 'Directory made by train_teacher.', required=True
)
_CHECKPOINT = flags.DEFINE_integer(
    'checkpoint',
    None,
    'Number of the checkpoint; default the one with the best score.',
)
_TO = flags.DEFINE_string(
    'to', None, "Output folder; default the package's bundled/<Game>."
)
_EPISODES = flags.DEFINE_integer('episodes', 30, 'Episodes to evaluate.')
_SEED = flags.DEFINE_integer('seed', 2026, 'Seed of the evaluation.')
_EPSILON = flags.DEFINE_float(
    'epsilon', 0.001, 'Exploration of the evaluation.'
)
_DTYPE = flags.DEFINE_enum(
    'dtype',
    'float16',
    ['float16', 'float32'],
    'Dtype of the stored parameters.',
)

PROVENANCE_FILE = 'provenance.json'
_BUNDLED = os.path.join(os.path.dirname(teachers.__file__), 'bundled')


def best_checkpoint(directory: str) -> int:
  """Checkpoint with the best recorded score, the newest of equals."""
  scores = native.read_manifest(directory).scores
  numbers = native.checkpoint_numbers(directory)
  return max(numbers, key=lambda n: (scores.get(str(n), -np.inf), n))


def without_paths(command: str) -> str:
  """The command with DIR as its --base_dir, a folder of one machine."""
  return re.sub(r'(--base_dir[ =])\S+', r'\1DIR', command)


def main(argv: Sequence[str]) -> None:
  del argv
  directory = teachers.loading.find_directory(_TEACHER.value)
  number = _CHECKPOINT.value
  if number is None:
    number = best_checkpoint(directory)
  original = native.read_manifest(directory)
  dtype = np.dtype(_DTYPE.value)
  teacher = teachers.load(_TEACHER.value, number, read_replay=False)
  stored = jax.tree.map(lambda x: x.astype(dtype), teacher.params)
  rounded = jax.tree.map(lambda x: x.astype(np.float32), stored)
  episodes = scoring.play_episodes(
      value_policy(teacher.network, rounded),
      original.game,
      _EPISODES.value,
      epsilon=_EPSILON.value,
      seed=_SEED.value,
  )
  returns = episodes.returns.tolist()
  print(
      f'{len(returns)} episodes: mean {np.mean(returns):.2f}, min '
      f'{np.min(returns):.0f}, max {np.max(returns):.0f}'
  )
  key = str(number)
  to = _TO.value or os.path.join(_BUNDLED, original.game)
  manifest = dataclasses.replace(
      original,
      scores={key: float(np.mean(returns))},
      agent_steps={key: original.agent_steps[key]},
      provenance={},
  )
  native.write_checkpoint(to, manifest, number, stored, dtype=dtype)
  native.keep_checkpoints(to, {number})
  provenance = original.provenance | {
      'command': without_paths(original.provenance['command']),
      'checkpoint': number,
      'agent_steps': original.agent_steps[key],
      'stored_as': dtype.name,
      'evaluation': {
          'episodes': len(returns),
          'epsilon': _EPSILON.value,
          'sticky_actions': STICKY_ACTION_PROBABILITY,
          'seed': _SEED.value,
          'mean_return': float(np.mean(returns)),
          'returns': returns,
          'agent_steps': episodes.lengths.tolist(),
      },
  }
  files.write_json(os.path.join(to, PROVENANCE_FILE), provenance)


if __name__ == '__main__':
  command_line.run(main)
