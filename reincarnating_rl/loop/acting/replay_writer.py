"""Writes agent steps into a device replay, some at a time.

A replay may also begin with the rows of another one.

Shape letters: T steps, E streams, A actions, C stacked observations, R rows.
`...` is the shape of one observation or one action.
"""

from __future__ import annotations

import functools
from typing import Any, Mapping, NamedTuple, Optional

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.stateful import restored
from reincarnating_rl.base.stateful import state_of
from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.base.stateful import StateMismatchError
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.frame_replay import Q_TEACHER
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState
from reincarnating_rl.replay.frame_replay import Rows

FIRST_NAME = 'student'
COLLECTED_ROWS = 'teacher'  # of the data that a teacher collects

# A replay and its description.
Data = tuple[ReplaySpec, ReplayState]


class ReplayWriter(Stateful):
  """Buffers steps on the host and adds them in one dispatch.

  With a teacher, its Q-values are computed for the whole chunk at once and
  stored beside the rows: once a state, not once a sample.

  Attributes:
    name: of its rows in checkpoints; rows under one name never change.
    spec: its static description; with a teacher it has a column of Q-values.
    state: the replay on the device; owned here, donated at every write.
    slots_written: since it was empty, given rows included.
    pending: steps that are not written yet: observation, action, reward, flags
      and the given extras, in the order of their names.
  """

  SAVED = ('name', 'spec', 'state', 'slots_written', 'pending')
  REBUILT = ('_teacher', '_chunk', '_reward_clip', '_given_extras')

  def __init__(
      self,
      spec: ReplaySpec,
      teacher: Optional[Policy] = None,
      chunk: int = 1,
      given: Optional[Data] = None,
      reward_clip: Optional[float] = 1.0,
  ):
    """Allocates the replay.

    Args:
      spec: static description.
      teacher: its Q-values are kept beside each row; None = no Q-values.
      chunk: steps of every stream that are written at once.
      given: replay whose rows this one begins with; None = an empty one.
      reward_clip: rewards are clipped to [-reward_clip, reward_clip]; None =
        never.

    Raises:
      ValueError: if the given replay does not fit.
    """
    self.name = FIRST_NAME
    self._given_extras = [name for name, _ in spec.extras]
    if teacher is not None:
      self._given_extras = [n for n in self._given_extras if n != Q_TEACHER]
      spec = spec.with_q_teacher(teacher.network.num_actions)
    self.spec = spec
    self._teacher = teacher
    self._reward_clip = reward_clip
    self._chunk = min(chunk, spec.slots - spec.update_horizon - spec.stack_size)
    self.pending: list[tuple[np.ndarray, ...]] = []
    if given is None:
      self.state = frame_replay.init(spec)
    else:
      self.state = cut_into_streams(*given, spec)
    self.slots_written = int(self.state.add_count)

  def get_state(self) -> dict[str, Any]:
    """Everything but the rows, which have a log of their own."""
    state = replay_state(self.state)
    pending = [np.stack(column) for column in zip(*self.pending)]
    return state | {
        'rows': self.name,
        'capacity': self.spec.capacity,
        'pending': {str(i): column for i, column in enumerate(pending)},
    }

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores a replay of the same capacity.

    Args:
      state: what `get_state` returned, and in 'segments' the first slot and
        the columns of each piece of the rows.
    """
    self.name = state['rows']
    self.state = restored_replay(self.spec, self.state, state)
    self.slots_written = int(self.state.add_count)
    columns = state['pending']
    self.pending = list(zip(*(columns[str(i)] for i in range(len(columns)))))

  def append(
      self,
      observation: np.ndarray,
      action: np.ndarray,
      reward: np.ndarray,
      *,
      first: np.ndarray,
      terminal: np.ndarray,
      truncated: np.ndarray,
      extras: Optional[Mapping[str, np.ndarray]] = None,
  ) -> None:
    """Keeps one step of every stream; rewards are clipped here.

    Args:
      observation: [E, C, ...], the state acted in, oldest observation first;
        [E, ...] if the spec has no stack axis.
      action: [E, ...].
      reward: [E] float, unclipped.
      first: [E] bool, True where the state began an episode.
      terminal: [E] bool.
      truncated: [E] bool.
      extras: [E, ...] by name: the spec's extra columns but the teacher's
        Q-values.

    Raises:
      ValueError: if an action does not fit the replay, or a column is missing.
    """
    extras = extras or {}
    if sorted(extras) != self._given_extras:
      raise ValueError(
          f'The replay has the extra columns {self._given_extras}, the step '
          f'{sorted(extras)}.'
      )
    flags = (
        frame_replay.FIRST * first
        + frame_replay.TERMINAL * terminal
        + frame_replay.TRUNCATED * truncated
    ).astype(np.uint8)
    clip = self._reward_clip
    if clip is not None:
      reward = np.clip(reward, -clip, clip)
    others = (extras[name] for name in self._given_extras)
    self.pending.append(
        (
            observation,
            _fitting(action, self.spec.action.dtype),
            np.asarray(reward, np.float32),
            flags,
            *others,
        )
    )
    if len(self.pending) >= self._chunk:
      self.flush()

  def grow(self, capacity: int) -> None:
    """Makes room for more rows; does nothing if there is enough."""
    if capacity > self.spec.capacity:
      self.spec, self.state = frame_replay.grow(self.spec, self.state, capacity)

  def flush(self) -> None:
    """Writes pending steps: whole chunks at once, the rest one by one.

    With two sizes only, nothing is compiled after the first of each.
    """
    while self.pending:
      whole = len(self.pending) >= self._chunk
      size = self._chunk if whole else 1
      head, self.pending = self.pending[:size], self.pending[size:]
      self.slots_written += size
      observation, action, reward, flags, *others = (
          np.stack(x) for x in zip(*head)
      )
      extras = dict(zip(self._given_extras, others))
      rows = Rows(observation, action, reward, flags, extras)
      if self._teacher is None:
        self.state = _add(self.spec, self.state, _newest(self.spec, rows))
      else:
        network, params = self._teacher.network, self._teacher.params
        self.state = _add_with_teacher(
            self.spec, network, self.state, params, rows
        )


def _fitting(action: np.ndarray, dtype: str) -> np.ndarray:
  """Actions in the type of the replay's column.

  Raises:
    ValueError: if an integer would become another one.
  """
  action = np.asarray(action)
  if np.dtype(dtype).kind == 'f':
    return action.astype(dtype)
  if action.dtype.kind not in 'iu':
    raise ValueError(f'The replay keeps {dtype} actions, not {action.dtype}.')
  fitting = action.astype(dtype)
  changed = fitting != action
  if changed.any():
    raise ValueError(
        f'Action {action[changed][0]} does not fit the replay, which keeps '
        f'actions as {dtype}.'
    )
  return fitting


def _newest(spec: ReplaySpec, rows: Rows) -> Rows:
  """Cuts observations that are stacks [T, E, C, ...] to the newest."""
  if not spec.has_stack_axis:
    return rows
  return rows._replace(observation=rows.observation[:, :, -1])


_add = jax.jit(frame_replay.add, static_argnums=0, donate_argnums=1)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _add_with_teacher(
    spec: ReplaySpec,
    network: nn.Module,
    state: ReplayState,
    params: Any,
    rows: Rows,
) -> ReplayState:
  """Adds T steps and the teacher's Q-values at their states.

  Args:
    spec: static description.
    network: the teacher's.
    state: the replay; donated.
    params: of the network.
    rows: the steps; their observations are [T, E, C, ...] if stacked.

  Returns:
    The replay with the rows added.
  """
  states = jnp.asarray(rows.observation)
  if spec.has_stack_axis:
    states = jnp.moveaxis(states, 2, -1)  # [T, E, ..., C]
  flat = states.reshape((-1,) + states.shape[2:])
  q_teacher = value_policy(network, params).q_values(flat)
  q_teacher = q_teacher.reshape(rows.flags.shape + (-1,))
  extras = dict(rows.extras) | {Q_TEACHER: q_teacher}
  rows = _newest(spec, rows)._replace(extras=extras)
  return frame_replay.add(spec, state, rows)


# -- state ---------------------------------------------------------------------


def replay_state(state: ReplayState) -> dict[str, Any]:
  """What a checkpoint holds of a replay beside its rows."""
  return {
      'priorities': state_of(state.priorities),
      'add_count': state.add_count,
  }


def restored_replay(
    spec: ReplaySpec, state: ReplayState, saved: Mapping[str, Any]
) -> ReplayState:
  """A replay with what was saved; `state` is consumed.

  Args:
    spec: static description.
    state: an empty replay.
    saved: what `replay_state` returned, and in 'segments' the first slot and
      the columns of each piece of the rows.

  Raises:
    StateMismatchError: if it was saved from another kind of replay.
  """
  priorities = restored('priorities', state.priorities, saved['priorities'])
  add_count = restored('add_count', state.add_count, saved['add_count'])
  storage = state.storage
  for start, columns in saved['segments']:
    _check_columns(spec, columns)
    storage = blocks.write(spec, storage, start, columns)
  return ReplayState(storage, priorities, add_count)


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


# -- replays that begin with given rows ----------------------------------------


def num_rows(spec: ReplaySpec, state: ReplayState) -> int:
  """Number of rows that a replay holds."""
  return min(int(state.add_count), spec.slots) * spec.num_streams


def num_rows_kept(source: ReplaySpec, rows: int, spec: ReplaySpec) -> int:
  """Number of rows that `cut_into_streams` keeps.

  Args:
    source: description of the replay to cut.
    rows: number of rows that it holds.
    spec: description of the new replay.
  """
  room = (spec.slots - spec.update_horizon) * spec.num_streams
  return min(rows, room // source.num_streams * source.num_streams)


def cut_into_streams(
    source_spec: ReplaySpec,
    source: ReplayState,
    spec: ReplaySpec,
) -> ReplayState:
  """Makes a replay that begins with the rows of another one.

  Streams are laid end to end, oldest row first, and cut into as many segments
  of equal length as the new replay has streams. A row keeps its neighbours
  and its weight, except around a cut: no return leads over one, and no state
  looks back over one. After each segment stand as many steps as a return is
  long, truncated and never drawn: so no row of it waits for the student's.

  Args:
    source_spec: description of the replay to cut; any n and number of streams.
    source: that replay. If it holds too many rows, the newest are kept.
    spec: description of the new replay, whose n holds from now on. A row that
      could not be drawn from the source cannot be drawn here, whatever n is.
      Extra columns of the source that it lacks are left out.

  Returns:
    The new replay.

  Raises:
    ValueError: if there are no rows, states or actions differ in shape or type,
      an extra column is missing, or no row can be drawn.
  """
  _check_given(source_spec, source, spec)
  cut = _make_cut(source_spec, source, spec)
  storage = source.storage
  extras = {name: storage.extras[name] for name, _ in spec.extras}
  storage = storage._replace(extras=extras)
  leaves = source.priorities.tree.leaves[: source_spec.capacity]
  storage, leaves = _take_rows((storage, leaves), jnp.asarray(cut.rows))
  ends = jnp.asarray(cut.ends) & ((storage.flags & frame_replay.TERMINAL) == 0)
  truncated = jnp.where(ends, frame_replay.TRUNCATED, 0).astype(jnp.uint8)
  storage = storage._replace(flags=storage.flags | truncated)
  eligible = frame_replay.eligible_rows(spec, storage.flags)
  leaves = jnp.where(eligible, leaves, 0.0)
  if not bool(leaves.any()):
    raise ValueError(
        f'None of the {num_rows(source_spec, source)} given rows can be drawn '
        f'with update_horizon {spec.update_horizon}.'
    )
  # A copy: the new state will be donated, the source belongs to others.
  max_priority = jnp.array(source.priorities.max_priority)
  priorities = frame_replay.Priorities(
      sum_tree.from_leaves(leaves), max_priority
  )
  return ReplayState(storage, priorities, jnp.int32(cut.slots))


def _check_given(
    source_spec: ReplaySpec,
    source: ReplayState,
    spec: ReplaySpec,
) -> None:
  if not num_rows(source_spec, source):
    raise ValueError('The given replay is empty.')
  if spec.stack_size != source_spec.stack_size:
    raise ValueError(
        f'The given replay has stack_size {source_spec.stack_size}, the '
        f'student has {spec.stack_size}.'
    )
  theirs = source_spec.columns
  for name, ours in spec.columns.items():
    if name not in theirs:
      what = "the teacher's Q-values" if name == Q_TEACHER else f'column {name}'
      raise ValueError(
          f'The given replay lacks {what}, which the student learns from.'
      )
    if theirs[name] != ours:
      raise ValueError(
          f'The given replay has {name} of shape {theirs[name].shape} '
          f'({theirs[name].dtype}), the student has {ours.shape} '
          f'({ours.dtype}).'
      )


class _Cut(NamedTuple):
  """Places of the source's rows in the new replay.

  Attributes:
    rows: [R] int32, the source's row for each place; out of range if none.
    ends: [R] bool, where a return must end.
    slots: number of slots that are taken.
  """

  rows: np.ndarray
  ends: np.ndarray
  slots: int


def _make_cut(
    source_spec: ReplaySpec, source: ReplayState, spec: ReplaySpec
) -> _Cut:
  streams = source_spec.num_streams
  held = num_rows(source_spec, source)
  kept = num_rows_kept(source_spec, held, spec)
  ages = np.arange((held - kept) // streams, held // streams)
  oldest = max(int(source.add_count) - source_spec.slots, 0)
  slots = (oldest + ages) % source_spec.slots
  line = (slots[None, :] * streams + np.arange(streams)[:, None]).reshape(-1)
  seams = np.zeros(kept, np.bool_)
  seams[len(ages) - 1 :: len(ages)] = True
  length = -(-kept // spec.num_streams)
  nowhere = np.iinfo(np.int32).max
  rows = np.full((spec.num_streams, spec.slots), nowhere, np.int32)
  ends = np.zeros((spec.num_streams, spec.slots), np.bool_)
  for stream in range(spec.num_streams):
    piece = slice(stream * length, (stream + 1) * length)
    size = len(line[piece])
    rows[stream, :size] = line[piece]
    ends[stream, :size] = seams[piece]
    # The segment's last row, and all steps that stand behind it.
    ends[stream, max(size - 1, 0) : length + spec.update_horizon] = True
  return _Cut(
      rows.T.reshape(-1), ends.T.reshape(-1), length + spec.update_horizon
  )


@jax.jit
def _take_rows(columns: Any, rows: jax.Array) -> Any:
  """Rows of every column; zeros for those that are out of range."""
  take = lambda x: jnp.take(x, rows, axis=0, mode='fill', fill_value=0)
  return jax.tree.map(take, columns)
