r"""Reincarnates a teacher: the main entry point.

  python -um reincarnating_rl.train --agent qdagger_rainbow \
    --gin_files qdagger_rainbow.gin --base_dir /tmp/qdagger_rainbow \
    --teacher_checkpoint_dir bundled:Pong --run_number 1
"""

from __future__ import annotations

import difflib
import glob
import importlib
import os
import tempfile
from typing import Any, Optional, Sequence

from absl import flags
from absl import logging

from reincarnating_rl import cli
from reincarnating_rl.envs import atari

# Agents by name, as 'module:class'; `--agent` takes that form as well.
AGENTS = {
    'qdagger_dqn': 'reincarnating_rl.agents.dqn:QDaggerDQNAgent',
    'qdagger_rainbow': 'reincarnating_rl.agents.rainbow:QDaggerRainbowAgent',
    'qdagger_iqn': 'reincarnating_rl.agents.iqn:QDaggerIQNAgent',
    'dqfd_dqn': 'reincarnating_rl.agents.dqn:DQfDAgent',
    'pretrained_dqn': 'reincarnating_rl.agents.dqn:PretrainedDQNAgent',
    'jsrl_dqn': 'reincarnating_rl.agents.dqn:JSRLAgent',
    'reloaded_dqn': 'reincarnating_rl.agents.dqn:ReloadedDQNAgent',
    'dqn': 'reincarnating_rl.agents.dqn:ReincarnationDQNAgent',
    'rainbow': 'reincarnating_rl.agents.rainbow:ReincarnationRainbowAgent',
}
DEFAULT_GAME = 'Pong'

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
_TEACHER_DIR = flags.DEFINE_string(
    'teacher_checkpoint_dir',
    None,
    'The teacher: a run directory, its checkpoints/, a gs:// address, or '
    "'bundled:Pong'.",
)
_TEACHER_NUMBER = flags.DEFINE_integer(
    'teacher_checkpoint_number', None, 'Its checkpoint; default the newest.'
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


def agent_class(name: str) -> Any:
  """The class behind an agent's name, or behind 'module:class'.

  Raises:
    UserError: for an unknown name, with the nearest ones.
  """
  module, _, class_name = AGENTS.get(name, name).partition(':')
  if not class_name:
    near = difflib.get_close_matches(name, AGENTS, n=1)
    hint = f' Did you mean {near[0]}?' if near else ''
    raise cli.UserError(
        f'There is no agent called {name!r}; choose one of '
        f'{", ".join(AGENTS)}, or name a class of yours as module:class.{hint}'
    )
  try:
    return getattr(importlib.import_module(module), class_name)
  except (ModuleNotFoundError, AttributeError) as e:
    raise cli.UserError(f'--agent {name} cannot be imported: {e}.') from e


def expand_bindings(bindings: Sequence[str], agent: Any) -> list[str]:
  """Turns a bare '@network' into a binding of the agent's network."""
  return [
      f'{agent.network_binding} = {b.strip()}'
      if b.strip().startswith('@')
      else b
      for b in bindings
  ]


def load_teacher(agent: Any) -> Optional[Any]:
  """Loads the teacher that the flags name.

  Raises:
    UserError: if there is none.
    TeacherError: if it cannot be read.
  """
  from reincarnating_rl import teachers

  if not agent.needs_teacher:
    if _TEACHER_DIR.value:
      raise cli.UserError(
          f'--agent {_AGENT.value} learns from nothing: leave out '
          '--teacher_checkpoint_dir.'
      )
    return None
  if not _TEACHER_DIR.value:
    if _ALLOW_RANDOM_TEACHER.value:
      return None
    raise cli.UserError(
        f'--agent {_AGENT.value} needs a teacher: give '
        '--teacher_checkpoint_dir (bundled:Pong, say), or '
        '--allow_random_teacher to take an untrained network.'
    )
  # Its data are read when the plan is known to need them.
  return teachers.load(
      _TEACHER_DIR.value,
      _TEACHER_NUMBER.value,
      _TEACHER_PREFIX.value,
      agent=_TEACHER_AGENT.value,
      read_replay=False,
  )


def choose_game(bound: Optional[str], teacher: Optional[Any]) -> str:
  """The game: bound, else the teacher's, else by its path, else Pong.

  Raises:
    UserError: for a game that is not the teacher's.
    ValueError: for an unknown game.
  """
  game, reason = bound, 'by its binding'
  if game is None and teacher is not None and teacher.game:
    game, reason = teacher.game, 'from the manifest of the teacher'
  if game is None and _TEACHER_DIR.value:
    game = atari.game_of_path(_TEACHER_DIR.value)
    reason = 'from the path of the teacher'
  if game is None:
    game, reason = DEFAULT_GAME, 'by default'
  atari.check_game(game)
  if teacher is not None and teacher.game not in (None, game):
    raise cli.UserError(
        f'The game is {game}, but the teacher was trained on {teacher.game}: '
        'remove the binding of the game, or choose another teacher.'
    )
  logging.info('The game is %s (%s).', game, reason)
  return game


def check_teacher_fits(teacher: Any, game: str) -> None:
  """Refuses a teacher whose actions or observations are not the game's."""
  num_actions = atari.AtariVector(game, 1, 0).num_actions
  if teacher.num_actions != num_actions:
    raise cli.UserError(
        f'The teacher has {teacher.num_actions} actions, {game} has '
        f'{num_actions}: it was trained on another game or action set.'
    )


def random_teacher(game: str) -> Any:
  """An untrained network in a teacher's place."""
  import jax

  from reincarnating_rl import networks
  from reincarnating_rl.teachers import LoadedTeacher

  logging.warning('The teacher is an untrained network.')
  network = networks.make_network(atari.AtariVector(game, 1, 0).num_actions)
  states = jax.numpy.zeros((1, 84, 84, 4), jax.numpy.uint8)
  params = network.init(jax.random.PRNGKey(_RUN_NUMBER.value), states)
  return LoadedTeacher('random', network, params['params'], 0, game)


def members() -> Optional[list[dict[str, float]]]:
  """What each run of a population differs in; None without one.

  Raises:
    UserError: if the flags contradict each other.
    ValueError: if the file cannot be read.
  """
  if not _POPULATION.value:
    return None
  from reincarnating_rl.loop import population

  found = population.read(_POPULATION.value)
  if _NUM_SEEDS.value not in (None, len(found)):
    raise cli.UserError(
        f'--population {_POPULATION.value} has {len(found)} members, '
        f'--num_seeds is {_NUM_SEEDS.value}: leave it out.'
    )
  return found


def fork_source(base_dir: str, in_group: bool) -> Optional[str]:
  """The run whose checkpoint another one begins with; None = it begins anew.

  Args:
    base_dir: of the run that begins.
    in_group: whether it is one of many.

  Raises:
    UserError: if the flags name no run.
  """
  if not _FORK_FROM.value:
    return None
  source = os.path.abspath(os.path.expanduser(_FORK_FROM.value))
  member = os.path.join(source, os.path.basename(base_dir))
  has_run = lambda path: os.path.isdir(os.path.join(path, 'checkpoints'))
  if has_run(source):
    return source
  if in_group and glob.glob(os.path.join(source, 'run_*', 'checkpoints')):
    if has_run(member):
      return member
    logging.info('%s begins anew: there is no %s.', base_dir, member)
    return None
  raise cli.UserError(
      f'--fork_from {_FORK_FROM.value} is no directory of a run: it has no '
      'checkpoints/.'
  )


def make_runner(base_dir: str) -> Any:
  """Parses the configuration and builds the runner, or one of many runs.

  Nothing is played yet.

  Raises:
    UserError, ValueError: for whatever does not resolve or fit; nothing is
      written then.
  """
  from reincarnating_rl import compat

  compat.prepare_dopamine()
  import gin

  from reincarnating_rl import gin_files
  from reincarnating_rl import group_runner
  from reincarnating_rl import runner as runner_lib
  from reincarnating_rl.agents import settings

  agent = agent_class(_AGENT.value)
  bindings = expand_bindings(_GIN_BINDINGS.value, agent)
  gin_files.parse(_GIN_FILES.value, bindings)
  teacher = load_teacher(agent)
  bound_game = settings.query('create_atari_environment.game_name')
  game = choose_game(bound_game, teacher)
  if _ROMS_PATH.value:
    atari.use_roms(_ROMS_PATH.value, game)
  if teacher is None and agent.needs_teacher:
    teacher = random_teacher(game)
  if teacher is not None:
    check_teacher_fits(teacher, game)
  gin.parse_config(f"create_atari_environment.game_name = '{game}'")

  runner_class = (
      runner_lib.ReincarnationRunner
      if agent.pretrains
      else runner_lib.RunnerWithTeacher
  )

  def make_one(base_dir, run_number, member=None, label=''):
    def create_agent(session, environment, summary_writer):
      del session
      return agent(
          num_actions=int(environment.action_space.n),
          summary_writer=summary_writer,
          seed=run_number,
      )

    return runner_class(
        base_dir,
        create_agent,
        agent_name=_AGENT.value,
        game=game,
        run_number=run_number,
        teacher=teacher,
        label=label,
        way_on=cli.way_on(),
        fork_from=fork_source(base_dir, bool(label)),
        dry_run=_DRY_RUN.value,
        member=member,
        gin_files=[os.path.basename(path) for path in _GIN_FILES.value],
    )

  population, first = members(), _RUN_NUMBER.value
  if population is None and _NUM_SEEDS.value is None:
    group_runner.check_layout(base_dir, None)
    return make_one(base_dir, first)
  size = _NUM_SEEDS.value or len(population)
  group_runner.check_layout(base_dir, range(first, first + size))
  return group_runner.GroupRunner(
      base_dir, make_one, range(first, first + size), population
  )


def main(argv: Sequence[str]) -> None:
  del argv
  if not _BASE_DIR.value:
    raise cli.UserError('--base_dir is missing: say where the run goes.')
  import jax

  from reincarnating_rl.loop.records import TrainingDivergedError

  jax.config.update('jax_disable_jit', _DISABLE_JIT.value)
  if _DRY_RUN.value:
    with tempfile.TemporaryDirectory() as scratch, cli.user_errors():
      print(make_runner(scratch).describe_plan())
    return
  with cli.user_errors():
    runner = make_runner(_BASE_DIR.value)
    runner.check_memory()
    runner.prepare()
  with cli.user_errors(TrainingDivergedError):
    runner.run_experiment()


if __name__ == '__main__':
  cli.run(main)
