"""Checkpoints of a run: saves it while it trains, and restores it.

  DIRECTORY/<number>/          a checkpoint (`storage.checkpoints`)
  DIRECTORY/rows/student/...   the student's replay, written as it grows
  DIRECTORY/rows/teacher/...   the data that the teacher has collected

To save, training waits only for copies on the host; a background thread writes
them. If the disk is full, the older checkpoints stay complete.
"""

from __future__ import annotations

import difflib
import os
from typing import Iterator, Optional

from absl import logging
import numpy as np

from reincarnating_rl.base.stateful import StateMismatchError
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving import compatibility
from reincarnating_rl.loop.saving import log_files
from reincarnating_rl.loop.saving import replays as rings_lib
from reincarnating_rl.loop.saving import state as state_lib
from reincarnating_rl.storage.checkpoints.background import Background
from reincarnating_rl.storage.checkpoints.checkpoint_store import Saved
from reincarnating_rl.storage.checkpoints.checkpoint_store import Vault
from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.storage.checkpoints.row_segments import RowLog

CHECKPOINTS_KEPT = 2
_SHORT = 80  # longest setting, in characters, that messages quote in full
# A resumed run may have more iterations or another learning rate.
_MAY_CHANGE = ('num_iterations', 'learning_rate')
# Entries of the identity that belong to a population. If a fork changes one of
# them, settings that the original run copied from other members are dropped.
LINEAGE = ('population-based training', 'member')


class CheckpointMismatchError(ValueError):
  """A checkpoint belongs to a run with other settings."""


class RunCheckpointer:
  """Checkpoints of one run in one directory."""

  def __init__(
      self,
      directory: str,
      *,
      keep: int = CHECKPOINTS_KEPT,
      logs: Optional[str] = None,
      identity: Optional[dict[str, str]] = None,
  ):
    """Opens a directory, without writing to it.

    Args:
      directory: directory of the checkpoints.
      keep: number of checkpoints to keep.
      logs: directory of the run's logs, which a restore cuts to their length at
        the checkpoint; None = no logs.
      identity: further entries that must be equal to resume.

    Raises:
      ValueError: if `keep` is less than 1.
    """
    self._vault = Vault(directory, keep)
    self._logs_dir = logs
    self._identity = identity or {}
    self._background = Background()
    self._row_logs: dict[str, RowLog] = {}
    self._saved = max(self._vault.numbers(), default=None)
    self._saved_moment: Optional[state_lib.Moment] = None
    self._next = (self._saved or 0) + 1

  @property
  def latest(self) -> Optional[int]:
    """Number of the newest checkpoint on the disk, or None."""
    return self._saved

  # -- saving ----------------------------------------------------------------

  def has(self, run: Run) -> bool:
    """True if the present state of a run is on the disk."""
    return self._saved_moment == state_lib.moment(run)

  def follow(self, run: Run) -> None:
    """Writes new rows of the replays, once they fill a segment."""
    for name, ring in rings_lib.of_run(run).items():
      self._row_log(name).follow(ring)

  def save(self, run: Run, wait: bool = True) -> bool:
    """Saves a checkpoint of a run.

    Args:
      run: run between two steps.
      wait: True to wait until the checkpoint is on the disk.

    Returns:
      False if it could not be written; always True without `wait`.

    Raises:
      TrainingDivergedError: if a parameter or metric is not finite.
    """
    run.trainer.check_finite()
    run.listeners.on_saving()
    rings = rings_lib.of_run(run)
    for name, ring in rings.items():
      self._row_log(name).seal(ring)
    for name in set(self._row_logs) - set(rings):
      del self._row_logs[name]
    snapshot = state_lib.snapshot(run)
    snapshot.document['settings'] |= self._identity
    if self._logs_dir is not None:
      snapshot.document['logs'] = log_files.sizes(self._logs_dir)
    number, self._next = self._next, self._next + 1
    logs, moment = dict(self._row_logs), state_lib.moment(run)
    self._background.submit(lambda: self._write(number, snapshot, logs, moment))
    if wait:
      self._background.wait()
      return self._saved == number
    return True

  def _row_log(self, name: str) -> RowLog:
    if name not in self._row_logs:
      folder = self._vault.rows_folder(name)
      self._row_logs[name] = RowLog(folder, self._background)
    return self._row_logs[name]

  def _write(
      self,
      number: int,
      snapshot: state_lib.Snapshot,
      logs: dict[str, RowLog],
      moment: state_lib.Moment,
  ) -> None:
    try:
      segments = {
          name: logs[name].covering(*window)
          for name, window in snapshot.windows.items()
      }
      self._vault.write(number, snapshot.document, snapshot.arrays, segments)
    except ArchiveError as e:
      kept = 'there is none before it'
      if self._saved is not None:
        kept = f'checkpoint {self._saved} is still there'
      logging.warning(
          'Checkpoint %d was not written (%s); %s, and training goes on until '
          'the next is due: make room in %s.',
          number,
          e,
          kept,
          self._vault.folder,
      )
      return
    self._saved, self._saved_moment = number, moment
    try:
      self._vault.prune(logs)
    except OSError as e:
      logging.warning('Old checkpoints were not removed: %s.', e)

  def wait(self) -> Optional[int]:
    """Waits for the writes in progress; returns `latest`."""
    self._background.wait()
    return self._saved

  def close(self) -> None:
    """Waits for the writes in progress and ends the background thread."""
    self._background.close()

  # -- restoring -------------------------------------------------------------

  def restore(self, run: Run, any_settings: bool = False) -> bool:
    """Restores a freshly built run from the newest complete checkpoint.

    Args:
      run: run built with the same settings.
      any_settings: True to log changed settings, False to refuse them.

    Returns:
      True if there was a checkpoint.

    Raises:
      ArchiveError: if there are checkpoints, but none is complete.
      CheckpointMismatchError: if it was saved with other settings.
    """
    self._background.wait()
    saved = self._vault.newest()
    if saved is None:
      if self._logs_dir is not None:
        log_files.set_back(self._logs_dir, {})
      return False
    changed = self._check_settings(run, saved, any_settings)
    for name, segments in saved.segments.items():
      folder = self._vault.rows_folder(name)
      self._row_logs[name] = RowLog(folder, self._background, segments)

    def read_rows(name: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
      for segment in saved.segments[name]:
        yield segment.start, self._vault.read_rows(name, segment)

    try:
      state_lib.restore(
          run,
          saved.document,
          saved.arrays,
          read_rows,
          keeps_copied=not changed.intersection(LINEAGE),
      )
    except StateMismatchError as e:
      raise CheckpointMismatchError(
          f'The checkpoint in {self._vault.folder} does not fit this run '
          f'({e}): use the settings that it was written with, or another '
          'directory.'
      ) from e
    self._saved = saved.number
    if self._logs_dir is not None:
      log_files.set_back(self._logs_dir, saved.document.get('logs', {}))
    run.listeners.on_restored(run.records)
    run.prepare_teacher_data()
    return True

  def fork(self, other: str) -> None:
    """Copies the newest checkpoint of another directory into this one.

    Args:
      other: directory of the checkpoints of another run.

    Raises:
      ArchiveError: if no checkpoint there is complete.
    """
    self._vault.copy_newest_of(Vault(other))
    self._next = max(self._vault.numbers()) + 1

  def _check_settings(
      self, run: Run, saved: Saved, any_settings: bool
  ) -> set[str]:
    """Compares settings with a checkpoint's; returns the names that differ.

    Raises:
      CheckpointMismatchError: if some differ and `any_settings` is False, or
        another version of the package wrote the checkpoint.
    """
    document = saved.document
    if document['schema'] != state_lib.SCHEMA:
      raise CheckpointMismatchError(
          f'The checkpoint in {self._vault.folder} was written by another '
          f'version of this package (its schema is {document["schema"]}, not '
          f'{state_lib.SCHEMA}): install that version, or use another '
          'directory.'
      )
    # An old checkpoint lacks newer settings: it had their defaults.
    before = compatibility.defaults() | document['settings']
    now = compatibility.settings(run) | self._identity
    changed = [
        k
        for k in {**before, **now}
        if k not in _MAY_CHANGE and before.get(k) != now.get(k)
    ]
    changes = [
        _difference(k, str(before.get(k)), str(now.get(k))) for k in changed
    ]
    if changes and any_settings:
      logging.info('Going on with other settings: %s.', '; '.join(changes))
    elif changes:
      raise CheckpointMismatchError(
          'The checkpoint in this directory was written with other settings '
          f'({"; ".join(changes)}): use those settings, or another directory, '
          f'and --fork_from {os.path.dirname(self._vault.folder)} to go on '
          'there from this checkpoint.'
      )
    return set(changed)


def _difference(name: str, before: str, now: str) -> str:
  """Describes a change: 'batch_size was 32, is 16'; shortens long texts."""
  if max(len(before), len(now)) <= _SHORT:
    return f'{name} was {before}, is {now}'
  ours, theirs = before.split(), now.split()
  pieces = []
  for tag, i, j, k, m in difflib.SequenceMatcher(
      a=ours, b=theirs, autojunk=False
  ).get_opcodes():
    if tag != 'equal':
      # Quotes two words before the difference: 'hidden_size = 512'.
      was, is_ = ours[max(i - 2, 0) : j], theirs[max(k - 2, 0) : m]
      pieces.append(f'was {" ".join(was)}, is {" ".join(is_)}')
  return f'{name} {"; ".join(pieces)}'
