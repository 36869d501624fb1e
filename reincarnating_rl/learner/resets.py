"""Resets: a network gives up a part of what it learned, and learns on.

After D'Oro et al. (2023) and Schwarzer et al. (2023): every so often each part
of the network becomes theta <- a theta + (1 - a) phi, phi being fresh weights.
With a = 1 a part is kept, with a = 0 it is re-initialised, between them it is
shrunk and perturbed. A schedule is data; what it does to parameters is pure.
Not here: when a run comes to a reset, and what it learns right after it.
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
  """When a network is reset, and what becomes of each part of it.

  Attributes:
    period: between two resets, in `unit`.
    unit: 'agent_steps' or 'updates', both counted from the first online step.
    no_resets_after: none that leaves less than a period until then, in `unit`;
      None = until the end of the run, to which the same applies anyway.
    kept: (part, a) pairs, a being the share of its weights that is kept.
    others_kept: a of every part that is not named.
    target: 'fresh', the target is treated as the network is, on weights of its
      own and with a phi of its own; 'copy', it becomes a copy of the network.
    keep_optimizer: whether its state stays; else it begins at zero.
    keep_priorities: whether they stay; else every row weighs the same.
    updates_after: right after a reset, on the student's replay.
    distill_updates_after: before those, on the teacher's data and with the
      full weight of the distillation loss, so that the policy survives.
    annealing: how far returns look ahead, and gamma, from each reset on and
      from the beginning on; None = both stay.
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
    """Whether a reset that is due at this count is made.

    Args:
      count: in `unit`.
      total: of the whole run, in `unit`.
    """
    limits = [total]
    if self.no_resets_after is not None:
      limits.append(self.no_resets_after)
    return count + self.period <= min(limits)

  def shares(self, params: Any) -> dict[str, float]:
    """The share kept of each part, by name.

    Args:
      params: of the network; its parts are the names at the top.

    Raises:
      ValueError: if a part is named that the network does not have.
    """
    named = dict(self.kept)
    unknown = sorted(set(named) - set(params))
    if unknown:
      raise ValueError(
          f'The reset schedule names {", ".join(unknown)}; the parts of this '
          f'network are {", ".join(sorted(params))}.'
      )
    return {part: named.get(part, self.others_kept) for part in params}


# D'Oro et al. (2023), table 2, and Schwarzer et al. (2023), section 3; every
# period belongs to a replay ratio, 8 and 2 updates per agent step.
PRESETS = {
    'none': None,
    'sr_spr': ResetSchedule(5_000, kept=(('encoder', 0.8),)),
    'bbf': ResetSchedule(
        20_000, kept=(('encoder', 0.5),), annealing=Annealing()
    ),
    'full': ResetSchedule(20_000),
}


def preset(name: str) -> Optional[ResetSchedule]:
  """The schedule of that name; None of 'none'.

  Raises:
    ValueError: for an unknown name.
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
  """Each part as a theta + (1 - a) phi (Ash & Adams, 2020).

  Args:
    params: theta, by part.
    fresh: phi, of the same structure.
    shares: a of each part; exactly 1 keeps it, exactly 0 replaces it.

  Returns:
    New parameters; no array is shared with `params` or `fresh`.
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
