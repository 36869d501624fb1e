"""What a learner is, for everything that is generic over learners.

`sampling`, `many_updates`, members, the trainer, resets and checkpoints call
these functions and no others. `ValueLearner` is one implementation; an
actor-critic learner is another.
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
  """By-products of an update."""

  metrics: dict[str, jax.Array]  # [] float32 each
  priorities: jax.Array  # [B] float32


class LearnerState(Protocol):
  """State of a learner: a NamedTuple of arrays with at least these fields.

  Attributes:
    rng_key: key of the next update.
    coefficients: numbers that decay or differ between members, array leaves;
      a NamedTuple with at least `learning_rate`, `lambda_` and `gamma`, and
      with `as_arrays`.
    updates: [] int32, gradient steps made.
    since_reset: [] int32, gradient steps since the last reset.
  """

  rng_key: jax.Array
  coefficients: Any
  updates: jax.Array
  since_reset: jax.Array
  _fields: tuple[str, ...]

  def _replace(self, **fields: Any) -> Any:
    """State with other values of some fields."""


class Learner(Protocol):
  """Pure functions on a state; hashable, compared by value.

  Attributes:
    annealing: schedule of n and gamma since the last reset; None = those of
      the replay.
  """

  annealing: Optional[Annealing]

  @property
  def network(self) -> Any:
    """Module of the acting network; checkpoints describe it."""

  @property
  def needs_teacher(self) -> bool:
    """True if batches must hold the teacher's outputs."""

  def init(
      self, rng_key: jax.Array, observation: ArraySpec, coefficients: Any
  ) -> Any:
    """Fresh state.

    Args:
      rng_key: consumed.
      observation: of one state as batches hold it, without batch dimension.
      coefficients: initial values.
    """

  def update(
      self, state: Any, batch: TransitionBatch
  ) -> tuple[Any, UpdateExtra]:
    """One gradient step."""

  def policy(self, state: Any, use_target: bool = False) -> Policy:
    """Policy of the parameters in a state."""

  def sync_target(self, state: Any) -> Any:
    """State after a copy of the online parameters; donates `state`."""

  def restart_optimizer(self, state: Any) -> Any:
    """State with fresh optimizer states."""

  def reset(
      self,
      state: Any,
      schedule: ResetSchedule,
      rng_key: jax.Array,
      observation: ArraySpec,
  ) -> Any:
    """State right after a reset."""

  def check_resets(
      self, schedule: ResetSchedule, observation: ArraySpec
  ) -> None:
    """Raises a ValueError if a schedule does not fit the networks."""

  def identity(self) -> dict[str, str]:
    """Settings that must be equal for a run to resume from a checkpoint."""
