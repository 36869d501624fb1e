"""A teacher's replay as Dopamine 4.1 leaves it: <N>/replay/checkpoint.msgpack.

Dopamine 4.1 keeps no steps but *elements*: a stack, an action, an n-step
return and the stack n steps on. Here they are taken apart into steps again:
an element whose stack is that of the element before, moved on by one frame,
is the next step. Where none continues, a time limit stands.

What its accumulator (up to 4.1.2) does wrong is not taken over. Of an episode
whose last step is T, with n-step returns:

* The element of step T - n, which leads to T, is flagged as terminal, a step
  early: T's own reward is not in it. Here it leads to T and goes on.
* It is then stored up to stack_size - 1 times more, with parts of its stack
  blanked. These are left out.
* Steps T - n + 1 to T - 1 are stored with blanked stacks and with returns to
  the end, T's reward included. Their frames are known from the elements
  before; the end is a terminal.
* Step T itself is never stored: with n = 1 nothing tells its reward, so the
  episode is cut there, and no terminal is left in the data. A time limit loses
  its last n steps likewise.

Rewards of single steps are found from the n-step returns if they are clipped
to -1, 0 and 1; then there are transitions for any n. If not, only for the n
that the elements were made with, which is seen from what follows what.
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
# Of a return found again; returns of other rewards differ by far more.
_TOLERANCE = 1e-5


def find(directory: str, checkpoint_number: int) -> Optional[str]:
  """Finds the replay that was saved with a checkpoint.

  Args:
    directory: of the teacher's run, or its checkpoints/ folder.
    checkpoint_number: of the checkpoint.

  Returns:
    The path of its file, or None, with a warning if there are others only.
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
  """Checkpoints in a folder that have a replay, ascending."""
  if not os.path.isdir(folder):
    return []
  return sorted(
      int(name)
      for name in os.listdir(folder)
      if name.isdigit() and os.path.isfile(_file(folder, name))
  )


def open_replay(path: str) -> Optional[TeacherReplay]:
  """Reads a replay; its frames wait, compressed, until they are needed.

  Args:
    path: from `find`.

  Returns:
    Steps, oldest first, in rows of our own; its update_horizon is that of the
    elements. None, with a warning, if no elements follow each other.

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
  rewards = [_rewards(piece) for piece in pieces]
  only_horizon = None
  if any(column is None for column in rewards):
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
# Of a piece of M elements: frames before its first stack, if any; its M steps;
# n rows that they lead to, of which only the end of an episode tells more.


def _flags(piece: Piece) -> np.ndarray:
  """[rows] uint8."""
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
  """[rows] uint8, 0 where nobody knows."""
  tail = [action for action, _ in piece.tail] if piece.has_tail else []
  return _padded(piece, piece.actions + tail).astype(np.uint8)


def _rewards(piece: Piece) -> Optional[np.ndarray]:
  """Rewards of single steps, from n-step returns, if they are -1, 0 or 1.

  With R_i = sum_j gamma^j r_{i+j} over n steps,
  R_i - gamma R_{i+1} = r_i - gamma^n r_{i+n}, and nine numbers are easily told
  apart.

  Returns:
    [rows] float32, or None if other rewards are in the returns.
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
  """Numbers that come to the n-step returns if n of them are summed.

  They are no rewards. They solve the equation above from the end on, where
  errors shrink with each step.

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
  """[M, or M + n - 1 with the end of an episode] float64."""
  tail = [value for _, value in piece.tail] if piece.has_tail else []
  return np.array(piece.returns + tail, np.float64)


def _padded(piece: Piece, values: Iterable[float]) -> np.ndarray:
  """Values of the steps of a piece, for all of its rows."""
  column = np.zeros(piece.num_context + len(piece.actions) + piece.horizon)
  values = np.asarray(values)
  column[piece.num_context : piece.num_context + len(values)] = values
  return column
