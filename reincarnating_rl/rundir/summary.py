"""summary.json: a run's outcome in one file, rewritten after each phase."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

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


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that decide results."""
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def summarize(run: Run, agent: str, run_number: int, config: Any) -> dict:
  """The outcome of a run so far, JSON-ready.

  Args:
    run: the run.
    agent: name of the agent.
    run_number: of the run.
    config: settings as the user can reproduce them.
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
