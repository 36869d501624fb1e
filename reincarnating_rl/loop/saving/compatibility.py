"""Compatibility of a run and a checkpoint: settings that must be equal."""

from __future__ import annotations

import dataclasses
from typing import Any

import google_crc32c
import jax
import numpy as np

from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.training import member_settings


def settings(run: Run) -> dict[str, str]:
  """Returns the settings that must equal those in a checkpoint to resume."""
  trainer = run.trainer
  config = member_settings.config_of(run.config, trainer.began_as)
  fields = {k: str(v) for k, v in dataclasses.asdict(config).items()}
  learner, offline = trainer.online_learner, trainer.offline
  fields |= learner.identity()
  coefficients = member_settings.coefficients_of(
      trainer.coefficients, trainer.began_as
  )
  for name, value in coefficients._asdict().items():
    fields[f'coefficient {name}'] = str(value)
  optional = {
      'beginning': trainer.beginning and trainer.beginning.describe(),
      'offline_objective': offline and offline.learner.objective,
      'teacher': run.teacher and fingerprint(run.teacher.policy.params),
  }
  return fields | {k: str(v) for k, v in optional.items() if v}


def fingerprint(params: Any) -> str:
  """Returns the crc32c checksum of a network's parameters, as hex."""
  checksum = google_crc32c.Checksum()
  for leaf in jax.tree.leaves(jax.device_get(params)):
    checksum.update(np.ascontiguousarray(leaf).tobytes())
  return checksum.hexdigest().decode()


def defaults() -> dict[str, str]:
  """Returns default settings, for those that an old checkpoint lacks."""
  return {f.name: str(f.default) for f in dataclasses.fields(RunConfig)}
