"""What a run tells its listeners: a record a phase, metrics, progress.

And what it raises when those metrics say that learning has come to nothing.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any, Iterable, NamedTuple, Optional, Protocol, Sequence

import jax
import numpy as np

from reincarnating_rl.loop.clock import nth_due
from reincarnating_rl.loop.evaluation import Episodes


@dataclasses.dataclass(frozen=True)
class PhaseRecord:
  """Outcome of one phase.

  Attributes:
    phase: its kind.
    iteration: as in the plan.
    agent_steps: the student's online agent steps so far (the teacher's, in
      teacher phases).
    updates: gradient steps so far.
    student_score: mean return of the evaluation after it.
    teacher_normalized: that score, teacher = 1 and random = 0.
    lambda_: distillation weight after the phase.
    metrics: means over the phase's updates, evaluation and training returns.
  """

  phase: str
  iteration: int
  agent_steps: int
  updates: int
  student_score: Optional[float] = None
  teacher_normalized: Optional[float] = None
  lambda_: Optional[float] = None
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict[str, Any]:
    """A JSON-ready dict, with `lambda` under its own name."""
    record = dataclasses.asdict(self)
    record['lambda'] = record.pop('lambda_')
    return record

  @classmethod
  def from_json(cls, record: dict[str, Any]) -> PhaseRecord:
    record = dict(record)
    record['lambda_'] = record.pop('lambda')
    return cls(**record)


class Listener(Protocol):
  """Whoever wants to know; every method may do nothing."""

  def on_work(self, kind: str, phase: Any, total: int, unit: str) -> None:
    """Part of a phase begins: `total` units of training, or evaluation."""

  def on_progress(self, amount: int) -> None:
    """Some units of work are done."""

  def on_metrics(self, training_steps: int, metrics: dict[str, float]) -> None:
    """Means of the updates since the last call."""

  def on_record(self, record: PhaseRecord) -> None:
    """A phase has ended."""


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

  def on_metrics(self, training_steps: int, metrics: dict[str, float]) -> None:
    for listener in self._listeners:
      listener.on_metrics(training_steps, metrics)

  def on_record(self, record: PhaseRecord) -> None:
    for listener in self._listeners:
      listener.on_record(record)


class TrainingDivergedError(RuntimeError):
  """Learning has come to numbers that are not finite.

  Attributes:
    update: number of the first such update, counted from 1 over the whole run.
    training_step: at which it was due.
    terms: names of its metrics that are not finite.
  """

  def __init__(
      self,
      update: int,
      training_step: int,
      terms: Sequence[str],
      way_back: str = '',
  ):
    """Describes it in one sentence.

    Args:
      update: see above.
      training_step: see above.
      terms: see above.
      way_back: what there is to go on from, in words.
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
    """The same error, told by who knows what there is to go on from."""
    return TrainingDivergedError(
        self.update, self.training_step, self.terms, way_back
    )


class Updates(NamedTuple):
  """Which updates some metrics belong to.

  Attributes:
    count: how many.
    first: number of the first, counted from 1 over the whole run.
    training_steps: training steps done before they were due.
    rate: updates a training step.
  """

  count: int
  first: int
  training_steps: int
  rate: Fraction

  def diverged(self, index: int, terms: Sequence[str]) -> TrainingDivergedError:
    """The error of the update of that index."""
    step = nth_due(self.training_steps, self.rate, index)
    return TrainingDivergedError(self.first + index, step, terms)


class MetricMeans:
  """Collects metrics that live on the device; fetches them in batches."""

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
    """Keeps metrics of some updates, without waiting for them.

    Args:
      updates: which they are.
      metrics: [updates.count] float32 each, as arrays or lists of scalars; of
        a group [updates.count, S].
      member: which of the S counts; None without a group.
    """
    self._pending.append((updates, metrics, member))
    self._pending_updates += updates.count

  @property
  def pending_updates(self) -> int:
    return self._pending_updates

  def fetch(self) -> dict[str, float]:
    """Waits for the pending metrics and returns their means.

    Raises:
      TrainingDivergedError: if one of them is not finite.
    """
    if not self._pending:
      return {}
    pending = jax.device_get([metrics for _, metrics, _ in self._pending])
    members = [... if i is None else (..., i) for _, _, i in self._pending]
    values = {
        k: np.concatenate(
            [np.ravel(np.asarray(m[k])[i]) for m, i in zip(pending, members)]
        )
        for k in pending[0]
    }
    self._check_finite(values)
    count = self._pending_updates
    sums = {k: float(np.sum(v, dtype=np.float64)) for k, v in values.items()}
    for name, value in sums.items():
      self._sums[name] = self._sums.get(name, 0.0) + value
    self._count += count
    self._pending, self._pending_updates = [], 0
    return {k: v / count for k, v in sums.items()}

  def _check_finite(self, values: dict[str, np.ndarray]) -> None:
    finite = np.all([np.isfinite(v) for v in values.values()], axis=0)
    if finite.all():
      return
    index = int(np.argmin(finite))
    terms = [k for k, v in values.items() if not np.isfinite(v[index])]
    for updates, _, _ in self._pending:
      if index < updates.count:
        raise updates.diverged(index, terms)
      index -= updates.count

  def pop(self) -> dict[str, float]:
    """Means over everything since the last `pop`.

    Raises:
      TrainingDivergedError: if one of the metrics is not finite.
    """
    self.fetch()
    means = {k: v / self._count for k, v in self._sums.items()}
    self._sums, self._count = {}, 0
    return means


def episode_metrics(name: str, episodes: Episodes) -> dict[str, float]:
  """Metrics of some finished episodes; their number alone if there are none."""
  if not len(episodes.returns):
    return {f'{name}_episodes': 0}
  return {
      f'{name}_episodes': len(episodes.returns),
      f'{name}_return_mean': episodes.mean_return,
      f'{name}_return_std': float(np.std(episodes.returns)),
      f'{name}_length_mean': float(np.mean(episodes.lengths)),
  }
