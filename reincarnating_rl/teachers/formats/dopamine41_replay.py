"""Replay of a Dopamine 4.1 teacher: <N>/replay/checkpoint.msgpack.

Dopamine 4.1 stores *elements* instead of steps: a stack, an action, an n-step
return and the stack n steps later. This module splits them into steps again. An
element is the next step if its stack is that of the previous element, moved on
by one frame. If no element follows, the episode is cut as by a time limit.

The errors of Dopamine's accumulator (up to 4.1.2) are corrected. For an episode
whose last step is T, with n-step returns:

* The element of step T - n, whose next state is T, is flagged as terminal, one
  step early: it lacks the reward of T. Here it leads to T and is no terminal.
* Up to stack_size - 1 copies of it follow, with parts of the stack blanked.
  They are left out.
* Steps T - n + 1 to T - 1 are stored with blanked stacks, and with returns up
  to the end that include the reward of T. Earlier elements give their frames;
  the end is a terminal.
* Step T itself is never stored. With n = 1 its reward is unknown: the episode
  is cut there, and the data has no terminals. An episode with a time limit
  loses its last n steps in the same way.

If rewards are clipped to -1, 0 and 1, those of single steps follow from the
n-step returns; then transitions exist for any n. Otherwise they exist only for
the n of the elements, which is found from their order.
"""

from __future__ import annotations

import itertools
import os
from typing import Iterable, Optional

from absl import logging
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.replay.frame_replay import EXCLUDED
from reincarnating_rl.replay.frame_replay import FIRST
from reincarnating_rl.replay.frame_replay import ReplaySpec
from reincarnating_rl.replay.frame_replay import Storage
from reincarnating_rl.replay.frame_replay import TERMINAL
from reincarnating_rl.replay.frame_replay import TRUNCATED
from reincarnating_rl.teachers.errors import enumerate_items
from reincarnating_rl.teachers.formats import dopamine41_episodes
from reincarnating_rl.teachers.formats import npy_gz
from reincarnating_rl.teachers.formats.dopamine41_episodes import Piece
from reincarnating_rl.teachers.teacher_replay import observations_on_device
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

CHECKPOINTS = 'checkpoints'
GAMMA = 0.99
# Largest error of a reconstructed return; a wrong reward causes far more.
_TOLERANCE = 1e-5


def find(directory: str, checkpoint_number: int) -> Optional[str]:
  """Finds the replay that was saved with a checkpoint.

  Args:
    directory: run directory of the teacher, or its checkpoints/ folder.
    checkpoint_number: number of the checkpoint.

  Returns:
    The path of its file, or None; a warning names other replays.
  """
  for folder in (os.path.join(directory, CHECKPOINTS), directory):
    path = _file(folder, checkpoint_number)
    if os.path.isfile(path):
      return path
    there = _numbers(folder)
    if there:
      logging.warning(
          'No replay is loaded with checkpoint %d: %s holds those of %s only.',
          checkpoint_number,
          folder,
          enumerate_items(there),
      )
      return None
  return None


def _file(folder: str, number: int | str) -> str:
  return os.path.join(folder, str(number), 'replay', 'checkpoint.msgpack')


def _numbers(folder: str) -> list[int]:
  """Lists the checkpoints in a folder that have a replay, ascending."""
  if not os.path.isdir(folder):
    return []
  return sorted(
      int(name)
      for name in os.listdir(folder)
      if name.isdigit() and os.path.isfile(_file(folder, name))
  )


def open_replay(path: str) -> Optional[TeacherReplay]:
  """Reads a replay; its frames stay compressed until they are needed.

  Args:
    path: path of the file, from `find`.

  Returns:
    Steps, oldest first, as rows of `frame_replay`, with the update_horizon of
    the elements. None, with a warning, if no elements follow each other.

  Raises:
    TeacherError: if the file is damaged.
  """
  with npy_gz.naming_damage(path):
    horizon = dopamine41_episodes.find_horizon(path)
    if horizon is not None:
      pieces, frames = dopamine41_episodes.read_pieces(path, horizon)
  if horizon is None or not any(piece.is_usable for piece in pieces):
    logging.warning(
        'The replay %s is left out: its elements do not lead to one another.',
        path,
    )
    return None
  found = [_rewards(piece) for piece in pieces]
  rewards = [column for column in found if column is not None]
  only_horizon = None
  if len(rewards) < len(pieces):
    only_horizon = horizon
    rewards = [_stand_ins(piece) for piece in pieces]
  action = np.concatenate([_actions(piece) for piece in pieces])
  flags = np.concatenate([_flags(piece) for piece in pieces])
  frame = ArraySpec(tuple(frames.shape), 'uint8')
  spec = ReplaySpec(len(frames), 1, horizon, GAMMA, pieces[0].stack_size, frame)

  def read() -> Storage:
    chunks = frames.blocks()
    return Storage(
        observations_on_device(spec, chunks, 'Replay'),
        jnp.asarray(action),
        jnp.asarray(np.concatenate(rewards)),
        jnp.asarray(flags),
    )

  return TeacherReplay(spec, read, only_horizon=only_horizon)


# -- rows ----------------------------------------------------------------------
#
# Rows of a piece of M elements: frames before its first stack, if any; its M
# steps; n rows for the last next states, of which the last may be a terminal.


def _flags(piece: Piece) -> np.ndarray:
  """Returns [rows] uint8 flags."""
  num_known = piece.num_context + len(piece.actions)
  flags = np.zeros(num_known + piece.horizon, np.uint8)
  flags[0] = FIRST
  flags[: piece.num_context] |= EXCLUDED
  if piece.has_tail:
    flags[-1] |= TERMINAL | EXCLUDED
  else:
    flags[num_known:] |= EXCLUDED
    flags[-1] |= TRUNCATED
  return flags if piece.is_usable else flags | EXCLUDED


def _actions(piece: Piece) -> np.ndarray:
  """Returns [rows] uint8 actions, 0 where they are unknown."""
  tail = [action for action, _ in piece.tail] if piece.has_tail else []
  return _padded(piece, piece.actions + tail).astype(np.uint8)


def _rewards(piece: Piece) -> Optional[np.ndarray]:
  """Computes the rewards of single steps from n-step returns.

  With R_i = sum_j gamma^j r_{i+j} over n steps,
  R_i - gamma R_{i+1} = r_i - gamma^n r_{i+n}. For rewards of -1, 0 and 1 this
  has nine possible values, which differ clearly.

  Returns:
    [rows] float32, or None if there are other rewards.
  """
  n = piece.horizon
  returns = _returns(piece)
  if n == 1 or not piece.is_usable:
    return _padded(piece, returns).astype(np.float32)
  num = len(piece.actions) - (not piece.has_tail)
  differences = returns[:num] - GAMMA * returns[1 : num + 1]
  choices = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
  table = choices[:, 0] - GAMMA**n * choices[:, 1]
  chosen = np.abs(differences[:, None] - table[None, :]).argmin(axis=1)
  rewards = np.zeros(len(piece.actions) + n)
  rewards[:num], rewards[n : n + num] = choices[chosen].T
  again = np.convolve(rewards, GAMMA ** np.arange(n)[::-1])[n - 1 :]
  if np.abs(again[: len(returns)] - returns).max() > _TOLERANCE:
    return None
  return _padded(piece, rewards).astype(np.float32)


def _stand_ins(piece: Piece) -> np.ndarray:
  """Computes numbers whose discounted sums over n steps are the n-step returns.

  They are no rewards. They solve the equation of `_rewards` from the end
  backwards, so that errors shrink with each step.

  Returns:
    [rows] float32.
  """
  n = piece.horizon
  returns = np.append(_returns(piece), 0.0)
  numbers = np.zeros(len(returns) + n)
  for i in reversed(range(len(returns) - 1)):
    numbers[i] = returns[i] - GAMMA * returns[i + 1] + GAMMA**n * numbers[i + n]
  return _padded(piece, numbers[: len(returns) - 1]).astype(np.float32)


def _returns(piece: Piece) -> np.ndarray:
  """Returns [M] float64 returns; [M + n - 1] if the episode's end is known."""
  tail = [value for _, value in piece.tail] if piece.has_tail else []
  return np.array(piece.returns + tail, np.float64)


def _padded(piece: Piece, values: Iterable[float]) -> np.ndarray:
  """Extends values of a piece's steps to all of its rows, with zeros."""
  column = np.zeros(piece.num_context + len(piece.actions) + piece.horizon)
  steps = np.asarray(values)
  column[piece.num_context : piece.num_context + len(steps)] = steps
  return column
