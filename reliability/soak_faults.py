"""What a training run is made to suffer.

Each kind is a function that lets a victim suffer it, and returns whether it
has happened: a run that has come to its end suffers no more. The process may
have ended afterwards, or may go on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Callable

from soak_victim import LostError
from soak_victim import UNDER_WAY
from soak_victim import Victim

SECONDS_PER_DAY = 86_400
_POLL_FAST_SECONDS = 0.0005
_WAY_ON = 'python -um reincarnating_rl.train'


def kill(victim: Victim) -> bool:
  """Kills at a random moment, while a process starts, too."""
  if victim.rng.random() < 0.7:
    victim.pause()
  else:
    until = time.monotonic() + victim.rng.uniform(0.0, 15.0)
    victim.wait_until(lambda: time.monotonic() >= until)
  victim.kill()
  return victim.exit_code != 0


def kill_in_checkpoint(victim: Victim) -> bool:
  """Kills while something is being written, its very first, too."""
  while victim.rng.random() < 0.3 or victim.pause():
    if not victim.wait_until(victim.unfinished, _POLL_FAST_SECONDS):
      return False
    victim.kill()
    if victim.exit_code == 0:
      return False
    if victim.unfinished():
      return True
    victim.start()  # It was a moment too late.
  return False


def _stop(victim: Victim, number: int) -> bool:
  """Stops in order."""
  if not victim.pause():
    return False
  victim.forget_log()
  victim.send(number)
  code, name = victim.ended(loses_nothing=True), signal.Signals(number).name
  if code == 0:
    return False
  if code != 128 + number and victim.is_complete:
    victim.start()  # The signal came after the end, and there was no keeper.
    return False
  if code != 128 + number:
    raise LostError(f'exit code {code} after {name}\n{victim.said()}')
  for words in (f'Stopped by {name}', 'everything up to there', _WAY_ON):
    if words not in victim.said():
      victim.complaints.append(f'after {name} it did not say {words!r}')
  return True


def sigterm(victim: Victim) -> bool:
  return _stop(victim, signal.SIGTERM)


def sigint(victim: Victim) -> bool:
  return _stop(victim, signal.SIGINT)


def sigint_twice(victim: Victim) -> bool:
  """Does not wait for the end of the first."""
  if not victim.pause():
    return False
  victim.forget_log()
  victim.send(signal.SIGINT)
  victim.wait_until(lambda: 'Got SIGINT' in victim.said(), _POLL_FAST_SECONDS)
  time.sleep(victim.rng.uniform(0.0, 0.1))
  victim.send(signal.SIGINT)
  code = victim.ended()
  # Without a keeper the second one ends it, once everything is saved.
  if code not in (0, 128 + signal.SIGINT, -signal.SIGINT):
    raise LostError(f'exit code {code} after SIGINT twice\n{victim.said()}')
  if code == -signal.SIGINT and victim.is_complete:
    victim.start()
    return False
  return code != 0


def _damage(victim: Victim, harm: Callable[[str, Victim], None]) -> bool:
  """Kills, and harms a file of the newest checkpoint or of a segment of it."""
  victim.pause()
  if not victim.wait_until(lambda: len(victim.whole()) >= 2):
    return False
  victim.kill()
  if victim.exit_code == 0:
    return False
  victim.forget_log()
  number = victim.newest()
  folder = victim.path_of(number)
  with open(os.path.join(folder, 'manifest.json'), encoding='utf-8') as f:
    segments = [
        os.path.join(
            victim.checkpoints, 'rows', name, f'{s[0]:012d}-{s[1]:012d}'
        )
        for name, found in json.load(f)['content']['segments'].items()
        for s in found
    ]
  if segments and victim.rng.random() < 0.5:
    folder = f'{victim.rng.choice(segments)}.{victim.rng.choice(["a", "b"])}'
    victim.expect(re.escape(folder) + '.*its second copy is taken')
  else:
    victim.damage(number)
    victim.expect(f'Damaged checkpoint {number}: .*Going back to checkpoint')
  harm(victim.rng.choice(_files(folder)), victim)
  return True


def _files(folder: str) -> list[str]:
  """Files below a folder that hold something."""
  paths = [
      os.path.join(root, name)
      for root, _, names in os.walk(folder)
      for name in names
  ]
  return sorted(path for path in paths if os.path.getsize(path))


def truncate(victim: Victim) -> bool:
  def harm(path: str, victim: Victim) -> None:
    os.truncate(path, victim.rng.integers(os.path.getsize(path)))

  return _damage(victim, harm)


def flip(victim: Victim) -> bool:
  def harm(path: str, victim: Victim) -> None:
    with open(path, 'r+b') as f:
      content = bytearray(f.read())
      content[victim.rng.integers(len(content))] ^= 1 << victim.rng.integers(8)
      f.seek(0)
      f.write(content)

  return _damage(victim, harm)


def delete(victim: Victim) -> bool:
  return _damage(victim, lambda path, victim: os.remove(path))


def full_disk(victim: Victim) -> bool:
  """Leaves no room until a checkpoint has failed; the run goes on meanwhile."""
  assert victim.has_own_disk
  if not victim.pause():
    return False
  victim.forget_log()
  path = os.path.join(victim.disk, 'ballast')
  with open(path, 'ab', buffering=0) as ballast:

    def fill() -> None:
      # Whatever becomes free meanwhile, too.
      for size in (1 << 20, 1 << 12):
        try:
          while ballast.write(bytes(size)):
            pass
        except OSError:
          pass

    def has_failed() -> bool:
      fill()
      return (
          re.search('Checkpoint .* was not written', victim.said()) is not None
      )

    failed = victim.wait_until(has_failed)
    beats = victim.board.beats
    victim.wait_until(lambda: victim.board.beats >= beats + UNDER_WAY)
  os.remove(path)
  if failed and 'No space left' not in victim.said():
    victim.complaints.append('it did not say that no space is left')
  if not failed or victim.exit_code is not None:
    if victim.exit_code:
      raise LostError(f'exit code {victim.exit_code}, full\n{victim.said()}')
    if not victim.is_complete:
      victim.complaints.append(
          'it ended with exit code 0 on a full disk, and its end was not saved'
      )
      victim.ended()
      victim.start()
    return failed
  number = victim.newest()
  victim.wait_until(lambda: victim.newest() != number)
  return True


def clock(victim: Victim) -> bool:
  """Sets the wall clock forward and back; checkpoints still come in time."""
  if not victim.pause():
    return False
  for sign in victim.rng.permutation([1, -1]):
    days = int(victim.rng.integers(1, 400))
    victim.board.wrong_seconds = int(sign) * days * SECONDS_PER_DAY
    number = victim.newest()
    victim.wait_until(lambda number=number: victim.newest() != number)
  if victim.exit_code:
    raise LostError(f'exit code {victim.exit_code}\n{victim.said()}')
  return True


KINDS: dict[str, Callable[[Victim], bool]] = {
    f.__name__: f
    for f in (
        kill,
        kill_in_checkpoint,
        sigterm,
        sigint,
        sigint_twice,
        truncate,
        flip,
        delete,
        full_disk,
        clock,
    )
}
