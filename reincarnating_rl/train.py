r"""Reincarnates a teacher: the main entry point.

  python -um reincarnating_rl.train --agent qdagger_rainbow \
    --gin_files qdagger_rainbow.gin --base_dir /tmp/qdagger_rainbow \
    --teacher_checkpoint_dir bundled:Pong --run_number 1
"""

from __future__ import annotations

from typing import Sequence

from absl import flags

from reincarnating_rl.app import api
from reincarnating_rl.app.experiment import AGENTS
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors

FLAGS = flags.FLAGS
_AGENT = flags.DEFINE_string(
    'agent', 'qdagger_rainbow', f'Who learns: {", ".join(AGENTS)}.'
)
_GIN_FILES = flags.DEFINE_multi_string('gin_files', [], 'Configurations.')
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    "Bindings that override them, such as 'Runner.training_steps = 100'; a "
    'bare @network binds the network of the agent.',
)
_BASE_DIR = flags.DEFINE_string('base_dir', None, 'Where the run goes.')
_TEACHER_DIR = flags.DEFINE_multi_string(
    'teacher_checkpoint_dir',
    [],
    'The teacher: a run directory, its checkpoints/, a gs:// address, or '
    "'bundled:Pong'; given several times, all of them together, as "
    'TeacherEnsemble says.',
)
_TEACHER_NUMBER = flags.DEFINE_multi_integer(
    'teacher_checkpoint_number',
    [],
    'Its checkpoint; default the newest. Of several teachers: given once for '
    'all of them, or once for each.',
)
_TEACHER_PREFIX = flags.DEFINE_string(
    'teacher_checkpoint_file_prefix', 'ckpt', 'Of its checkpoint files.'
)
_TEACHER_AGENT = flags.DEFINE_enum(
    'teacher_agent',
    None,
    ('dqn', 'rainbow', 'iqn'),
    'What kind of agent it was; default: as its parameters tell.',
)
_RUN_NUMBER = flags.DEFINE_integer('run_number', 0, 'Seed of the run.')
_NUM_SEEDS = flags.DEFINE_integer(
    'num_seeds',
    None,
    'Runs so many seeds side by side, from --run_number on, each in a folder '
    'run_<seed> of --base_dir.',
    lower_bound=1,
)
_POPULATION = flags.DEFINE_string(
    'population',
    None,
    'A JSON list with one object a run: settings in which the runs side by '
    'side differ.',
)
_FORK_FROM = flags.DEFINE_string(
    'fork_from',
    None,
    'The directory of a run, whose newest checkpoint this one begins with, '
    'whatever else its settings are.',
)
_ROMS_PATH = flags.DEFINE_string(
    'atari_roms_path', None, 'Folder with ROMs to play instead of the bundled.'
)
_DISABLE_JIT = flags.DEFINE_bool(
    'disable_jit', False, 'Runs without compilation, to debug.'
)
_ALLOW_RANDOM_TEACHER = flags.DEFINE_bool(
    'allow_random_teacher', False, 'Takes an untrained network as the teacher.'
)
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Prints the plan of the run, and runs nothing.'
)


def experiment_of_flags() -> Experiment:
  """What the command line asks for."""
  return Experiment(
      agent=_AGENT.value,
      gin_files=tuple(_GIN_FILES.value),
      bindings=tuple(_GIN_BINDINGS.value),
      teacher=tuple(_TEACHER_DIR.value),
      teacher_checkpoint_number=tuple(_TEACHER_NUMBER.value),
      teacher_checkpoint_file_prefix=_TEACHER_PREFIX.value,
      teacher_agent=_TEACHER_AGENT.value,
      allow_random_teacher=_ALLOW_RANDOM_TEACHER.value,
      atari_roms_path=_ROMS_PATH.value,
      run_number=_RUN_NUMBER.value,
      num_seeds=_NUM_SEEDS.value,
      population=_POPULATION.value,
      fork_from=_FORK_FROM.value,
  )


def main(argv: Sequence[str]) -> None:
  del argv
  if not _BASE_DIR.value:
    raise errors.UserError('--base_dir is missing: say where the run goes.')
  import jax

  jax.config.update('jax_disable_jit', _DISABLE_JIT.value)
  wanted = experiment_of_flags()
  if _DRY_RUN.value:
    print(api.describe_plan(wanted))
  else:
    api.carry_out(wanted, _BASE_DIR.value)


if __name__ == '__main__':
  command_line.run(main)
