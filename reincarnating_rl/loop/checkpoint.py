"""Saves a run after a phase and brings it back, through orbax.

Arrays (parameters, optimizer, the student's replay, keys) go into the
checkpoint as they are; everything else that is alive is a JSON document beside
them. The teacher's data is not saved: it is read, or collected by the same
seeds, again. A checkpoint appears under its number only when it is whole.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Optional

import jax
import numpy as np
import orbax.checkpoint as ocp

from reincarnating_rl.loop.duties import Counters
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.run import Run

SCHEMA = 1
CHECKPOINTS_KEPT = 2
# A run may be prolonged, at another learning rate from then on.
_MAY_CHANGE = ('num_iterations', 'learning_rate')


class CheckpointMismatchError(ValueError):
  """A checkpoint belongs to a run with other settings."""


class RunCheckpointer:
  """Checkpoints of one run in one directory, numbered by phases done."""

  def __init__(self, directory: str):
    self._directory = os.path.abspath(directory)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=CHECKPOINTS_KEPT, enable_async_checkpointing=False
    )
    self._manager = ocp.CheckpointManager(self._directory, options=options)

  def latest(self) -> Optional[int]:
    """Phases done in the newest checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, run: Run) -> None:
    """Saves everything alive."""
    self._manager.save(
        run.next_phase,
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
    run.prepare_teacher_data()
    return True

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.close()


def _settings(run: Run) -> dict[str, str]:
  """What must be equal for a checkpoint to fit a run."""
  settings = {
      k: str(v)
      for k, v in dataclasses.asdict(run.config).items()
      if k not in _MAY_CHANGE
  }
  learner, offline = run.trainer.online_learner, run.trainer.offline
  settings['objective'] = str(learner.objective)
  settings['network'] = ' '.join(str(learner.network).split())
  # What is not there is not named: older checkpoints do not name it either.
  if run.trainer.beginning is not None:
    settings['beginning'] = run.trainer.beginning.describe()
  if learner.annealing is not None:
    settings['annealing'] = str(learner.annealing)
  if learner.target_ema:
    settings['target_ema'] = str(learner.target_ema)
  if offline is not None:
    settings['offline_objective'] = str(offline.learner.objective)
  return settings


def _check_settings(run: Run, document: dict[str, Any]) -> None:
  # A setting that was not there yet was what it is by default.
  defaults = {f.name: str(f.default) for f in dataclasses.fields(RunConfig)}
  saved, now = defaults | document['settings'], _settings(run)
  changes = [
      f'{k} was {saved.get(k)}, is {now.get(k)}'
      for k in {**saved, **now}
      if k not in _MAY_CHANGE and saved.get(k) != now.get(k)
  ]
  if document['schema'] != SCHEMA:
    changes.append(f'schema was {document["schema"]}, is {SCHEMA}')
  if changes:
    raise CheckpointMismatchError(
        'The checkpoint in this directory was written with other settings '
        f'({"; ".join(changes)}): use those settings, or another directory.'
    )


def _arrays(run: Run) -> dict[str, Any]:
  trainer, player = run.trainer, run.player
  arrays = {
      'learner_state': trainer.learner_state,
      'act_key': trainer.act_key,
  }
  if player is not None:
    arrays['student_replay'] = trainer.writer.state
    arrays['first'] = player.first
    arrays['episode_returns'] = player.tracker.returns
    arrays['episode_lengths'] = player.tracker.lengths
    if trainer.guide is not None:
      arrays['guide'] = trainer.guide.state
  return arrays


def _apply_arrays(run: Run, arrays: dict[str, Any]) -> None:
  trainer, player = run.trainer, run.player
  trainer.learner_state = arrays['learner_state']
  trainer.set_lambda(trainer.lambda_)  # the learning rate as configured now
  trainer.act_key = arrays['act_key']
  if player is not None:
    trainer.writer.state = arrays['student_replay']
    trainer.writer.grow(
        run.config.student_capacity_with(trainer.duties.given_rows)
    )
    player.first = np.array(arrays['first'])
    player.tracker.returns = np.array(arrays['episode_returns'])
    player.tracker.lengths = np.array(arrays['episode_lengths'])
    if trainer.guide is not None:
      trainer.guide.state = arrays['guide']


def _document(run: Run) -> dict[str, Any]:
  return {
      'schema': SCHEMA,
      'settings': _settings(run),
      'next_phase': run.next_phase,
      'counters': dataclasses.asdict(run.trainer.counters),
      'lambda': run.trainer.lambda_,
      'random_score': run.random_score,
      'teacher_score': run.teacher_score,
      'seconds': dict(run.seconds),
      'records': [r.to_json() for r in run.records],
      'env': run.player.env.snapshot() if run.player else None,
      'student_capacity': run.trainer.writer.spec.capacity
      if run.player
      else None,
      'given_rows': run.trainer.duties.given_rows,
  }


def _apply_document(run: Run, document: dict[str, Any]) -> None:
  run.next_phase = document['next_phase']
  run.trainer.duties.counters = Counters(**document['counters'])
  run.trainer.lambda_ = document['lambda']
  run.random_score = document['random_score']
  run.teacher_score = document['teacher_score']
  run.seconds.update(document['seconds'])
  run.records = [PhaseRecord.from_json(r) for r in document['records']]
  run.trainer.duties.given_rows = document.get('given_rows', 0)
  env = document['env']
  if env is not None:
    run.allocate_student(document['student_capacity'])
    run.player.observation = run.player.env.restore(env)
