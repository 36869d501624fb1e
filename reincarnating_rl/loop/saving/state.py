"""Everything alive in a run: what is saved of it, and how it comes back.

The two lists below name every attribute of every object that changes while a
run goes on; `tests/loop/state_test.py` walks a live run and fails on one that
is on neither. Arrays go into a checkpoint under names, the rest into a JSON
document, and the rows of a replay into a log of their own (`archive.rows`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional

import jax
import numpy as np

from reincarnating_rl.loop.acting.env_player import Collection
from reincarnating_rl.loop.acting.env_player import Player
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.evaluation import EpisodeTracker
from reincarnating_rl.loop.acting.evaluation import Evaluation
from reincarnating_rl.loop.acting.replay_writer import Data
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.loop.run.rollouts import Activity
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.saving import compatibility
from reincarnating_rl.loop.saving import replays
from reincarnating_rl.loop.training.events import MetricMeans
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.update_schedule import Counters
from reincarnating_rl.networks import spec as spec_lib
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState

SCHEMA = 2

SAVED = {
    'Run': (
        'next_phase steps_done copied_after random_score teacher_score records '
        'collected teacher_data player trainer stage'
    ),
    'Trainer': 'member learner_state act_key lambda_ duties writer guide means',
    'Duties': 'counters given_rows',
    'Counters': (
        'training_steps agent_steps updates_due updates_made online_since '
        'resets'
    ),
    'MetricMeans': '_pending _pending_updates _sums _count',
    'Guide': 'state',
    'ReplayWriter': 'name spec state slots_written pending',
    'Player': 'env tracker observation first in_flight',
    'EpisodeTracker': 'returns lengths finished',
    'Stage': 'seconds activity',
    'Evaluation': (
        'env tracker playing steps agent_steps rng_key observation in_flight'
    ),
    'Collection': 'player writer rng_key',
}
# Made again from the settings, or of the process and not of the run.
MADE_ANEW = {
    'Run': 'end config plan teacher at_step latest_checkpoint listeners',
    'Trainer': (
        'config online_learner offline beginning began_as eval_key _is_online '
        'coefficients _teacher _on_metrics'
    ),
    'Duties': 'config _reset_ticks',
    'Guide': 'config _policy',
    'Player': 'waiting _beside _answer',
    'ReplayWriter': '_teacher _chunk _reward_clip _given_extras',
    'Stage': (
        'take_up _config _make_env _eval_env _listeners _at_step _working'
    ),
    'Evaluation': '_policy _share _epsilon',
    'Collection': '_policy _epsilon',
}

# Names of arrays; the student's are called so whatever its rows are called.
_STUDENT, _TEACHER = 'student', replays.TEACHER

# The segments of a replay, by its name: first slot and columns of each.
ReadRows = Callable[[str], Iterable[tuple[int, dict[str, np.ndarray]]]]
Arrays = Mapping[str, np.ndarray]


# How far a run is; equal as long as nothing has happened.
Moment = tuple


class StateMismatchError(ValueError):
  """What was saved is not of such a run."""


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


# -- saving --------------------------------------------------------------------


def moment(run: Run) -> Moment:
  """How far a run is, down to the step that is under way."""
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
  """Whether environments have been given actions, and not answered."""
  return getattr(player, 'in_flight', None) is not None


def is_between_phases(run: Run) -> bool:
  """Whether a run has ended a phase and not begun with another."""
  playing = run.stage.activity or run.stage.take_up
  return not (run.steps_done or playing or _waits(run.player))


def waits_for_emulator(run: Run) -> bool:
  """Whether a run waits for its environments, wherever it plays.

  It does not while they play on a thread of their own and it learns.
  """
  activity = run.stage.activity
  players = (run.player, activity, getattr(activity, 'player', None))
  return any(getattr(p, 'waiting', _waits(p)) for p in players)


def snapshot(run: Run) -> Snapshot:
  """Copies everything but the rows of the replays."""
  trainer, player, activity = run.trainer, run.player, run.stage.activity
  document = {
      'schema': SCHEMA,
      'settings': compatibility.settings(run),
      'network': spec_lib.to_json_if_possible(trainer.online_learner.network),
      'next_phase': run.next_phase,
      'steps_done': run.steps_done,
      'random_score': run.random_score,
      'teacher_score': run.teacher_score,
      'records': [r.to_json() for r in run.records],
      'seconds': run.stage.seconds_so_far(),
      'counters': dataclasses.asdict(trainer.counters),
      'given_rows': trainer.duties.given_rows,
      'lambda': trainer.lambda_,
      'means': trainer.means.to_json(),
      'student_capacity': trainer.writer.spec.capacity if player else None,
      'student_rows': trainer.writer.name if player else None,
      'member': trainer.member,
      'copied_after': run.copied_after,
      'player': _player_document(player) if player else None,
      'collected': _episodes_document(run.collected),
      'activity': _activity_document(activity) if activity else None,
  }
  trees = {'learner_state': trainer.learner_state, 'act_key': trainer.act_key}
  if player is not None:
    trees |= {_STUDENT: _writer_tree(trainer.writer), 'player': _player(player)}
    if trainer.guide is not None:
      trees['guide'] = trainer.guide.state
  if run.collected is not None:
    trees[_TEACHER] = _replay_tree(run.teacher_data[1])
  if activity is not None:
    trees['activity'] = _activity_tree(activity)
  windows = {
      name: (max(ring.written - ring.slots, 0), ring.written)
      for name, ring in replays.of_run(run).items()
  }
  # Copies: what is fetched may be the device's own memory.
  arrays = {
      name: np.array(leaf)
      for name, leaf in _named(jax.device_get(trees)).items()
  }
  return Snapshot(document, arrays, windows)


def _named(tree: Any) -> dict[str, Any]:
  """The leaves of a tree by their paths in it."""
  name = functools.partial(jax.tree_util.keystr, simple=True, separator='/')
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {name(path): leaf for path, leaf in leaves}


def _replay_tree(state: ReplayState) -> dict[str, Any]:
  """Parts of a replay that are not in its rows."""
  return {'priorities': state.priorities, 'add_count': state.add_count}


def _writer_tree(writer: ReplayWriter) -> dict[str, Any]:
  tree = _replay_tree(writer.state)
  if writer.pending:
    tree['pending'] = [np.stack(column) for column in zip(*writer.pending)]
  return tree


def _player(player: Player) -> dict[str, Any]:
  tree = {'first': player.first} | _tracker(player.tracker)
  if player.in_flight is not None:
    tree['in_flight'] = player.in_flight
  return tree


def _tracker(tracker: EpisodeTracker) -> dict[str, Any]:
  return {'returns': tracker.returns, 'lengths': tracker.lengths}


def _player_document(player: Player) -> dict[str, Any]:
  return {
      'env': player.env.snapshot(),
      'finished': list(player.tracker.finished),
  }


def _episodes_document(episodes: Optional[Episodes]) -> Optional[list]:
  return episodes and [column.tolist() for column in episodes]


def _activity_document(activity: Activity) -> dict[str, Any]:
  if isinstance(activity, Collection):
    return {'player': _player_document(activity.player)}
  return {
      'env': activity.env.snapshot(),
      'finished': list(activity.tracker.finished),
      'steps': activity.steps,
      'agent_steps': activity.agent_steps,
  }


def _activity_tree(activity: Activity) -> dict[str, Any]:
  if isinstance(activity, Collection):
    return {
        'player': _player(activity.player),
        'writer': _writer_tree(activity.writer),
        'rng_key': activity.rng_key,
    }
  tree = _tracker(activity.tracker) | {
      'playing': activity.playing,
      'rng_key': activity.rng_key,
  }
  if activity.in_flight is not None:
    tree['in_flight'] = activity.in_flight
  return tree


# -- bringing back -------------------------------------------------------------


def restore(
    run: Run, document: dict[str, Any], arrays: Arrays, read_rows: ReadRows
) -> None:
  """Brings a freshly built run to where a snapshot was taken.

  Args:
    run: built with the same settings.
    document: of the snapshot.
    arrays: of the snapshot.
    read_rows: of its replays.

  Raises:
    StateMismatchError: if the run is not of that kind.
  """
  trainer = run.trainer
  run.next_phase = document['next_phase']
  run.steps_done = document['steps_done']
  run.random_score = document['random_score']
  run.teacher_score = document['teacher_score']
  run.records = [PhaseRecord.from_json(r) for r in document['records']]
  run.stage.seconds.update(document['seconds'])
  trainer.duties.counters = Counters(**document['counters'])
  trainer.duties.given_rows = document['given_rows']
  trainer.lambda_ = document['lambda']
  trainer.means = MetricMeans.from_json(document['means'])
  if document['player'] is not None:
    run.allocate_student(document['student_capacity'])
    _restore_player(run.player, document['player'], arrays, 'player')
    trainer.writer.name = document.get('student_rows', trainer.writer.name)
    rows = read_rows(trainer.writer.name)
    _restore_writer(trainer.writer, arrays, _STUDENT, rows)
    trainer.writer.grow(
        run.config.student_capacity_with(trainer.duties.given_rows)
    )
    if trainer.guide is not None:
      trainer.guide.state = _tree(arrays, 'guide', trainer.guide.state)
  trainer.learner_state = _tree(arrays, 'learner_state', trainer.learner_state)
  trainer.set_lambda(trainer.lambda_)  # coefficients as configured now
  trainer.act_key = _tree(arrays, 'act_key', trainer.act_key)
  if document['collected'] is not None:
    _restore_collection(run, document['collected'], arrays, read_rows)
  if document['activity'] is not None:
    run.stage.take_up = functools.partial(
        _take_up, document['activity'], arrays, read_rows
    )


def restore_member(run: Run, document: dict[str, Any]) -> None:
  """Gives a run that was brought back what it had copied from others."""
  if document.get('copied_after'):
    run.copied_after = document['copied_after']
    run.trainer.settle(document['member'])


def _tree(arrays: Arrays, name: str, like: Any) -> Any:
  """A tree of such arrays, under its name.

  Raises:
    StateMismatchError: if there are none of these shapes and types.
  """
  named = {name: like}

  def find(path: Any, leaf: Any) -> jax.Array:
    key = jax.tree_util.keystr(path, simple=True, separator='/')
    saved = arrays.get(key)
    wanted = f'{leaf.dtype}{list(leaf.shape)}'
    if saved is None:
      raise StateMismatchError(f'{key} is missing, and should be {wanted}')
    if (saved.shape, saved.dtype) != (leaf.shape, leaf.dtype):
      found = f'{saved.dtype}{list(saved.shape)}'
      raise StateMismatchError(f'{key} was {found}, is {wanted}')
    return jax.numpy.array(saved)

  return jax.tree_util.tree_map_with_path(find, named)[name]


def _restore_replay(
    spec: ReplaySpec,
    state: ReplayState,
    arrays: Arrays,
    name: str,
    segments: Iterable[tuple[int, dict[str, np.ndarray]]],
) -> ReplayState:
  """Restores a replay from a checkpoint; `state` is consumed.

  Raises:
    StateMismatchError: if the checkpoint has other columns.
  """
  like = _replay_tree(state)
  rest = {k: _tree(arrays, f'{name}/{k}', v) for k, v in like.items()}
  storage = state.storage
  for start, columns in segments:
    _check_columns(spec, columns)
    storage = blocks.write(spec, storage, start, columns)
  return ReplayState(storage, **rest)


def _check_columns(spec: ReplaySpec, columns: dict[str, np.ndarray]) -> None:
  describe = lambda shape, dtype: f'{dtype}{list(shape)}'
  wanted = {k: describe(x.shape, x.dtype) for k, x in spec.columns.items()}
  found = {k: describe(x.shape[1:], x.dtype) for k, x in columns.items()}
  for name in sorted(wanted.keys() | found.keys()):
    was, is_ = found.get(name, 'not there'), wanted.get(name, 'not there')
    if was != is_:
      raise StateMismatchError(
          f'column {name} of the replay was {was}, is {is_}'
      )


def _restore_writer(
    writer: ReplayWriter,
    arrays: Arrays,
    name: str,
    segments: Iterable[tuple[int, dict[str, np.ndarray]]],
) -> None:
  writer.state = _restore_replay(
      writer.spec, writer.state, arrays, name, segments
  )
  writer.slots_written = int(writer.state.add_count)
  columns = []
  while f'{name}/pending/{len(columns)}' in arrays:
    columns.append(arrays[f'{name}/pending/{len(columns)}'])
  writer.pending = list(zip(*columns))


def _restore_player(
    player: Player, document: dict[str, Any], arrays: Arrays, name: str
) -> None:
  player.observation = player.env.restore(document['env'])
  player.first = np.array(arrays[f'{name}/first'])
  player.in_flight = arrays.get(f'{name}/in_flight')
  _restore_tracker(player.tracker, document, arrays, name)


def _restore_tracker(
    tracker: EpisodeTracker, document: dict[str, Any], arrays: Arrays, name: str
) -> None:
  tracker.returns = np.array(arrays[f'{name}/returns'])
  tracker.lengths = np.array(arrays[f'{name}/lengths'])
  tracker.finished = [tuple(episode) for episode in document['finished']]


def _restore_collection(
    run: Run, episodes: list, arrays: Arrays, read_rows: ReadRows
) -> None:
  """The data that the teacher has collected, for others of a group, too."""
  num_actions = run.teacher.policy.network.num_actions
  spec = run.config.collection_spec().with_q_teacher(num_actions)
  state = frame_replay.init(spec)
  state = _restore_replay(spec, state, arrays, _TEACHER, read_rows(_TEACHER))
  run.teacher_data: Data = (spec, state)
  returns, lengths = episodes
  run.collected = Episodes(
      np.array(returns, np.float64), np.array(lengths, np.int64)
  )
  if run.teacher.shared.collection is None:
    run.teacher.shared.collection = (run.teacher_data, run.collected)


def _take_up(
    document: dict[str, Any],
    arrays: Arrays,
    read_rows: ReadRows,
    activity: Activity,
) -> None:
  """Brings a fresh activity to where it was."""
  activity.rng_key = _tree(arrays, 'activity/rng_key', activity.rng_key)
  if isinstance(activity, Collection):
    name = 'activity/player'
    _restore_player(activity.player, document['player'], arrays, name)
    rows = read_rows(_TEACHER)
    _restore_writer(activity.writer, arrays, 'activity/writer', rows)
    return
  assert isinstance(activity, Evaluation)
  activity.observation = activity.env.restore(document['env'])
  activity.playing = np.array(arrays['activity/playing'])
  activity.in_flight = arrays.get('activity/in_flight')
  activity.steps = document['steps']
  activity.agent_steps = document['agent_steps']
  _restore_tracker(activity.tracker, document, arrays, 'activity')
