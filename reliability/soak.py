"""Proves that a run is never lost: it is stopped, damaged, and goes on.

  python scripts/soak.py --faults 50
  python scripts/soak.py --faults 10 --kinds kill,full_disk --json

A small but whole training on Pong is carried out once without interruption.
The same training then suffers one fault after the other, and is started again
after each, until it ends; what it leaves must be what the first one left, bit
for bit, times excepted: summary, records, counters, arrays and replay of the
newest checkpoint, TensorBoard's events, Dopamine's pickles. So it goes on until
there were enough faults (the last run suffers what is left). Kinds:

  kill                   kill -9 at any moment, while it starts, too
  kill_in_checkpoint     kill -9 while a part of a checkpoint is written
  sigterm, sigint        a signal, at which the run saves itself
  sigint_twice           a second signal, at which it does not
  truncate, flip, delete kill -9, and a damaged file of the newest checkpoint
  full_disk              no room for a checkpoint, for a while
  clock                  a wall clock that jumps by days, forward and back

Differences of a run count for every kind that it suffered, and once in the sum.
Exit code 1 unless all was survived without any.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Sequence

sys.path.append(
    os.path.join(
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        'benchmarks',
    )
)

from absl import app
from absl import flags
import bench_lib
import numpy as np
import soak_compare
from soak_compare import Outcome
import soak_faults
import soak_victim
import tqdm

_FAULTS = flags.DEFINE_integer(
    'faults', 50, 'How many faults there are.', lower_bound=1
)
_KINDS = flags.DEFINE_list('kinds', list(soak_faults.KINDS), 'Of these kinds.')
_SEED = flags.DEFINE_integer('seed', 0, 'Chooses kinds, moments and files.')
_OUT = flags.DEFINE_string(
    'out', None, 'Where the runs go, and stay; default a folder that goes.'
)
_TIMEOUT = flags.DEFINE_float(
    'timeout', 900.0, 'Seconds that a process may take.', lower_bound=1.0
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'Another training: a shorter one, say.'
)
_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.')

# All phases, and a replay that begins anew twice, in half a minute.
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
  """Of the entry point, but --base_dir."""
  found = ['--agent', 'qdagger_rainbow', '--gin_files', 'qdagger_rainbow.gin']
  found += ['--teacher_checkpoint_dir', 'bundled:Pong', '--run_number', '1']
  for binding in (*TRAINING, *_BINDINGS.value):
    found += ['--gin_bindings', binding]
  return found


def make_reference(folder: str) -> float:
  """Trains without interruption; returns the seconds that its steps took.

  Raises:
    SystemExit: if it fails, with the end of what it said.
  """
  command = [sys.executable, '-um', 'reincarnating_rl.train']
  command += ['--base_dir', folder, *training_flags()]
  try:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=soak_victim.REPOSITORY,
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


# -- comparing -----------------------------------------------------------------


def suffer(
    victim: soak_victim.Victim, queue: list[str], bar: tqdm.tqdm
) -> None:
  """Lets a run suffer faults until its end; those are taken from the queue.

  Raises:
    LostError: if it does not come to its end.
  """
  victim.start()
  while True:
    fits = [k for k in queue if k != 'full_disk' or victim.has_own_disk]
    if not fits:
      break
    try:
      happened = soak_faults.KINDS[fits[0]](victim)
    except soak_victim.LostError:
      _took(victim, fits[0], queue, bar)
      raise
    if not happened:
      break
    _took(victim, fits[0], queue, bar)
    if victim.exit_code is not None:
      victim.start()
  victim.finish()


def _took(
    victim: soak_victim.Victim, kind: str, queue: list[str], bar: tqdm.tqdm
) -> None:
  queue.remove(kind)
  victim.faults.append(kind)
  victim.lost.append(0)
  bar.update()


def soak(folder: str, kinds: Sequence[str]) -> list[Outcome]:
  """Makes the reference and its victims; what became of these."""
  rng = np.random.default_rng(_SEED.value)
  rounds = -(-_FAULTS.value // len(kinds))
  # Each kind as often as the others, but for the last round.
  queue = [k for _ in range(rounds) for k in rng.permutation(kinds)]
  queue = [str(kind) for kind in queue[: _FAULTS.value]]
  reference = os.path.join(folder, 'reference')
  say('Training without any fault.')
  seconds = make_reference(reference)
  say(f'Its steps took {seconds:.0f} seconds.')
  num_phases = soak_compare.contents(reference)['checkpoint/next_phase']
  outcomes, unharmed = [], 0
  with tqdm.tqdm(total=len(queue), unit=' faults', file=sys.stderr) as bar:
    while queue:
      victim = soak_victim.Victim(
          os.path.join(folder, f'victim_{len(outcomes) + unharmed}'),
          training_flags(),
          num_phases,
          seconds,
          _TIMEOUT.value,
          rng,
          has_own_disk=queue[0] == 'full_disk',
      )
      outcome = one_outcome(victim, reference, queue, bar)
      if outcome.faults:
        outcomes.append(outcome)
        continue
      unharmed += 1
      if unharmed == _RUNS_WITHOUT_FAULT:
        sys.exit(f'Error: {queue[0]} comes too late: bind a longer training.')
  return outcomes


def one_outcome(
    victim: soak_victim.Victim,
    reference: str,
    queue: list[str],
    bar: tqdm.tqdm,
) -> Outcome:
  """What becomes of one run; it is said, and nothing of it is left."""
  survived, found = True, []
  try:
    suffer(victim, queue, bar)
    found = soak_compare.differences(reference, victim.base_dir)
  except soak_victim.LostError as e:
    survived = False
    say(f'{_named(victim)}: not survived, {e}')
  finally:
    found = victim.complaints + found
    for difference in found:
      say(f'{_named(victim)}: {difference}')
    if found or not survived:
      # A disk of its own goes with what is on it.
      kept = os.path.join(victim.folder, 'kept')
      shutil.copytree(victim.base_dir, kept, dirs_exist_ok=True)
    victim.close()
  return Outcome(victim.faults, victim.lost, survived, found)


def _named(victim: soak_victim.Victim) -> str:
  name = os.path.basename(victim.folder)
  return f'{name} ({", ".join(victim.faults) or "no fault"})'


def say(text: str) -> None:
  """Says something beside the progress bar."""
  tqdm.tqdm.write(text, file=sys.stderr)


# -- what is reported ----------------------------------------------------------


def chosen_kinds(folder: str) -> list[str]:
  """Kinds that are wanted and can be.

  Raises:
    SystemExit: one sentence, if there are none, or none of that name.
  """
  unknown = sorted(set(_KINDS.value) - set(soak_faults.KINDS))
  if unknown:
    sys.exit(
        f'Error: there is no kind called {", ".join(unknown)}; choose from '
        f'{", ".join(soak_faults.KINDS)}.'
    )
  kinds = list(dict.fromkeys(_KINDS.value))
  if 'full_disk' in kinds and not soak_victim.can_mount(folder):
    say('No full_disk: to mount a small disk is not permitted here.')
    kinds.remove('full_disk')
  if not kinds:
    sys.exit('Error: no kind is left.')
  return kinds


def main(argv: Sequence[str]) -> None:
  del argv
  out = bench_lib.claim_stdout()
  if _OUT.value and os.path.isdir(_OUT.value) and os.listdir(_OUT.value):
    sys.exit(f'Error: {_OUT.value} is not empty: choose another folder.')
  folder = os.path.abspath(_OUT.value or tempfile.mkdtemp(prefix='soak_'))
  os.makedirs(folder, exist_ok=True)
  is_clean = False
  try:
    kinds = chosen_kinds(folder)
    outcomes = soak(folder, kinds)
    report = soak_compare.summarize(outcomes, kinds)
    is_clean = report['faults'] == report['survived'] and not any(
        o.differences for o in outcomes
    )
    print(
        json.dumps(report) if _JSON.value else soak_compare.table(report),
        file=out,
    )
    out.flush()
  finally:
    if _OUT.value is None and (is_clean or len(os.listdir(folder)) == 0):
      shutil.rmtree(folder)
    else:
      say(f'The runs are in {folder}.')
  sys.exit(0 if is_clean else 1)


if __name__ == '__main__':
  app.run(main)
