"""Runners: gin's bindings become a plan, the loop's records become logs.

`RunnerWithTeacher` is a Dopamine Runner by its bindings, directories and logs.
The loop carries out the phases. `ReincarnationRunner` differs in one thing: it
pretrains.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, Optional

from reincarnating_rl.dopamine_bridge import compat
from reincarnating_rl.learner import ValueLearner

compat.prepare_dopamine()

from absl import logging
from dopamine.discrete_domains import run_experiment

from reincarnating_rl.agents.one_step import OneStepAgent
from reincarnating_rl.agents.reloading import begin_as
from reincarnating_rl.base import run_lock as base_dir_lib
from reincarnating_rl.base import scores
from reincarnating_rl.dopamine_bridge import population_settings
from reincarnating_rl.dopamine_bridge import replay_ratio as replay_ratio_lib
from reincarnating_rl.dopamine_bridge import runner_settings
from reincarnating_rl.dopamine_bridge import settings as settings_lib
from reincarnating_rl.dopamine_bridge.runner_settings import RunnerSettings
from reincarnating_rl.envs import registry
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.config import estimate as forecast_lib
from reincarnating_rl.loop.config import memory as memory_lib
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.saving.supervisor import Keeper
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.loop.training.initial_state import Beginning
from reincarnating_rl.loop.training.initial_state import check_resets
from reincarnating_rl.loop.training.member_settings import Member
from reincarnating_rl.rundir.progress_bars import ProgressBar
from reincarnating_rl.runners import provenance
from reincarnating_rl.runners import run_documents
from reincarnating_rl.runners import run_plan
from reincarnating_rl.runners.run_logs import RunLogs
from reincarnating_rl.runners.run_options import RunOptions
from reincarnating_rl.runners.wandb_logs import check_installed
from reincarnating_rl.runners.wandb_logs import WandbLogs
from reincarnating_rl.teachers import LoadedTeacher

CHECKPOINTS = 'checkpoints'


class RunnerWithTeacher(run_experiment.Runner):
  """Teacher evaluation, data collection, online training."""

  pretrains = False
  is_group = False
  _base_dir: str
  _member: Member

  def __init__(
      self,
      base_dir: str,
      make_agent: Callable[[], OneStepAgent],
      options: RunOptions,
      teacher: Optional[LoadedTeacher] = None,
      settings: Optional[RunnerSettings] = None,
  ):
    """Builds the agent and checks the plan; Dopamine's bindings apply.

    Nothing is written before everything is checked.

    Args:
      base_dir: directory of the run.
      make_agent: builds the student.
      options: the run, as its caller starts it.
      teacher: None to learn from scratch.
      settings: settings of the runner; None = as gin binds them.

    Raises:
      ValueError: one sentence, for settings that make no sense or a base_dir
        that cannot be written to.
    """
    self.options = options
    self.settings = settings or runner_settings.bound(self.pretrains)
    if self.settings.wandb_project is not None:
      check_installed()
    self._teacher = teacher
    self._teacher_score = self.settings.teacher_score
    if teacher is not None:
      self._teacher_score = self.settings.known_teacher_score(teacher.score)
    self._prepared: Optional[tuple[Run, RunCheckpointer]] = None
    # Dopamine hands over an environment of its own: the plan has others.
    super().__init__(base_dir, lambda *_, **__: make_agent(), lambda: None)
    # Dopamine opens files that are to be set back before they go on.
    self._collector_dispatcher.close()

  @property
  def directories(self) -> list[str]:
    """The run's directory, as a list of one."""
    return [self._base_dir]

  @property
  def keeper_options(self) -> dict[str, Any]:
    """Arguments of the `Keeper` of this run."""
    return {
        'checkpoint_every': self.settings.checkpoint_every,
        'stall_minutes': self.settings.stall_minutes,
        'how_to_resume': self.options.how_to_resume,
    }

  # -- replacements for pieces of Dopamine's constructor ----------------------

  def _create_directories(self) -> None:
    """Does nothing yet: nothing is checked at this point."""
    self._logger = None

  def _initialize_checkpointer_and_maybe_resume(self, prefix: str) -> None:
    """Checks agent and settings, which exist now, then makes directories.

    The loop saves whole runs; Dopamine's checkpointer is not used.
    """
    del prefix
    self._member = population_settings.first_member(
        self.options.member, self.options.run_number, self.values_of_all()
    )
    self._teacher = run_plan.teacher_for(
        self._agent.method(), self._teacher, self._member
    )
    problem = self.missing_data()
    if problem and not self.options.dry_run:
      raise ValueError(problem)
    run_plan.check_discount(
        self.run_config, self._agent.method(), self._teacher, self._member
    )
    check_resets(self.run_config, self._agent.make_learner())
    self._base_dir = base_dir_lib.make(self._base_dir)
    base_dir_lib.take(self._base_dir)
    super()._create_directories()

  @property
  def member(self) -> Member:
    """Settings in which the run begins to differ from others side by side."""
    return self._member

  @property
  def run_config(self) -> RunConfig:
    """Settings of the loop.

    Raises:
      ValueError: if they make no sense.
    """
    return member_settings.config_of(self._shared_config(), self._member)

  def values_of_all(self) -> dict[str, Optional[float]]:
    """Values of those settings for a member that does not set them."""
    coefficients = self._agent.method().coefficients
    return member_settings.values_of_all(self._shared_config(), coefficients)

  def _shared_config(self) -> RunConfig:
    """Settings that all members share, composed of what each part binds."""
    student = self._agent.student_settings()
    replay_ratio_lib.check(
        self._agent, student.replay_ratio, self.settings.ratio
    )
    game = self.options.game
    return RunConfig.of(
        student,
        self.settings,
        game=game,
        seed=self.options.run_number,
        num_iterations=self._num_iterations,
        training_steps=self._training_steps,
        evaluation_steps=self._evaluation_steps,
        max_agent_steps_per_episode=self._max_steps_per_episode,
        sticky_actions=settings_lib.sticky_actions(),
        frame_shape=registry.make_factory(game).observation_spec.shape,
        teacher_update_horizon=settings_lib.teacher_update_horizon()
        or student.update_horizon,
    )

  def missing_data(self) -> Optional[str]:
    """Reason why the plan has nothing to pretrain on, or None."""
    return run_plan.missing_data(self.run_config, self._teacher)

  def describe_plan(self) -> str:
    """The phases of the run as a table, one line each."""
    return run_plan.describe(
        self.run_config,
        self._agent,
        self.options.agent_name,
        self._teacher,
        self._teacher_score is not None,
    )

  def forecasts(self) -> list[forecast_lib.PhaseForecast]:
    """Agent steps, updates and resets of each phase of the run."""
    return run_plan.forecasts(
        self.run_config,
        self._agent,
        self._teacher,
        self._teacher_score is not None,
    )

  def memory(self) -> forecast_lib.Memory:
    """Bytes that the replays of this run need."""
    return run_plan.memory(self.run_config, self._agent, self._teacher)

  def make_run(
      self, teacher: Optional[Teacher] = None
  ) -> tuple[Run, RunCheckpointer]:
    """Builds the loop of this run and restores its checkpoint if there is one.

    Args:
      teacher: teacher of another run, to be shared; None = its own.

    Raises:
      ValueError: if the checkpoint in base_dir is of another run.
    """
    config, method = self._shared_config(), self._agent.method()
    learner, beginning = self._agent.make_learner(), None
    if method.reload is not None and self._teacher is not None:
      learner, beginning = self._continuation(config, self._teacher)
    self._logs = self._make_logs(self.run_config)
    run = Run(
        config,
        learner,
        config.environment(),
        scores.random_score(config.game),
        teacher=teacher or self._make_teacher(config),
        coefficients=method.coefficients,
        member=self._member,
        listeners=self._logs.listeners,
        offline=self._agent.make_offline_learning(),
        beginning=beginning,
    )
    if self.settings.stop_after is not None:
      run.stop_after(self.settings.stop_after)
    checkpointer = self._make_checkpointer(config)
    self._restore(run, checkpointer)
    self._logs.begin()
    run.prepare_teacher_data()
    return run, checkpointer

  def _continuation(
      self, config: RunConfig, teacher: LoadedTeacher
  ) -> tuple[ValueLearner, Beginning]:
    """Learner and initial state of a student that continues its teacher."""
    self._agent.network_def = teacher.network
    learner = self._agent.make_learner()
    beginning = begin_as(
        teacher,
        learner,
        self._agent.method().reload,
        config.update_horizon,
        config.gamma,
    )
    return learner, beginning

  def _restore(self, run: Run, checkpointer: RunCheckpointer) -> None:
    """Restores the run's checkpoint, or that of the run that it forks."""
    source = self.options.fork_from
    if source is not None and checkpointer.latest is None:
      checkpointer.fork(os.path.join(source, CHECKPOINTS))
    if checkpointer.restore(run, any_settings=source is not None):
      logging.info('Resuming in %s.', run.where())

  def _make_logs(self, config: RunConfig) -> RunLogs:
    num_iterations = config.num_pretraining_iterations + config.num_iterations
    wandb, options = None, self.options
    if self.settings.wandb_project is not None:
      wandb = WandbLogs(
          self._base_dir,
          self.settings.wandb_project,
          f'{options.agent_name}-{config.game}-{options.run_number}',
          config.to_json() | dict(self._member),
      )
    return RunLogs(
        self._base_dir,
        config.game,
        log_experiment=self._log_experiment,
        bar=ProgressBar(num_iterations, options.label),
        teacher=self._teacher,
        wandb=wandb,
        others=options.listeners,
    )

  def _make_checkpointer(self, config: RunConfig) -> RunCheckpointer:
    return RunCheckpointer(
        os.path.join(self._base_dir, CHECKPOINTS),
        keep=self.settings.keep,
        logs=self._base_dir,
        identity={
            'agent': self.options.agent_name,
            **config.environment().identity(),
            **settings_lib.optimizer_identity(),
            **population_settings.identity(self._member),
        },
    )

  def _make_teacher(self, config: RunConfig) -> Optional[Teacher]:
    if self._teacher is None:
      return None
    loaded = self._teacher
    read_data = None
    if loaded.replay is not None and not config.teacher_steps:
      read_data = functools.partial(
          loaded.replay_with_q_values,
          config.teacher_update_horizon,
          config.gamma,
      )
    policy = value_policy(loaded.network, loaded.acting_params)
    return Teacher(policy, self._teacher_score, read_data)

  def check_memory(self) -> None:
    """Raises a ValueError if the replays of this run do not fit."""
    memory_lib.check(self.memory(), 1, memory_lib.available())

  def prepare(self) -> None:
    """Builds the run, so that errors are raised before it starts.

    Raises:
      ValueError: if the checkpoint in base_dir is of another run.
    """
    self._prepared = self.make_run()

  def run_experiment(self) -> Run:
    """Carries the run out, saves it meanwhile, and returns it.

    Raises:
      StoppedError: if a signal stopped it, or an environment broke down.
    """
    run, checkpointer = self._prepared or self.make_run()
    try:
      with Keeper(
          [(run, checkpointer)], on_saved=self.saved, **self.keeper_options
      ) as keeper:
        run.run(keeper.after_phase)
        keeper.finish()
    finally:
      self.close(checkpointer)
    return run

  def saved(self, run: Run) -> None:
    """Writes the summary of a run that was saved."""
    run_documents.write(self._base_dir, run, self.options, self._provenance)

  @functools.cached_property
  def _provenance(self) -> Optional[dict[str, Any]]:
    return provenance.of_teacher(self._teacher) if self._teacher else None

  def close(self, checkpointer: RunCheckpointer) -> None:
    """Waits until everything is written, and releases the directory."""
    try:
      checkpointer.close()
    finally:
      self._logs.close()
      base_dir_lib.give_back(self._base_dir)


class ReincarnationRunner(RunnerWithTeacher):
  """Teacher evaluation, data collection, pretraining, online training."""

  pretrains = True
