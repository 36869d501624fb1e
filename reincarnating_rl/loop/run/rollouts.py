"""Where policies play outside of training: evaluations, data collection.

And what times and announces all work. What is being played can be saved in
the middle, and is then taken up again there.
"""

from __future__ import annotations

import collections
import contextlib
import time
from typing import Any, Callable, Iterator, Mapping, Optional, Protocol

import jax

from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.envs.base import EnvironmentFactory
from reincarnating_rl.envs.base import VectorEnv
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.acting.env_player import Collection
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.acting.evaluation import Evaluation
from reincarnating_rl.loop.acting.replay_writer import Data
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.plan import Phase
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training.events import Listeners
from reincarnating_rl.loop.training.trainer import evaluation_key

# Streams of episode seeds and keys: one number a purpose.
RANDOM_EVALUATION_STREAM = 0
TEACHER_EVALUATION_STREAM = 1
COLLECTION_STREAM = 2
ONLINE_STREAM = 3
EVALUATION_STREAM = 4


class Activity(Protocol):
  """An evaluation or a collection."""

  @property
  def agent_steps(self) -> int:
    """Agent steps taken so far, as announced to listeners."""

  def run(
      self, on_progress: Callable[[int], None], at_step: Callable[[], None]
  ) -> Any:
    """Goes on to the end."""

  def get_state(self) -> dict[str, Any]:
    """State for `set_state`."""

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores a freshly built activity."""


class Stage(Stateful):
  """Plays for one run.

  Attributes:
    seconds: wall-clock time by phase kind, evaluations under their own name.
    activity: what is being played now.
    take_up: state in which a checkpoint saw an activity, for the next one to
      resume from; None if there was none.
  """

  SAVED = ('seconds', 'activity')
  REBUILT = (
      'take_up',
      '_config',
      '_make_env',
      '_eval_env',
      '_listeners',
      '_at_step',
      '_working',
  )

  def __init__(
      self,
      config: RunConfig,
      make_env: EnvironmentFactory,
      listeners: Listeners,
      at_step: Callable[[], None],
  ):
    """Makes no environment yet.

    Args:
      config: settings.
      make_env: builds environments for a stream of episode seeds.
      listeners: told what happens.
      at_step: called after each step that all environments have taken.
    """
    self.seconds: dict[str, float] = collections.defaultdict(float)
    self.activity: Optional[Activity] = None
    self.take_up: Optional[Mapping[str, Any]] = None
    self._config = config
    self._make_env = make_env
    self._eval_env: Optional[VectorEnv] = None
    self._listeners = listeners
    self._at_step = at_step
    self._working: Optional[tuple[str, float]] = None

  def get_state(self) -> dict[str, Any]:
    activity = self.activity
    return {
        'seconds': dict(self.seconds_so_far()),
        'activity': activity and activity.get_state(),
    }

  def set_state(self, state: Mapping[str, Any]) -> None:
    self.seconds.update(state['seconds'])
    self.take_up = state['activity']

  def training_env(self) -> VectorEnv:
    """New environments for the online phases."""
    config = self._config
    return self._make_env(config.num_envs, config.seed, (ONLINE_STREAM,))

  def evaluate(
      self,
      policy: Policy,
      phase: Phase,
      stream: tuple[int, ...],
      epsilon: Optional[float] = None,
  ) -> Episodes:
    """Plays the student, in environments that are made once."""
    config = self._config
    if self._eval_env is None:
      self._eval_env = self._make_env(config.num_eval_envs, config.seed, stream)
    observation = self._eval_env.start_stream(stream)
    key = _fold_in(evaluation_key(config.seed), *stream)
    if epsilon is None:
      epsilon = config.epsilon_eval
    return self._carry_out(
        Evaluation(
            policy,
            self._eval_env,
            observation,
            config.evaluation_steps,
            epsilon,
            key,
        ),
        phase,
        config.evaluation_steps,
    )

  def evaluate_teacher(self, policy: Policy, phase: Phase) -> Episodes:
    """Plays a teacher: the same episodes in every student's run."""
    config, stream = self._config, (TEACHER_EVALUATION_STREAM,)
    env = self._make_env(config.num_eval_envs, config.teacher_seed, stream)
    evaluation = Evaluation(
        policy,
        env,
        env.reset(),
        config.evaluation_steps,
        config.epsilon_eval,
        self._teacher_key(*stream),
    )
    return self._carry_out(evaluation, phase, config.evaluation_steps)

  def collect(self, policy: Policy, phase: Phase) -> tuple[Data, Episodes]:
    """A teacher plays and its steps, with its Q-values, become data."""
    config, stream = self._config, (COLLECTION_STREAM,)
    spec = config.collection_spec()
    collection = Collection(
        policy,
        self._make_env(spec.num_streams, config.teacher_seed, stream),
        spec,
        config.teacher_epsilon,
        self._teacher_key(*stream),
    )
    replay, episodes = self._carry_out(collection, phase, spec.capacity)
    return (collection.writer.spec, replay), episodes

  def _teacher_key(self, *stream: int) -> jax.Array:
    """What the teacher draws from, the same in every student's run."""
    return _fold_in(evaluation_key(self._config.teacher_seed), *stream)

  def _carry_out(self, activity: Activity, phase: Phase, total: int) -> Any:
    """Plays an activity, timed and announced, from where it was left."""
    if self.take_up is not None:
      activity.set_state(self.take_up)
      self.take_up = None
    trains = phase.kind in (plan_lib.PRETRAINING, plan_lib.ONLINE)
    kind = 'evaluation' if trains else phase.kind
    self.activity = activity
    with self.timed(kind, phase, total, 'agent steps', activity.agent_steps):
      outcome = activity.run(self._listeners.on_progress, self._at_step)
    self.activity = None
    return outcome

  @contextlib.contextmanager
  def timed(
      self, kind: str, phase: Phase, total: int, unit: str, done: int
  ) -> Iterator[None]:
    """Announces a piece of work and books its time.

    Args:
      kind: under which it is booked.
      phase: of the plan.
      total: units of work.
      unit: of them.
      done: units that were done before.
    """
    self._listeners.on_work(kind, phase, total, unit)
    if done:
      self._listeners.on_resumed(done)
    with self.booked(kind):
      yield

  @contextlib.contextmanager
  def booked(self, kind: str) -> Iterator[None]:
    """Books the time of a piece of work, without announcing it."""
    self._working = kind, time.monotonic()
    yield
    self.seconds = self.seconds_so_far()
    self._working = None

  def seconds_so_far(self) -> dict[str, float]:
    """As `seconds`, what is being done included."""
    seconds = self.seconds.copy()
    if self._working is not None:
      kind, start = self._working
      seconds[kind] += time.monotonic() - start
    return seconds


def _fold_in(rng_key: jax.Array, *numbers: int) -> jax.Array:
  for number in numbers:
    rng_key = jax.random.fold_in(rng_key, number)
  return rng_key
