"""Plan of a run before it starts: phases, memory, faults (layer 5)."""

from __future__ import annotations

from typing import Any, Optional

from reincarnating_rl.agents.methods import Method
from reincarnating_rl.loop.config import estimate as forecast_lib
from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config import plan_text
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.teachers import LoadedEnsemble
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers.ensemble import members_of


def teacher_for(
    method: Method,
    teacher: Optional[LoadedTeacher],
    member: member_settings.Member,
) -> Optional[LoadedTeacher]:
  """The teacher for a method; policies are mixed at the method's temperature.

  Args:
    method: the student's way of learning.
    teacher: the loaded teacher; None to learn from scratch.
    member: settings in which the run differs from others side by side.

  Raises:
    ValueError: for several teachers, if the method continues the weights of
      one.
  """
  if not isinstance(teacher, LoadedEnsemble):
    return teacher
  if method.reload is not None:
    raise ValueError(
        'This method goes on with the weights of one network, but '
        f'{len(teacher.members)} teachers are named: give '
        '--teacher_checkpoint_dir once, or choose another --agent.'
    )
  coefficients = member_settings.coefficients_of(method.coefficients, member)
  return teacher.at_temperature(coefficients.temperature)


def check_discount(
    config: RunConfig,
    method: Method,
    teacher: Optional[LoadedTeacher],
    member: member_settings.Member,
) -> None:
  """Refuses a teacher's data whose discount is not the student's.

  Args:
    config: settings of the run.
    method: the student's way of learning.
    teacher: teacher with the data; None to learn from scratch.
    member: settings in which the run differs from others side by side.

  Raises:
    ValueError: one sentence.
  """
  replay = teacher.replay if teacher is not None else None
  given = method.reload is not None and method.reload.replay
  read = config.needs_teacher_data and not config.teacher_steps
  if replay is None or replay.only_gamma is None or not (read or given):
    return
  anneals = config.resets is not None and config.resets.annealing is not None
  if anneals or 'gamma' in member:
    what = 'the annealing after resets' if anneals else 'the population'
    raise ValueError(
        f"The teacher's replay holds {replay.only_horizon}-step returns that "
        f'cannot be taken apart, discounted by {replay.only_gamma:g} a step, '
        f'but {what} changes gamma: leave that out, or set teacher_steps to '
        'let the teacher collect other data.'
    )
  replay.check_gamma(config.gamma)


def missing_data(
    config: RunConfig, teacher: Optional[LoadedTeacher]
) -> Optional[str]:
  """Reason why a plan has nothing to pretrain on, or None."""
  if teacher is None or config.teacher_steps or teacher.replay is not None:
    return None
  if not config.needs_teacher_data:
    return None
  return (
      f'The teacher {teacher.path} has no replay and '
      'RunnerWithTeacher.teacher_steps is 0, so there is nothing to learn '
      'offline from: bind RunnerWithTeacher.teacher_steps to let the teacher '
      'collect data (1000000, say).'
  )


def memory(
    config: RunConfig, agent: Any, teacher: Optional[LoadedTeacher]
) -> forecast_lib.Memory:
  """Bytes that the replays of a run need."""
  keeps_q_values = teacher is not None and agent.make_learner().needs_teacher
  return forecast_lib.memory(
      config,
      teacher.network.num_actions if teacher is not None else None,
      keeps_q_values,
      _given(agent, teacher)[1],
      _num_rows(teacher),
  )


def forecasts(
    config: RunConfig,
    agent: Any,
    teacher: Optional[LoadedTeacher],
    teacher_is_known: bool,
) -> list[forecast_lib.PhaseForecast]:
  """Agent steps, updates and resets of each phase; see `describe`."""
  phases = plan_lib.make_plan(
      config,
      evaluate_teacher=teacher is not None and not teacher_is_known,
      reincarnate=teacher is not None,
  )
  return forecast_lib.forecast(config, phases, *_given(agent, teacher))


def describe(
    config: RunConfig,
    agent: Any,
    agent_name: str,
    teacher: Optional[LoadedTeacher],
    teacher_is_known: bool,
) -> str:
  """The phases of a run as a table, one line each.

  Args:
    config: settings of the run.
    agent: the student.
    agent_name: name for the title.
    teacher: None to learn from scratch.
    teacher_is_known: True if its score is known and needs no evaluation.
  """
  lines = [f'{agent_name} on {config.game}, seed {config.seed}']
  lines += _teacher_lines(teacher)
  lines += plan_text.describe(
      config,
      forecasts(config, agent, teacher, teacher_is_known),
      memory(config, agent, teacher),
  )
  problem = missing_data(config, teacher)
  if problem:
    lines.append(f'Warning: {problem}')
  return '\n'.join(lines)


def _teacher_lines(teacher: Optional[LoadedTeacher]) -> list[str]:
  """One line for each teacher, and one for their ensemble."""
  if teacher is None:
    return []
  lines = [f'Teacher {t.path}: {t.describe()}.' for t in members_of(teacher)]
  if isinstance(teacher, LoadedEnsemble):
    temperature = teacher.temperature
    at = '' if temperature is None else f', temperature {temperature:g}'
    lines.append(f'Together: {teacher.describe()}{at}.')
  return lines


def _given(agent: Any, teacher: Optional[LoadedTeacher]) -> tuple[int, int]:
  """Training steps and replay rows that the student begins with."""
  reload = agent.method().reload
  if teacher is None or reload is None:
    return 0, 0
  rows = _num_rows(teacher) if reload.replay else 0
  return teacher.training_steps or 0, rows


def _num_rows(teacher: Optional[LoadedTeacher]) -> int:
  """Rows of a teacher's replay; 0 without one."""
  if teacher is None or teacher.replay is None:
    return 0
  return len(teacher.replay)
