"""Writes summary.json and config.gin of a run (layer 5)."""

from __future__ import annotations

import os
from typing import Any, Optional

from absl import logging
from flax import linen as nn
import gin

from reincarnating_rl.base import files
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.networks import spec
from reincarnating_rl.rundir import summary
from reincarnating_rl.runners import provenance
from reincarnating_rl.runners.run_options import RunOptions

CONFIG_FILE = 'config.gin'


def write(
    base_dir: str,
    run: Run,
    options: RunOptions,
    teacher: Optional[dict[str, Any]],
) -> None:
  """Writes both files anew; on a full disk it warns and the run continues.

  Args:
    base_dir: directory of the run.
    run: run in its present state.
    options: the run, as its caller started it.
    teacher: facts from `provenance`; None if the run learns from scratch.
  """
  config = {
      'gin_files': list(options.gin_files),
      'gin': gin.config_str(),
      'network': _network(run.trainer.online_learner.network),
      'settings': member_settings.config_of(
          run.config, run.trainer.member
      ).to_json(),
      'member': run.trainer.member,
      'teacher': teacher,
      'rom': None,
  } | run.config.environment().facts()
  document = summary.summarize(
      run, options.agent_name, options.run_number, config
  )
  document['frames'] = provenance.frames(
      run.trainer.counters.agent_steps, _collected_steps(run), teacher
  )
  try:
    summary.write(base_dir, document)
    path = os.path.join(base_dir, CONFIG_FILE)
    files.write_whole(path, settings.operative_config().encode())
  except OSError as e:
    logging.warning('The summary was not written (%s).', e.strerror)


def _collected_steps(run: Run) -> int:
  """Agent steps that the teacher has collected so far for a run."""
  done = [phase.kind for phase in run.plan[: run.next_phase]]
  return run.config.teacher_steps if plan_lib.COLLECTION in done else 0


def _network(network: nn.Module) -> dict[str, Any]:
  """Name of the student's network, and its spec if it can be rebuilt."""
  return {
      'name': spec.label(network),
      'spec': spec.to_json_if_possible(network),
  }
