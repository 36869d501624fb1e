"""Takes the flags of `train`, and does at once what `train` takes hours for.

Started again, it resumes. Bindings control it:
'fail = 2': the first two starts fail.
'hold = /a/file': it waits after the first iteration until the file exists.
'learner.rate = 3.0': the score rises by this in each iteration.

It starts in a moment since it imports nothing of the package: its summary is
made from a template, which `launched_trials` writes with the package's code.
"""

import argparse
import fcntl
import json
import os
import pathlib
import signal
import sys
import time

NUM_ITERATIONS = 3


def note(directory, name):
  with open(directory / name, 'a', encoding='utf-8') as f:
    f.write(f'{os.getpid()}\n')


def attempts(directory, name='started'):
  path = directory / name
  return path.read_text().splitlines() if path.exists() else []


def write_whole(path, document):
  unfinished = path.with_suffix('.part')
  unfinished.write_text(json.dumps(document))
  os.replace(unfinished, path)


def summarize(template, scores):
  """Summary of a run with these scores, from one with other scores."""
  document = json.loads(pathlib.Path(template).read_text())
  random, teacher = document['random_score'], document['teacher_score']
  entries = document['iterations']
  online = [entry for entry in entries if entry['phase'] == 'online']
  for entry, score in zip(online, scores):
    entry['student_score'] = score
    entry['teacher_normalized'] = (score - random) / (teacher - random)
  rest = len(online) - len(scores)
  return document | {'iterations': entries[: len(entries) - rest]}


def train(directory, seed, template, num_iterations, rate, hold):
  checkpoint = directory / 'checkpoints' / 'scores.json'
  scores = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
  checkpoint.parent.mkdir(exist_ok=True)
  while len(scores) < num_iterations:
    while len(scores) == 1 and hold and not os.path.exists(hold):
      time.sleep(0.01)
    scores.append(scores[-1] + rate if scores else float(seed))
    write_whole(directory / 'summary.json', summarize(template, scores))
    # Replaced, since the files of a checkpoint never change.
    write_whole(checkpoint, scores)
    note(directory, 'iterations')


def main(argv):
  parser = argparse.ArgumentParser()
  parser.add_argument('--template')
  parser.add_argument('--base_dir', type=pathlib.Path)
  parser.add_argument('--run_number', type=int, default=0)
  parser.add_argument('--num_seeds', type=int)
  parser.add_argument('--gin_bindings', action='append', default=[])
  flags, _ = parser.parse_known_args(argv)
  wanted = dict(
      line.split(' = ') for line in flags.gin_bindings if 'game' not in line
  )
  directories = [flags.base_dir]
  if flags.num_seeds is not None:
    seeds = range(flags.run_number, flags.run_number + flags.num_seeds)
    directories = [flags.base_dir / f'run_{seed}' for seed in seeds]
  for i, directory in enumerate(directories):
    directory.mkdir(parents=True, exist_ok=True)
    note(directory, 'started')
    (directory / 'cwd').write_text(os.getcwd())
    with open(directory / '.lock', 'w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if len(attempts(directory)) <= int(wanted.get('fail', 0)):
        print('It begins.\nError: the disk is full of holes.', file=sys.stderr)
        return 1
      train(
          directory,
          flags.run_number + i,
          flags.template,
          int(wanted.get('RunnerWithTeacher.stop_after', NUM_ITERATIONS)),
          float(wanted.get('learner.rate', 1.0)),
          wanted.get('hold'),
      )
  return 0


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  sys.exit(main(sys.argv[1:]))
