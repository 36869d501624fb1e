"""Bindings of resets and of the target network, as data (layer 5)."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, NamedTuple, Optional

import gin

from reincarnating_rl.base.schedules import Annealing
from reincarnating_rl.learner import resets
from reincarnating_rl.learner.resets import ResetSchedule


@gin.configurable('ResetSchedule', module='reincarnating_rl')
def reset_schedule(
    preset: str = 'none',
    period: Optional[int] = None,
    unit: Optional[str] = None,
    no_resets_after: Optional[int] = None,
    kept: Optional[Mapping[str, float]] = None,
    others_kept: Optional[float] = None,
    target: Optional[str] = None,
    keep_optimizer: Optional[bool] = None,
    keep_priorities: Optional[bool] = None,
    updates_after: Optional[int] = None,
    distill_updates_after: Optional[int] = None,
    annealing_updates: Optional[int] = None,
    annealed_update_horizon: Optional[tuple[int, int]] = None,
    annealed_gamma: Optional[tuple[float, float]] = None,
) -> Optional[ResetSchedule]:
  """A preset with changes; see `resets.ResetSchedule`.

  Args:
    preset: 'none', 'sr_spr', 'bbf' or 'full'.
    period: distance between two resets, in `unit`.
    unit: 'agent_steps' or 'updates', from the first online step on.
    no_resets_after: end of the resets, in `unit`.
    kept: {part: share of its weights that is kept}.
    others_kept: share of every other part.
    target: 'fresh' or 'copy'.
    keep_optimizer: True if the optimizer's state is kept.
    keep_priorities: True if the replay's priorities are kept.
    updates_after: updates right after a reset, on the student's replay.
    distill_updates_after: updates before those, on the teacher's data.
    annealing_updates: updates in which n and gamma go from their first to
      their last value; 0 = no annealing.
    annealed_update_horizon: first and last n.
    annealed_gamma: first and last gamma.

  Raises:
    ValueError: one sentence, for values that make no sense.
  """
  schedule = resets.preset(preset)
  changes: dict[str, Any] = {
      'period': period,
      'unit': unit,
      'no_resets_after': no_resets_after,
      'kept': None if kept is None else tuple(sorted(kept.items())),
      'others_kept': others_kept,
      'target': target,
      'keep_optimizer': keep_optimizer,
      'keep_priorities': keep_priorities,
      'updates_after': updates_after,
      'distill_updates_after': distill_updates_after,
  }
  annealed: dict[str, Any] = {
      'updates': annealing_updates,
      'update_horizon': annealed_update_horizon
      and tuple(annealed_update_horizon),
      'gamma': annealed_gamma and tuple(annealed_gamma),
  }
  changes = {k: v for k, v in changes.items() if v is not None}
  annealed = {k: v for k, v in annealed.items() if v is not None}
  if schedule is None:
    if changes or annealed:
      names = ', '.join([*changes, *(f'annealed {k}' for k in annealed)])
      raise ValueError(
          f"ResetSchedule.preset is 'none', yet {names} is bound: bind the "
          f'preset to one of {", ".join(list(resets.PRESETS)[1:])}, too.'
      )
    return None
  if annealing_updates == 0:
    changes['annealing'] = None
  elif annealed:
    start = schedule.annealing or Annealing()
    changes['annealing'] = dataclasses.replace(start, **annealed)
  return dataclasses.replace(schedule, **changes)


class TargetNetwork(NamedTuple):
  """How the target follows the network, and if it acts.

  Attributes:
    ema: share of the network that enters the target at each update; 0 = the
      target is a copy, renewed every target_update_period.
    acts: True if the target acts, in training and in evaluation.
  """

  ema: float
  acts: bool


@gin.configurable(module='reincarnating_rl')
def target_network(ema: float = 0.0, acts: bool = False) -> TargetNetwork:
  """See `TargetNetwork`; Schwarzer et al. (2023) have 0.005 and True."""
  return TargetNetwork(ema, acts)
