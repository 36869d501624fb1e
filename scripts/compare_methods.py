"""Compares all methods at one budget, and draws the table and the curves.

  python scripts/compare_methods.py --games Pong,Boxing --seeds 3
  python scripts/compare_methods.py --games Pong --seeds 3 --subject resets
  python scripts/compare_methods.py --games Pong --subject replay_ratios
  python scripts/compare_methods.py --games Boxing --together --processes 14

One run after the other, each in a process of its own; or several processes at
a time, each on cores of its own, or the seeds of a method side by side in one.
A finished run is kept in the results file and not made again, so that the
comparison goes on where it was stopped; an interrupted run goes on from its
checkpoint. The table is printed as Markdown; curves go beside the results file.
"""

from __future__ import annotations

from concurrent import futures
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from typing import Any, NamedTuple, Sequence

from absl import app
from absl import flags
import compare_results
import tqdm

from reincarnating_rl.launch import cores

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_GAMES = flags.DEFINE_list('games', ['Pong', 'Boxing'], 'Games to compare on.')
_METHODS = flags.DEFINE_list('methods', None, 'Some of the methods; all.')
_SUBJECT = flags.DEFINE_enum(
    'subject',
    'methods',
    ['methods', 'resets', 'replay_ratios'],
    'Compares the methods, or one of them with resets or replay ratios.',
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs of each method on each game.')
_RESULTS = flags.DEFINE_string(
    'results',
    os.path.join(REPOSITORY, 'docs', 'results', 'methods.json'),
    'Where finished runs are kept.',
)
_RUNS = flags.DEFINE_string(
    'runs',
    os.path.join(REPOSITORY, 'runs', 'compare_methods'),
    'Where they run; of what is finished all but the checkpoints stays.',
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'Another budget; its runs are kept apart.'
)
_TOGETHER = flags.DEFINE_bool(
    'together', False, 'Seeds of a method side by side in one process.'
)
_PROCESSES = flags.DEFINE_integer(
    'processes', 1, 'Processes at a time.', lower_bound=1
)
_TABLE_ONLY = flags.DEFINE_bool('table_only', False, 'Runs nothing.')


class Entry(NamedTuple):
  """How a method is run.

  Attributes:
    agent: of the command line.
    config: its gin file.
    bindings: what its schedule needs at this budget.
  """

  agent: str
  config: str
  bindings: tuple[str, ...] = ()


# Learning rates are three times those of long runs, as QDagger's are here, and
# students that start from nothing have those of its beginning.
_FAST = ('create_optimizer.learning_rate = 0.0003',)
_SLOW = ('create_optimizer.learning_rate = 0.00003',)
_PRETRAINS = ('RunnerWithTeacher.num_pretraining_iterations = 1',)
METHODS = {
    'qdagger_rainbow': Entry('qdagger_rainbow', 'qdagger_rainbow', _PRETRAINS),
    'qdagger_dqn': Entry('qdagger_dqn', 'qdagger_dqn', _PRETRAINS),
    'qdagger_iqn': Entry(
        'qdagger_iqn',
        'qdagger_iqn',
        _PRETRAINS
        + (
            'JaxDQNAgent.network = '
            '@reincarnation_networks.ImplicitQuantileNetwork',
            # With 64 an update takes eight times as long.
            'ReincarnationIQNAgent.num_tau_samples = 8',
            'ReincarnationIQNAgent.num_tau_prime_samples = 8',
        ),
    ),
    'qdagger_drq': Entry(
        'qdagger_rainbow',
        'qdagger_drq',
        _PRETRAINS
        + (
            'JaxDQNAgent.min_replay_history = 1600',
            'JaxDQNAgent.target_update_period = 1',
            # At three times that rate its representation collapses.
            'create_linear_schedule.initial_lr = 0.0001',
            'create_linear_schedule.final_lr = 0.00001',
        ),
    ),
    'kickstarting_dqn': Entry('qdagger_dqn', 'kickstarting_dqn'),
    'dagger_rainbow': Entry(
        'qdagger_rainbow',
        'qdagger_rainbow',
        _PRETRAINS + _FAST + ("QDaggerRainbowAgent.method_type = 'dagger'",),
    ),
    'q_learning_and_dagger_rainbow': Entry(
        'qdagger_rainbow',
        'qdagger_rainbow',
        _PRETRAINS
        + _FAST
        + ("QDaggerRainbowAgent.method_type = 'q_learning_and_dagger'",),
    ),
    'dqfd_dqn': Entry('dqfd_dqn', 'dqfd_dqn', _PRETRAINS + _FAST),
    'pretrained_dqn': Entry(
        'pretrained_dqn',
        'pretrained_dqn',
        _PRETRAINS
        + _SLOW
        + (
            'create_pretraining_optimizer.learning_rate = 0.0003',
            'create_pretraining_optimizer.eps = 0.00001',
        ),
    ),
    'rehearsal_dqn': Entry('pretrained_dqn', 'rehearsal_dqn', _FAST),
    'jsrl_dqn': Entry(
        'jsrl_dqn',
        'jsrl_dqn',
        _FAST + ('JSRLAgent.roll_out_decay_period = 24000',),
    ),
    'reloaded_dqn': Entry('reloaded_dqn', 'reloaded_dqn', _SLOW),
    'rainbow': Entry('rainbow', 'rainbow', _FAST),
    'dqn': Entry('dqn', 'dqn', _FAST),
}
# What a reset costs, with and without distilling again: a curve that is twice
# as fine, and a reset in its middle.
_FINE = ('Runner.num_iterations = 12', 'Runner.training_steps = 2000')
_RESET = _FINE + (
    "ResetSchedule.preset = 'sr_spr'",
    'ResetSchedule.period = 12000',
)
_REDISTILLED = _RESET + ('ResetSchedule.distill_updates_after = 2000',)
RESETS = {
    'never_reset': Entry('qdagger_dqn', 'qdagger_dqn', _PRETRAINS + _FINE),
    'reset': Entry('qdagger_dqn', 'qdagger_dqn', _PRETRAINS + _RESET),
    'reset_and_redistilled': Entry(
        'qdagger_dqn', 'qdagger_dqn', _PRETRAINS + _REDISTILLED
    ),
}
# What more updates per agent step bring, with a reset in the middle after
# which is distilled again, as qdagger_rainbow_sr.gin has it.
_SHORT = (
    'Runner.num_iterations = 4',
    'Runner.training_steps = 2000',
    "ResetSchedule.preset = 'sr_spr'",
    'ResetSchedule.period = 4000',
    'ResetSchedule.distill_updates_after = 2000',
)
REPLAY_RATIOS = {
    f'replay_ratio_{ratio}': Entry(
        'qdagger_rainbow',
        'qdagger_rainbow',
        _PRETRAINS + _SHORT + (f"RunnerWithTeacher.replay_ratio = '{ratio}'",),
    )
    for ratio in ('0.25', '1', '2', '4', '8')
}
SUBJECTS = {
    'methods': METHODS,
    'resets': RESETS,
    'replay_ratios': REPLAY_RATIOS,
}
ENTRIES = {
    name: e for entries in SUBJECTS.values() for name, e in entries.items()
}
# These collect no data: nothing of theirs would read it.
_WITHOUT_DATA = ('kickstarting_dqn', 'jsrl_dqn', 'reloaded_dqn')
_WITHOUT_TEACHER = ('dqn', 'rainbow')


@dataclasses.dataclass(frozen=True)
class Job:
  """Runs of the comparison that one process makes."""

  game: str
  method: str
  seeds: tuple[int, ...]  # one after the other
  budget: tuple[str, ...]  # further bindings

  def key(self, seed: int) -> str:
    """What a run is called in the results."""
    return '/'.join((self.game, self.method, str(seed), *self.budget))

  @property
  def base_dir(self) -> str:
    seeds = '-'.join(map(str, self.seeds))
    return os.path.join(_RUNS.value, self.game, self.method, seeds)

  def directory(self, seed: int) -> str:
    """Of one run."""
    if len(self.seeds) == 1:
      return self.base_dir
    return os.path.join(self.base_dir, f'run_{seed}')

  def command(self) -> list[str]:
    """The very command that a user would give."""
    entry = ENTRIES[self.method]
    command = [
        *(sys.executable, '-um', 'reincarnating_rl.train'),
        *('--agent', entry.agent, '--base_dir', self.base_dir),
        *('--gin_files', f'{entry.config}.gin'),
        *('--gin_files', 'comparison.gin'),
        *('--run_number', str(self.seeds[0])),
    ]
    if len(self.seeds) > 1:
      command += ['--num_seeds', str(len(self.seeds))]
    bindings = list(entry.bindings + self.budget)
    if self.method in _WITHOUT_DATA + _WITHOUT_TEACHER:
      bindings.append('RunnerWithTeacher.teacher_steps = 0')
    if self.method in _WITHOUT_TEACHER:
      game = f"create_atari_environment.game_name = '{self.game}'"
      bindings.append(game)
    else:
      command += ['--teacher_checkpoint_dir', f'bundled:{self.game}']
    for binding in bindings:
      command += ['--gin_bindings', binding]
    return command


def execute(job: Job) -> dict[str, Any]:
  """Carries runs out and returns what is kept of them, by key.

  Raises:
    RuntimeError: if they fail, with the end of what was said.
  """
  os.makedirs(job.base_dir, exist_ok=True)
  log_path = os.path.join(job.base_dir, 'log.txt')
  share = len(os.sched_getaffinity(0)) // _PROCESSES.value
  with open(log_path, 'ab') as log, cores.held(share) as own:
    process = subprocess.Popen(
        job.command(), stdout=log, stderr=subprocess.STDOUT, cwd=REPOSITORY
    )
    if own:
      os.sched_setaffinity(process.pid, own)
    status = process.wait()
  if status:
    with open(log_path, encoding='utf-8', errors='replace') as log:
      raise RuntimeError(
          f'{job.key(job.seeds[0])} failed (exit {status}): '
          f'{log.read()[-2000:]}'
      )
  return {job.key(seed): _finished(job.directory(seed)) for seed in job.seeds}


def _finished(directory: str) -> dict[str, Any]:
  """What is kept of a run; of its directory, what reports read."""
  with open(os.path.join(directory, 'summary.json'), encoding='utf-8') as f:
    summary = json.load(f)
  shutil.rmtree(os.path.join(directory, 'checkpoints'))
  kept = ('random_score', 'teacher_score', 'iterations', 'seconds', 'versions')
  return {k: summary[k] for k in kept}


def execute_all(jobs: Sequence[Job]) -> None:
  """Carries jobs out, some at a time, and keeps the results of each."""
  with futures.ThreadPoolExecutor(_PROCESSES.value) as pool:
    started = [pool.submit(execute, job) for job in jobs]
    done = futures.as_completed(started)
    try:
      for future in tqdm.tqdm(done, total=len(jobs), unit=' processes'):
        records = future.result()
        # Another process may have added to the file meanwhile.
        results = compare_results.load(_RESULTS.value) | records
        compare_results.save(_RESULTS.value, results)
    finally:
      pool.shutdown(cancel_futures=True)


def planned(
    methods: Sequence[str], budget: tuple[str, ...], results: dict[str, Any]
) -> list[Job]:
  """What is missing in the results.

  All methods with one seed come first: a table that is stopped is fair.
  """
  seeds = [(seed,) for seed in range(1, _SEEDS.value + 1)]
  if _TOGETHER.value:
    seeds = [tuple(range(1, _SEEDS.value + 1))]
  jobs = [
      Job(game, method, some, budget)
      for some in seeds
      for game in _GAMES.value
      for method in methods
  ]
  is_there = lambda job: all(job.key(seed) in results for seed in job.seeds)
  return [job for job in jobs if not is_there(job)]


def main(argv: Sequence[str]) -> None:
  del argv
  choices = SUBJECTS[_SUBJECT.value]
  methods = _METHODS.value or list(choices)
  unknown = sorted(set(methods) - set(choices))
  if unknown:
    sys.exit(
        f'Error: there is no method called {", ".join(unknown)}; choose from '
        f'{", ".join(choices)}.'
    )
  budget = tuple(_BINDINGS.value)
  results = compare_results.load(_RESULTS.value)
  if not _TABLE_ONLY.value:
    execute_all(planned(methods, budget, results))
    results = compare_results.load(_RESULTS.value)
  print(compare_results.table(results, _GAMES.value, list(choices), budget))
  for game in _GAMES.value:
    if compare_results.teacher_score(results, game) is not None:
      name = f'{_SUBJECT.value}_{game.lower()}.png'
      folder = os.path.dirname(os.path.abspath(_RESULTS.value))
      path = os.path.join(folder, name)
      compare_results.draw(
          results, game, list(choices), budget, path, _WITHOUT_TEACHER
      )


if __name__ == '__main__':
  app.run(main)
