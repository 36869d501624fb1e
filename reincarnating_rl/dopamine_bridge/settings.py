"""Values that gin binds, in the core's terms (layer 5)."""

from __future__ import annotations

import inspect
from typing import Any, Iterable, NamedTuple, Optional

from reincarnating_rl.dopamine_bridge import compat

compat.prepare_dopamine()

from dopamine.jax.agents.dqn import dqn_agent

# For their gin names: files written for older releases bind them.
from dopamine.jax.replay_memory import replay_buffer as _  # noqa: F401
from dopamine.tf.replay_memory import circular_replay_buffer as _  # noqa: F401,F811
from dopamine.tf.replay_memory import prioritized_replay_buffer as _  # noqa: F401,F811
import gin
import optax

from reincarnating_rl import learner as learner_lib
from reincarnating_rl.teachers.ensemble import Combination
from reincarnating_rl.teachers.ensemble import MIXTURE

_CAPACITY_BINDINGS = (
    'dopamine.jax.replay_memory.replay_buffer.ReplayBuffer.max_capacity',
    'OutOfGraphReplayBuffer.replay_capacity',
    'OutOfGraphPrioritizedReplayBuffer.replay_capacity',
)
_BATCH_SIZE_BINDINGS = (
    'dopamine.jax.replay_memory.replay_buffer.ReplayBuffer.batch_size',
    'OutOfGraphReplayBuffer.batch_size',
    'OutOfGraphPrioritizedReplayBuffer.batch_size',
)
_TEACHER_HORIZON_BINDINGS = (
    'TeacherDQNAgent.update_horizon',
    'TeacherRainbowAgent.update_horizon',
)
GAME_BINDING = 'create_atari_environment.game_name'
_STICKY_BINDING = 'create_atari_environment.sticky_actions'
DEFAULT_CAPACITY = 1_000_000
DEFAULT_BATCH_SIZE = 32


class LearningRates(NamedTuple):
  """Learning rates while lambda is 1, and once it is 0; None = the same."""

  initial: float
  final: Optional[float]


@gin.configurable
def create_linear_schedule(
    initial_lr: float = 1e-4, final_lr: float = 1e-5
) -> LearningRates:
  """The learning rate that follows lambda from one value to the other."""
  return LearningRates(initial_lr, final_lr)


@gin.configurable(module='loss_helpers')
def reincarnation_linearly_decaying_epsilon(
    decay_period: int, step: int, warmup_steps: int, epsilon: float
) -> float:
  """Dopamine's signature of the schedule without warm-up."""
  from reincarnating_rl.base import schedules

  del warmup_steps
  return schedules.linearly_decaying_epsilon(decay_period, step, epsilon)


@gin.configurable('TeacherEnsemble', module='reincarnating_rl')
def teacher_ensemble(
    combine: str = MIXTURE, weights: Optional[tuple[float, ...]] = None
) -> Combination:
  """How several teachers become one; see `teachers.ensemble.Combination`.

  Args:
    combine: 'mixture' or 'best'.
    weights: weights of a mixture, one for each teacher.

  Raises:
    ValueError: one sentence, for values that make no sense.
  """
  return Combination(combine, weights)


class OptimizerSettings(NamedTuple):
  """An optimizer without its learning rate, and that rate."""

  direction: optax.GradientTransformation
  learning_rate: float


def optimizer_settings(name: str) -> OptimizerSettings:
  """The optimizer of `create_optimizer`, split in direction and rate.

  Args:
    name: 'adam', 'rmsprop' or 'sgd', as Dopamine's agents name it, or
      'adamw'.

  Raises:
    ValueError: for another name.
  """
  bound = _call_arguments(dqn_agent.create_optimizer, 'create_optimizer')
  return _optimizer(name, bound)


def _optimizer(name: str, bound: dict[str, Any]) -> OptimizerSettings:
  if bound['anneal_learning_rate']:
    raise ValueError(
        'create_optimizer.anneal_learning_rate is True; here the learning '
        'rate follows create_linear_schedule instead: remove the binding.'
    )
  moments = bound['beta1'], bound['beta2'], bound['eps']
  if name == 'adam':
    direction = learner_lib.adam_direction(*moments)
  elif name == 'adamw':
    direction = learner_lib.adam_direction(*moments, weight_decay())
  elif name == 'rmsprop':
    direction = learner_lib.rmsprop_direction(
        bound['beta2'], bound['eps'], bound['centered']
    )
  elif name == 'sgd':
    direction = optax.identity()
  else:
    raise ValueError(
        f"Optimizer {name!r} is bound; choose 'adam', 'adamw', 'rmsprop' or "
        "'sgd'."
    )
  return OptimizerSettings(direction, bound['learning_rate'])


@gin.configurable(module='reincarnating_rl')
def weight_decay(rate: float = 0.1) -> float:
  """Share of the weights, times the learning rate, that adamw removes.

  Biases do not decay. 0.1 as in Schwarzer et al. (2023).
  """
  return rate


@gin.configurable
def create_pretraining_optimizer(
    name: str,
    learning_rate: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1.5e-4,
    centered: bool = False,
) -> OptimizerSettings:
  """The optimizer of a pretraining that has one of its own.

  Args:
    name: 'adam', 'adamw', 'rmsprop' or 'sgd'.
    learning_rate: fixed learning rate.
    beta1: decay of the first moments (Adam).
    beta2: decay of the second moments.
    eps: added to their root.
    centered: True if RMSProp subtracts the squared mean.

  Raises:
    ValueError: for another name.
  """
  return _optimizer(
      name,
      {
          'anneal_learning_rate': False,
          'learning_rate': learning_rate,
          'beta1': beta1,
          'beta2': beta2,
          'eps': eps,
          'centered': centered,
      },
  )


def decays(schedule: Optional[Any], binding: str) -> bool:
  """True if a schedule of Dopamine's falls (the default), else it stays.

  Raises:
    ValueError: for a schedule that is neither of the two known.
  """
  name = getattr(schedule, '__name__', str(schedule))
  known = {
      'None': True,
      'linearly_decaying_epsilon': True,
      'reincarnation_linearly_decaying_epsilon': True,
      'identity_epsilon': False,
  }
  if name not in known:
    raise ValueError(
        f'{binding} is bound to {name}; choose linearly_decaying_epsilon or '
        'identity_epsilon.'
    )
  return known[name]


def _call_arguments(function: Any, selector: str) -> dict[str, Any]:
  """Defaults of a gin-configurable function, overridden by its bindings."""
  parameters = inspect.signature(inspect.unwrap(function)).parameters
  arguments = {k: p.default for k, p in parameters.items()}
  for name in arguments:
    bound = query(f'{selector}.{name}')
    if bound is not None:
      arguments[name] = bound
  return arguments


def query(binding: str) -> Optional[Any]:
  """The value bound to a parameter, or None."""
  try:
    value = gin.query_parameter(binding)
  except ValueError:
    return None
  if isinstance(value, gin.config.ConfigurableReference):
    return value.scoped_configurable_fn
  return value


def sticky_actions() -> float:
  """0.25 as in Machado et al. (2018), or 0 where the binding says False."""
  return 0.0 if query(_STICKY_BINDING) is False else 0.25


def operative_config() -> str:
  """Every binding that was used, as gin writes them.

  Nothing calls Dopamine's environment here, so gin does not list its bindings.
  """
  names = (GAME_BINDING, _STICKY_BINDING)
  lines = [f'{name} = {value!r}\n' for name, value in bound(names).items()]
  return gin.operative_config_str() + '\n' + ''.join(lines)


def optimizer_identity() -> dict[str, str]:
  """Settings of the optimizer, without its learning rate."""
  arguments = _call_arguments(dqn_agent.create_optimizer, 'create_optimizer')
  arguments = {k: v for k, v in arguments.items() if k != 'learning_rate'}
  arguments['weight decay'] = weight_decay()
  return {f'optimizer {k}': str(v) for k, v in arguments.items()}


def bound(bindings: Iterable[str]) -> dict[str, Any]:
  """The parameters among these that are bound, and their values."""
  values = {name: query(name) for name in bindings}
  return {name: v for name, v in values.items() if v is not None}


def teacher_update_horizon() -> Optional[int]:
  """n of the teacher's data, or None if it is the student's.

  Raises:
    ValueError: if its two names disagree.
  """
  return _only_value(_TEACHER_HORIZON_BINDINGS, None)


def replay_capacity() -> int:
  """Agent steps that a replay keeps, under any name that is bound."""
  return _only_value(_CAPACITY_BINDINGS, DEFAULT_CAPACITY)


def batch_size() -> int:
  """Transitions of an update, under any name that is bound."""
  return _only_value(_BATCH_SIZE_BINDINGS, DEFAULT_BATCH_SIZE)


def _only_value(bindings: tuple[str, ...], default: Any) -> Any:
  found = bound(bindings)
  if len(set(found.values())) > 1:
    listed = ', '.join(f'{k} = {v}' for k, v in found.items())
    raise ValueError(f'Bindings contradict each other: {listed}.')
  return next(iter(found.values()), default)
