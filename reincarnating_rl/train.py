r"""Reincarnates a teacher: the main entry point.

  python -um reincarnating_rl.train --agent qdagger_rainbow \
    --gin_files qdagger_rainbow.gin --base_dir /tmp/qdagger_rainbow \
    --teacher_checkpoint_dir bundled:Pong --run_number 1
"""

from __future__ import annotations

from typing import Sequence

from absl import flags

from reincarnating_rl.app import experiment
from reincarnating_rl.app.experiment import AGENTS
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors

FLAGS = flags.FLAGS
_AGENT = flags.DEFINE_string(
    'agent',
    'qdagger_rainbow',
    f'Student: {", ".join(AGENTS)}, or a class as module:class.',
)
_GIN_FILES = flags.DEFINE_multi_string(
    'gin_files', [], "Gin configurations; default the agent's own."
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    "Gin bindings that override the files, such as 'Runner.training_steps = "
    "100'; a bare @network binds the network of the agent.",
)
_BASE_DIR = flags.DEFINE_string('base_dir', None, 'Directory of the run.')
_TEACHER_DIR = flags.DEFINE_multi_string(
    'teacher_checkpoint_dir',
    [],
    'Teacher: a run directory, its checkpoints/, a gs:// address, or '
    "'bundled:Pong'. Given several times, the teachers form an ensemble "
    '(TeacherEnsemble).',
)
_TEACHER_NUMBER = flags.DEFINE_multi_integer(
    'teacher_checkpoint_number',
    [],
    "Number of the teacher's checkpoint; default the newest. For several "
    'teachers: once for all, or once for each.',
)
_TEACHER_PREFIX = flags.DEFINE_string(
    'teacher_checkpoint_file_prefix',
    'ckpt',
    "Prefix of the teacher's checkpoint files (ckpt or tf_ckpt).",
)
_TEACHER_AGENT = flags.DEFINE_enum(
    'teacher_agent',
    None,
    ('dqn', 'rainbow', 'iqn'),
    "Kind of the teacher's network; default as its parameters tell.",
)
_RUN_NUMBER = flags.DEFINE_integer('run_number', 0, 'Seed of the run.')
_NUM_SEEDS = flags.DEFINE_integer(
    'num_seeds',
    None,
    'Number of seeds to run side by side, from --run_number on. Each has a '
    'folder run_<seed> in --base_dir.',
    lower_bound=1,
)
_POPULATION = flags.DEFINE_string(
    'population',
    None,
    'JSON file with a list of objects, one a run: settings in which the runs '
    'side by side differ.',
)
_FORK_FROM = flags.DEFINE_string(
    'fork_from',
    None,
    'Directory of a run. This run begins with its newest checkpoint, under '
    'settings of its own.',
)
_ROMS_PATH = flags.DEFINE_string(
    'atari_roms_path',
    None,
    'Folder with ROMs to play instead of those that ale-py ships.',
)
_DISABLE_JIT = flags.DEFINE_bool(
    'disable_jit', False, 'Run without compilation, to debug.'
)
_ALLOW_RANDOM_TEACHER = flags.DEFINE_bool(
    'allow_random_teacher', False, 'Use an untrained network as the teacher.'
)
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Print the plan of the run and exit.'
)


def experiment_of_flags() -> Experiment:
  """The experiment that the command line describes."""
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
    raise errors.UserError('--base_dir is missing: give a directory.')
  import jax

  jax.config.update('jax_disable_jit', _DISABLE_JIT.value)
  wanted = experiment_of_flags()
  if _DRY_RUN.value:
    print(experiment.describe_plan(wanted))
  else:
    experiment.carry_out(wanted, _BASE_DIR.value)


if __name__ == '__main__':
  command_line.run(main)
