"""An experiment as data, and the runner that carries it out.

The command line (`train`), the Python interface (`api`) and sweeps all describe
their runs as an `Experiment`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import glob
import importlib
import os
import tempfile
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence

from absl import logging

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.envs import atari
from reincarnating_rl.envs import registry
from reincarnating_rl.envs import roms
from reincarnating_rl.envs.base import EnvironmentFactory

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
GAME_BINDING = 'create_atari_environment.game_name'


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A run, or several side by side; each field is a flag of `train`.

  Attributes:
    agent: name of the agent, or 'module:class'.
    gin_files: configurations; none = the agent's own.
    bindings: bindings such as 'Runner.training_steps = 100'; they win over
      those of the files.
    teacher: a run directory, its checkpoints/, a gs:// address or
      'bundled:<Game>'; a sequence of them = all together.
    teacher_checkpoint_number: checkpoint of the teacher; None = the newest; a
      sequence = one for each teacher.
    teacher_checkpoint_file_prefix: prefix of Dopamine's checkpoint files.
    teacher_agent: 'dqn', 'rainbow' or 'iqn'; None = as its parameters tell.
    allow_random_teacher: True to learn from an untrained network where no
      teacher is named.
    game: game, or another name of an environment; None = as bound, else the
      teacher's.
    atari_roms_path: folder with ROMs to play instead of those that are shipped.
    run_number: seed of the run, or of the first run.
    num_seeds: runs side by side; None = one run, without a folder of its own.
    population: path of a JSON list of settings in which the members differ.
    fork_from: directory of a run whose checkpoint this one begins with.
  """

  agent: str = 'qdagger_rainbow'
  gin_files: tuple[str, ...] = ()
  bindings: tuple[str, ...] = ()
  teacher: Optional[str | Sequence[str]] = None
  teacher_checkpoint_number: Optional[int | Sequence[Optional[int]]] = None
  teacher_checkpoint_file_prefix: str = 'ckpt'
  teacher_agent: Optional[str] = None
  allow_random_teacher: bool = False
  game: Optional[str] = None
  atari_roms_path: Optional[str] = None
  run_number: int = 0
  num_seeds: Optional[int] = None
  population: Optional[str] = None
  fork_from: Optional[str] = None

  @property
  def teachers(self) -> tuple[tuple[str, Optional[int]], ...]:
    """Path and checkpoint of each teacher; none if a path is empty.

    Raises:
      UserError: if checkpoints cannot be assigned to teachers.
    """
    paths = as_tuple(self.teacher)
    numbers = as_tuple(self.teacher_checkpoint_number) or (None,)
    if not all(paths):
      return ()
    if len(numbers) == 1:
      numbers *= len(paths)
    if paths and len(numbers) != len(paths):
      raise errors.UserError(
          f'--teacher_checkpoint_number is given {len(numbers)} times, '
          f'--teacher_checkpoint_dir {len(paths)} times: give the number once '
          'for all teachers, or once for each.'
      )
    return tuple(zip(paths, numbers))


def as_tuple(value: Any) -> tuple[Any, ...]:
  """A value that is given once, several times or not at all, as a tuple."""
  if value is None:
    return ()
  return (value,) if isinstance(value, (str, int)) else tuple(value)


def agent_class(name: str) -> Any:
  """The class behind an agent's name, or behind 'module:class'.

  Raises:
    UserError: for an unknown name, with the nearest ones.
  """
  module, _, class_name = AGENTS.get(name, name).partition(':')
  if not class_name:
    near = difflib.get_close_matches(name, AGENTS, n=1)
    hint = f' Did you mean {near[0]}?' if near else ''
    raise errors.UserError(
        f'There is no agent called {name!r}; choose one of '
        f'{", ".join(AGENTS)}, or name a class of yours as module:class.{hint}'
    )
  try:
    return getattr(importlib.import_module(module), class_name)
  except (ModuleNotFoundError, AttributeError) as e:
    raise errors.UserError(f'--agent {name} cannot be imported: {e}.') from e


def own_files(agent: str) -> tuple[str, ...]:
  """The agent's own configuration, used where none is named; may be none."""
  from reincarnating_rl.dopamine_bridge import gin_files

  name = f'{agent}.gin'
  return (name,) if name in gin_files.shipped() else ()


def expand_bindings(bindings: Sequence[str], agent: Any) -> list[str]:
  """Turns a bare '@network' into a binding of the agent's network."""
  return [
      f'{agent.network_binding} = {b.strip()}'
      if b.strip().startswith('@')
      else b
      for b in bindings
  ]


def load_teacher(wanted: Experiment, agent: Any) -> Optional[Any]:
  """Loads the teacher that an experiment names, or several as one.

  Raises:
    UserError: if there is none.
    TeacherError: if it cannot be read, or teachers do not fit each other.
    ValueError: for a combination of them that makes no sense.
  """
  from reincarnating_rl import teachers
  from reincarnating_rl.dopamine_bridge import settings

  if not agent.needs_teacher:
    if wanted.teachers:
      raise errors.UserError(
          f'--agent {wanted.agent} learns from nothing: leave out '
          '--teacher_checkpoint_dir.'
      )
    return None
  if not wanted.teachers:
    if wanted.allow_random_teacher:
      return None
    raise errors.UserError(
        f'--agent {wanted.agent} needs a teacher: give '
        '--teacher_checkpoint_dir (bundled:Pong, say), or '
        '--allow_random_teacher to take an untrained network.'
    )
  several = len(wanted.teachers) > 1
  weighted = settings.query('TeacherEnsemble.weights') is not None
  how = settings.teacher_ensemble() if several or weighted else None
  found = [
      # Its data are read when the plan is known to need them.
      teachers.load(
          path,
          number,
          wanted.teacher_checkpoint_file_prefix,
          agent=wanted.teacher_agent,
          read_replay=False,
      )
      for path, number in wanted.teachers
  ]
  return found[0] if how is None else teachers.combine(found, how)


def choose_game(
    wanted: Experiment, bound: Optional[str], teacher: Optional[Any]
) -> EnvironmentFactory:
  """The game: bound, else the teacher's, else by its path, else Pong.

  Args:
    wanted: the experiment.
    bound: game that gin binds; None without a binding.
    teacher: the loaded teacher; None to learn from scratch.

  Raises:
    UserError: if the game and the teacher's game differ.
    ValueError: for an unknown game.
  """
  game, reason = bound, 'by its binding'
  if wanted.game is not None and bound not in (None, wanted.game):
    raise errors.UserError(
        f'The game is {wanted.game}, but {bound} is bound to '
        'create_atari_environment.game_name: remove one of the two.'
    )
  if wanted.game is not None:
    game, reason = wanted.game, 'as wanted'
  if game is None and teacher is not None:
    game = game_of_teacher(teacher)
    source = 'manifest' if teacher.game else 'path'
    reason = f'from the {source} of the teacher'
  if game is None:
    game, reason = DEFAULT_GAME, 'by default'
  environment = registry.make_factory(game)
  if teacher is not None and teacher.game not in (None, game):
    raise errors.UserError(
        f'The game is {game}, but the teacher was trained on {teacher.game}: '
        'remove the binding of the game, or choose another teacher.'
    )
  logging.info('The game is %s (%s).', game, reason)
  return environment


def game_of_teacher(teacher: Any) -> Optional[str]:
  """The game that manifests, or else paths, name; None if none does.

  Raises:
    UserError: if those of several teachers name different ones.
  """
  from reincarnating_rl.teachers.ensemble import members_of

  told = {
      t.path: t.game or atari.game_of_path(t.path) for t in members_of(teacher)
  }
  told = {path: game for path, game in told.items() if game is not None}
  if len(set(told.values())) > 1:
    listed = ', '.join(f'{path} of {game}' for path, game in told.items())
    raise errors.UserError(
        f'Teachers together must have one game, but {listed} are named: choose '
        'others, or bind create_atari_environment.game_name.'
    )
  return next(iter(told.values()), None)


def random_teacher(environment: EnvironmentFactory, seed: int) -> Any:
  """An untrained network in a teacher's place."""
  import jax

  from reincarnating_rl import networks
  from reincarnating_rl.teachers import LoadedTeacher

  logging.warning('The teacher is an untrained network.')
  network = networks.make_network(registry.num_actions(environment))
  shape = (1, *environment.observation_spec.shape, environment.stack_size)
  states = jax.numpy.zeros(shape, jax.numpy.uint8)
  params = network.init(jax.random.PRNGKey(seed), states)
  name = environment.name
  return LoadedTeacher('random', network, params['params'], 0, name)


def members(wanted: Experiment) -> Optional[list[dict[str, float]]]:
  """Settings in which the members of a population differ; None without one.

  Raises:
    UserError: if its size and the experiment's number of seeds differ.
    ValueError: if the file cannot be read.
  """
  if not wanted.population:
    return None
  from reincarnating_rl.loop.training import member_settings

  found = member_settings.read(wanted.population)
  if wanted.num_seeds not in (None, len(found)):
    raise errors.UserError(
        f'--population {wanted.population} has {len(found)} members, '
        f'--num_seeds is {wanted.num_seeds}: leave it out.'
    )
  return found


def fork_source(
    wanted: Experiment, base_dir: str, in_group: bool
) -> Optional[str]:
  """The run whose checkpoint another one begins with; None = it begins anew.

  Args:
    wanted: the experiment.
    base_dir: directory of the run that begins.
    in_group: True if the run is one of many.

  Raises:
    UserError: if the directory that is named holds no run.
  """
  if not wanted.fork_from:
    return None
  source = os.path.abspath(os.path.expanduser(wanted.fork_from))
  member = os.path.join(source, os.path.basename(base_dir))
  has_run = lambda path: os.path.isdir(os.path.join(path, 'checkpoints'))
  if has_run(source):
    return source
  if in_group and glob.glob(os.path.join(source, 'run_*', 'checkpoints')):
    if has_run(member):
      return member
    logging.info('%s begins anew: there is no %s.', base_dir, member)
    return None
  raise errors.UserError(
      f'--fork_from {wanted.fork_from} is no directory of a run: it has no '
      'checkpoints/.'
  )


class Resolved(NamedTuple):
  """An experiment whose names are resolved; gin holds its bindings.

  Attributes:
    agent: class of the student.
    environment: the game that is played.
    teacher: None to learn from scratch.
    gin_files: base names of the configurations.
  """

  agent: Any
  environment: EnvironmentFactory
  teacher: Optional[Any]
  gin_files: tuple[str, ...]


def resolve(wanted: Experiment) -> Resolved:
  """Parses the configuration, loads the teacher and finds the game.

  Raises:
    UserError, ValueError: for a name that does not resolve, or a teacher that
      does not fit the game.
  """
  import gin

  from reincarnating_rl.dopamine_bridge import gin_files
  from reincarnating_rl.dopamine_bridge import settings
  from reincarnating_rl.runners import runner  # noqa: F401  registers names

  agent = agent_class(wanted.agent)
  files = wanted.gin_files or own_files(wanted.agent)
  if files != wanted.gin_files:
    logging.info('The configuration is %s.', *files)
  gin_files.parse(files, expand_bindings(wanted.bindings, agent))
  teacher = load_teacher(wanted, agent)
  environment = choose_game(wanted, settings.query(GAME_BINDING), teacher)
  if wanted.atari_roms_path:
    atari.use_roms(wanted.atari_roms_path, environment.name)
  if teacher is not None:
    registry.check_num_actions(environment, teacher.num_actions, 'The teacher')
  elif agent.needs_teacher:
    teacher = random_teacher(environment, wanted.run_number)
  gin.parse_config(f'{GAME_BINDING} = {environment.name!r}')
  names = tuple(os.path.basename(path) for path in files)
  return Resolved(agent, environment, teacher, names)


def make_runner(
    wanted: Experiment, base_dir: str, dry_run: bool = False
) -> Any:
  """Parses the configuration and builds the runner, or one of many runs.

  Nothing is played yet. gin keeps the bindings of the experiment.

  Args:
    wanted: the experiment.
    base_dir: directory of the runs, or an empty one for a dry run.
    dry_run: True to plan only.

  Raises:
    UserError, ValueError: for anything that does not resolve or fit; nothing
      is written then.
  """
  from reincarnating_rl.dopamine_bridge import compat

  compat.prepare_dopamine()
  from reincarnating_rl.dopamine_bridge import population_settings
  from reincarnating_rl.loop.training import member_settings
  from reincarnating_rl.runners import group_runner
  from reincarnating_rl.teachers.ensemble import mixes_policies

  found = resolve(wanted)
  population, first = members(wanted), wanted.run_number
  training = population_settings.population_based_training()
  member_settings.check_teacher(
      population or (),
      mixes_policies(found.teacher),
      training.names if training else (),
  )
  make_one = _maker(wanted, found, dry_run)
  if population is None and wanted.num_seeds is None:
    group_runner.check_layout(base_dir, None)
    if training is not None:
      raise errors.UserError(
          'PopulationBasedTraining is bound, but there is a single run, and '
          'nobody to copy: give --num_seeds or --population, to a '
          'sweep --pack_seeds, or remove the binding.'
      )
    return make_one(base_dir, first, None, '')
  size = wanted.num_seeds or len(population or ())
  if wanted.population:
    group_runner.check_is_input(base_dir, wanted.population)
  numbers = range(first, first + size)
  alone = training is not None or population is not None
  group_runner.check_layout(base_dir, numbers, alone=alone)
  return group_runner.GroupRunner(base_dir, make_one, numbers, population)


def _maker(
    wanted: Experiment, found: Resolved, dry_run: bool
) -> Callable[..., Any]:
  """A function that makes the runner of one run: `group_runner.MakeRunner`."""
  from reincarnating_rl.runners import runner as runner_lib
  from reincarnating_rl.runners.run_options import RunOptions

  runner_class = (
      runner_lib.ReincarnationRunner
      if found.agent.pretrains
      else runner_lib.RunnerWithTeacher
  )
  num_actions = registry.num_actions(found.environment)

  def make_one(base_dir, run_number, member, label):
    options = RunOptions(
        agent_name=wanted.agent,
        game=found.environment.name,
        run_number=run_number,
        member=member,
        label=label,
        how_to_resume=command_line.how_to_resume(),
        fork_from=fork_source(wanted, base_dir, bool(label)),  # type: ignore[arg-type]
        dry_run=dry_run,
        gin_files=found.gin_files,
    )
    make_agent = lambda: found.agent(num_actions=num_actions, seed=run_number)
    return runner_class(base_dir, make_agent, options, found.teacher)

  return make_one


@contextlib.contextmanager
def own_bindings() -> Iterator[None]:
  """A context that leaves gin's bindings and the ROMs as they were before."""
  from reincarnating_rl.dopamine_bridge import gin_files

  with gin_files.of_its_own(), roms.put_back():
    yield


@contextlib.contextmanager
def planned(wanted: Experiment) -> Iterator[Any]:
  """The runner of a dry run, for as long as its bindings hold.

  Raises:
    UserError: for anything that does not resolve or fit.
  """
  with tempfile.TemporaryDirectory() as scratch:
    with own_bindings(), errors.user_errors():
      yield make_runner(wanted, scratch, dry_run=True)


def describe_plan(wanted: Experiment) -> str:
  """The plan of an experiment as text: phases, updates, resets, memory.

  Raises:
    UserError: for anything that does not resolve or fit.
  """
  with planned(wanted) as runner:
    return runner.describe_plan()


def carry_out(wanted: Experiment, base_dir: str) -> list[str]:
  """Carries an experiment out, or resumes it.

  Args:
    wanted: the experiment.
    base_dir: directory of the runs.

  Returns:
    The directory of each run.

  Raises:
    UserError: one sentence, for anything that does not resolve or fit.
    StoppedError: if it was interrupted; everything up to there is saved.
  """
  from reincarnating_rl.loop.training.events import TrainingDivergedError

  with own_bindings():
    with errors.user_errors():
      runner = make_runner(wanted, base_dir)
      runner.check_memory()
      runner.prepare()
    with errors.user_errors(TrainingDivergedError):
      runner.run_experiment()
  return runner.directories
