"""Tests that a run is never lost: it is stopped and damaged, and resumes.

  python scripts/soak.py --faults 50
  python scripts/soak.py --faults 10 --kinds kill,full_disk --json

A small but whole training on Pong runs once without interruption. The same
training then suffers one fault after the other, and is restarted after each,
until it ends. It must leave what the first one left, bit for bit, times
excepted: summary, records, counters, arrays and replay of the newest
checkpoint, TensorBoard's events, Dopamine's pickles. This is repeated until
there were enough faults; the last run suffers the rest. Kinds:

  kill                   kill -9 at any moment, also at the start
  kill_in_checkpoint     kill -9 while a part of a checkpoint is written
  sigterm, sigint        a signal at which the run saves itself
  sigint_twice           a second signal at which it does not
  truncate, flip, delete kill -9, and a damaged file of the newest checkpoint
  full_disk              no room for a checkpoint, for a while
  clock                  a wall clock that jumps by days, forward and back

The differences of a run count for each of its kinds, and once in the total. The
exit code is 1 unless every fault was survived without a difference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Sequence

from absl import app
from absl import flags
import numpy as np
import tqdm

from benchmarks import output
from reliability import faults
from reliability import results
from reliability import run_contents
from reliability import victim as victim_lib
from reliability.results import Outcome
from reliability.victim import LostError
from reliability.victim import Victim

_FAULTS = flags.DEFINE_integer('faults', 50, 'Number of faults.', lower_bound=1)
_KINDS = flags.DEFINE_list('kinds', list(faults.KINDS), 'Kinds of faults.')
_SEED = flags.DEFINE_integer('seed', 0, 'Chooses kinds, moments and files.')
_OUT = flags.DEFINE_string(
    'out', None, 'Folder that keeps the runs; default a temporary one.'
)
_TIMEOUT = flags.DEFINE_float(
    'timeout', 900.0, 'Limit for one process, in seconds.', lower_bound=1.0
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'Changes to the training, such as a shorter one.'
)
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.')

# All phases, and a replay that wraps around twice, in half a minute.
TRAINING = (
    'Runner.evaluation_steps = 300',
    'Runner.max_steps_per_episode = 150',
    'Runner.num_iterations = 3',
    'Runner.training_steps = 800',
    'RunnerWithTeacher.num_pretraining_iterations = 2',
    'RunnerWithTeacher.num_pretraining_steps = 300',
    'RunnerWithTeacher.num_envs = 2',
    'RunnerWithTeacher.num_eval_envs = 2',
    'RunnerWithTeacher.teacher_steps = 800',
    'RunnerWithTeacher.checkpoint_every = 0.03',
    'JaxDQNAgent.min_replay_history = 100',
    'JaxDQNAgent.target_update_period = 100',
    'ReplayBuffer.max_capacity = 1000',
    'ReplayBuffer.batch_size = 16',
    'reincarnation_networks.FullRainbowNetwork.features = (8, 16, 16)',
    'reincarnation_networks.FullRainbowNetwork.hidden_size = 64',
)
_RUNS_WITHOUT_FAULT = 3


def training_flags() -> list[str]:
  """Flags of the entry point without --base_dir."""
  found = ['--agent', 'qdagger_rainbow', '--gin_files', 'qdagger_rainbow.gin']
  found += ['--teacher_checkpoint_dir', 'bundled:Pong', '--run_number', '1']
  for binding in (*TRAINING, *_BINDINGS.value):
    found += ['--gin_bindings', binding]
  return found


def make_reference(folder: str) -> float:
  """Trains without a fault; returns the duration of the steps in seconds.

  Raises:
    SystemExit: if the training fails, with the end of its output.
  """
  command = [sys.executable, '-um', 'reincarnating_rl.train']
  try:
    done = subprocess.run(
        [*command, '--base_dir', folder, *training_flags()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=victim_lib.REPOSITORY,
        timeout=_TIMEOUT.value,
        check=False,
    )
  except subprocess.TimeoutExpired:
    sys.exit(f'Error: a training took more than {_TIMEOUT.value:g} seconds.')
  if done.returncode:
    text = done.stdout.decode(errors='replace')[-2000:]
    sys.exit(f'Error: a training failed without any fault: {text}')
  with open(os.path.join(folder, 'summary.json'), encoding='utf-8') as f:
    return sum(json.load(f)['seconds'].values())


# -- the faults ----------------------------------------------------------------


def suffer(victim: Victim, queue: list[str], bar: tqdm.tqdm) -> None:
  """Lets a run suffer faults until its end, and takes them from the queue.

  Raises:
    LostError: if the run does not come to its end.
  """
  victim.start()
  while fits := [k for k in queue if k != 'full_disk' or victim.has_own_disk]:
    kind = fits[0]
    happened = True  # also if it raises
    try:
      happened = faults.KINDS[kind](victim)
    finally:
      if happened:
        queue.remove(kind)
        victim.faults.append(kind)
        victim.lost.append(0)
        bar.update()
    if not happened:
      break
    if victim.exit_code is not None:
      victim.start()
  victim.finish()


def soak(folder: str, kinds: Sequence[str]) -> list[Outcome]:
  """Makes the reference and the runs with faults; returns their outcomes."""
  rng = np.random.default_rng(_SEED.value)
  rounds = -(-_FAULTS.value // len(kinds))
  # Each kind as often as the others, the last round excepted.
  queue = [str(k) for _ in range(rounds) for k in rng.permutation(kinds)]
  del queue[_FAULTS.value :]
  reference = os.path.join(folder, 'reference')
  say('Training without any fault.')
  seconds = make_reference(reference)
  say(f'Its steps took {seconds:.0f} seconds.')
  num_phases = run_contents.contents(reference)['checkpoint/next_phase']
  outcomes: list[Outcome] = []
  unharmed = 0
  with output.progress(len(queue), ' faults') as bar:
    while queue:
      victim = Victim(
          os.path.join(folder, f'victim_{len(outcomes) + unharmed}'),
          training_flags(),
          num_phases,
          seconds,
          _TIMEOUT.value,
          rng,
          has_own_disk=queue[0] == 'full_disk',
      )
      outcome = outcome_of(victim, reference, queue, bar)
      if outcome.faults:
        outcomes.append(outcome)
        continue
      unharmed += 1
      if unharmed == _RUNS_WITHOUT_FAULT:
        sys.exit(f'Error: {queue[0]} comes too late: bind a longer training.')
  return outcomes


def outcome_of(
    victim: Victim, reference: str, queue: list[str], bar: tqdm.tqdm
) -> Outcome:
  """Carries out one run, says its outcome, and leaves no process behind."""
  survived, found = True, []
  try:
    suffer(victim, queue, bar)
    found = run_contents.differences(reference, victim.base_dir)
  except LostError as e:
    survived = False
    say(f'{_title(victim)}: not survived, {e}')
  finally:
    found = victim.complaints + found
    for difference in found:
      say(f'{_title(victim)}: {difference}')
    if found or not survived:
      # A disk of its own goes with everything on it.
      kept = os.path.join(victim.folder, 'kept')
      shutil.copytree(victim.base_dir, kept, dirs_exist_ok=True)
    victim.close()
  return Outcome(victim.faults, victim.lost, survived, found)


def _title(victim: Victim) -> str:
  name = os.path.basename(victim.folder)
  return f'{name} ({", ".join(victim.faults) or "no fault"})'


def say(text: str) -> None:
  """Prints a line beside the progress bar."""
  tqdm.tqdm.write(text, file=sys.stderr)


# -- entry point ---------------------------------------------------------------


def chosen_kinds(folder: str) -> list[str]:
  """Kinds that are wanted and possible.

  Raises:
    SystemExit: with one sentence, if there are none, or none of that name.
  """
  unknown = sorted(set(_KINDS.value) - set(faults.KINDS))
  if unknown:
    sys.exit(
        f'Error: there is no kind called {", ".join(unknown)}; choose from '
        f'{", ".join(faults.KINDS)}.'
    )
  kinds = list(dict.fromkeys(_KINDS.value))
  if 'full_disk' in kinds and not victim_lib.can_mount(folder):
    say('No full_disk: to mount a small disk is not permitted here.')
    kinds.remove('full_disk')
  if not kinds:
    sys.exit('Error: no kind is left.')
  return kinds


def main(argv: Sequence[str]) -> None:
  del argv
  out = output.claim_stdout()
  if _OUT.value and os.path.isdir(_OUT.value) and os.listdir(_OUT.value):
    sys.exit(f'Error: {_OUT.value} is not empty: choose another folder.')
  folder = os.path.abspath(_OUT.value or tempfile.mkdtemp(prefix='soak_'))
  os.makedirs(folder, exist_ok=True)
  is_clean = False
  try:
    kinds = chosen_kinds(folder)
    outcomes = soak(folder, kinds)
    report = results.summarize(outcomes, kinds)
    is_clean = all(o.survived and not o.differences for o in outcomes)
    text = json.dumps(report) if _JSON.value else results.table(report)
    print(text, file=out, flush=True)
  finally:
    if _OUT.value is None and (is_clean or not os.listdir(folder)):
      shutil.rmtree(folder)
    else:
      say(f'The runs are in {folder}.')
  sys.exit(0 if is_clean else 1)


if __name__ == '__main__':
  app.run(main)
