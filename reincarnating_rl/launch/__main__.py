r"""Carries out a sweep: games, agents, networks, teachers, settings, seeds.

  python -m reincarnating_rl.launch --base_dir /tmp/sweep \
    --games Pong,Boxing --agents qdagger_rainbow,dqn --seeds 0,1 \
    --teachers 'bundled:{game}' \
    --grid 'create_optimizer.learning_rate=[1e-4, 3e-4]'

Started again, it does what is missing. `--dry_run` says what would be done,
how long it takes and what memory it needs.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Hashable, Iterator, Mapping, Optional, Sequence

from absl import flags
from absl import logging

from reincarnating_rl.app.api import Needs
from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import progress
from reincarnating_rl.base import run_lock as base_dir_lib
from reincarnating_rl.base import tables
from reincarnating_rl.base.errors import StoppedError
from reincarnating_rl.launch import check
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.launch import rates as rates_lib
from reincarnating_rl.launch import status_display as board_lib
from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch import trials as trials_lib
from reincarnating_rl.launch import tune_pbt
from reincarnating_rl.launch.population_spec import Population
from reincarnating_rl.launch.rates import Rates
from reincarnating_rl.launch.trials import Trial
from reincarnating_rl.loop.config import plan_text
from reincarnating_rl.report import formatting

_LISTS = {
    'games': 'Games.',
    'agents': 'Who learns, each with its own configuration.',
    'networks': 'Networks to give them.',
    'teachers': "Teachers; '{game}' in them stands for the game.",
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines what the entry point reads; called once per set of values."""
  new = {'flag_values': values}
  flags.DEFINE_string('base_dir', None, 'Where the runs go.', **new)
  flags.DEFINE_string(
      'sweep',
      None,
      'A .yaml or .gin file that describes the sweep; flags replace its '
      'entries.',
      **new,
  )
  for name, what in _LISTS.items():
    flags.DEFINE_list(name, None, what, **new)
  flags.DEFINE_list(
      'seeds', None, 'Run numbers, each a run of every configuration.', **new
  )
  flags.DEFINE_multi_string('gin_files', None, "After each agent's own.", **new)
  flags.DEFINE_multi_string('gin_bindings', None, 'For all runs.', **new)
  flags.DEFINE_multi_string(
      'grid', None, "'NAME=[VALUE, VALUE]': all combinations.", **new
  )
  flags.DEFINE_integer(
      'num_samples',
      None,
      'Draws from what the file says under sample.',
      lower_bound=1,
      **new,
  )
  flags.DEFINE_string(
      'population',
      None,
      'How the seeds of a configuration copy each other, as YAML: '
      "'{interval: 1, mutations: {JaxDQNAgent.gamma: [uniform, 0.9, 1]}}'.",
      **new,
  )
  flags.DEFINE_integer('cpus', 1, 'Cores of a trial.', lower_bound=1, **new)
  flags.DEFINE_float(
      'gpus',
      0.0,
      'Accelerators of a trial; 0.25 puts four on one.',
      lower_bound=0.0,
      **new,
  )
  flags.DEFINE_integer(
      'num_parallel',
      None,
      'Trials at once; default as many as fit.',
      lower_bound=1,
      **new,
  )
  flags.DEFINE_bool(
      'pack_seeds',
      None,
      'Whether one process learns all seeds of a configuration side by side; '
      'default: on accelerators.',
      **new,
  )
  flags.DEFINE_string(
      'address', None, "Of a Ray cluster; 'auto' finds one here.", **new
  )
  flags.DEFINE_bool(
      'dry_run', False, 'Says what would be done, and does nothing.', **new
  )


def description(values: flags.FlagValues) -> dict[str, Any]:
  """The entries of a sweep that flags give."""
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


def resources_of(values: flags.FlagValues) -> engine.Resources:
  """What flags say of machines."""
  return engine.Resources(
      values.cpus, values.gpus, values.num_parallel, values.address
  )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  del argv
  if not values.base_dir:
    raise errors.UserError('--base_dir is missing: say where the runs go.')
  root = os.path.abspath(os.path.expanduser(values.base_dir))
  sweep = sweep_lib.read(values.sweep, description(values))
  resources = resources_of(values)
  if not values.dry_run:
    engine.import_ray()
  _prepare_this_process()
  found = trials_lib.configurations(sweep)
  pack = values.pack_seeds
  if pack is None:
    pack = resources.gpus > 0 and sweep.population is None
  if pack and sweep.population is not None:
    raise errors.UserError(
        '--pack_seeds has all seeds in one process, and those of a population '
        'are processes of their own: leave one of them out (in one process '
        'PopulationBasedTraining is bound: docs/populations.md).'
    )
  trials = trials_lib.make(sweep, found, pack)
  with progress.bar('checking', len(found), 'configurations') as bar:
    needs = check.check(root, trials, bar.update, sweep.population)
  if sweep.population is not None:
    tune_pbt.check(root, sweep.population, trials, needs)
  if values.dry_run:
    print(forecast(root, trials, needs, resources))
    if sweep.population is not None:
      print(tune_pbt.describe(sweep.population, trials, needs))
    return
  run(root, trials, needs, resources, sweep.population)


def _prepare_this_process() -> None:
  """It learns nothing, and what it says of single runs would be too much."""
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
  """Does what is missing.

  Raises:
    UserError: at the end, if trials have failed; StoppedError: if interrupted.
  """
  there = {
      t.name: progress_on_disk.reached(t.directories(root)) for t in trials
  }
  iterations = {
      t.name: needs[t.configuration.name].iterations * len(t.seeds)
      for t in trials
  }
  missing = [t for t in trials if there[t.name].iterations < iterations[t.name]]
  print(
      f'{len(trials)} trials: {len(trials) - len(missing)} are done, '
      f'{len(missing)} to do, in {root}.'
  )
  if not missing:
    return
  with _taken(root), engine.connected(resources) as at_once:
    progress_on_disk.write_record(root, trials, population)
    with board_lib.Board(iterations, there, at_once) as board:
      if population is None:
        engine.carry_out(root, missing, resources, board)
      else:
        tune_pbt.carry_out_all(
            root, population, trials, missing, needs, resources, board
        )
  print(board.table())
  failed = board.names(board_lib.FAILED)
  if failed:
    raise errors.UserError(
        f'{len(failed)} of {len(trials)} trials failed {engine.ATTEMPTS} '
        f'times: {", ".join(failed)}. The last errors: '
        + '; '.join(board.rows[name].error for name in failed)
        + '. Mend that and run the same command again: the others are kept.'
    )
  left = len(trials) - len(board.names(board_lib.DONE))
  if left:
    raise StoppedError(
        f'Stopped with {left} of {len(trials)} trials to do; '
        f'{command_line.how_to_resume()}',
        130,
    )


@contextlib.contextmanager
def _taken(root: str) -> Iterator[None]:
  """A sweep's directory, which one launch at a time has.

  Raises:
    UserError: if another one has it, or it cannot be written to.
  """
  with errors.user_errors():
    base_dir_lib.take(base_dir_lib.make(root))
  try:
    yield
  finally:
    base_dir_lib.give_back(root)


def forecast(
    root: str,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
    resources: engine.Resources,
) -> str:
  """The table of runs, with what they take.

  Rates are those of finished runs of this sweep, and where there is none, of
  a brief one.
  """
  rates = measured(root, trials, needs, resources)
  rows = [('', 'runs', 'agent steps', 'updates', 'time', 'memory', 'state')]
  left, largest = [], 0
  for trial in trials:
    one = needs[trial.configuration.name]
    size = len(trial.seeds)
    estimate = rates_lib.estimate(one, rates[_kind(trial, one)], size)
    reached = progress_on_disk.reached(trial.directories(root))
    finished = reached.iterations >= size * one.iterations
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
  at_once = resources.num_parallel or engine.fit_here(resources)
  seconds = rates_lib.together(left, at_once)
  return '\n'.join(
      [
          tables.table(rows),
          f'{len(trials)} trials, {len(left)} to do: about '
          f'{formatting.duration(seconds)}, {at_once} at once, which need '
          f'up to {plan_text.size(at_once * largest)} of memory.',
      ]
  )


def measured(
    root: str,
    trials: Sequence[Trial],
    needs: Mapping[str, Needs],
    resources: engine.Resources,
) -> dict[Hashable, Rates]:
  """Rates of each kind of configuration."""
  rates: dict[Hashable, Rates] = {}
  kinds: dict[Hashable, Trial] = {}
  for trial in trials:
    one = needs[trial.configuration.name]
    kind = _kind(trial, one)
    kinds.setdefault(kind, trial)
    for directory in trial.directories(root):
      done = progress_on_disk.reached([directory]).iterations >= one.iterations
      if done and kind not in rates:
        rates[kind] = rates_lib.of_finished(directory, one)
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
