r"""Runs a sweep over games, agents, networks, teachers, settings and seeds.

  python -m reincarnating_rl.launch --base_dir /tmp/sweep \
    --games Pong,Boxing --agents qdagger_rainbow,dqn --seeds 0,1 \
    --teachers 'bundled:{game}' \
    --grid 'create_optimizer.learning_rate=[1e-4, 3e-4]'

To resume, run the same command again: finished runs are kept. `--dry_run`
prints the list of runs, with their time and memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any, Hashable, Iterator, Mapping, Optional, Sequence

from absl import flags
from absl import logging

from reincarnating_rl.app.api import Needs
from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import progress
from reincarnating_rl.base import run_lock
from reincarnating_rl.base import tables
from reincarnating_rl.base.errors import StoppedError
from reincarnating_rl.launch import check
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import population as population_lib
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch import rates as rates_lib
from reincarnating_rl.launch import status_display
from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch import trials as trials_lib
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.rates import Rates
from reincarnating_rl.launch.status_display import StatusDisplay
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.loop.config import plan_text
from reincarnating_rl.report import formatting

_LISTS = {
    'games': 'Games to train on.',
    'agents': 'Agents to train, each with its own configuration.',
    'networks': 'Networks to train each agent with.',
    'teachers': "Teachers; '{game}' is replaced by the game.",
}
_STRINGS = {
    'base_dir': 'Directory of the sweep.',
    'sweep': (
        'Path of a .yaml or .gin file that describes the sweep; flags replace '
        'its entries.'
    ),
    'population': (
        'Population-based training of the seeds of each configuration, as '
        "YAML: '{interval: 1, mutations: {JaxDQNAgent.gamma: [uniform, 0.9, "
        "1]}}'."
    ),
    'address': "Address of a Ray cluster; 'auto' finds one.",
}
_MULTI_STRINGS = {
    'gin_files': "Gin files read after each agent's own.",
    'gin_bindings': 'Gin bindings of all runs.',
    'grid': "Values to combine, as 'NAME=[VALUE, VALUE]'.",
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of the entry point, once per set of values."""
  new: dict[str, Any] = {'flag_values': values}
  for name, text in _STRINGS.items():
    flags.DEFINE_string(name, None, text, **new)
  for name, text in _LISTS.items():
    flags.DEFINE_list(name, None, text, **new)
  for name, text in _MULTI_STRINGS.items():
    flags.DEFINE_multi_string(name, None, text, **new)
  flags.DEFINE_list(
      'seeds', None, 'Run numbers; each configuration runs with each.', **new
  )
  flags.DEFINE_bool(
      'pack_seeds',
      None,
      'Train all seeds of a configuration side by side in one process; '
      'default: only with --gpus.',
      **new,
  )
  flags.DEFINE_bool('dry_run', False, 'Print the plan, time and memory.', **new)
  new['lower_bound'] = 0.0
  flags.DEFINE_float(
      'gpus', 0.0, 'Accelerators per trial; 0.25: four trials on one.', **new
  )
  new['lower_bound'] = 1
  flags.DEFINE_integer('cpus', 1, 'Cores per trial.', **new)
  flags.DEFINE_integer(
      'num_parallel', None, 'Trials at a time; default: as many as fit.', **new
  )
  flags.DEFINE_integer(
      'num_samples', None, "Draws from the file's entry sample.", **new
  )


def description(values: flags.FlagValues) -> dict[str, Any]:
  """Entries of a sweep that flags set."""
  given = {name: values[name].value for name in _LISTS}
  given['gin_files'] = values.gin_files
  given['bindings'] = values.gin_bindings
  given['num_samples'] = values.num_samples
  if values.seeds is not None:
    given['seeds'] = _seeds(values.seeds)
  if values.population is not None:
    given['population'] = sweep_lib.parse_yaml('population', values.population)
  if values.grid is not None:
    given['grid'] = sweep_lib.parse_grid(values.grid)
  return {name: value for name, value in given.items() if value is not None}


def _seeds(texts: Sequence[str]) -> list[int]:
  try:
    return [int(text) for text in texts]
  except ValueError as e:
    raise errors.UserError(
        f'--seeds {",".join(texts)} must be whole numbers.'
    ) from e


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  del argv
  if not values.base_dir:
    raise errors.UserError('--base_dir is missing: say where the runs go.')
  root = os.path.abspath(os.path.expanduser(values.base_dir))
  sweep = sweep_lib.read(values.sweep, description(values))
  resources = engine.Resources(
      values.cpus, values.gpus, values.num_parallel, values.address
  )
  if not values.dry_run:
    engine.import_ray()
  _prepare_this_process()
  configurations = trials_lib.configurations(sweep)
  pack = values.pack_seeds
  if pack is None:
    pack = resources.gpus > 0 and sweep.population is None
  if pack and sweep.population is not None:
    raise errors.UserError(
        '--pack_seeds has all seeds in one process, and those of a population '
        'are processes of their own: leave one of them out (in one process '
        'PopulationBasedTraining is bound: docs/populations.md).'
    )
  trials = trials_lib.make_trials(sweep, configurations, pack)
  with progress.bar('checking', len(configurations), 'configurations') as bar:
    needs = check.check(root, trials, bar.update, sweep.population)
  if sweep.population is not None:
    population_lib.of_each(root, sweep.population, trials, needs)  # Checks.
  if values.dry_run:
    print(forecast(root, trials, needs, resources))
    if sweep.population is not None:
      print(population_lib.describe(sweep.population, trials, needs))
    return
  run(root, trials, needs, resources, sweep.population)


def _prepare_this_process() -> None:
  """Keeps jax off the accelerators, and the logs of single runs quiet."""
  import jax

  logging.set_verbosity(logging.WARNING)
  jax.config.update('jax_platforms', 'cpu')


def run(
    root: str,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
    resources: engine.Resources,
    population: Optional[Population] = None,
) -> None:
  """Runs the trials that are not finished.

  Args:
    root: directory of the sweep.
    trials: all trials of the sweep.
    needs: plan of a run, by the name of its configuration.
    resources: resources of each trial.
    population: population-based training of their seeds; None = there is none.

  Raises:
    UserError: at the end, if trials failed.
    StoppedError: if the launch was interrupted.
  """
  progress = {
      t.name: progress_on_disk.read(t.directories(root)) for t in trials
  }
  iterations = {
      t.name: needs[t.configuration.name].iterations * len(t.seeds)
      for t in trials
  }
  missing = [
      t for t in trials if progress[t.name].iterations < iterations[t.name]
  ]
  print(
      f'{len(trials)} trials: {len(trials) - len(missing)} are done, '
      f'{len(missing)} to do, in {root}.'
  )
  if not missing:
    return
  with _locked(root), engine.connected(resources) as num_parallel:
    progress_on_disk.write_record(root, trials, population)
    with StatusDisplay(iterations, progress, num_parallel) as display:
      run_trials = functools.partial(
          engine.run_trials, root, resources, display
      )
      with contextlib.suppress(KeyboardInterrupt):  # Said at the end.
        if population is None:
          run_trials(missing)
        else:
          for one in population_lib.of_each(root, population, trials, needs):
            one.run(run_trials)
  print(display.table())
  failed = display.names(status_display.FAILED)
  if failed:
    raise errors.UserError(
        f'{len(failed)} of {len(trials)} trials failed {engine.ATTEMPTS} '
        f'times: {", ".join(failed)}. The last errors: '
        + '; '.join(display.rows[name].error for name in failed)
        + '. Mend that and run the same command again: the others are kept.'
    )
  left = len(trials) - len(display.names(status_display.DONE))
  if left:
    raise StoppedError(
        f'Stopped with {left} of {len(trials)} trials to do; '
        f'{command_line.how_to_resume()}',
        130,
    )


@contextlib.contextmanager
def _locked(root: str) -> Iterator[None]:
  """Locks the directory of a sweep against other launches.

  Raises:
    UserError: if another launch has it, or it cannot be written to.
  """
  with errors.user_errors():
    run_lock.take(run_lock.make(root))
  try:
    yield
  finally:
    run_lock.give_back(root)


def forecast(
    root: str,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
    resources: engine.Resources,
) -> str:
  """Table of the runs, with the time and memory that they take.

  Rates are those of finished runs of this sweep. If there are none, a brief
  run is measured.

  Args:
    root: directory of the sweep.
    trials: all trials of the sweep.
    needs: plan of a run, by the name of its configuration.
    resources: resources of each trial.
  """
  rates = measure_rates(root, trials, needs, resources)
  rows = [('', 'runs', 'agent steps', 'updates', 'time', 'memory', 'state')]
  left, largest = [], 0
  for trial in trials:
    one = needs[trial.configuration.name]
    size = len(trial.seeds)
    estimate = rates_lib.estimate(one, rates[_kind(trial, one)], size)
    progress = progress_on_disk.read(trial.directories(root))
    finished = progress.iterations >= size * one.iterations
    if not finished:
      left.append(estimate.seconds)
      largest = max(largest, estimate.num_bytes)
    rows.append(
        (
            trial.name,
            str(size),
            f'{size * one.agent_steps.get("online", 0):,}',
            f'{size * sum(one.updates.values()):,}',
            formatting.duration(estimate.seconds),
            plan_text.size(estimate.num_bytes),
            'done' if finished else '',
        )
    )
  num_parallel = resources.num_parallel or engine.fit_here(resources)
  seconds = rates_lib.makespan(left, num_parallel)
  return '\n'.join(
      [
          tables.table(rows),
          f'{len(trials)} trials, {len(left)} to do: about '
          f'{formatting.duration(seconds)}, {num_parallel} at once, which '
          f'need up to {plan_text.size(num_parallel * largest)} of memory.',
      ]
  )


def measure_rates(
    root: str,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
    resources: engine.Resources,
) -> dict[Hashable, Rates]:
  """Rates of each kind of configuration; see `forecast`.

  Raises:
    UserError: if a brief run fails.
  """
  rates: dict[Hashable, Rates] = {}
  kinds: dict[Hashable, Trial] = {}
  for trial in trials:
    one = needs[trial.configuration.name]
    kind = _kind(trial, one)
    kinds.setdefault(kind, trial)
    for directory in trial.directories(root):
      done = progress_on_disk.read([directory]).iterations >= one.iterations
      if done and kind not in rates:
        rates[kind] = rates_lib.from_finished_run(directory, one)
  missing = [kind for kind in kinds if kind not in rates]
  with progress.bar('measuring', len(missing), 'brief runs') as bar:
    for kind in missing:
      wanted = kinds[kind].configuration.experiment
      try:
        rates[kind] = rates_lib.measure(wanted, resources.cpus)
      except process.TrialFailed as e:
        raise errors.UserError(
            f'A brief run of {kinds[kind].name} failed: {e}.'
        ) from e
      bar.update()
  return rates


def _kind(trial: Trial, needs: Needs) -> Hashable:
  return rates_lib.kind_of(trial.configuration.experiment, needs)


if __name__ == '__main__':
  define_flags()
  command_line.run(main)
