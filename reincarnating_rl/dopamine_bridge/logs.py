"""Logs of a run in Dopamine's places and formats (layer 5)."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Callable, Iterator, Optional, Sequence

from reincarnating_rl.dopamine_bridge import compat

compat.prepare_dopamine()

from absl import logging
from dopamine.metrics import collector as dopamine_collector
from dopamine.metrics import statistics_instance
from dopamine.metrics.collector_dispatcher import CollectorDispatcher
from dopamine.metrics.tensorboard_collector import TensorboardCollector

from reincarnating_rl.dopamine_bridge.event_file import EventFile
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.loop.training.events import Reached
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import score_check

# Errors of Dopamine's own files; they are TensorFlow's if it is imported.
_WRITE_ERRORS = (OSError, dopamine_collector.tf.errors.OpError)
# Metrics of updates -> tags of Dopamine and of the earlier release.
_UPDATE_TAGS = {
    'loss': 'Losses/Aggregate',
    'td_loss': 'Losses/TD',
    'distill_loss': 'Losses/Distillation',
    'cql_loss': 'Losses/CQL',
    'margin_loss': 'Losses/Margin',
    'q': 'Values/Q',
    'max_q': 'Values/MaxQ',
    'action_gap': 'Values/ActionGap',
    'teacher_agreement': 'Values/TeacherAgreement',
}


class TeacherProof(Listener):
  """Warns when a teacher plays far worse than it should."""

  def __init__(self, teacher: Optional[LoadedTeacher], game: str):
    self._teacher = teacher
    self._game = game

  def on_record(self, record: PhaseRecord) -> None:
    if self._teacher is None or record.phase != plan_lib.TEACHER_EVALUATION:
      return
    score = record.metrics['eval_return_mean']
    doubt = score_check.doubt(self._teacher, self._game, score)
    if doubt:
      logging.warning('%s', doubt)


class DopamineLogs(Listener):
  """Turns records into Dopamine's logs: TensorBoard and its legacy pickles.

  On a full disk entries of the logs are lost, never the run.
  """

  def __init__(
      self,
      directory: str,
      make_dispatcher: Callable[[], CollectorDispatcher],
      log_experiment: Callable[[int, dict[str, list[float]]], None],
  ):
    """Opens no file yet: a resumed run truncates its logs first.

    Args:
      directory: directory of the run, for TensorBoard's events.
      make_dispatcher: makes the dispatcher of Dopamine's statistics, which
        opens files of its own.
      log_experiment: writes the statistics of an iteration as a pickle.
    """
    self._events = EventFile(directory)
    self._make_dispatcher = make_dispatcher
    self._log_experiment = log_experiment

  @functools.cached_property
  def _dispatcher(self) -> CollectorDispatcher:
    return self._make_dispatcher()

  def on_restored(self, records: Sequence[PhaseRecord]) -> None:
    """Repeats all records to those logs that begin anew in each process."""
    anew = [
        collector
        for collector in self._dispatcher._collectors
        if not isinstance(collector, TensorboardCollector)
    ]
    for record in records:
      for collector in anew:
        with _tolerating_a_full_disk():
          collector.write(_statistics(record))
          collector.flush()
      self._keep_legacy(record)

  def close(self) -> None:
    """Closes the files."""
    with _tolerating_a_full_disk():
      self._events.close()
    self._dispatcher.close()

  def on_metrics(self, reached: Reached, metrics: dict[str, float]) -> None:
    self._add(update_values(metrics), reached.training_steps)

  def on_record(self, record: PhaseRecord) -> None:
    self._add(phase_values(record), record.iteration)
    for collector in self._dispatcher._collectors:
      with _tolerating_a_full_disk():
        collector.write(_statistics(record))
        collector.flush()
    self._keep_legacy(record)
    self.on_saving()

  def on_saving(self) -> None:
    with _tolerating_a_full_disk():
      self._events.flush()

  def _add(self, values: dict[str, float], step: int) -> None:
    with _tolerating_a_full_disk():
      for tag, value in values.items():
        self._events.scalar(tag, value, step)
      self._events.flush()

  def _keep_legacy(self, record: PhaseRecord) -> None:
    if record.phase in (plan_lib.PRETRAINING, plan_lib.ONLINE):
      with _tolerating_a_full_disk():
        # Dopamine counts from 0 on, and its plotting wants each of them.
        self._log_experiment(record.iteration - 1, _legacy_statistics(record))


@contextlib.contextmanager
def _tolerating_a_full_disk() -> Iterator[None]:
  try:
    yield
  except _WRITE_ERRORS as e:
    logging.warning('The logs were not written (%s).', str(e).split('\n')[0])


def update_values(metrics: dict[str, float]) -> dict[str, float]:
  """Means of updates by TensorBoard tag."""
  return {_UPDATE_TAGS.get(k, f'Train/{k}'): v for k, v in metrics.items()}


def phase_values(record: PhaseRecord) -> dict[str, float]:
  """Scalars of a phase by TensorBoard tag."""
  if record.phase == plan_lib.TEACHER_EVALUATION:
    return {'Eval/Teacher/AverageReturns': record.metrics['eval_return_mean']}
  return _iteration_values(record)


def _statistics(
    record: PhaseRecord,
) -> list[statistics_instance.StatisticsInstance]:
  """Scalars of a phase for Dopamine's collectors."""
  return [
      statistics_instance.StatisticsInstance(tag, value, record.iteration)
      for tag, value in phase_values(record).items()
  ]


def _iteration_values(record: PhaseRecord) -> dict[str, float]:
  """Scalars of one iteration by TensorBoard tag."""
  metrics = record.metrics
  candidates = {
      'Train/NumEpisodes': metrics.get('train_episodes'),
      'Train/AverageReturns': metrics.get('train_return_mean'),
      'Train/LearningRate': metrics.get('learning_rate'),
      'Train/Epsilon': metrics.get('epsilon'),
      'Train/DistillationWeight': record.lambda_,
      'Train/AgentSteps': record.agent_steps,
      'Train/Updates': record.updates,
      'Eval/NumEpisodes': metrics.get('eval_episodes'),
      'Eval/AverageReturns': record.student_score,
      'Eval/Normalized_Score': record.teacher_normalized,
  }
  return {tag: v for tag, v in candidates.items() if v is not None}


def _legacy_statistics(record: PhaseRecord) -> dict[str, list[float]]:
  """Lists under the names that Dopamine's plotting reads.

  Every iteration has all of them; one without a measurement is [nan].
  """
  found = {}
  for kind in ('train', 'eval'):
    episodes = record.episodes.get(kind, {})
    mean = record.metrics.get(f'{kind}_return_mean', math.nan)
    found[f'{kind}_average_return'] = [mean]
    for what in ('lengths', 'returns'):
      found[f'{kind}_episode_{what}'] = episodes.get(what) or [math.nan]
  return found
