"""summary.json and config.gin of a run (layer 5)."""

from __future__ import annotations

import os
from typing import Any, Optional, Sequence

from absl import logging
from flax import linen as nn
import gin

from reincarnating_rl.base import files
from reincarnating_rl.envs.atari import rom_in_use
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.networks import spec
from reincarnating_rl.rundir import summary
from reincarnating_rl.runners import provenance

CONFIG_FILE = 'config.gin'


def write(
    base_dir: str,
    run: Run,
    agent_name: str,
    run_number: int,
    *,
    gin_files: Sequence[str],
    teacher: Optional[dict[str, Any]],
) -> None:
  """Writes both anew; a disk that is full is told and does not stop the run.

  Args:
    base_dir: of the run.
    run: as it is now.
    agent_name: for the summary.
    run_number: seed of the run.
    gin_files: names of the configurations that it was started with.
    teacher: what `provenance` says of it; None if it learned from nothing.
  """
  config = {
      'gin_files': list(gin_files),
      'gin': gin.config_str(),
      'network': _network(run.trainer.online_learner.network),
      'settings': member_settings.config_of(
          run.config, run.trainer.member
      ).to_json(),
      'member': run.trainer.member,
      'teacher': teacher,
      'rom': _rom(run.config.game),
  }
  document = summary.summarize(run, agent_name, run_number, config)
  document['frames'] = provenance.frames(
      run.trainer.counters.agent_steps, _collected_steps(run), teacher
  )
  try:
    summary.write(base_dir, document)
    path = os.path.join(base_dir, CONFIG_FILE)
    files.write_whole(path, gin.operative_config_str().encode())
  except OSError as e:
    logging.warning('The summary was not written (%s).', e.strerror)


def _collected_steps(run: Run) -> int:
  """Agent steps that the teacher has collected for a run."""
  done = [phase.kind for phase in run.plan[: run.next_phase]]
  return run.config.teacher_steps if plan_lib.COLLECTION in done else 0


def _network(network: nn.Module) -> dict[str, Any]:
  """The student's network for the summary: a name, and how to build it."""
  return {
      'name': spec.label(network),
      'spec': spec.to_json_if_possible(network),
  }


def _rom(game: str) -> dict[str, Any]:
  """What was played, for the summary."""
  rom = rom_in_use(game)
  return {
      'file': os.path.basename(rom.path),
      'md5': rom.md5,
      'shipped_with_ale_py': rom.is_standard,
  }
