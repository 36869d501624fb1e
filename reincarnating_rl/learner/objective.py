"""Objective: the terms of the loss, and their weights.

objective = td_coefficient * TD
          + distill_coefficient * lambda * distillation
          + cql_coefficient * CQL + margin_coefficient * lambda * margin
          + the terms of `Objective.extra`

The set of terms is static (`Objective`). The coefficients are array leaves
(`Coefficients`), so a change of lambda never recompiles. A new method adds a
`Term` to `extra`. Not here: the TD losses (`td`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, cast, NamedTuple, Optional

import jax
import jax.numpy as jnp

from reincarnating_rl import losses
from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner.td import TD_LOSSES
from reincarnating_rl.learner.td import TDLoss

DISTILL_TYPES = ('none', 'policy', 'value', 'both')
MARGIN_TYPES = ('none', 'dqfd', 'elementwise')


# (online outputs at s_tm1, batch, coefficients) -> [B] losses.
TermLoss = Callable[[NetworkOutput, TransitionBatch, 'Coefficients'], jax.Array]


@dataclasses.dataclass(frozen=True, repr=False)
class Term:
  """One term of the objective besides the TD loss.

  Attributes:
    name: name of its metric.
    loss: function of (outputs, batch, coefficients). Use a function at module
      level: terms are compared by value.
    weight: function of the coefficients; returns the weight of the term.
    needs_teacher: True if the batch must hold the teacher's Q-values.
  """

  name: str
  loss: TermLoss
  weight: Callable[[Coefficients], Any] = lambda coefficients: 1.0
  needs_teacher: bool = False

  def __repr__(self) -> str:
    # Checkpoints compare it, so it must not change from process to process.
    function = getattr(self.loss, 'func', self.loss)
    name = f'{function.__module__}.{function.__qualname__}'
    return f'Term({self.name!r}, {name})'


@dataclasses.dataclass(frozen=True)
class Objective:
  """Terms of the loss; static, so that absent terms cost nothing.

  Attributes:
    td: TD loss, or its name in TD_LOSSES; None = pure distillation.
    double: True for double Q-learning: the online network chooses the action
      to bootstrap from.
    distill: one of DISTILL_TYPES.
    distill_best_action_only: True to use the cross-entropy with the teacher's
      greedy action instead of the KL divergence.
    cql: True for a CQL term.
    margin: one of MARGIN_TYPES.
    use_teacher_actions: True if the expert action of the margin loss is the
      teacher's greedy action, False if it is the action in the data.
    augment: True for shift and intensity augmentation of the images.
    extra: further terms, for methods that are not in the paper.
  """

  td: Optional[TDLoss | str] = 'huber'
  double: bool = False
  distill: str = 'none'
  distill_best_action_only: bool = False
  cql: bool = False
  margin: str = 'none'
  use_teacher_actions: bool = True
  augment: bool = False
  extra: tuple[Term, ...] = ()

  def __post_init__(self):
    if isinstance(self.td, str):
      _check_choice('td', self.td, tuple(TD_LOSSES))
      object.__setattr__(self, 'td', TD_LOSSES[self.td])
    _check_choice('distill', self.distill, DISTILL_TYPES)
    _check_choice('margin', self.margin, MARGIN_TYPES)

  @property
  def td_loss(self) -> Optional[TDLoss]:
    """TD loss; None = pure distillation."""
    return cast(Optional[TDLoss], self.td)

  @property
  def needs_teacher(self) -> bool:
    """True if batches must hold the teacher's Q-values."""
    by_margin = self.margin != 'none' and self.use_teacher_actions
    by_extra = any(term.needs_teacher for term in self.extra)
    return self.distill != 'none' or by_margin or by_extra

  @property
  def terms(self) -> tuple[Term, ...]:
    """Terms besides the TD loss."""
    terms = []
    if self.distill != 'none':
      loss = functools.partial(_distillation_loss, self)
      weight = lambda c: c.lambda_ * c.distill
      terms.append(Term('distill_loss', loss, weight))
    if self.cql:
      terms.append(Term('cql_loss', _cql_loss, lambda c: c.cql))
    if self.margin != 'none':
      loss = functools.partial(_margin_loss, self)
      terms.append(Term('margin_loss', loss, lambda c: c.lambda_ * c.margin))
    return tuple(terms) + self.extra


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise ValueError(f'Objective.{name} is {value!r}; choose from {choices}.')


class Coefficients(NamedTuple):
  """Numbers that may decay or differ between members; all [] float32.

  If gamma is None it is not a leaf, and the replay's discount holds.
  """

  learning_rate: Any = 6.25e-5
  td: Any = 1.0
  distill: Any = 1.0  # c, multiplied by lambda
  lambda_: Any = 0.0  # distillation weight: 1 at first, 0 in the end
  temperature: Any = 1.0  # tau
  cql: Any = 1.0
  margin: Any = 1.0  # coefficient of the margin term, multiplied by lambda
  margin_size: Any = 1.0  # m
  gamma: Any = None  # discount of one agent step; None = the replay's

  def as_arrays(self) -> Coefficients:
    """Returns float32 arrays, so that other values never recompile."""
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32), self)


def _distillation_loss(
    objective: Objective,
    online: NetworkOutput,
    batch: TransitionBatch,
    coefficients: Coefficients,
) -> jax.Array:
  """[B] distances to the teacher's policy, to its values, or to both."""
  q_teacher, q_tm1 = batch.q_teacher, online.q_values
  total = jnp.zeros(q_tm1.shape[0])
  if objective.distill in ('policy', 'both'):
    policy_loss = (
        losses.best_action_cross_entropy
        if objective.distill_best_action_only
        else losses.policy_distillation_kl
    )
    total += jax.vmap(policy_loss, in_axes=(0, 0, None))(
        q_teacher, q_tm1, coefficients.temperature
    )
  if objective.distill in ('value', 'both'):
    total += jax.vmap(losses.value_distillation_loss)(q_teacher, q_tm1)
  return total


def _cql_loss(
    online: NetworkOutput, batch: TransitionBatch, coefficients: Coefficients
) -> jax.Array:
  """[B] conservative terms (Kumar et al., 2020, eq. 4)."""
  return jax.vmap(losses.cql_loss, in_axes=(0, 0, None))(
      online.q_values, batch.a_tm1, coefficients.temperature
  )


def _margin_loss(
    objective: Objective,
    online: NetworkOutput,
    batch: TransitionBatch,
    coefficients: Coefficients,
) -> jax.Array:
  """[B] margin losses of the expert's action (Hester et al., 2018)."""
  expert = batch.a_tm1
  if objective.use_teacher_actions:
    expert = jnp.argmax(batch.q_teacher, axis=-1)
  loss_fn = {
      'dqfd': losses.large_margin_loss,
      'elementwise': losses.elementwise_margin_loss,
  }[objective.margin]
  loss = jax.vmap(loss_fn, in_axes=(0, 0, None))(
      online.q_values, expert, coefficients.margin_size
  )
  if not objective.use_teacher_actions and batch.demonstration is not None:
    # The student's own actions are no demonstrations.
    loss *= batch.demonstration
  return loss
