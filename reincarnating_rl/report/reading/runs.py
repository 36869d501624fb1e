"""Reads run directories: settings, teacher, evaluations.

docs/run_directory.md documents the files. Nothing is compared here.
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any, Mapping, NamedTuple, Optional

from reincarnating_rl.base import errors
from reincarnating_rl.loop.config import plan
from reincarnating_rl.report.reading import chains
from reincarnating_rl.rundir import metrics_file
from reincarnating_rl.rundir import summary

_TRAINING = (plan.PRETRAINING, plan.ONLINE)
# Fields of a summary of this version that reading can do without.
_DOCUMENTED = ('gin_files', 'gin', 'network', 'member', 'rom')


class Point(NamedTuple):
  """One evaluation of the student.

  Attributes:
    phase: plan.PRETRAINING or plan.ONLINE.
    iteration: number in the plan.
    agent_steps: online agent steps so far.
    updates: gradient steps so far.
    score: mean return.
    seconds: wall-clock time of the run so far; None if not recorded.
    episodes: number of episodes behind the score; None if not recorded.
  """

  phase: str
  iteration: int
  agent_steps: int
  updates: int
  score: float
  seconds: Optional[float] = None
  episodes: Optional[int] = None


class TeacherFacts(NamedTuple):
  """The teacher that a run learned from.

  Attributes:
    identity: checksum of the parameters, the same for every copy of the files;
      the place if the checksum is not recorded.
    path: path of the files; words for an ensemble.
    checkpoint_number: number of the checkpoint; None for an ensemble.
    chain: the teacher, its own teacher, and so on.
  """

  identity: str
  path: str
  checkpoint_number: Optional[int]
  chain: chains.Chain = chains.Chain()

  @property
  def place(self) -> str:
    """Path and checkpoint number in words."""
    return _place(self.path, self.checkpoint_number)


@dataclasses.dataclass(frozen=True)
class Run:
  """One run directory.

  Attributes:
    path: path of the directory.
    game: name in Dopamine's spelling.
    agent: name on the command line.
    seed: run number.
    gin_files: names of the configurations.
    network: short name of the network; None if not recorded.
    network_spec: classes and attributes; None if not recorded.
    settings: settings of the loop.
    gin: all bindings, as text.
    member: hyperparameters in which the run differs from its population.
    teacher: the teacher; None for a run from scratch.
    random_score: mean return of a random policy; None if not recorded.
    teacher_score: mean return of the teacher; None if not recorded.
    rom: {'file': ..., 'md5': ...}; empty if not recorded.
    versions: versions of the packages.
    lacking: documented fields that the summary does not have.
    points: evaluations of the student, in order.
    planned: (pretraining, online) iterations.
    frames: frames played 'online', 'collected' by the teacher, and by the whole
      'chain'; without those that are not recorded.
    done_before: (pretraining, online) iterations before `points` were cut; None
      if they were not.
  """

  path: str
  game: str
  agent: str
  seed: int
  gin_files: tuple[str, ...]
  network: Optional[str]
  network_spec: Any
  settings: Mapping[str, Any]
  gin: str
  member: Mapping[str, float]
  teacher: Optional[TeacherFacts]
  random_score: Optional[float]
  teacher_score: Optional[float]
  rom: Mapping[str, Any]
  versions: Mapping[str, str]
  lacking: tuple[str, ...]
  points: tuple[Point, ...]
  planned: tuple[int, int]
  frames: Mapping[str, Optional[int]] = dataclasses.field(default_factory=dict)
  done_before: Optional[tuple[int, int]] = None

  @property
  def group(self) -> str:
    """The directory above, which other runs may share."""
    return os.path.dirname(os.path.abspath(self.path))

  @property
  def done(self) -> tuple[int, int]:
    """(pretraining, online) iterations that have ended."""
    if self.done_before is not None:
      return self.done_before
    phases = [point.phase for point in self.points]
    return phases.count(plan.PRETRAINING), phases.count(plan.ONLINE)

  @property
  def finished(self) -> bool:
    return all(d >= p for d, p in zip(self.done, self.planned))

  @property
  def online(self) -> tuple[Point, ...]:
    return tuple(p for p in self.points if p.phase == plan.ONLINE)

  @property
  def start(self) -> Optional[Point]:
    """The last evaluation before the first online agent step."""
    before = [p for p in self.points if p.phase == plan.PRETRAINING]
    return before[-1] if before else None

  @property
  def timed(self) -> bool:
    """True if the wall-clock time of every evaluation is recorded."""
    return all(p.seconds is not None for p in self.points)

  def until(self, agent_steps: int) -> Run:
    """Keeps the points up to a number of online agent steps."""
    return self.first(sum(p.agent_steps <= agent_steps for p in self.points))

  def first(self, count: int) -> Run:
    """Keeps the first `count` points."""
    return dataclasses.replace(
        self, points=self.points[:count], done_before=self.done
    )


def read(directory: str, document: Mapping[str, Any]) -> Run:
  """Reads the run in a directory.

  Args:
    directory: run directory.
    document: content of its summary.

  Raises:
    UserError: if the summary lacks a required field, an evaluation has no
      finite score, or metrics.jsonl is damaged or has another score.
  """
  where = summary.path(directory)
  config = _entry(document, 'config', dict, where)
  settings = _entry(config, 'settings', dict, where, 'config.')
  teacher = _teacher(config.get('teacher'))
  lacking = [f'config.{name}' for name in _DOCUMENTED if name not in config]
  if teacher and not config['teacher'].get('params_crc32c'):
    lacking.append('config.teacher.params_crc32c')
  network = config.get('network') or {}
  pretraining = _count(settings, 'num_pretraining_iterations', where)
  return Run(
      path=directory,
      game=_entry(document, 'game', str, where),
      agent=_entry(document, 'agent', str, where),
      seed=_entry(document, 'run_number', int, where),
      gin_files=tuple(config.get('gin_files') or ()),
      network=network.get('name'),
      network_spec=network.get('spec'),
      settings=settings,
      gin=config.get('gin') or '',
      member=config.get('member') or {},
      teacher=teacher,
      random_score=_finite(document.get('random_score')),
      teacher_score=_finite(document.get('teacher_score')),
      rom=config.get('rom') or {},
      versions=document.get('versions') or {},
      lacking=tuple(lacking),
      points=_points(directory, _entry(document, 'iterations', list, where)),
      planned=(
          pretraining if teacher else 0,
          _count(settings, 'num_iterations', where),
      ),
      frames=document.get('frames') or {},
  )


def _entry(
    document: Mapping[str, Any],
    name: str,
    kind: type,
    where: str,
    prefix: str = '',
) -> Any:
  value = document.get(name)
  if not isinstance(value, kind):
    raise errors.UserError(
        f'{where} lacks {prefix}{name}: it was written by another version of '
        'this package, or by hand; leave that directory out.'
    )
  return value


def _count(settings: Mapping[str, Any], name: str, where: str) -> int:
  return _entry(settings, name, int, where, 'config.settings.')


def _finite(value: Any) -> Optional[float]:
  if isinstance(value, (int, float)) and math.isfinite(value):
    return float(value)
  return None


def _teacher(document: Optional[Mapping[str, Any]]) -> Optional[TeacherFacts]:
  """Reads `config.teacher` of a summary."""
  if not document:
    return None
  path, number = str(document.get('path')), document.get('checkpoint_number')
  if document.get('teachers'):
    path = _places(document)
  place = _place(path, number)
  return TeacherFacts(
      document.get('params_crc32c') or place,
      path,
      number,
      chains.read(document),
  )


def _place(path: str, number: Optional[int]) -> str:
  return path if number is None else f'checkpoint {number} of {path}'


def _places(document: Mapping[str, Any]) -> str:
  """Places of the members of an ensemble, and how they are combined."""
  places = ' and '.join(
      _place(str(t.get('path')), t.get('checkpoint_number'))
      for t in document['teachers']
  )
  how = str(document.get('combine'))
  if document.get('weights'):
    how += ', weights ' + ', '.join(f'{w:.3g}' for w in document['weights'])
  return f'{places} ({how})'


def _points(directory: str, entries: list[Any]) -> tuple[Point, ...]:
  """Reads evaluations from the summary, their times from metrics.jsonl.

  A line without an entry in the summary does not count: the run may resume
  from a checkpoint before it, which removes the line.
  """
  phases = {
      (line['phase'], line['iteration']): line
      for line in metrics_file.read(directory)
  }
  where = summary.path(directory)
  points = []
  for entry in entries:
    kind = entry.get('phase') if isinstance(entry, dict) else None
    if kind not in _TRAINING:
      continue
    iteration = _entry(entry, 'iteration', int, where, f'{kind}.')
    score = _finite(entry.get('student_score'))
    if score is None:
      raise errors.UserError(
          f'{directory} has no finite score after {kind} {iteration} '
          f'(student_score is {entry.get("student_score")}): run it again, or '
          'leave that directory out.'
      )
    agent_steps = _entry(entry, 'agent_steps', int, where, f'{kind}.')
    line = phases.get((kind, iteration), {})
    if line.get('agent_steps') != agent_steps:
      line = {}
    if line.get('student_score', score) != score:
      raise errors.UserError(
          f'{directory} has two scores after {kind} {iteration}: {score} in '
          f'{summary.FILE_NAME}, {line["student_score"]} in '
          f'{metrics_file.FILE_NAME}; leave that directory out, or remove the '
          'file that is wrong.'
      )
    points.append(
        Point(
            kind,
            iteration,
            agent_steps,
            _entry(entry, 'updates', int, where, f'{kind}.'),
            score,
            _finite(line.get('seconds')),
            _num_episodes(line),
        )
    )
  return tuple(points)


def _num_episodes(line: Mapping[str, Any]) -> Optional[int]:
  try:
    return len(line['episodes']['eval']['returns'])
  except (KeyError, TypeError):
    return None
