"""Several teachers as one: a mixture of their policies, or the best by value.

The network of an ensemble combines the outputs of all members. An ensemble
acts, is evaluated, collects data and is distilled like any other teacher.

Shape letters: K teachers, A actions.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import numbers
from typing import Any, Optional, Sequence

from absl import logging
import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.types import NetworkOutput
from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.teacher import LoadedTeacher

MIXTURE, BEST = COMBINATIONS = ('mixture', 'best')
_TEMPERATURE = 'temperature'
_WEIGHTS = 'weights'


# -- settings ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Combination:
  """Rule that combines teachers; gin binds it as `TeacherEnsemble`.

  Attributes:
    combine: 'mixture' of their softmax policies, or the 'best' teacher by value
      in each state.
    weights: relative weights in a mixture, one per teacher; None = equal.
  """

  combine: str = MIXTURE
  weights: Optional[tuple[float, ...]] = None

  def __post_init__(self):
    if self.combine not in COMBINATIONS:
      raise ValueError(
          f'TeacherEnsemble.combine is {self.combine!r}; choose one of '
          f'{", ".join(COMBINATIONS)}.'
      )
    if self.weights is None:
      return
    if self.combine == BEST:
      raise ValueError(
          f'TeacherEnsemble.weights is {self.weights}, but the best teacher of '
          'a state is chosen by its values alone: leave the weights out, or '
          "bind TeacherEnsemble.combine to 'mixture'."
      )
    if not _are_weights(self.weights):
      raise ValueError(
          'TeacherEnsemble.weights must be a tuple of numbers, zero or more '
          f'and not all of them zero, got {self.weights!r}.'
      )

  def normalized(self, num_teachers: int) -> np.ndarray:
    """Returns [K] float32 weights of sum 1.

    Args:
      num_teachers: K.

    Raises:
      ValueError: if the number of weights is not K.
    """
    weights = (1.0,) * num_teachers if self.weights is None else self.weights
    if len(weights) != num_teachers:
      raise ValueError(
          f'TeacherEnsemble.weights is {weights}, which is {len(weights)} for '
          f'{num_teachers} teachers: give one to each.'
      )
    return (np.array(weights) / np.sum(weights)).astype(np.float32)


def _are_weights(weights: Any) -> bool:
  return (
      isinstance(weights, (tuple, list))
      and all(
          isinstance(w, numbers.Real) and math.isfinite(w) and float(w) >= 0
          for w in weights
      )
      and any(weights)
  )


# -- the network ---------------------------------------------------------------


def mixture_q_values(
    q_values: jax.Array, weights: jax.Array, temperature: jax.Array
) -> jax.Array:
  """Q-values whose softmax policy is the mixture of the teachers' policies.

  tau log sum_k w_k softmax(Q_k / tau) defines them up to a constant. The
  constant makes the largest value the weighted mean of the teachers' largest
  values.

  Args:
    q_values: [K, A].
    weights: [K], zero or more, of sum 1.
    temperature: [] tau, positive.

  Returns:
    [A] values, finite where those of a teacher with positive weight are.
  """
  chex.assert_rank([q_values, weights, temperature], [2, 1, 0])
  log_policies = jax.nn.log_softmax(q_values / temperature)
  weighted = log_policies + jnp.log(weights)[:, None]
  log_mixture = jax.nn.logsumexp(weighted, axis=0)
  largest = jnp.sum(weights * jnp.max(q_values, axis=-1))
  return temperature * (log_mixture - jnp.max(log_mixture)) + largest


def best_q_values(q_values: jax.Array) -> jax.Array:
  """Q-values of the teacher with the largest value: argmax_k max_a Q_k(a).

  Args:
    q_values: [K, A].

  Returns:
    [A] values; those of the first teacher if several have the largest value.
  """
  chex.assert_rank(q_values, 2)
  return q_values[jnp.argmax(jnp.max(q_values, axis=-1))]


class EnsembleNetwork(nn.Module):
  """Networks of several teachers with combined Q-values.

  The parameters are those of all members, and the weights and temperature of a
  mixture: ensembles that differ in these are different teachers.

  Attributes:
    members: K networks for the same actions.
    combine: one of COMBINATIONS.
  """

  members: tuple[nn.Module, ...]
  combine: str = MIXTURE

  @property
  def num_actions(self) -> int:
    return self.members[0].num_actions

  @nn.compact
  def __call__(
      self, x: jax.Array, rng_key: Optional[jax.Array] = None
  ) -> NetworkOutput:
    """Evaluates all members; teachers act without noise, so no key is used."""
    del rng_key
    outputs = [member(x) for member in self.members]
    q_values = jnp.stack([out.q_values for out in outputs], axis=-2)
    combined = best_q_values
    if self.combine == MIXTURE:
      equal = nn.initializers.constant(1.0 / len(self.members))
      combined = functools.partial(
          mixture_q_values,
          weights=self.param(_WEIGHTS, equal, (len(self.members),)),
          temperature=self.param(_TEMPERATURE, nn.initializers.ones, ()),
      )
    representation = [out.representation for out in outputs]
    return NetworkOutput(
        jnp.vectorize(combined, signature='(k,a)->(a)')(q_values),
        jnp.concatenate(representation, axis=-1),
    )


# -- the teacher ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LoadedEnsemble(LoadedTeacher):
  """Several teachers that act as one.

  An ensemble has no recorded score and no checkpoint of its own. Its replay is
  that of the first member with replay data.

  Attributes:
    members: K teachers, in the order in which the user named them.
  """

  members: tuple[LoadedTeacher, ...] = ()

  @property
  def combine(self) -> str:
    """One of COMBINATIONS."""
    return self.network.combine

  @property
  def weights(self) -> Optional[list[float]]:
    """[K] weights of a mixture, of sum 1; None otherwise."""
    weights = self.params.get(_WEIGHTS)
    return None if weights is None else [float(w) for w in weights]

  @property
  def temperature(self) -> Optional[float]:
    """Temperature of the mixed policies; None if none are mixed."""
    temperature = self.params.get(_TEMPERATURE)
    return None if temperature is None else float(temperature)

  @property
  def left_data(self) -> tuple[LoadedTeacher, ...]:
    """Members with replay data; the ensemble uses those of the first."""
    return tuple(m for m in self.members if m.replay is not None)

  def at_temperature(self, temperature: float) -> LoadedEnsemble:
    """Returns the same teachers, mixed at another temperature."""
    if not mixes_policies(self):
      return self
    changed = {_TEMPERATURE: np.float32(temperature)}
    return dataclasses.replace(self, params=self.params | changed)

  def describe(self) -> str:
    """Describes the ensemble in one line."""
    if self.combine == BEST:
      words = [f'the best of {len(self.members)} teachers in each state']
    else:
      weights = ', '.join(f'{w:.3g}' for w in self.weights or ())
      words = [f'a mixture of {len(self.members)} policies, weights {weights}']
    words.append(f'{self.num_actions} actions')
    if self.replay is not None and self.left_data:
      words.append(f'{len(self.replay)} rows of {self.left_data[0].path}')
    else:
      words.append('no replay')
    return ', '.join(words)


def combine(
    teachers: Sequence[LoadedTeacher],
    how: Combination = Combination(),
    temperature: float = 1.0,
) -> LoadedTeacher:
  """Combines several teachers into one.

  Args:
    teachers: K teachers; a single one is returned as it is.
    how: rule that combines them.
    temperature: tau of the policies of a mixture.

  Raises:
    TeacherError: if they differ in game or number of actions.
    ValueError: if the number of weights is not K.
  """
  weights = how.normalized(len(teachers))
  if len(teachers) == 1:
    return teachers[0]
  _check_same(teachers, 'game')
  _check_same(teachers, 'num_actions')
  # Copies: flax shares the parameters of one object in two places.
  networks = tuple(copy.deepcopy(teacher.network) for teacher in teachers)
  params = {f'members_{k}': t.acting_params for k, t in enumerate(teachers)}
  if how.combine == MIXTURE:
    params |= {_WEIGHTS: weights, _TEMPERATURE: np.float32(temperature)}
  left = [teacher for teacher in teachers if teacher.replay is not None]
  ensemble = LoadedEnsemble(
      path=' and '.join(teacher.path for teacher in teachers),
      network=EnsembleNetwork(networks, how.combine),
      params=params,
      checkpoint_number=None,
      game=next((t.game for t in teachers if t.game is not None), None),
      replay=left[0].replay if left else None,
      agent='ensemble',
      format=f'{len(teachers)} teachers together',
      members=tuple(teachers),
  )
  logging.info('Teachers together: %s.', ensemble.describe())
  if len(left) > 1:
    logging.info(
        'If data of the teachers are read, they are those of %s, not those of '
        '%s.',
        left[0].path,
        ' and '.join(teacher.path for teacher in left[1:]),
    )
  return ensemble


def members_of(teacher: LoadedTeacher) -> tuple[LoadedTeacher, ...]:
  """Returns the members of an ensemble, or a single teacher itself."""
  if isinstance(teacher, LoadedEnsemble):
    return teacher.members
  return (teacher,)


def mixes_policies(teacher: Optional[LoadedTeacher]) -> bool:
  """Returns True if a teacher is a mixture, which has a temperature."""
  return isinstance(teacher, LoadedEnsemble) and teacher.combine == MIXTURE


def _check_same(teachers: Sequence[LoadedTeacher], attribute: str) -> None:
  """Raises a TeacherError if an attribute differs where it is known."""
  known = {t.path: getattr(t, attribute) for t in teachers}
  known = {path: value for path, value in known.items() if value is not None}
  if len(set(known.values())) <= 1:
    return
  what, verb = {
      'game': ('game', 'plays'),
      'num_actions': ('number of actions', 'has'),
  }[attribute]
  listed = ', '.join(f'{path} {verb} {value}' for path, value in known.items())
  raise TeacherError(f'Teachers together must have one {what}, but {listed}.')
