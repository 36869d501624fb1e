"""Runners: gin's bindings become a plan, the loop's records become logs.

`RunnerWithTeacher` is a Dopamine Runner by its bindings, directories and logs;
the phases themselves are carried out by the loop. `ReincarnationRunner`
differs in the list of phases only: it pretrains.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, Optional, Sequence

from reincarnating_rl.dopamine_bridge import compat

compat.prepare_dopamine()

from absl import logging
from dopamine.discrete_domains import run_experiment
import gin

from reincarnating_rl.agents.reloading import begin_as
from reincarnating_rl.base import run_lock as base_dir_lib
from reincarnating_rl.base import scores
from reincarnating_rl.dopamine_bridge import population_settings
from reincarnating_rl.dopamine_bridge import replay_ratio as replay_ratio_lib
from reincarnating_rl.dopamine_bridge import settings
from reincarnating_rl.envs.atari import AtariVector
from reincarnating_rl.envs.atari import rom_in_use
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.loop.config import estimate as forecast_lib
from reincarnating_rl.loop.config import memory as memory_lib
from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.loop.run.run import Run
from reincarnating_rl.loop.run.run import Teacher
from reincarnating_rl.loop.saving.checkpoint import CHECKPOINTS_KEPT
from reincarnating_rl.loop.saving.checkpoint import RunCheckpointer
from reincarnating_rl.loop.saving.supervisor import Keeper
from reincarnating_rl.loop.saving.supervisor import MINUTES_BETWEEN_CHECKPOINTS
from reincarnating_rl.loop.saving.supervisor import MINUTES_UNTIL_STALL
from reincarnating_rl.loop.training import member_settings
from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.initial_state import check_resets
from reincarnating_rl.loop.training.member_settings import Member
from reincarnating_rl.rundir.progress_bars import ProgressBar
from reincarnating_rl.runners import provenance
from reincarnating_rl.runners import run_documents
from reincarnating_rl.runners import run_plan
from reincarnating_rl.runners.run_logs import RunLogs
from reincarnating_rl.runners.wandb_logs import check_installed
from reincarnating_rl.runners.wandb_logs import WandbLogs
from reincarnating_rl.teachers import LoadedTeacher

CHECKPOINTS = 'checkpoints'


@gin.configurable(module='reincarnating_rl.runner')
class RunnerWithTeacher(run_experiment.Runner):
  """Teacher evaluation, data collection, online training."""

  pretrains = False
  is_group = False

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
      label: str = '',
      teacher_steps: int = 0,
      teacher_epsilon: float = 0.01,
      teacher_seed: int = RunConfig.teacher_seed,
      teacher_score: Optional[float] = None,
      evaluate_teacher: bool = True,
      stop_after: Optional[int] = None,
      num_pretraining_iterations: int = 10,
      num_pretraining_steps: int = 100_000,
      num_envs: int = 1,
      num_eval_envs: int = 8,
      replay_ratio: Optional[float | str] = None,
      updates_per_call: Optional[int] = None,
      overlap: bool = False,
      checkpoint_every: Optional[float] = MINUTES_BETWEEN_CHECKPOINTS,
      keep: int = CHECKPOINTS_KEPT,
      stall_minutes: Optional[float] = MINUTES_UNTIL_STALL,
      wandb_project: Optional[str] = None,
      how_to_resume: Optional[str] = None,
      fork_from: Optional[str] = None,
      dry_run: bool = False,
      member: Optional[Member] = None,
      gin_files: Sequence[str] = (),
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
      label: of its progress bars, where several runs have some.
      teacher_steps: agent steps that the teacher collects before training;
        0 = its own replay is used.
      teacher_epsilon: of the teacher while it collects.
      teacher_seed: of its evaluation and collection, in every run the same.
      teacher_score: its mean return, if it is not to be evaluated.
      evaluate_teacher: whether to evaluate it.
      stop_after: online iterations after which it ends, although its plan goes
        on; started again with more, so does it. None = at the plan's end.
      num_pretraining_iterations: offline iterations.
      num_pretraining_steps: updates of an offline iteration.
      num_envs: environments that train online, side by side.
      num_eval_envs: environments that evaluate and collect, side by side.
      replay_ratio: updates per agent step, a number or '1/3'; default what the
        agent's update_period and num_updates_per_train_step come to.
      updates_per_call: updates made in one go; default as many as are due in
        one step of all environments.
      overlap: whether updates are made while the environments play, where a
        device makes them; an action is then chosen before the updates that are
        due with it, not after them.
      checkpoint_every: minutes between checkpoints within a phase; None = only
        after phases.
      keep: checkpoints that stay.
      stall_minutes: without any step, after which the process ends with an
        error; None = never.
      wandb_project: of Weights & Biases, to log there, too.
      how_to_resume: what a user does to resume a stopped run, in words.
      fork_from: directory of a run whose newest checkpoint this one begins
        with, under its own settings.
      dry_run: whether only the plan is wanted: it is not refused, and base_dir
        stays empty.
      member: settings in which it differs from others side by side.
      gin_files: names of its configurations, for the summary.

    Raises:
      ValueError: one sentence, for settings that make no sense or a base_dir
        that cannot be written to.
    """
    self.agent_name = agent_name
    self.run_number = run_number
    self._game = game
    self._teacher = teacher
    self._listeners = list(listeners)
    self._label = label
    self._teacher_score = teacher_score
    self._stop_after = stop_after
    self._dry_run = dry_run
    self._member = member
    self._gin_files = gin_files
    self._wandb_project = wandb_project
    if wandb_project is not None:
      check_installed()
    self._keep = keep
    self._fork_from = fork_from
    self.keeper_options = {
        'checkpoint_every': checkpoint_every,
        'stall_minutes': stall_minutes,
    }
    if how_to_resume is not None:
      self.keeper_options['how_to_resume'] = how_to_resume
    self._prepared: Optional[tuple[Run, RunCheckpointer]] = None
    if stop_after is not None and (
        not isinstance(stop_after, int) or stop_after < 0
    ):
      raise ValueError(
          f'RunnerWithTeacher.stop_after is {stop_after!r}; it must be a whole '
          'number of online iterations, from 0 on.'
      )
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
        'overlap': overlap,
    }
    self._ratio = None
    if replay_ratio is not None:
      self._ratio = replay_ratio_lib.fraction(replay_ratio)
      self._own_settings['replay_ratio'] = self._ratio
    if updates_per_call is not None:
      self._own_settings['updates_per_call'] = updates_per_call
    without_writer = lambda session, environment, **_: create_agent_fn(
        session, environment, summary_writer=None
    )
    super().__init__(base_dir, without_writer)
    # Dopamine opens files that are to be set back before they go on.
    self._collector_dispatcher.close()

  @property
  def directories(self) -> list[str]:
    """Of the run, as the only one."""
    return [self._base_dir]

  # -- what replaces pieces of Dopamine's constructor -------------------------

  def _create_directories(self) -> None:
    """Too early: nothing is checked yet."""
    self._logger = None

  def _initialize_checkpointer_and_maybe_resume(self, prefix: str) -> None:
    """Agent and settings are there now: checks them, then makes directories.

    The loop saves whole runs; Dopamine's checkpointer has no part in it.
    """
    del prefix
    self._member = population_settings.first_member(
        self._member, self.run_number, self.values_of_all()
    )
    self._teacher = run_plan.teacher_for(
        self._agent.method(), self._teacher, self._member
    )
    problem = self.missing_data()
    if problem and not self._dry_run:
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
    """Settings in which it begins to differ from others side by side."""
    return self._member

  @property
  def run_config(self) -> RunConfig:
    """The settings of the loop.

    Raises:
      ValueError: if they make no sense.
    """
    return member_settings.config_of(self._shared_config(), self._member)

  def values_of_all(self) -> dict[str, Optional[float]]:
    """What those settings are for a member that does not set them."""
    coefficients = self._agent.method().coefficients
    return member_settings.values_of_all(self._shared_config(), coefficients)

  def _shared_config(self) -> RunConfig:
    """The settings that all members have."""
    fields = self._agent.run_settings()
    replay_ratio_lib.check(self._agent, fields['replay_ratio'], self._ratio)
    fields |= self._own_settings
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
    """Why the plan has nothing to pretrain on, in a sentence, or None."""
    return run_plan.missing_data(self.run_config, self._teacher)

  def describe_plan(self) -> str:
    """The phases of the run as a table, one line each."""
    return run_plan.describe(
        self.run_config,
        self._agent,
        self.agent_name,
        self._teacher,
        self._teacher_score is not None,
    )

  def forecasts(self) -> list[forecast_lib.PhaseForecast]:
    """What each phase of the run will come to."""
    return run_plan.forecasts(
        self.run_config,
        self._agent,
        self._teacher,
        self._teacher_score is not None,
    )

  def memory(self) -> forecast_lib.Memory:
    """Bytes that the replays of this run will need."""
    return run_plan.memory(self.run_config, self._agent, self._teacher)

  def make_run(
      self, teacher: Optional[Teacher] = None
  ) -> tuple[Run, RunCheckpointer]:
    """Builds the loop of this run, brought to its checkpoint if there is one.

    Args:
      teacher: that of another run, to be shared; None = its own.

    Raises:
      ValueError: if the checkpoint in base_dir is of another run.
    """
    config = self._shared_config()
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
          self._teacher,
          learner,
          method.reload,
          config.update_horizon,
          config.gamma,
      )
    self._logs = self._make_logs(self.run_config)
    run = Run(
        config,
        learner,
        environments,
        scores.random_score(config.game),
        teacher=teacher or self._make_teacher(config),
        coefficients=method.coefficients,
        member=self._member,
        listeners=self._logs.listeners,
        offline=self._agent.make_offline_learning(),
        beginning=beginning,
    )
    if self._stop_after is not None:
      run.stop_after(self._stop_after)
    checkpointer = self._make_checkpointer()
    forks = self._fork_from is not None
    if forks and checkpointer.latest is None:
      checkpointer.fork(os.path.join(self._fork_from, CHECKPOINTS))
    if checkpointer.restore(run, any_settings=forks):
      logging.info('Going on in %s.', run.where())
    self._logs.begin()
    run.prepare_teacher_data()
    return run, checkpointer

  def _make_logs(self, config: RunConfig) -> RunLogs:
    num_iterations = config.num_pretraining_iterations + config.num_iterations
    wandb = None
    if self._wandb_project is not None:
      wandb = WandbLogs(
          self._base_dir,
          self._wandb_project,
          f'{self.agent_name}-{config.game}-{self.run_number}',
          config.to_json() | self._member,
      )
    return RunLogs(
        self._base_dir,
        config.game,
        log_experiment=self._log_experiment,
        bar=ProgressBar(num_iterations, self._label),
        teacher=self._teacher,
        wandb=wandb,
        others=self._listeners,
    )

  def _make_checkpointer(self) -> RunCheckpointer:
    return RunCheckpointer(
        os.path.join(self._base_dir, CHECKPOINTS),
        keep=self._keep,
        logs=self._base_dir,
        identity={
            'agent': self.agent_name,
            'ROM': rom_in_use(self._game).md5,
            **settings.optimizer_identity(),
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
    """Builds the run, so that what is wrong is said before it starts.

    Raises:
      ValueError: as `make_run` does.
    """
    self._prepared = self.make_run()

  def run_experiment(self) -> Run:
    """Carries the run out, saving it meanwhile, and returns it.

    Raises:
      StoppedError: if it was told to stop, or its emulators broke down.
    """
    if self._prepared is None:
      self.prepare()
    run, checkpointer = self._prepared
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
    run_documents.write(
        self._base_dir,
        run,
        self.agent_name,
        self.run_number,
        gin_files=self._gin_files,
        teacher=self._provenance,
    )

  @functools.cached_property
  def _provenance(self) -> Optional[dict[str, Any]]:
    return provenance.of_teacher(self._teacher) if self._teacher else None

  def close(self, checkpointer: RunCheckpointer) -> None:
    """Waits for what is being written, and gives the directory back."""
    try:
      checkpointer.close()
    finally:
      self._logs.close()
      base_dir_lib.give_back(self._base_dir)


@gin.configurable(module='reincarnating_rl.runner')
class ReincarnationRunner(RunnerWithTeacher):
  """Teacher evaluation, data collection, pretraining, online training."""

  pretrains = True


def _sticky_probability() -> float:
  """25% as Machado et al. (2018), or none, as the environment is bound."""
  sticky = settings.query('create_atari_environment.sticky_actions')
  return 0.0 if sticky is False else 0.25
