"""Writes agent steps into a device replay, some at a time.

A replay may also begin with what another one holds.
"""

from __future__ import annotations

import functools
from typing import Any, Mapping, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.stateful import restored
from reincarnating_rl.base.stateful import state_of
from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.base.stateful import StateMismatchError
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.replay import blocks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.replay import sum_tree
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import ReplayState
from reincarnating_rl.replay.frame_replay import Rows

REWARD_CLIP = 1.0
FIRST_NAME = 'student'
COLLECTED_ROWS = 'teacher'  # of the data that a teacher collects

# A replay and what describes it.
Data = tuple[ReplaySpec, ReplayState]


class ReplayWriter(Stateful):
  """Buffers steps on the host and adds them in one dispatch.

  With a teacher, its Q-values are computed for the whole chunk at once and
  stored beside the rows: each state is looked at once, not once a sample.

  Attributes:
    name: of its rows in checkpoints; rows under one name never change.
    spec: its static description.
    state: the replay on the device; owned here, donated at every write.
    slots_written: since it was empty, what it was given included.
    pending: steps that are not written yet.
  """

  SAVED = ('name', 'spec', 'state', 'slots_written', 'pending')
  REBUILT = ('_teacher', '_chunk')

  def __init__(
      self,
      spec: ReplaySpec,
      teacher: Optional[Policy] = None,
      chunk: int = 1,
      given: Optional[Data] = None,
  ):
    """Allocates the replay.

    Args:
      spec: static description.
      teacher: whose Q-values are kept beside each row; None = nobody's.
      chunk: steps of every stream that are written at once.
      given: what the replay begins with; None = nothing.

    Raises:
      ValueError: if what is given does not fit.
    """
    self.name = FIRST_NAME
    self.spec = spec
    self._teacher = teacher
    self._chunk = min(chunk, spec.slots - spec.update_horizon - spec.stack_size)
    self.pending: list[tuple[np.ndarray, ...]] = []
    if given is None:
      num_actions = teacher.network.num_actions if teacher else None
      self.state = frame_replay.init(spec, num_actions)
    else:
      self.state = cut_into_streams(*given, spec, teacher is not None)
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
  ) -> None:
    """Keeps one step of every stream; rewards are clipped to [-1, 1] here.

    Args:
      observation: [E, C, H, W] uint8, the state acted in.
      action: [E] int.
      reward: [E] float, unclipped.
      first: [E] bool, whether the state began an episode.
      terminal: [E] bool.
      truncated: [E] bool.
    """
    flags = (
        frame_replay.FIRST * first
        + frame_replay.TERMINAL * terminal
        + frame_replay.TRUNCATED * truncated
    ).astype(np.uint8)
    clipped = np.clip(reward, -REWARD_CLIP, REWARD_CLIP).astype(np.float32)
    self.pending.append((observation, action, clipped, flags))
    if len(self.pending) >= self._chunk:
      self.flush()

  def grow(self, capacity: int) -> None:
    """Makes room for more rows, if that is more than there is."""
    if capacity > self.spec.capacity:
      self.spec, self.state = frame_replay.grow(self.spec, self.state, capacity)

  def flush(self) -> None:
    """Writes what is pending: whole chunks at once, the rest one by one.

    Two sizes only, so that nothing is compiled after the first of each.
    """
    while self.pending:
      whole = len(self.pending) >= self._chunk
      size = self._chunk if whole else 1
      head, self.pending = self.pending[:size], self.pending[size:]
      self.slots_written += size
      observation, action, reward, flags = (np.stack(x) for x in zip(*head))
      if self._teacher is None:
        self.state = _add(
            self.spec, self.state, observation[:, :, -1], action, reward, flags
        )
      else:
        self.state = _add_with_teacher(
            self.spec,
            self._teacher.network,
            self.state,
            self._teacher.params,
            observation,
            action,
            reward,
            flags,
        )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add(spec, state, frames, action, reward, flags):
  return frame_replay.add(spec, state, Rows(frames, action, reward, flags))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _add_with_teacher(
    spec, network, state, params, observation, action, reward, flags
):
  """Adds [T, E] steps and the teacher's Q-values at their states."""
  states = jnp.moveaxis(observation, 2, -1)  # [T, E, H, W, C]
  flat = states.reshape((-1,) + states.shape[2:])
  q_teacher = network.apply({'params': params}, flat).q_values
  q_teacher = q_teacher.reshape(action.shape + (-1,))
  rows = Rows(observation[:, :, -1], action, reward, flags, q_teacher)
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
    if ('q_teacher' in columns) != (storage.q_teacher is not None):
      raise StateMismatchError("the replay's values of the teacher")
    storage = blocks.write(spec, storage, start, columns)
  return ReplayState(storage, priorities, add_count)


# -- a beginning ---------------------------------------------------------------


def num_rows(spec: ReplaySpec, state: ReplayState) -> int:
  """Rows that a replay holds."""
  return min(int(state.add_count), spec.slots) * spec.num_streams


def num_rows_kept(source: ReplaySpec, rows: int, spec: ReplaySpec) -> int:
  """Rows that `cut_into_streams` keeps.

  Args:
    source: of the replay that is cut.
    rows: that it holds.
    spec: of the replay that is made.
  """
  room = (spec.slots - spec.update_horizon) * spec.num_streams
  return min(rows, room // source.num_streams * source.num_streams)


def cut_into_streams(
    source_spec: ReplaySpec,
    source: ReplayState,
    spec: ReplaySpec,
    keep_q_teacher: bool,
) -> ReplayState:
  """The rows of one replay as the beginning of another.

  Streams are laid end to end, oldest row first, and cut into as many segments
  of equal length as the new replay has streams. A row keeps its neighbours
  and its weight, except around a cut: no return leads over one, and no state
  looks back over one. After each segment stand as many steps as a return is
  long, truncated and never drawn: so no row of it waits for the student's.

  Args:
    source_spec: of the replay to cut; any n and number of streams.
    source: that replay. If it holds too many rows, the newest are kept.
    spec: of the replay to make, whose n holds from now on. A row that could
      not be drawn from the source cannot be drawn here, whatever n is.
    keep_q_teacher: whether to keep the teacher's Q-values.

  Returns:
    The new replay.

  Raises:
    ValueError: if there are no rows, the states differ in shape, the teacher's
      values are missing, or no row can be drawn.
  """
  _check_given(source_spec, source, spec, keep_q_teacher)
  cut = _make_cut(source_spec, source, spec)
  storage = source.storage
  if not keep_q_teacher:
    storage = storage._replace(q_teacher=None)
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
  # A copy: what is made here will be donated, the source belongs to others.
  max_priority = jnp.array(source.priorities.max_priority)
  priorities = frame_replay.Priorities(
      sum_tree.from_leaves(leaves), max_priority
  )
  return ReplayState(storage, priorities, jnp.int32(cut.slots))


def _check_given(
    source_spec: ReplaySpec,
    source: ReplayState,
    spec: ReplaySpec,
    keep_q_teacher: bool,
) -> None:
  if not num_rows(source_spec, source):
    raise ValueError('The given replay is empty.')
  for name in ('frame_shape', 'stack_size'):
    ours, theirs = getattr(spec, name), getattr(source_spec, name)
    if ours != theirs:
      raise ValueError(
          f'The given replay has {name} {theirs}, the student has {ours}.'
      )
  if keep_q_teacher and source.storage.q_teacher is None:
    raise ValueError(
        "The given replay lacks the teacher's Q-values, which the student "
        'learns from.'
    )


class _Cut(NamedTuple):
  """Where the rows of a replay go.

  Attributes:
    rows: [R] int32, the source's row that comes to each place; one that is
      out of range where none does.
    ends: [R] bool, where a return must end.
    slots: how many are taken.
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
