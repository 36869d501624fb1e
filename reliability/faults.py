"""Faults of a training run.

Each kind is a function that lets a victim suffer one fault. It returns True if
the fault has happened: a run that is complete suffers no more. Afterwards the
process may have ended, or may still run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Callable

from reliability.victim import LostError
from reliability.victim import UNDER_WAY
from reliability.victim import Victim

SECONDS_PER_DAY = 86_400
_POLL_FAST_SECONDS = 0.0005
_RESUME = 'python -um reincarnating_rl.train'


def kill(victim: Victim) -> bool:
  """Kills at a random moment, also while a process starts."""
  if victim.rng.random() < 0.7:
    victim.pause()
  else:
    victim.wait(victim.rng.uniform(0.0, 15.0))
  return victim.kill()


def kill_in_checkpoint(victim: Victim) -> bool:
  """Kills while a checkpoint is written, also the very first one."""
  while victim.rng.random() < 0.3 or victim.pause():
    if not victim.wait_until(
        lambda: bool(victim.unfinished()), _POLL_FAST_SECONDS
    ):
      return False
    if not victim.kill():
      return False
    if victim.unfinished():
      return True
    victim.start()  # The kill came a moment too late.
  return False


def _stop(victim: Victim, number: int) -> bool:
  """Sends a signal at which the run saves itself."""
  if not victim.pause():
    return False
  victim.forget_log()
  victim.send(number)
  code, name = victim.ended(loses_nothing=True), signal.Signals(number).name
  if code == 0:
    return False
  if code != 128 + number and victim.is_complete:
    victim.start()  # The signal came after the end, when nothing handled it.
    return False
  if code != 128 + number:
    raise LostError(f'exit code {code} after {name}\n{victim.said()}')
  for words in (f'Stopped by {name}', 'everything up to there', _RESUME):
    if words not in victim.said():
      victim.complaints.append(f'after {name} it did not say {words!r}')
  return True


def sigterm(victim: Victim) -> bool:
  return _stop(victim, signal.SIGTERM)


def sigint(victim: Victim) -> bool:
  return _stop(victim, signal.SIGINT)


def sigint_twice(victim: Victim) -> bool:
  """Sends a second SIGINT before the first one has ended the run."""
  if not victim.pause():
    return False
  victim.forget_log()
  victim.send(signal.SIGINT)
  victim.wait_until(lambda: 'Got SIGINT' in victim.said(), _POLL_FAST_SECONDS)
  time.sleep(victim.rng.uniform(0.0, 0.1))
  victim.send(signal.SIGINT)
  code = victim.ended()
  # Once everything is saved, the second signal ends the process itself.
  if code not in (0, 128 + signal.SIGINT, -signal.SIGINT):
    raise LostError(f'exit code {code} after SIGINT twice\n{victim.said()}')
  if code == -signal.SIGINT and victim.is_complete:
    victim.start()
    return False
  return code != 0


def _damage(victim: Victim, harm: Callable[[str, Victim], None]) -> bool:
  """Kills, and harms a file of the newest checkpoint or of its rows."""
  victim.pause()
  if not victim.wait_until(lambda: len(victim.whole()) >= 2):
    return False
  if not victim.kill():
    return False
  victim.forget_log()
  number = victim.whole()[-1]
  folder = victim.path_of(number)
  with open(os.path.join(folder, 'manifest.json'), encoding='utf-8') as f:
    rows = json.load(f)['content']['segments']
  segments = [
      os.path.join(victim.checkpoints, 'rows', name, f'{s[0]:012d}-{s[1]:012d}')
      for name, found in rows.items()
      for s in found
  ]
  if segments and victim.rng.random() < 0.5:
    folder = f'{victim.rng.choice(segments)}.{victim.rng.choice(["a", "b"])}'
    victim.expect(re.escape(folder) + '.*its second copy is taken')
  else:
    victim.damage(number)
    victim.expect(f'Damaged checkpoint {number}: .*Going back to checkpoint')
  harm(str(victim.rng.choice(_files(folder))), victim)
  return True


def _files(folder: str) -> list[str]:
  """Files below a folder that are not empty."""
  paths = [
      os.path.join(root, name)
      for root, _, names in os.walk(folder)
      for name in names
  ]
  return sorted(path for path in paths if os.path.getsize(path))


def truncate(victim: Victim) -> bool:
  def harm(path: str, victim: Victim) -> None:
    os.truncate(path, int(victim.rng.integers(os.path.getsize(path))))

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
  """Fills the disk until a checkpoint has failed, and for a while after."""
  assert victim.has_own_disk
  if not victim.pause():
    return False
  victim.forget_log()
  path = os.path.join(victim.disk, 'ballast')
  with open(path, 'ab', buffering=0) as ballast:

    def has_failed() -> bool:
      # Fills space that became free meanwhile, too.
      for size in (1 << 20, 1 << 12):
        try:
          while ballast.write(bytes(size)):
            pass
        except OSError:
          pass
      words = 'Checkpoint .* was not written'
      return re.search(words, victim.said()) is not None

    failed = victim.wait_until(has_failed)
    beats = victim.beats + UNDER_WAY
    victim.wait_until(lambda: victim.beats >= beats)
  os.remove(path)
  if failed and 'No space left' not in victim.said():
    victim.complaints.append('it did not say that no space is left')
  if failed and victim.exit_code is None:
    victim.wait_for_checkpoint()
    return True
  if victim.exit_code:
    raise LostError(f'exit code {victim.exit_code}, full\n{victim.said()}')
  if not victim.is_complete:
    victim.complaints.append(
        'it ended with exit code 0 on a full disk, and its end was not saved'
    )
    victim.ended()
    victim.start()
  return failed


def clock(victim: Victim) -> bool:
  """Sets the wall clock forward and back; checkpoints still come in time."""
  if not victim.pause():
    return False
  for sign in victim.rng.permutation([1, -1]):
    days = int(victim.rng.integers(1, 400))
    victim.board['wrong_seconds'] = int(sign) * days * SECONDS_PER_DAY
    victim.wait_for_checkpoint()
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
