"""Takes the flags of `train`, and does in a second what it takes hours for.

Started again, it goes on. Bindings say what is to go wrong:
'fail = 2' (the first two times), 'seconds = 9' (how long an iteration takes),
or how well it learns: 'learner.rate = 3.0' (that a score rises by).
"""

import argparse
import fcntl
import json
import os
import pathlib
import shutil
import signal
import sys
import time

HELPERS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HELPERS), str(HELPERS.parents[1])]

import written_runs

NUM_ITERATIONS = 3


def note(directory, name):
  with open(directory / name, 'a', encoding='utf-8') as f:
    f.write(f'{os.getpid()}\n')


def attempts(directory, name='started'):
  path = directory / name
  return path.read_text().splitlines() if path.exists() else []


def carry_out(directory, seed, seconds, num_iterations, rate):
  scratch = directory / 'scratch'
  checkpoint = directory / 'checkpoints' / 'scores.json'
  scores = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
  checkpoint.parent.mkdir(exist_ok=True)
  while len(scores) < num_iterations:
    time.sleep(seconds)
    scores.append(scores[-1] + rate if scores else float(seed))
    shutil.rmtree(scratch, ignore_errors=True)
    written_runs.write_run(
        scratch, scores, seed=seed, settings={'num_iterations': num_iterations}
    )
    os.replace(scratch / 'metrics.jsonl', directory / 'metrics.jsonl')
    os.replace(scratch / 'summary.json', directory / 'summary.json')
    # Replaced, since what a checkpoint is made of never changes.
    unfinished = directory / 'scores.part'
    unfinished.write_text(json.dumps(scores))
    os.replace(unfinished, checkpoint)
    note(directory, 'iterations')


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--base_dir', type=pathlib.Path)
  parser.add_argument('--run_number', type=int, default=0)
  parser.add_argument('--num_seeds', type=int)
  parser.add_argument('--gin_bindings', action='append', default=[])
  flags, _ = parser.parse_known_args()
  wanted = dict(
      line.split(' = ') for line in flags.gin_bindings if 'game' not in line
  )
  directories = [flags.base_dir]
  if flags.num_seeds is not None:
    seeds = range(flags.run_number, flags.run_number + flags.num_seeds)
    directories = [flags.base_dir / f'run_{seed}' for seed in seeds]
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  for i, directory in enumerate(directories):
    directory.mkdir(parents=True, exist_ok=True)
    note(directory, 'started')
    (directory / 'cwd').write_text(os.getcwd())
    lock = open(directory / '.lock', 'w')
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if len(attempts(directory)) <= int(wanted.get('fail', 0)):
      print('It begins.\nError: the disk is full of holes.', file=sys.stderr)
      return 1
    carry_out(
        directory,
        flags.run_number + i,
        float(wanted.get('seconds', 0.0)),
        int(wanted.get('RunnerWithTeacher.stop_after', NUM_ITERATIONS)),
        float(wanted.get('learner.rate', 1.0)),
    )
  return 0


if __name__ == '__main__':
  sys.exit(main())
