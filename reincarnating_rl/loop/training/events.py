"""Events of a run for its listeners: records, metrics, progress.

`MetricMeans` averages the metrics of updates, and raises a
`TrainingDivergedError` when one is not finite.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import (
    Any,
    Iterable,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

import jax
import numpy as np

from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.loop.acting.evaluation import Episodes
from reincarnating_rl.loop.config.due import nth_due

# {'returns': [K] floats, 'lengths': [K] ints}, JSON-ready.
EpisodeLists = dict[str, list]


@dataclasses.dataclass(frozen=True)
class PhaseRecord:
  """Outcome of one phase.

  Attributes:
    phase: kind of the phase.
    iteration: number of the iteration, as in the plan.
    agent_steps: the student's online agent steps so far.
    updates: gradient steps so far.
    student_score: mean return of the evaluation after the phase.
    teacher_normalized: the same score, random policy = 0 and teacher = 1.
    lambda_: distillation weight after the phase.
    member: settings of this member of a population.
    metrics: means over the phase's updates, evaluation and training returns.
    episodes: returns and lengths (agent steps) of the episodes that ended in
      the phase, under 'eval' and 'train'.
    seconds: wall-clock time of the run so far, over restarts; ignored when
      records are compared.
  """

  phase: str
  iteration: int
  agent_steps: int
  updates: int
  student_score: Optional[float] = None
  teacher_normalized: Optional[float] = None
  lambda_: Optional[float] = None
  member: dict[str, float] = dataclasses.field(default_factory=dict)
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)
  episodes: dict[str, EpisodeLists] = dataclasses.field(default_factory=dict)
  seconds: Optional[float] = dataclasses.field(default=None, compare=False)

  def to_json(self) -> dict[str, Any]:
    """Returns a JSON-ready dict, with `lambda_` under the name 'lambda'."""
    record = dataclasses.asdict(self)
    record['lambda'] = record.pop('lambda_')
    return record

  @classmethod
  def from_json(cls, record: dict[str, Any]) -> PhaseRecord:
    record = dict(record)
    record['lambda_'] = record.pop('lambda')
    return cls(**record)


class Reached(NamedTuple):
  """Progress of a run.

  Attributes:
    phase: kind of the present phase.
    iteration: number of the iteration, as in the plan.
    training_steps: pretraining steps and agent steps so far.
    agent_steps: the student's online agent steps so far.
    updates: gradient steps so far.
    seconds: wall-clock time so far, over restarts.
  """

  phase: str
  iteration: int
  training_steps: int
  agent_steps: int
  updates: int
  seconds: float


class Listener:
  """Receiver of events; each method may do nothing."""

  def on_work(self, kind: str, phase: Any, total: int, unit: str) -> None:
    """Training or evaluation of `total` units begins."""

  def on_progress(self, amount: int) -> None:
    """Another `amount` of units are done."""

  def on_resumed(self, amount: int) -> None:
    """`amount` units of the present work were done before a restart."""

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    """`metrics` are means over the updates since the last call."""

  def on_record(self, record: PhaseRecord) -> None:
    """A phase has ended."""

  def on_restored(self, records: Sequence[PhaseRecord]) -> None:
    """The run resumes after these records of an earlier process."""

  def on_saving(self) -> None:
    """The run is about to be saved: flush everything to the disk."""


class Listeners:
  """Several listeners as one."""

  def __init__(self, listeners: Iterable[Listener]):
    self._listeners = list(listeners)

  def on_work(self, kind: str, phase: Any, total: int, unit: str) -> None:
    for listener in self._listeners:
      listener.on_work(kind, phase, total, unit)

  def on_progress(self, amount: int) -> None:
    for listener in self._listeners:
      listener.on_progress(amount)

  def on_resumed(self, amount: int) -> None:
    for listener in self._listeners:
      listener.on_resumed(amount)

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    for listener in self._listeners:
      listener.on_metrics(reached, metrics)

  def on_record(self, record: PhaseRecord) -> None:
    for listener in self._listeners:
      listener.on_record(record)

  def on_restored(self, records: Sequence[PhaseRecord]) -> None:
    for listener in self._listeners:
      listener.on_restored(records)

  def on_saving(self) -> None:
    for listener in self._listeners:
      listener.on_saving()


class TrainingDivergedError(RuntimeError):
  """A metric, gradient or parameter is not finite.

  Attributes:
    update: number of the first such update, counted from 1 over the whole run.
    training_step: training step at which that update was due.
    terms: names of its metrics that are not finite.
  """

  def __init__(
      self,
      update: int,
      training_step: int,
      terms: Sequence[str],
      way_back: str = '',
  ):
    """Builds the error, with a message of one sentence.

    Args:
      update: see the class.
      training_step: see the class.
      terms: see the class.
      way_back: clause about the last good checkpoint; '' = none.
    """
    self.update = update
    self.training_step = training_step
    self.terms = tuple(terms)
    super().__init__(
        f'Training diverged: update {update} (training step {training_step}) '
        f'gave numbers that are not finite, in {", ".join(terms)}'
        f'{way_back and "; "}{way_back}: lower the learning rate, or the '
        'coefficients of the terms that are named.'
    )

  def with_way_back(self, way_back: str) -> TrainingDivergedError:
    """Returns the error with a clause about the last good checkpoint."""
    return TrainingDivergedError(
        self.update, self.training_step, self.terms, way_back
    )


class Updates(NamedTuple):
  """A range of updates.

  Attributes:
    count: number of updates.
    first: number of the first one, counted from 1 over the whole run.
    training_steps: training steps done before they were due.
    rate: updates per training step.
  """

  count: int  # type: ignore[assignment]
  first: int
  training_steps: int
  rate: Fraction

  def diverged(self, index: int, terms: Sequence[str]) -> TrainingDivergedError:
    """Returns the error for one of the updates, by its index in the range."""
    step = nth_due(self.training_steps, self.rate, index)
    return TrainingDivergedError(self.first + index, step, terms)


class MetricMeans(Stateful):
  """Means of metrics that live on the device; fetched in batches."""

  SAVED = ('_pending', '_pending_updates', '_sums', '_count')

  def __init__(self):
    self._pending: list[tuple[Updates, dict[str, Any], Optional[int]]] = []
    self._pending_updates = 0
    self._sums: dict[str, float] = {}
    self._count = 0

  def add(
      self,
      updates: Updates,
      metrics: dict[str, Any],
      member: Optional[int] = None,
  ) -> None:
    """Adds metrics of some updates, without waiting for the device.

    Args:
      updates: range of the updates.
      metrics: [updates.count] float32 each, as arrays or lists of scalars;
        [updates.count, S] for a group of S members.
      member: index of the member in the group; None without a group.
    """
    self._pending.append((updates, metrics, member))
    self._pending_updates += updates.count

  @property
  def pending_updates(self) -> int:
    return self._pending_updates

  @property
  def count(self) -> int:
    """Updates since the last `pop`."""
    return self._count + self._pending_updates

  def fetch(self) -> dict[str, float]:
    """Waits for the pending metrics and returns their means.

    Raises:
      TrainingDivergedError: if a metric is not finite.
    """
    if not self._pending:
      return {}
    values = self._fetched()
    _check_finite([updates for updates, _, _ in self._pending], values)
    count = self._pending_updates
    columns = {k: np.concatenate([v[k] for v in values]) for k in values[0]}
    sums = {k: float(np.sum(v, dtype=np.float64)) for k, v in columns.items()}
    for name, value in sums.items():
      self._sums[name] = self._sums.get(name, 0.0) + value
    self._count += count
    self._pending, self._pending_updates = [], 0
    return {k: v / count for k, v in sums.items()}

  def check_finite(self) -> None:
    """Waits for the pending metrics and checks them; they stay pending.

    Raises:
      TrainingDivergedError: if a metric is not finite.
    """
    _check_finite([updates for updates, _, _ in self._pending], self._fetched())

  def _fetched(self) -> list[dict[str, np.ndarray]]:
    """[updates.count] values of each metric, one dict per entry."""
    found = jax.device_get([metrics for _, metrics, _ in self._pending])
    members = [... if i is None else (..., i) for _, _, i in self._pending]
    return [
        {k: np.ravel(np.asarray(v)[i]) for k, v in metrics.items()}
        for metrics, i in zip(found, members)
    ]

  def pop(self) -> dict[str, float]:
    """Returns means over all updates since the last `pop`.

    Raises:
      TrainingDivergedError: if a metric is not finite.
    """
    self.fetch()
    means = {k: v / self._count for k, v in self._sums.items()}
    self._sums, self._count = {}, 0
    return means

  def get_state(self) -> dict[str, Any]:
    """Returns sums and pending metrics, JSON-ready."""
    entries = [updates for updates, _, _ in self._pending]
    return {
        'sums': dict(self._sums),
        'count': self._count,
        'pending': [
            {
                'updates': [*updates[:-1], str(updates.rate)],
                'metrics': {k: v.tolist() for k, v in values.items()},
            }
            for updates, values in zip(entries, self._fetched())
        ],
    }

  def set_state(self, state: Mapping[str, Any]) -> None:
    self._sums, self._count = dict(state['sums']), state['count']
    self._pending, self._pending_updates = [], 0
    for entry in state['pending']:
      count, first, training_steps, rate = entry['updates']
      metrics = {k: np.float32(v) for k, v in entry['metrics'].items()}
      updates = Updates(count, first, training_steps, Fraction(rate))
      self.add(updates, metrics)


def _check_finite(
    entries: Sequence[Updates], values: Sequence[dict[str, np.ndarray]]
) -> None:
  """Raises a TrainingDivergedError for the first update that is not finite."""
  for updates, metrics in zip(entries, values):
    finite = np.all([np.isfinite(v) for v in metrics.values()], axis=0)
    if not finite.all():
      index = int(np.argmin(finite))
      terms = [k for k, v in metrics.items() if not np.isfinite(v[index])]
      raise updates.diverged(index, terms)


def episode_metrics(name: str, episodes: Episodes) -> dict[str, float]:
  """Returns metrics of finished episodes; without any, only their number."""
  if not len(episodes.returns):
    return {f'{name}_episodes': 0}
  return {
      f'{name}_episodes': len(episodes.returns),
      f'{name}_return_mean': episodes.mean_return,
      f'{name}_return_std': float(np.std(episodes.returns)),
      f'{name}_length_mean': float(np.mean(episodes.lengths)),
  }
