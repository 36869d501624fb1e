"""Facts about a teacher: its files, network and replay data.

`inspect_teacher` shows them. Shape letters: R written rows, S slots, E streams
(environments), K episodes, A actions; T is the number of steps.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, NamedTuple, Optional

from flax import linen as nn
from flax import traverse_util
import numpy as np

from reincarnating_rl import networks
from reincarnating_rl.replay import frame_replay
from reincarnating_rl.teachers.formats import dopamine_checkpoint
from reincarnating_rl.teachers.formats import native
from reincarnating_rl.teachers.formats import own_run
from reincarnating_rl.teachers.teacher_replay import TeacherReplay

# Horizons for which usable rows are counted: those of DQN and Rainbow.
HORIZONS = (1, 3)
_PROVENANCE = 'provenance.json'
_ENCODERS = {networks.NatureEncoder: 'nature', networks.ImpalaEncoder: 'impala'}
# In order of application.
_PARTS = {'encoder': 0, 'hidden': 1, 'head': 2}
_ENDS = frame_replay.TERMINAL | frame_replay.TRUNCATED


@dataclasses.dataclass(frozen=True)
class FileFacts:
  """Facts about the files of a teacher.

  Attributes:
    checkpoint_numbers: numbers of all checkpoints, ascending.
    complete_checkpoint_numbers: numbers of those that are marked as complete.
    versions: versions of the packages that wrote it, by name; empty if unknown.
  """

  checkpoint_numbers: list[int]
  complete_checkpoint_numbers: list[int]
  versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class NetworkFacts:
  """Facts about a network.

  Attributes:
    encoder: 'nature' or 'impala'.
    hidden_size: width of the dense layer before the head.
    num_actions: A.
    num_atoms: outputs per action; None for an implicit quantile network.
    support: ends of the support of the return distribution; None without one.
    noisy: True if dense layers are noisy.
    dueling: True if value and advantages have separate layers.
    parameter_shapes: shapes of the arrays by path, in order of application.
    num_parameters: number of parameters.
  """

  encoder: str
  hidden_size: int
  num_actions: int
  num_atoms: Optional[int]
  support: Optional[tuple[float, float]]
  noisy: bool
  dueling: bool
  parameter_shapes: dict[str, tuple[int, ...]]
  num_parameters: int


@dataclasses.dataclass(frozen=True)
class RingFacts:
  """Facts about replay data that need no frames.

  Attributes:
    rows: capacity of the ring.
    rows_written: R.
    head_row: oldest row, the next one to be overwritten.
    environments: E.
    bytes_in_memory: size of the data in memory.
  """

  rows: int
  rows_written: int
  head_row: int
  environments: int
  bytes_in_memory: int


@dataclasses.dataclass(frozen=True)
class StepFacts:
  """Contents of replay data. Rewards are as stored, that is clipped.

  Attributes:
    agent_steps: T; other rows are padding, or have an incomplete stack.
    usable_rows_by_n_step: number of rows that training may sample, by n.
    terminals: number of episodes that the game ended.
    time_limits: number of episodes that were cut, or lack their end.
    whole_episodes: K, number of episodes with first step and end in the ring.
    episode_agent_steps_*: length of whole episodes; None if K is 0.
    episode_reward_mean: mean sum of rewards of whole episodes; None if K is 0.
    reward_n_step: n of the stored n-step returns; 1 for plain rewards.
    reward_mean: mean over all steps; None if T is 0.
    reward_nonzero_share: share of steps with a reward, in [0, 1].
    agent_steps_by_action: [A] number of steps.
  """

  agent_steps: int
  usable_rows_by_n_step: dict[int, int]
  terminals: int
  time_limits: int
  whole_episodes: int
  episode_agent_steps_mean: Optional[float]
  episode_agent_steps_min: Optional[int]
  episode_agent_steps_max: Optional[int]
  episode_reward_mean: Optional[float]
  reward_n_step: int
  reward_mean: Optional[float]
  reward_nonzero_share: Optional[float]
  agent_steps_by_action: list[int]


class Episodes(NamedTuple):
  """Episodes with first step and end in the ring."""

  lengths: np.ndarray  # [K] int, agent steps
  rewards: np.ndarray  # [K] float64, sums


# -- files ---------------------------------------------------------------------


def file_facts(directory: str, prefix: str) -> FileFacts:
  """Inspects the files of a teacher.

  Args:
    directory: run directory of a teacher that can be loaded.
    prefix: prefix of Dopamine's checkpoint files.
  """
  if native.is_native(directory):
    # A file of this format is complete if it is there.
    numbers = native.checkpoint_numbers(directory)
    return FileFacts(numbers, numbers, _native_versions(directory))
  if own_run.is_run(directory):
    return FileFacts(
        own_run.numbers(directory),
        own_run.listed_numbers(directory),
        own_run.versions(directory),
    )
  checkpoints = dopamine_checkpoint.find_checkpoints(directory, prefix)
  assert checkpoints is not None  # The teacher can be loaded.
  numbers = checkpoints.numbers
  complete = [n for n in numbers if n in checkpoints.complete]
  return FileFacts(numbers, complete, {})


def _native_versions(directory: str) -> dict[str, str]:
  provenance: Any = native.read_manifest(directory).provenance
  path = os.path.join(directory, _PROVENANCE)
  # Both are free-form: unknown content is no error.
  try:
    if not provenance and os.path.isfile(path):
      with open(path, encoding='utf-8') as f:
        provenance = json.load(f)
    versions = provenance['versions']
  except (ValueError, KeyError, TypeError):
    return {}
  if not isinstance(versions, dict):
    return {}
  return {str(name): str(version) for name, version in versions.items()}


# -- network -------------------------------------------------------------------


def network_facts(network: nn.Module, params: Any) -> NetworkFacts:
  """Describes a network of `networks` and its parameters."""
  head = network.head
  shapes = parameter_shapes(params)
  distributional = getattr(head, 'distributional', False)
  atoms = head.atoms if distributional else None
  is_q_network = isinstance(network, networks.QNetwork)
  return NetworkFacts(
      encoder=_ENCODERS[type(network.encoder)],
      hidden_size=(network if is_q_network else head).hidden_size,
      num_actions=network.num_actions,
      num_atoms=getattr(head, 'num_atoms', None),
      support=None if atoms is None else (float(atoms[0]), float(atoms[-1])),
      noisy=getattr(head, 'noisy', False),
      dueling=getattr(head, 'dueling', False),
      parameter_shapes=shapes,
      num_parameters=sum(int(np.prod(shape)) for shape in shapes.values()),
  )


def parameter_shapes(params: Any) -> dict[str, tuple[int, ...]]:
  """Returns shapes by path, such as 'head/advantage/dense/bias'."""
  flat = traverse_util.flatten_dict(params, sep='/')
  part = lambda name: _PARTS.get(name.split('/')[0], len(_PARTS))
  names = sorted(flat, key=lambda name: (part(name), name))
  return {name: tuple(map(int, np.shape(flat[name]))) for name in names}


# -- data ----------------------------------------------------------------------


def ring_facts(replay: TeacherReplay) -> RingFacts:
  """Returns facts about replay data without reading its frames."""
  spec = replay.spec
  return RingFacts(
      rows=replay.num_rows,
      rows_written=spec.capacity,
      head_row=replay.head * spec.num_streams,
      environments=spec.num_streams,
      bytes_in_memory=spec.nbytes,
  )


def step_facts(replay: TeacherReplay, num_actions: int) -> StepFacts:
  """Counts steps, episodes and rewards; reads all data, frames included.

  Args:
    replay: replay data.
    num_actions: A.

  Raises:
    TeacherError: if the data are damaged.
  """
  storage = replay.storage
  action, reward, flags = (
      _in_order(replay, column)
      for column in (storage.action, storage.reward, storage.flags)
  )
  is_step = (flags & frame_replay.EXCLUDED) == 0  # [S, E]
  is_terminal = (flags & frame_replay.TERMINAL) > 0
  is_truncated = (flags & frame_replay.TRUNCATED) > 0
  starts_at_head = replay.num_rows == replay.spec.capacity
  n_step = replay.only_horizon or 1
  lengths, sums = whole_episodes(flags, reward, starts_at_head)
  over_episodes = lambda f, x: f(x) if len(x) else None
  rewards = reward[is_step].astype(np.float64)
  actions = np.bincount(action[is_step], minlength=num_actions)
  return StepFacts(
      agent_steps=int(is_step.sum()),
      usable_rows_by_n_step=_usable_rows(replay),
      terminals=int(is_terminal.sum()),
      time_limits=int((is_truncated & ~is_terminal).sum()),
      whole_episodes=len(lengths),
      episode_agent_steps_mean=over_episodes(_mean, lengths),
      episode_agent_steps_min=over_episodes(lambda x: int(x.min()), lengths),
      episode_agent_steps_max=over_episodes(lambda x: int(x.max()), lengths),
      # The sum of n-step returns, which overlap, means nothing.
      episode_reward_mean=over_episodes(_mean, sums) if n_step == 1 else None,
      reward_n_step=n_step,
      reward_mean=over_episodes(_mean, rewards),
      reward_nonzero_share=over_episodes(_mean, rewards != 0),
      agent_steps_by_action=actions.tolist(),
  )


def _in_order(replay: TeacherReplay, column: Any) -> np.ndarray:
  """Returns a [R] column as [S, E] on the host, oldest slot first."""
  slots = np.asarray(column).reshape(-1, replay.spec.num_streams)
  return np.roll(slots, -replay.head, axis=0)


def whole_episodes(
    flags: np.ndarray, reward: np.ndarray, starts_at_head: bool
) -> Episodes:
  """Finds the episodes with first step and end in the ring.

  If a ring marks no first steps, an episode begins after the end of the
  previous one, or after padding.

  Args:
    flags: [S, E] uint8, oldest first.
    reward: [S, E] float32.
    starts_at_head: True if older rows were overwritten, so that the oldest row
      may lie within an episode.
  """
  lengths, sums = [], []
  for stream in range(flags.shape[1]):
    (rows,) = np.nonzero((flags[:, stream] & frame_replay.EXCLUDED) == 0)
    if not len(rows):
      continue
    its_flags = flags[rows, stream]
    is_end = (its_flags & _ENDS) > 0
    marked = (its_flags & frame_replay.FIRST) > 0
    begins = marked.copy()
    begins[1:] |= is_end[:-1] | (np.diff(rows) > 1)
    begins[0] |= not starts_at_head
    # Steps before the first known beginning belong to no whole episode.
    firsts = np.flatnonzero(begins)
    if not len(firsts):
      continue
    lasts = np.append(firsts[1:], len(rows)) - 1
    total = np.add.reduceat(reward[rows, stream].astype(np.float64), firsts)
    lengths.append((lasts - firsts + 1)[is_end[lasts]])
    sums.append(total[is_end[lasts]])
  if not lengths:
    return Episodes(np.zeros(0, int), np.zeros(0))
  return Episodes(np.concatenate(lengths), np.concatenate(sums))


def _mean(values: np.ndarray) -> float:
  return float(values.mean())


def _usable_rows(replay: TeacherReplay) -> dict[int, int]:
  only = replay.only_horizon
  horizons = HORIZONS if only is None else (only,)
  return {n: int(replay.valid(n).sum()) for n in horizons}
