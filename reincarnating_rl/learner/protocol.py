"""Interface of learners, for code that is generic over them.

`sampling`, `many_updates`, `members`, the trainer and the checkpoints call only
these functions. `learner.ValueLearner` implements them; an actor-critic
learner would be another implementation.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Protocol

import jax

from reincarnating_rl.base.schedules import Annealing
from reincarnating_rl.base.specs import ArraySpec
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.resets import ResetSchedule


class UpdateExtra(NamedTuple):
  """Metrics and new priorities of an update."""

  metrics: dict[str, jax.Array]  # [] float32 each
  priorities: jax.Array  # [B] float32


class LearnerState(Protocol):
  """State of a learner: a NamedTuple of arrays with at least these fields.

  Attributes:
    rng_key: key of the next update.
    coefficients: array leaves that decay or differ between members: a
      NamedTuple with at least `learning_rate`, `lambda_` and `gamma`, and with
      a method `as_arrays`.
    updates: [] int32, gradient steps made.
    since_reset: [] int32, gradient steps since the last reset.
  """

  rng_key: jax.Array
  coefficients: Any
  updates: jax.Array
  since_reset: jax.Array
  _fields: tuple[str, ...]

  def _replace(self, **fields: Any) -> Any:
    """Returns the state with other values of some fields."""


class Learner(Protocol):
  """Pure functions on a state; hashable and compared by value."""

  @property
  def annealing(self) -> Optional[Annealing]:
    """Schedule of n and gamma since the last reset; None = the replay's."""

  @property
  def network(self) -> Any:
    """Module of the acting network; checkpoints hold its description."""

  @property
  def needs_teacher(self) -> bool:
    """True if batches must hold the teacher's outputs."""

  def init(
      self, rng_key: jax.Array, observation: ArraySpec, coefficients: Any
  ) -> Any:
    """Returns a fresh state.

    Args:
      rng_key: consumed.
      observation: shape and dtype of one state in a batch, without batch
        dimension.
      coefficients: initial values.
    """

  def update(
      self, state: Any, batch: TransitionBatch
  ) -> tuple[Any, UpdateExtra]:
    """Makes one gradient step; returns the next state and its by-products."""

  def policy(self, state: Any, use_target: bool = False) -> Policy:
    """Returns the policy of a state, or of its target network."""

  def sync_target(self, state: Any) -> Any:
    """Copies the online parameters into the target; donates `state`."""

  def restart_optimizer(self, state: Any) -> Any:
    """Returns the state with a fresh optimizer state."""

  def reset(
      self,
      state: Any,
      schedule: ResetSchedule,
      rng_key: jax.Array,
      observation: ArraySpec,
  ) -> Any:
    """Returns the state right after a reset."""

  def check_resets(
      self, schedule: ResetSchedule, observation: ArraySpec
  ) -> None:
    """Raises a ValueError if a schedule does not fit the networks."""

  def identity(self) -> dict[str, str]:
    """Settings that must be equal for a run to resume from a checkpoint."""
