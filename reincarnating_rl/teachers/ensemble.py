"""Several teachers as one: a mixture of their policies, or the best by value.

Their network asks the networks of all members and combines what they say, so
an ensemble acts, is evaluated, collects data and is distilled like any other
teacher.

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


# -- what is asked for ---------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Combination:
  """How several teachers become one; gin binds it as `TeacherEnsemble`.

  Attributes:
    combine: 'mixture' of their softmax policies, or the 'best' of them by value
      in each state.
    weights: of a mixture, one a teacher, relative to each other; None = equal.
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
    """[K] float32 weights of sum 1.

    Args:
      num_teachers: K.

    Raises:
      ValueError: if there are more or fewer weights.
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
          isinstance(w, numbers.Real) and math.isfinite(w) and w >= 0
          for w in weights
      )
      and any(weights)
  )


# -- the network ---------------------------------------------------------------


def mixture_q_values(
    q_values: jax.Array, weights: jax.Array, temperature: jax.Array
) -> jax.Array:
  """Values whose softmax policy is the mixture of the teachers' policies.

  tau log sum_k w_k softmax(Q_k / tau), which is right up to a constant: that
  is chosen so that the largest value is the weighted mean of theirs.

  Args:
    q_values: [K, A].
    weights: [K], zero or more, of sum 1.
    temperature: [] tau, positive.

  Returns:
    [A] values, finite where those of some teacher with a weight are.
  """
  chex.assert_rank([q_values, weights, temperature], [2, 1, 0])
  log_policies = jax.nn.log_softmax(q_values / temperature)
  weighted = log_policies + jnp.log(weights)[:, None]
  log_mixture = jax.nn.logsumexp(weighted, axis=0)
  largest = jnp.sum(weights * jnp.max(q_values, axis=-1))
  return temperature * (log_mixture - jnp.max(log_mixture)) + largest


def best_q_values(q_values: jax.Array) -> jax.Array:
  """Those of the teacher that promises most: argmax_k max_a Q_k(a).

  Args:
    q_values: [K, A].

  Returns:
    [A] its values; of several that promise as much, the first's.
  """
  chex.assert_rank(q_values, 2)
  return q_values[jnp.argmax(jnp.max(q_values, axis=-1))]


class EnsembleNetwork(nn.Module):
  """The networks of several teachers, and what is made of their values.

  Its parameters are those of each, and the weights and the temperature of a
  mixture: they are part of what tells one ensemble from another.

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
    """Teachers are asked without noise, whatever the key."""
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
  """Several teachers that are asked as one.

  It has no recorded score, since nobody has seen it play, and goes on from no
  checkpoint. Its data are those of the first member that left some.

  Attributes:
    members: K teachers, in the order in which they were named.
  """

  members: tuple[LoadedTeacher, ...] = ()

  @property
  def combine(self) -> str:
    """One of COMBINATIONS."""
    return self.network.combine

  @property
  def weights(self) -> Optional[list[float]]:
    """[K], of sum 1, of a mixture."""
    weights = self.params.get(_WEIGHTS)
    return None if weights is None else [float(w) for w in weights]

  @property
  def temperature(self) -> Optional[float]:
    """Of the policies that are mixed; None where none are."""
    temperature = self.params.get(_TEMPERATURE)
    return None if temperature is None else float(temperature)

  @property
  def left_data(self) -> tuple[LoadedTeacher, ...]:
    """Members that left some; those of the first are the ensemble's."""
    return tuple(m for m in self.members if m.replay is not None)

  def at_temperature(self, temperature: float) -> LoadedEnsemble:
    """The same teachers, their policies mixed at another temperature."""
    if not mixes_policies(self):
      return self
    changed = {_TEMPERATURE: np.float32(temperature)}
    return dataclasses.replace(self, params=self.params | changed)

  def describe(self) -> str:
    """What was combined, in one line."""
    if self.combine == BEST:
      words = [f'the best of {len(self.members)} teachers in each state']
    else:
      weights = ', '.join(f'{w:.3g}' for w in self.weights)
      words = [f'a mixture of {len(self.members)} policies, weights {weights}']
    words.append(f'{self.num_actions} actions')
    if self.left_data:
      words.append(f'{len(self.replay)} rows of {self.left_data[0].path}')
    else:
      words.append('no replay')
    return ', '.join(words)


def combine(
    teachers: Sequence[LoadedTeacher],
    how: Combination = Combination(),
    temperature: float = 1.0,
) -> LoadedTeacher:
  """Makes one teacher of several.

  Args:
    teachers: K; one alone stays as it is.
    how: they are combined.
    temperature: tau of the policies of a mixture.

  Raises:
    TeacherError: if they differ in game or number of actions.
    ValueError: if there are not as many weights.
  """
  weights = how.normalized(len(teachers))
  if len(teachers) == 1:
    return teachers[0]
  _check_same(teachers, 'game')
  _check_same(teachers, 'num_actions')
  # Copies: flax takes one object in two places for one network.
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
  """The teachers of an ensemble, or the one that it is."""
  if isinstance(teacher, LoadedEnsemble):
    return teacher.members
  return (teacher,)


def mixes_policies(teacher: Optional[LoadedTeacher]) -> bool:
  """Whether a teacher is a mixture, and so of one temperature."""
  return isinstance(teacher, LoadedEnsemble) and teacher.combine == MIXTURE


def _check_same(teachers: Sequence[LoadedTeacher], attribute: str) -> None:
  """Raises a TeacherError if teachers differ in what is known of all."""
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
