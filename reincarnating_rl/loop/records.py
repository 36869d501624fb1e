"""What a run tells its listeners: a record a phase, metrics, progress."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Protocol

import jax
import numpy as np


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


class MetricMeans:
  """Collects metrics that live on the device; fetches them in batches."""

  def __init__(self):
    self._pending: list[dict[str, Any]] = []
    self._pending_updates = 0
    self._sums: dict[str, float] = {}
    self._count = 0

  def add(self, metrics: dict[str, Any], num_updates: int) -> None:
    """Keeps metrics of some updates, without waiting for them."""
    self._pending.append(metrics)
    self._pending_updates += num_updates

  @property
  def pending_updates(self) -> int:
    return self._pending_updates

  def fetch(self) -> dict[str, float]:
    """Waits for the pending metrics and returns their means."""
    if not self._pending:
      return {}
    pending = jax.device_get(self._pending)
    sums = {
        k: float(np.sum([np.sum(m[k]) for m in pending])) for k in pending[0]
    }
    count = self._pending_updates
    for name, value in sums.items():
      self._sums[name] = self._sums.get(name, 0.0) + value
    self._count += count
    self._pending, self._pending_updates = [], 0
    return {k: v / count for k, v in sums.items()}

  def pop(self) -> dict[str, float]:
    """Means over everything since the last `pop`."""
    self.fetch()
    means = {k: v / self._count for k, v in self._sums.items()}
    self._sums, self._count = {}, 0
    return means
