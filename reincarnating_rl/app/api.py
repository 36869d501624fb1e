"""The Python interface: a run as a function, and its outcome as an object.

  import reincarnating_rl as rrl

  run = rrl.reincarnate('/tmp/pong', teacher='bundled:Pong', bindings={
      'RunnerWithTeacher.teacher_steps': 1_000_000})
  run.plot()

The command line goes through the same functions.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Any, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.app import experiment
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import run_lock as base_dir_lib
from reincarnating_rl.loop.config.estimate import Memory
from reincarnating_rl.rundir import learning_curve
from reincarnating_rl.rundir import metrics_file
from reincarnating_rl.rundir import summary as summary_lib


class Score(NamedTuple):
  """Evaluation of the student after one iteration.

  Attributes:
    phase: 'pretraining' or 'online'.
    iteration: number in the plan.
    agent_steps: online agent steps so far.
    updates: gradient steps so far.
    score: mean return of the evaluation.
    normalized: score with random play at 0 and the teacher at 1; None without
      a teacher.
  """

  phase: str
  iteration: int
  agent_steps: int
  updates: int
  score: float
  normalized: Optional[float]


@dataclasses.dataclass(frozen=True)
class Result:
  """A run directory, of a run that has finished or not.

  Attributes:
    base_dir: path of the directory.
  """

  base_dir: str

  @property
  def summary(self) -> dict[str, Any]:
    """Content of summary.json; docs/run_directory.md documents it.

    Raises:
      UserError: if there is no summary, or it is damaged.
    """
    return summary_lib.read(self.base_dir)

  @property
  def in_use(self) -> bool:
    """True while a process holds the directory's lock."""
    return base_dir_lib.is_taken(self.base_dir)

  @property
  def scores(self) -> list[Score]:
    """Evaluations of the student, one per iteration."""
    return [
        Score(
            entry['phase'],
            entry['iteration'],
            entry['agent_steps'],
            entry['updates'],
            entry['student_score'],
            entry['teacher_normalized'],
        )
        for entry in self.summary['iterations']
        if entry['student_score'] is not None
    ]

  @property
  def teacher_score(self) -> Optional[float]:
    """Mean return of the teacher; None for a run from scratch."""
    return self.summary['teacher_score']

  def metrics(self, kind: str = metrics_file.PHASE) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; none if the run has not written the file.

    Args:
      kind: 'phase' or 'updates'.

    Raises:
      UserError: if the file cannot be read, or is damaged.
    """
    return metrics_file.read(self.base_dir, kind)

  def evaluate(self, **options: Any) -> dict[str, Any]:
    """Plays whole episodes with a checkpoint and, on request, films one.

    Args:
      **options: fields of `evaluate.evaluation.Options`, named like the flags
        of `reincarnating_rl.evaluate`: episodes=30, checkpoint=None (the
        newest), video=None (a folder).

    Returns:
      The object that --json prints: 'score', 'interval', 'returns', 'video'
      and more.

    Raises:
      UserError: for bad options, or a checkpoint that cannot be evaluated.
    """
    from reincarnating_rl.envs import roms
    from reincarnating_rl.evaluate import evaluation

    with roms.put_back(), errors.user_errors():
      return evaluation.evaluate(self.base_dir, evaluation.options(**options))

  def plot(self, path: Optional[str] = None) -> Any:
    """Draws the learning curve.

    Args:
      path: file to save the figure to; its ending selects the format. None =
        do not save.

    Returns:
      A matplotlib Figure; a notebook shows it after `%matplotlib inline`.
    """
    figure = learning_curve.figure(self.summary)
    if path is not None:
      figure.savefig(path, dpi=150)
    return figure


def reincarnate(
    base_dir: str,
    *,
    agent: str = Experiment.agent,
    teacher: Optional[str | Sequence[str]] = None,
    game: Optional[str] = None,
    gin_files: Sequence[str] = (),
    bindings: Mapping[str, Any] | Sequence[str] = (),
    run_number: int = 0,
    num_seeds: Optional[int] = None,
    **others: Any,
) -> Result | list[Result]:
  """Carries out a run; started again with the same arguments, it goes on.

  What gin knew before, it knows afterwards; nothing of the run stays.

  Args:
    base_dir: of the run.
    agent: who learns: a name of `experiment.AGENTS`, or 'module:class'.
    teacher: a run directory, a gs:// address or 'bundled:<Game>'; a list of
      them = all together, as TeacherEnsemble is bound.
    game: None = as bound, else the teacher's.
    gin_files: configurations; none = the agent's own.
    bindings: what overrides them: {'Runner.training_steps': 100}, or lines as
      on the command line. A value that begins with '@' or '%' is a reference.
    run_number: seed of the run, or of the first one.
    num_seeds: runs side by side, each in `base_dir`/run_<seed>.
    **others: further fields of `experiment.Experiment`.

  Returns:
    The run on the disk; of several seeds, or a population, a list of them.

  Raises:
    UserError: one sentence, for whatever does not resolve or fit.
    StoppedError: if it was interrupted; everything up to there is saved.
  """
  command_line.use_compilation_cache()
  wanted = Experiment(
      agent=agent,
      teacher=teacher,
      game=game,
      gin_files=tuple(gin_files),
      bindings=binding_lines(bindings),
      run_number=run_number,
      num_seeds=num_seeds,
      **others,
  )
  return carry_out(wanted, base_dir)


def is_bound_name(text: str) -> bool:
  """Whether a text has the form of what gin binds, as 'JaxDQNAgent.gamma'."""
  return re.fullmatch(r'[\w/.]+\.\w+', text) is not None


def binding_lines(
    bindings: Mapping[str, Any] | Sequence[str],
) -> tuple[str, ...]:
  """Bindings as gin writes them."""
  if isinstance(bindings, Mapping):
    return tuple(f'{k} = {_literal(v)}' for k, v in bindings.items())
  return tuple(bindings)


def _literal(value: Any) -> str:
  if isinstance(value, str) and value[:1] in ('@', '%'):
    return value
  return repr(_plain(value))


def _plain(value: Any) -> Any:
  """The same of Python's own types, which is how gin reads it."""
  if isinstance(value, (np.ndarray, np.generic)):
    return value.tolist()
  if isinstance(value, dict):
    return {_plain(k): _plain(v) for k, v in value.items()}
  if type(value) in (list, tuple):
    return type(value)(map(_plain, value))
  return value


describe_plan = experiment.describe_plan


class Needs(NamedTuple):
  """What a run would do, and allocate.

  Attributes:
    agent_steps: by kind of phase ('online', 'data_collection'), and of
      'evaluation' and 'teacher_evaluation'.
    updates: by kind of phase.
    iterations: phases that end with an evaluation of the student.
    online_iterations: how many of them are online.
    memory: of the replays of student and teacher.
  """

  agent_steps: dict[str, int]
  updates: dict[str, int]
  iterations: int
  online_iterations: int
  memory: Memory


def needs_of(wanted: Experiment) -> Needs:
  """Checks an experiment, as a dry run does, and returns what it comes to.

  Args:
    wanted: of one run, or of several side by side: then what each comes to.

  Raises:
    UserError: for what does not resolve or fit.
  """
  from reincarnating_rl.loop.config import plan

  with experiment.planned(wanted) as runner:
    one = runner.runners[0] if runner.is_group else runner
    problem = one.missing_data()
    if problem:
      raise errors.UserError(problem)
    runner.check_memory()
    forecasts, memory = one.forecasts(), one.memory()
    evaluation_steps = one.run_config.evaluation_steps
  agent_steps: collections.Counter[str] = collections.Counter()
  updates: collections.Counter[str] = collections.Counter()
  iterations = online = 0
  for forecast in forecasts:
    kind = forecast.phase.kind
    agent_steps[kind] += forecast.agent_steps
    updates[kind] += forecast.updates
    if kind == plan.TEACHER_EVALUATION:
      agent_steps[kind] += evaluation_steps
    elif kind != plan.COLLECTION:
      agent_steps['evaluation'] += evaluation_steps
      iterations += 1
      online += kind == plan.ONLINE
  return Needs(dict(agent_steps), dict(updates), iterations, online, memory)


def carry_out(wanted: Experiment, base_dir: str) -> Result | list[Result]:
  """Carries an experiment out, or resumes it; see `reincarnate`."""
  results = [Result(path) for path in experiment.carry_out(wanted, base_dir)]
  is_group = wanted.num_seeds is not None or wanted.population
  return results if is_group else results[0]
