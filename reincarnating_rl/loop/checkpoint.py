"""Saves a run after a phase and brings it back, through orbax.

Arrays (parameters, optimizer, replay, keys) go into the checkpoint as they
are; everything else that is alive is a JSON document beside them. A
checkpoint appears under its number only when it is whole.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Optional

import jax
import numpy as np
import orbax.checkpoint as ocp

from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.run import Counters
from reincarnating_rl.loop.run import Run

SCHEMA = 1
CHECKPOINTS_KEPT = 2


class CheckpointMismatchError(ValueError):
  """A checkpoint belongs to a run with other settings."""


class RunCheckpointer:
  """Checkpoints of one run in one directory."""

  def __init__(self, directory: str):
    self._directory = os.path.abspath(directory)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=CHECKPOINTS_KEPT, enable_async_checkpointing=False
    )
    self._manager = ocp.CheckpointManager(self._directory, options=options)

  def latest(self) -> Optional[int]:
    """Number of phases done in the newest checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, run: Run) -> None:
    """Saves everything alive under the number of phases done."""
    self._manager.save(
        run.counters.next_phase,
        args=ocp.args.Composite(
            arrays=ocp.args.StandardSave(_arrays(run)),
            document=ocp.args.JsonSave(_document(run)),
        ),
    )

  def restore(self, run: Run) -> bool:
    """Brings a freshly built run to the newest checkpoint.

    Args:
      run: built with the same settings.

    Returns:
      Whether there was a checkpoint.

    Raises:
      CheckpointMismatchError: if it was saved with other settings.
    """
    step = self.latest()
    if step is None:
      return False
    document = self._manager.restore(
        step, args=ocp.args.Composite(document=ocp.args.JsonRestore())
    )['document']
    _check_settings(run, document)
    _apply_document(run, document)
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(run))
    arrays = self._manager.restore(
        step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore(target))
    )['arrays']
    _apply_arrays(run, arrays)
    return True

  def close(self) -> None:
    self._manager.close()


def _settings(run: Run) -> dict[str, str]:
  """What must be equal for a checkpoint to fit, apart from the run's length."""
  settings = {k: str(v) for k, v in dataclasses.asdict(run.config).items()}
  settings.pop('num_iterations')
  settings['objective'] = str(run.learner.objective)
  settings['network'] = ' '.join(str(run.learner.network).split())
  return settings


def _check_settings(run: Run, document: dict[str, Any]) -> None:
  saved, now = document['settings'], _settings(run)
  different = [k for k in now if saved.get(k) != now[k]]
  if document['schema'] != SCHEMA or different:
    changes = '; '.join(
        f'{k} was {saved.get(k)}, is {now[k]}' for k in different
    )
    raise CheckpointMismatchError(
        'The checkpoint was written by a run with other settings '
        f'({changes or "another schema"}): use another base_dir, or the '
        'settings of that run.'
    )


def _arrays(run: Run) -> dict[str, Any]:
  arrays = {
      'learner_state': run.learner_state,
      'act_key': run._act_key,  # pylint: disable=protected-access
  }
  if run.student is not None:
    arrays['student_replay'] = run.student.writer.state
    arrays['first'] = run.student.first
    arrays['episode_returns'] = run.student.tracker.returns
    arrays['episode_lengths'] = run.student.tracker.lengths
  if run.teacher_replay is not None:
    arrays['teacher_replay'] = run.teacher_replay
  return arrays


def _apply_arrays(run: Run, arrays: dict[str, Any]) -> None:
  run.learner_state = arrays['learner_state']
  run._act_key = arrays['act_key']  # pylint: disable=protected-access
  if run.student is not None:
    run.student.writer.state = arrays['student_replay']
    run.student.first = np.array(arrays['first'])
    run.student.tracker.returns = np.array(arrays['episode_returns'])
    run.student.tracker.lengths = np.array(arrays['episode_lengths'])
  if 'teacher_replay' in arrays:
    run.teacher_replay = arrays['teacher_replay']


def _document(run: Run) -> dict[str, Any]:
  return {
      'schema': SCHEMA,
      'settings': _settings(run),
      'counters': dataclasses.asdict(run.counters),
      'lambda': run.lambda_,
      'teacher_score': run.teacher_score,
      'records': [r.to_json() for r in run.records],
      'env': run.student.env.snapshot() if run.student else None,
      'teacher_spec': dataclasses.asdict(run.teacher_spec)
      if run.teacher_spec
      else None,
  }


def _apply_document(run: Run, document: dict[str, Any]) -> None:
  run.counters = Counters(**document['counters'])
  run.lambda_ = document['lambda']
  run.teacher_score = document['teacher_score']
  run.records = [PhaseRecord.from_json(r) for r in document['records']]
  run.restore_replays(document['teacher_spec'])
  if document['env'] is not None:
    run.student.observation = run.student.env.restore(document['env'])
