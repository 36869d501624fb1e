"""Resets: parts of a network are re-initialised, or shrunk and perturbed.

After D'Oro et al. (2023) and Schwarzer et al. (2023). At each reset a part of
the network becomes theta <- a theta + (1 - a) phi, with fresh weights phi:
a = 1 keeps it, a = 0 re-initialises it, a value between shrinks and perturbs
it. A schedule is data; its effect on parameters is a pure function. Not here:
the steps at which a run resets, and the updates right after a reset
(`loop.training.update_schedule`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import jax
import jax.numpy as jnp

from reincarnating_rl.base.schedules import Annealing

UNITS = ('agent_steps', 'updates')
TARGETS = ('fresh', 'copy')


@dataclasses.dataclass(frozen=True)
class ResetSchedule:
  """Times of the resets of a network, and their effect on each of its parts.

  Attributes:
    period: distance between two resets, in `unit`.
    unit: 'agent_steps' or 'updates', both counted from the first online step.
    no_resets_after: count in `unit`; a reset less than a period before it is
      not made. None = no limit. The end of the run is such a limit, too.
    kept: (part, a) pairs; a is the share of its weights that a part keeps.
    others_kept: a for all parts that `kept` does not name.
    target: 'fresh' resets the target network in the same way, with its own
      weights and its own phi; 'copy' makes it a copy of the online network.
    keep_optimizer: True to keep the optimizer state, False to zero it.
    keep_priorities: True to keep the priorities, False to make them equal.
    updates_after: updates right after a reset, on the student's replay.
    distill_updates_after: updates before those, on the teacher's data and with
      the full weight of the distillation loss, so that the policy survives.
    annealing: schedule of n and gamma, from the beginning and from each reset
      on; None = both stay constant.
  """

  period: int
  unit: str = 'agent_steps'
  no_resets_after: Optional[int] = None
  kept: tuple[tuple[str, float], ...] = ()
  others_kept: float = 0.0
  target: str = 'fresh'
  keep_optimizer: bool = False
  keep_priorities: bool = True
  updates_after: int = 0
  distill_updates_after: int = 0
  annealing: Optional[Annealing] = None

  def __post_init__(self):
    if self.period < 1:
      raise ValueError(
          f'The period of resets must be at least 1, got {self.period}.'
      )
    for name, choices in (('unit', UNITS), ('target', TARGETS)):
      if getattr(self, name) not in choices:
        raise ValueError(
            f'The {name} of resets is {getattr(self, name)!r}; choose one of '
            f'{", ".join(choices)}.'
        )
    for part, share in (*self.kept, ('others', self.others_kept)):
      if not 0.0 <= share <= 1.0:
        raise ValueError(
            f'The share of {part} that a reset keeps must be between 0 and 1, '
            f'got {share}.'
        )
    for name in ('updates_after', 'distill_updates_after'):
      if getattr(self, name) < 0:
        raise ValueError(
            f'{name} of a reset must be zero or more, got '
            f'{getattr(self, name)}.'
        )

  def happens(self, count: int, total: int) -> bool:
    """True if a reset that is due at this count is made.

    Args:
      count: count at which it is due, in `unit`.
      total: count at the end of the run, in `unit`.
    """
    limits = [total]
    if self.no_resets_after is not None:
      limits.append(self.no_resets_after)
    return count + self.period <= min(limits)

  def shares(self, params: Any) -> dict[str, float]:
    """Returns the share a of each part, by its name.

    Args:
      params: parameters of the network; the names at the top are its parts.

    Raises:
      ValueError: if the schedule names a part that the network does not have.
    """
    named = dict(self.kept)
    unknown = sorted(set(named) - set(params))
    if unknown:
      raise ValueError(
          f'The reset schedule names {", ".join(unknown)}; the parts of this '
          f'network are {", ".join(sorted(params))}.'
      )
    return {part: named.get(part, self.others_kept) for part in params}


# D'Oro et al. (2023), table 2, and Schwarzer et al. (2023), section 3. Their
# periods are meant for replay ratios of 8 and 2 updates per agent step.
PRESETS = {
    'none': None,
    'sr_spr': ResetSchedule(5_000, kept=(('encoder', 0.8),)),
    'bbf': ResetSchedule(
        20_000, kept=(('encoder', 0.5),), annealing=Annealing()
    ),
    'full': ResetSchedule(20_000),
}


def preset(name: str) -> Optional[ResetSchedule]:
  """Returns a schedule of PRESETS by its name; 'none' gives None.

  Raises:
    ValueError: if the name is unknown.
  """
  if name not in PRESETS:
    raise ValueError(
        f'There is no reset schedule called {name!r}; choose one of '
        f'{", ".join(PRESETS)}.'
    )
  return PRESETS[name]


def shrink_and_perturb(
    params: Any, fresh: Any, shares: dict[str, float]
) -> Any:
  """Computes a theta + (1 - a) phi for each part (Ash & Adams, 2020).

  Args:
    params: theta, by part.
    fresh: phi, with the same structure.
    shares: a of each part; exactly 1 keeps it, exactly 0 replaces it.

  Returns:
    New parameters, which share no array with `params` or `fresh`.
  """

  def mixed(part: str) -> Any:
    share = shares[part]
    if share == 1.0:
      return jax.tree.map(jnp.copy, params[part])
    if share == 0.0:
      return jax.tree.map(jnp.copy, fresh[part])
    return jax.tree.map(
        lambda theta, phi: share * theta + (1.0 - share) * phi,
        params[part],
        fresh[part],
    )

  return {part: mixed(part) for part in params}
