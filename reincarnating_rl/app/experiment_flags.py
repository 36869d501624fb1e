"""Experiments as flags of `train`, and the faults of an experiment.

Not here: the experiment itself, and its runner (`experiment`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Callable, Iterator, Sequence

from reincarnating_rl.app.experiment import agent_class
from reincarnating_rl.app.experiment import as_tuple
from reincarnating_rl.app.experiment import expand_bindings
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.app.experiment import GAME_BINDING
from reincarnating_rl.base import errors
from reincarnating_rl.envs import registry

# Field -> flag of `train`; other flags have the name of the field.
_FLAGS = {
    'bindings': 'gin_bindings',
    'teacher': 'teacher_checkpoint_dir',
}


def flags_of(wanted: Experiment, base_dir: str) -> list[str]:
  """The flags with which `train` carries out an experiment.

  Args:
    wanted: the experiment.
    base_dir: directory of the runs.
  """
  flags = ['--base_dir', base_dir]
  if wanted.game is not None:
    flags += ['--gin_bindings', f'{GAME_BINDING} = {wanted.game!r}']
  for field in dataclasses.fields(wanted):
    value = getattr(wanted, field.name)
    flag = f'--{_FLAGS.get(field.name, field.name)}'
    said = field.name != 'agent' and value == field.default
    if said or field.name == 'game':
      continue
    if isinstance(value, bool):
      flags.append(flag)
      continue
    for one in as_tuple(value):
      flags += [flag, str(one)]
  return flags


def has_teacher(agent: str) -> bool:
  """True if that agent learns from a teacher, or does not exist."""
  try:
    return agent_class(agent).needs_teacher
  except errors.UserError:
    return True


@contextlib.contextmanager
def own_gin(files: Sequence[str]) -> Iterator[None]:
  """A context in which gin holds the bindings of some files only."""
  from reincarnating_rl.dopamine_bridge import gin_files

  with gin_files.of_its_own():
    gin_files.parse(files, ())
    yield


def faults(wanted: Experiment) -> list[str]:
  """Every name that does not resolve: agent, game, gin files, bindings.

  Args:
    wanted: an experiment; `make_runner` would raise the first fault alone.
  """
  from reincarnating_rl.dopamine_bridge import compat

  compat.prepare_dopamine()
  from reincarnating_rl.dopamine_bridge import gin_files
  from reincarnating_rl.runners import runner  # noqa: F401  registers what is bound

  found = []

  def attempt(part: Callable[..., Any], *arguments: Any) -> Any:
    try:
      with errors.user_errors():
        return part(*arguments)
    except errors.UserError as e:
      found.append(str(e))
    return None

  if wanted.game is not None:
    attempt(registry.make_factory, wanted.game)
  agent = attempt(agent_class, wanted.agent)
  bindings = list(wanted.bindings)
  if agent is not None:
    bindings = expand_bindings(bindings, agent)
  with gin_files.of_its_own():
    for path in wanted.gin_files:
      attempt(gin_files.parse, [path], [])
    for binding in bindings:
      attempt(gin_files.parse, [], [binding])
  return found
