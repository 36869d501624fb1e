"""Runners: gin's bindings become a plan, the loop's records become logs.

`RunnerWithTeacher` is a Dopamine Runner by its bindings, directories and logs;
the phases themselves are carried out by the loop. `ReincarnationRunner`
differs in the list of phases only: it pretrains.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
import functools
import os
from typing import Any, Callable, Optional, Sequence

from reincarnating_rl import compat

compat.prepare_dopamine()

from absl import logging
from dopamine.discrete_domains import run_experiment
from dopamine.metrics import statistics_instance
import gin
import tensorflow as tf

from reincarnating_rl import scores
from reincarnating_rl.agents import settings
from reincarnating_rl.agents.reloading import begin_as
from reincarnating_rl.envs.atari import AtariVector
from reincarnating_rl.envs.atari import rom_in_use
from reincarnating_rl.loop import base_dir as base_dir_lib
from reincarnating_rl.loop import plan as plan_lib
from reincarnating_rl.loop import summary
from reincarnating_rl.loop.acting import Policy
from reincarnating_rl.loop.checkpoint import RunCheckpointer
from reincarnating_rl.loop.plan import Phase
from reincarnating_rl.loop.plan import RunConfig
from reincarnating_rl.loop.progress import ProgressBar
from reincarnating_rl.loop.records import Listener
from reincarnating_rl.loop.records import PhaseRecord
from reincarnating_rl.loop.run import Run
from reincarnating_rl.loop.run import Teacher
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import proof

CONFIG_FILE = 'config.gin'

# Metrics of updates, under the tags of Dopamine's and the earlier release.
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


@gin.configurable
class RunnerWithTeacher(run_experiment.Runner):
  """Teacher evaluation, data collection, online training."""

  pretrains = False

  def __init__(
      self,
      base_dir: str,
      create_agent_fn: Callable[..., Any],
      *,
      agent_name: str,
      game: str,
      run_number: int = 0,
      teacher: Optional[LoadedTeacher] = None,
      listeners: Sequence[Listener] = (),
      teacher_steps: int = 0,
      teacher_epsilon: float = 0.01,
      teacher_seed: int = RunConfig.teacher_seed,
      teacher_score: Optional[float] = None,
      evaluate_teacher: bool = True,
      num_pretraining_iterations: int = 10,
      num_pretraining_steps: int = 100_000,
      num_envs: int = 1,
      num_eval_envs: int = 8,
      replay_ratio: Optional[float] = None,
      dry_run: bool = False,
  ):
    """Builds the agent and checks the plan; Dopamine's bindings apply.

    Nothing is written before everything is checked.

    Args:
      base_dir: of the run.
      create_agent_fn: as Dopamine's Runner wants it.
      agent_name: for the summary.
      game: in Dopamine's spelling.
      run_number: seed of everything.
      teacher: None to learn from nothing.
      listeners: told what happens, beside the logs.
      teacher_steps: agent steps that the teacher collects before training;
        0 = its own replay is used.
      teacher_epsilon: of the teacher while it collects.
      teacher_seed: of its evaluation and collection, in every run the same.
      teacher_score: its mean return, if it is not to be evaluated.
      evaluate_teacher: whether to evaluate it.
      num_pretraining_iterations: offline iterations.
      num_pretraining_steps: updates of an offline iteration.
      num_envs: environments that train online, side by side.
      num_eval_envs: environments that evaluate and collect, side by side.
      replay_ratio: updates per agent step; default from the agent.
      dry_run: whether only the plan is wanted: it is not refused, and base_dir
        stays empty.

    Raises:
      ValueError: one sentence, for settings that make no sense or a base_dir
        that cannot be written to.
    """
    self.agent_name = agent_name
    self.run_number = run_number
    self._game = game
    self._teacher = teacher
    self._listeners = list(listeners)
    self._teacher_score = teacher_score
    self._dry_run = dry_run
    if teacher and not evaluate_teacher and teacher_score is None:
      self._teacher_score = teacher.score
      if teacher.score is None:
        raise ValueError(
            'RunnerWithTeacher.evaluate_teacher is False and the score of '
            'the teacher is not recorded: bind RunnerWithTeacher.teacher_score.'
        )
    self._own_settings = {
        'teacher_steps': teacher_steps,
        'teacher_epsilon': teacher_epsilon,
        'teacher_seed': teacher_seed,
        'num_pretraining_iterations': num_pretraining_iterations
        if self.pretrains
        else 0,
        'num_pretraining_steps': num_pretraining_steps,
        'num_envs': num_envs,
        'num_eval_envs': num_eval_envs,
    }
    if replay_ratio is not None:
      ratio = Fraction(replay_ratio).limit_denominator(100_000)
      self._own_settings['replay_ratio'] = ratio
    without_writer = lambda session, environment, **_: create_agent_fn(
        session, environment, summary_writer=None
    )
    super().__init__(base_dir, without_writer)

  # -- what replaces pieces of Dopamine's constructor -------------------------

  def _create_directories(self) -> None:
    """Too early: nothing is checked yet."""
    self._logger = None

  def _initialize_checkpointer_and_maybe_resume(self, prefix: str) -> None:
    """Agent and settings are there now: checks them, then makes directories.

    The loop saves whole runs; Dopamine's checkpointer has no part in it.
    """
    del prefix
    problem = self.missing_data()
    if problem and not self._dry_run:
      raise ValueError(problem)
    self._base_dir = base_dir_lib.make(self._base_dir)
    super()._create_directories()
    if not self._dry_run:
      self._summary_writer = tf.summary.create_file_writer(self._base_dir)

  @property
  def run_config(self) -> RunConfig:
    """The settings of the loop.

    Raises:
      ValueError: if they make no sense.
    """
    fields = self._agent.run_settings() | self._own_settings
    return RunConfig(
        game=self._game,
        seed=self.run_number,
        num_iterations=self._num_iterations,
        training_steps=self._training_steps,
        evaluation_steps=self._evaluation_steps,
        max_agent_steps_per_episode=self._max_steps_per_episode,
        sticky_actions=_sticky_probability(),
        teacher_update_horizon=settings.teacher_update_horizon()
        or fields['update_horizon'],
        **fields,
    )

  def missing_data(self) -> Optional[str]:
    """Why the plan has nothing to pretrain on, in a sentence, or None.

    Raises:
      ValueError: for settings that make no sense.
    """
    config, teacher = self.run_config, self._teacher
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

  def describe_plan(self) -> str:
    """The phases of the run as a table, one line each."""
    config = self.run_config
    phases = plan_lib.make_plan(
        config,
        evaluate_teacher=self._teacher is not None
        and self._teacher_score is None,
        reincarnate=self._teacher is not None,
    )
    lines = [f'{self.agent_name} on {config.game}, seed {config.seed}']
    for phase in phases:
      work = []
      if phase.agent_steps:
        work.append(f'{phase.agent_steps} agent steps')
      if phase.updates:
        work.append(f'{phase.updates} updates')
      if phase.kind != plan_lib.COLLECTION:
        work.append(f'{config.evaluation_steps} agent steps of evaluation')
      lines.append(f'{phase.iteration:4d}  {phase.kind:20}{", ".join(work)}')
    if self.missing_data():
      lines.append(f'Warning: {self.missing_data()}')
    return '\n'.join(lines)

  def make_run(self) -> tuple[Run, RunCheckpointer]:
    """Builds the loop of this run, brought to its checkpoint if there is one.

    Raises:
      ValueError: if the checkpoint in base_dir is of another run.
    """
    config = self.run_config
    environments = functools.partial(
        AtariVector,
        config.game,
        max_agent_steps=config.max_agent_steps_per_episode,
        sticky_actions=config.sticky_actions,
    )
    method = self._agent.method()
    beginning = None
    if method.reload is not None:
      self._agent.network_def = self._teacher.network
    learner = self._agent.make_learner()
    if method.reload is not None:
      beginning = begin_as(
          self._teacher, learner, method.reload, config.update_horizon
      )
    run = Run(
        config,
        learner,
        environments,
        scores.random_score(config.game),
        teacher=self._make_teacher(config),
        coefficients=method.coefficients,
        listeners=[
            ProgressBar(
                config.num_pretraining_iterations + config.num_iterations
            ),
            DopamineLogs(self),
            TeacherProof(self._teacher, config.game),
            *self._listeners,
        ],
        offline=self._agent.make_offline_learning(),
        beginning=beginning,
    )
    checkpointer = RunCheckpointer(os.path.join(self._base_dir, 'checkpoints'))
    if checkpointer.restore(run):
      logging.info('Going on after %d phases.', run.next_phase)
    run.prepare_teacher_data()
    return run, checkpointer

  def _make_teacher(self, config: RunConfig) -> Optional[Teacher]:
    if self._teacher is None:
      return None
    loaded = self._teacher
    read_data = None
    if loaded.replay is not None and not config.teacher_steps:
      read_data = functools.partial(
          loaded.replay_with_q_values, config.teacher_update_horizon
      )
    policy = Policy(loaded.network, loaded.params)
    return Teacher(policy, self._teacher_score, read_data)

  def run_experiment(
      self,
      run: Optional[Run] = None,
      checkpointer: Optional[RunCheckpointer] = None,
  ) -> Run:
    """Carries the run out, saving it after each phase, and returns it.

    Args:
      run: from `make_run`, which is called if it is left out.
      checkpointer: likewise.
    """
    if run is None:
      run, checkpointer = self.make_run()

    def after_phase(run: Run) -> None:
      checkpointer.save(run)
      self._save_summary(run)

    run.run(after_phase)
    checkpointer.close()
    self._collector_dispatcher.close()
    return run

  def _save_summary(self, run: Run) -> None:
    config = {
        'gin': gin.config_str(),
        'settings': {
            k: str(v) if isinstance(v, Fraction) else v
            for k, v in dataclasses.asdict(run.config).items()
        },
        'teacher': _provenance(self._teacher) if self._teacher else None,
        'rom': _rom(self._game),
    }
    document = summary.summarize(run, self.agent_name, self.run_number, config)
    summary.write_json(
        os.path.join(self._base_dir, summary.FILE_NAME), document
    )
    path = os.path.join(self._base_dir, CONFIG_FILE)
    with open(path, 'w', encoding='utf-8') as f:
      f.write(gin.operative_config_str())


@gin.configurable
class ReincarnationRunner(RunnerWithTeacher):
  """Teacher evaluation, data collection, pretraining, online training."""

  pretrains = True


def _sticky_probability() -> float:
  """25% as Machado et al. (2018), or none, as the environment is bound."""
  sticky = settings.query('create_atari_environment.sticky_actions')
  return 0.0 if sticky is False else 0.25


def _provenance(teacher: LoadedTeacher) -> dict[str, Any]:
  """Where a teacher came from, for the summary."""
  return {
      'path': teacher.path,
      'checkpoint_number': teacher.checkpoint_number,
      'format': teacher.format,
      'agent': teacher.agent,
      'recorded_score': teacher.score,
      'training_steps': teacher.training_steps,
      'replay_rows': len(teacher.replay) if teacher.replay else None,
  }


def _rom(game: str) -> dict[str, Any]:
  """What was played, for the summary."""
  rom = rom_in_use(game)
  return {
      'file': os.path.basename(rom.path),
      'md5': rom.md5,
      'shipped_with_ale_py': rom.is_standard,
  }


class TeacherProof(Listener):
  """Warns when a teacher plays far worse than it should."""

  def __init__(self, teacher: Optional[LoadedTeacher], game: str):
    self._teacher = teacher
    self._game = game

  def on_record(self, record: PhaseRecord) -> None:
    if record.phase != plan_lib.TEACHER_EVALUATION:
      return
    score = record.metrics['eval_return_mean']
    doubt = proof.doubt(self._teacher, self._game, score)
    if doubt:
      logging.warning('%s', doubt)


class DopamineLogs:
  """Turns records into Dopamine's logs: TensorBoard and its legacy pickles."""

  def __init__(self, runner: RunnerWithTeacher):
    self._runner = runner

  def on_work(self, kind: str, phase: Phase, total: int, unit: str) -> None:
    del kind, phase, total, unit

  def on_progress(self, amount: int) -> None:
    del amount

  def on_metrics(self, training_steps: int, metrics: dict[str, float]) -> None:
    with self._runner._summary_writer.as_default():
      for name, value in metrics.items():
        tag = _UPDATE_TAGS.get(name, f'Train/{name}')
        tf.summary.scalar(tag, value, step=training_steps)

  def on_record(self, record: PhaseRecord) -> None:
    runner = self._runner
    if record.phase == plan_lib.TEACHER_EVALUATION:
      values = {
          'Eval/Teacher/AverageReturns': record.metrics['eval_return_mean']
      }
    else:
      values = _iteration_values(record)
    with runner._summary_writer.as_default():
      for tag, value in values.items():
        tf.summary.scalar(tag, value, step=record.iteration)
    runner._summary_writer.flush()
    runner._collector_dispatcher.write(
        [
            statistics_instance.StatisticsInstance(tag, value, record.iteration)
            for tag, value in values.items()
        ]
    )
    runner._collector_dispatcher.flush()
    if record.phase in (plan_lib.PRETRAINING, plan_lib.ONLINE):
      runner._log_experiment(record.iteration, _legacy_statistics(record))


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
  """Lists by the names that Dopamine's plotting reads."""
  names = {
      'train_average_return': 'train_return_mean',
      'eval_average_return': 'eval_return_mean',
  }
  return {
      legacy: [record.metrics[ours]]
      for legacy, ours in names.items()
      if ours in record.metrics
  }
