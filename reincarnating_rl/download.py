"""Copies teachers out of a bucket of Google Cloud Storage.

  python -m reincarnating_rl.download --list
  python -m reincarnating_rl.download --game Breakout --run 1 --list
  python -m reincarnating_rl.download --game Breakout --run 1 \\
    --checkpoint 399 --to DIR
  python -m reincarnating_rl.download gs://BUCKET/PATH/Breakout/1 --to DIR

The files lie in DIR/Breakout/1, which is then a teacher. What is there
already, whole and unchanged, is not copied again; interrupted, the same
command goes on from there.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn, Sequence, Union

from absl import app
from absl import flags
from absl import logging

from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import client as client_lib
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import listing
from reincarnating_rl.storage.gcs import run_layout
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError

_GAME = flags.DEFINE_string('game', None, 'Game, such as Breakout.')
_RUN = flags.DEFINE_string('run', None, 'Run of the game, such as 1.')
_CHECKPOINT = flags.DEFINE_string(
    'checkpoint',
    None,
    "Only this checkpoint: its number, or 'newest'. Default: the whole run.",
)
_TO = flags.DEFINE_string('to', None, 'Folder to copy to.')
_BUCKET = flags.DEFINE_string(
    'bucket', 'gs://rl_checkpoints/DQN_400', 'Where the games are.'
)
_LIST = flags.DEFINE_bool(
    'list', False, 'Prints what is there, with sizes, and copies nothing.'
)
_REPLAY = flags.DEFINE_bool('replay', True, 'Copies the data to learn from.')
_CLIENT = flags.DEFINE_enum(
    'client',
    client_lib.AUTO,
    client_lib.NAMES,
    'gsutil, the Python package google-cloud-storage, or the first of the two '
    'that is installed.',
)
_VERIFY = flags.DEFINE_bool(
    'verify', False, 'Reads every file again and compares it with the bucket.'
)

# What a shell answers for a program that was interrupted.
_INTERRUPTED = 130


def where(argv: Sequence[str]) -> Address:
  """The place in a bucket that the command line names.

  Raises:
    UserError: if it names none, or two.
  """
  if len(argv) > 2:
    raise errors.UserError(
        f'{" ".join(argv[2:])} is one address too many: name one run at a time.'
    )
  if len(argv) == 2:
    if _GAME.value or _RUN.value:
      raise errors.UserError(
          f'{argv[1]} names a run, and so do --game and --run: leave one out.'
      )
    return listing.run_address(addresses.parse(argv[1]))
  address = addresses.parse(_BUCKET.value)
  if _RUN.value and not _GAME.value:
    raise errors.UserError(f'--run={_RUN.value} of which game? Add --game.')
  for name in (_GAME.value, _RUN.value):
    if name:
      address = addresses.parse(str(address.child(name)))
  return address


def checkpoint() -> Union[int, str]:
  """Which checkpoint the flags ask for.

  Raises:
    UserError: if it is no number.
  """
  text = _CHECKPOINT.value
  if text is None:
    return download.ALL
  if text == download.NEWEST:
    return text
  if not text.isdecimal():
    raise errors.UserError(
        f"--checkpoint is {text!r}: give a number such as 399, or 'newest'."
    )
  return int(text)


# -- listing -------------------------------------------------------------------


def print_listing(address: Address, wanted: Union[int, str]) -> None:
  """Prints games, runs of a game, or checkpoints or files of a run.

  Args:
    address: what to list.
    wanted: a checkpoint whose files are printed one by one, or ALL.
  """
  client = client_lib.choose(_CLIENT.value)
  folder = client.folder(address)
  if not folder.folders and not folder.files:
    raise listing.missing(client, address)
  if not listing.is_run(folder):
    for name in addresses.natural_order(folder.folders + folder.files):
      print(name if name.isprintable() else repr(name))
    return
  remote = listing.run_files(client, address)
  sizes = {name: file.size for name, file in remote.items()}
  if wanted != download.ALL:
    number = listing.pick(str(address), list(remote), wanted)
    selection = download.Selection(number, _REPLAY.value)
    sizes = {n: sizes[n] for n in listing.select(list(remote), selection)}
    for name in addresses.natural_order(list(sizes)):
      print(f'{files.size_text(sizes[name]):>12}  {name}')
  else:
    print(checkpoint_table(sizes))
  print(f'{len(sizes)} files, {files.size_text(sum(sizes.values()))}.')


def checkpoint_table(sizes: dict[str, int]) -> str:
  """One line for each checkpoint of a run.

  Args:
    sizes: of its files, by their paths within it.
  """
  lines = [f'{"checkpoint":>10}  {"size":>12}  {"replay":>12}']
  for number, entry in run_layout.checkpoints(sizes).items():
    size = files.size_text(sum(sizes[name] for name in entry.files))
    replay = files.size_text(sum(sizes[name] for name in entry.replay))
    replay = replay if entry.replay else '-'
    note = '' if entry.complete else '  incomplete: no sentinel'
    lines.append(f'{number:>10}  {size:>12}  {replay:>12}{note}')
  return '\n'.join(lines)


# -- copying -------------------------------------------------------------------


def check_flags(argv: Sequence[str]) -> None:
  """Checks that the command line says what to copy and where to.

  Raises:
    UserError: if it does not.
  """
  if len(argv) < 2 and not (_GAME.value and _RUN.value):
    lacking = '--run' if _GAME.value else '--game and --run'
    raise errors.UserError(
        f'Say which run to copy: {lacking} (--list prints what is there).'
    )
  if _TO.value is None:
    raise errors.UserError('Say where to copy to: --to=DIR.')


def copy(address: Address, wanted: Union[int, str]) -> download.Outcome:
  """Copies a run, or one checkpoint, to DIR/<game>/<run>."""
  name = '/'.join(address.path.split('/')[-2:]) or address.bucket
  return download.download(
      address,
      _TO.value,
      name,
      wanted,
      replay=_REPLAY.value,
      client=_CLIENT.value,
      verify=_VERIFY.value,
  )


def report(outcome: download.Outcome) -> str:
  """What a download has come to, and how to use it."""
  copied = 'nothing had to be copied'
  if outcome.copied_files:
    size = files.size_text(outcome.copied_size)
    copied = f'{outcome.copied_files} copied now, {size}'
  size = files.size_text(outcome.size)
  use = f'--teacher_checkpoint_dir={outcome.directory}'
  if outcome.checkpoint is not None:
    use += f' --teacher_checkpoint_number={outcome.checkpoint}'
  return f'{outcome.files} files, {size}, are verified ({copied}).\nUse: {use}'


def main(argv: Sequence[str]) -> None:
  wanted = checkpoint()
  if _LIST.value:
    print_listing(where(argv), wanted)
    return
  check_flags(argv)
  print(report(copy(where(argv), wanted)))


def run() -> None:
  """Runs the entry point as `command_line.run` does, but without jax."""

  def wrapped(argv: Sequence[str]) -> None:
    # A job scheduler's way to stop a program ends it as the user's does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
      main(argv)
    except (errors.UserError, BucketError) as e:
      _fail(f'Error: {e}', 1)
    except KeyboardInterrupt:
      _fail(
          'Stopped. What has arrived is kept: the same command goes on from '
          'there.',
          _INTERRUPTED,
      )
    except BrokenPipeError:
      # The reader of the listing has seen enough.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

  app.run(wrapped)


def _fail(message: str, code: int) -> NoReturn:
  logging.flush()
  print(message, file=sys.stderr)
  sys.exit(code)


if __name__ == '__main__':
  run()
