"""A run at one moment, as a checkpoint holds it.

Every object of a run says itself what changes in it (`base.stateful`); a test
walks a live run and fails on an attribute that nobody names. Here the tree of
their states becomes a document and arrays; the rows of replays lie in a log of
their own (`storage.checkpoints.row_segments`).
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

# The segments of a replay, by its name: first slot and columns of each.
ReadRows = Callable[[str], Iterable[tuple[int, dict[str, np.ndarray]]]]
Arrays = Mapping[str, np.ndarray]

# Progress of a run; equal as long as nothing has happened.
Moment = tuple


class Snapshot(NamedTuple):
  """A run at one moment; nothing of it changes when the run goes on.

  Attributes:
    document: JSON-ready.
    arrays: by name, on the host.
    windows: first slot, and the one after the last, that each replay holds.
  """

  document: dict[str, Any]
  arrays: dict[str, np.ndarray]
  windows: dict[str, tuple[int, int]]


def moment(run: Run) -> Moment:
  """Progress of a run, down to the step that is under way."""
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
  """True if environments were given actions and have not answered."""
  return getattr(player, 'in_flight', None) is not None


def is_between_phases(run: Run) -> bool:
  """True if a run has ended a phase and not begun another."""
  playing = run.stage.activity or run.stage.take_up
  return not (run.steps_done or playing or _waits(run.player))


def waits_for_emulator(run: Run) -> bool:
  """True if a run waits for its environments, wherever it plays.

  False while they play on a thread of their own and it learns.
  """
  activity = run.stage.activity
  players = (run.player, activity, getattr(activity, 'player', None))
  return any(getattr(p, 'waiting', _waits(p)) for p in players)


def snapshot(run: Run) -> Snapshot:
  """Copies everything but the rows of the replays."""
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
  # Copies: what is fetched may be the device's own memory.
  copies = {k: np.array(v) for k, v in jax.device_get(arrays).items()}
  return Snapshot(document, copies, windows)


def restore(
    run: Run,
    document: Mapping[str, Any],
    arrays: Arrays,
    read_rows: ReadRows,
    keeps_copied: bool = True,
) -> None:
  """Brings a freshly built run to where a snapshot was taken.

  Args:
    run: built with the same settings.
    document: of the snapshot.
    arrays: of the snapshot.
    read_rows: of its replays.
    keeps_copied: as in `Run.set_state`.

  Raises:
    StateMismatchError: if the run is not of that kind.
  """
  state = stateful.join(document['state'], arrays)
  run.set_state(_with_segments(state, read_rows), keeps_copied)


def _with_segments(state: Any, read_rows: ReadRows) -> Any:
  """State with the rows of each replay beside the name of its rows."""
  if not isinstance(state, dict):
    return state
  found = {k: _with_segments(v, read_rows) for k, v in state.items()}
  if 'rows' in found:
    found['segments'] = read_rows(found['rows'])
  return found
