"""State of a run at one moment, in the form of a checkpoint.

Each object of a run names its own attributes to save (`base.stateful`); a test
walks through a live run and fails on an attribute that is not named. This
module turns the tree of their states into a document and arrays. The rows of
replays are stored separately (`storage.checkpoints.row_segments`).
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple

import jax
import numpy as np

from reincarnating_rl.base import stateful
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving import compatibility
from reincarnating_rl.loop.saving import replays
from reincarnating_rl.networks import spec

SCHEMA = 3

# (name of a replay) -> its segments, each as (first slot, columns).
ReadRows = Callable[[str], Iterable[tuple[int, dict[str, np.ndarray]]]]
Arrays = Mapping[str, np.ndarray]

# Progress of a run. Two moments are equal if nothing happened between them.
Moment = tuple


class Snapshot(NamedTuple):
  """Copy of a run's state at one moment; it does not change with the run.

  Attributes:
    document: JSON-ready part of the state.
    arrays: arrays of the state by name, on the host.
    windows: slots of each replay, as (first, last + 1).
  """

  document: dict[str, Any]
  arrays: dict[str, np.ndarray]
  windows: dict[str, tuple[int, int]]


def moment(run: Run) -> Moment:
  """Returns the progress of a run, including the present step."""
  activity = run.stage.activity
  steps = (activity.agent_steps, _waits(activity)) if activity else None
  player = getattr(activity, 'player', None)
  return (
      run.next_phase,
      run.steps_done,
      _waits(run.player),
      steps,
      _waits(player),
      run.trainer.lambda_,
      run.copied_after,
  )


def _waits(player: Any) -> bool:
  """True if actions are in flight."""
  return getattr(player, 'in_flight', None) is not None


def is_between_phases(run: Run) -> bool:
  """True if a run has finished a phase and not begun the next one."""
  playing = run.stage.activity or run.stage.take_up
  return not (run.steps_done or playing or _waits(run.player))


def waits_for_emulator(run: Run) -> bool:
  """True if a run waits for environments, of training or of an evaluation.

  False while they step on a separate thread and the run makes updates.
  """
  activity = run.stage.activity
  players = (run.player, activity, getattr(activity, 'player', None))
  return any(getattr(p, 'waiting', _waits(p)) for p in players)


def snapshot(run: Run) -> Snapshot:
  """Copies the state of a run, without the rows of its replays."""
  state, arrays = stateful.split(run.get_state())
  document = {
      'schema': SCHEMA,
      'settings': compatibility.settings(run),
      'network': spec.to_json_if_possible(run.trainer.online_learner.network),
      'state': state,
  }
  windows = {
      name: (max(ring.written - ring.slots, 0), ring.written)
      for name, ring in replays.of_run(run).items()
  }
  # On a CPU device_get returns the device's own memory, which updates donate.
  copies = {k: np.array(v) for k, v in jax.device_get(arrays).items()}
  return Snapshot(document, copies, windows)


def restore(
    run: Run,
    document: Mapping[str, Any],
    arrays: Arrays,
    read_rows: ReadRows,
    keeps_copied: bool = True,
) -> None:
  """Restores a snapshot into a freshly built run.

  Args:
    run: run built with the same settings.
    document: document of the snapshot.
    arrays: arrays of the snapshot.
    read_rows: reads the rows of a replay.
    keeps_copied: see `Run.set_state`.

  Raises:
    StateMismatchError: if the snapshot does not fit this run.
  """
  state = stateful.join(document['state'], arrays)
  run.set_state(_with_segments(state, read_rows), keeps_copied)


def _with_segments(state: Any, read_rows: ReadRows) -> Any:
  """Adds 'segments', the rows, next to each 'rows', their name."""
  if not isinstance(state, dict):
    return state
  found = {k: _with_segments(v, read_rows) for k, v in state.items()}
  if 'rows' in found:
    found['segments'] = read_rows(found['rows'])
  return found
