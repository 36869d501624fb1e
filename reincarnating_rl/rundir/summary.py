"""summary.json: the outcome of a run in one file, rewritten after each phase.

docs/run_directory.md documents the fields. The summary of a group of runs has
no 'iterations': it names the directories of its runs.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

from absl import logging

from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.loop.run.run import Run

FILE_NAME = 'summary.json'
_PACKAGES = (
    'reincarnating_rl',
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'ale-py',
    'numpy',
    'dopamine-rl',
)
_ITERATION_FIELDS = (
    'phase',
    'iteration',
    'agent_steps',
    'updates',
    'student_score',
    'teacher_normalized',
    'lambda',
)


def path(directory: str) -> str:
  """Path of the summary in a directory."""
  return os.path.join(directory, FILE_NAME)


def exists(directory: str) -> bool:
  """True if a directory holds a summary."""
  return os.path.exists(path(directory))


# -- reading -------------------------------------------------------------------


def read(directory: str) -> dict[str, Any]:
  """Reads the summary in a directory.

  Args:
    directory: run directory, or the directory of a group of runs.

  Returns:
    The JSON object; empty if the file holds JSON of another type.

  Raises:
    UserError: if there is no summary, or it cannot be read, or is not JSON.
  """
  file = path(directory)
  try:
    with open(file, encoding='utf-8') as f:
      document = json.load(f)
  except FileNotFoundError as e:
    raise errors.UserError(
        f'{directory} holds no {FILE_NAME}: it is not the directory of a run, '
        'or its first phase has not ended.'
    ) from e
  except OSError as e:
    raise errors.UserError(f'{file} cannot be read ({e.strerror}).') from e
  except ValueError as e:  # neither JSON nor UTF-8
    raise errors.UserError(
        f'{file} is damaged ({e}): repair it, or leave that directory out.'
    ) from e
  return document if isinstance(document, dict) else {}


def read_if_possible(directory: str) -> dict[str, Any]:
  """Reads a summary that may be missing; a damaged one costs a warning.

  Args:
    directory: run directory.

  Returns:
    The JSON object; empty if there is no summary that can be read.
  """
  if not exists(directory):
    return {}
  try:
    return read(directory)
  except errors.UserError as e:
    logging.warning('Continuing without a summary: %s', e)
    return {}


# -- writing -------------------------------------------------------------------


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that decide results."""
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def summarize(
    run: Run, agent: str, run_number: int, config: Any
) -> dict[str, Any]:
  """Describes the outcome of a run so far, ready for JSON.

  Args:
    run: the run.
    agent: name of the agent.
    run_number: number of the run, which seeds it.
    config: settings that reproduce the run.
  """
  records = [record.to_json() for record in run.records]
  return {
      'game': run.config.game,
      'agent': agent,
      'run_number': run_number,
      'random_score': run.random_score,
      'teacher_score': run.teacher_score,
      'iterations': [{k: r[k] for k in _ITERATION_FIELDS} for r in records],
      'seconds': {k: round(v, 3) for k, v in run.seconds.items()},
      'versions': versions(),
      'config': config,
  }


def write(directory: str, document: dict[str, Any]) -> None:
  """Writes a summary; a reader never sees half of it.

  Raises:
    OSError: if the file cannot be written, as on a full disk.
  """
  files.write_json(path(directory), document)
