"""Downloads teachers from Google Cloud Storage.

  python -m reincarnating_rl.download --list
  python -m reincarnating_rl.download --game Breakout --run 1 --list
  python -m reincarnating_rl.download --game Breakout --run 1 \\
    --checkpoint 399 --to DIR
  python -m reincarnating_rl.download gs://BUCKET/PATH/Breakout/1 --to DIR

The files lie in DIR/Breakout/1, which is then a teacher. Files that are there
unchanged are not copied again; the same command resumes an interrupted
download. gsutil copies: pip install gsutil.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn, Sequence, Union

from absl import app
from absl import flags
from absl import logging

from reincarnating_rl.base import errors
from reincarnating_rl.base import files
from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import gsutil
from reincarnating_rl.storage.gcs import listing
from reincarnating_rl.storage.gcs import run_layout
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError

# Exit code of a program that was interrupted, as shells use it.
_INTERRUPTED = 130


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of this entry point; called once per set of values."""
  new: Any = {'flag_values': values}
  flags.DEFINE_string('game', None, 'Game, such as Breakout.', **new)
  flags.DEFINE_string('run', None, 'Run of the game, such as 1.', **new)
  flags.DEFINE_string(
      'checkpoint',
      None,
      "Only this checkpoint: a number, or 'newest'. Default: the whole run.",
      **new,
  )
  flags.DEFINE_string('to', None, 'Folder to copy to.', **new)
  flags.DEFINE_string(
      'bucket', 'gs://rl_checkpoints/DQN_400', 'Folder of the games.', **new
  )
  flags.DEFINE_bool(
      'list', False, 'Print names and sizes, and copy nothing.', **new
  )
  flags.DEFINE_bool('replay', True, 'Copy the replay data, too.', **new)
  flags.DEFINE_bool(
      'verify', False, 'Read all files again and compare checksums.', **new
  )


def where(argv: Sequence[str], values: flags.FlagValues) -> Address:
  """Returns the address that the command line names.

  Args:
    argv: program and positional arguments.
    values: values of the flags.

  Raises:
    UserError: if it names none, or two.
  """
  if len(argv) > 2:
    raise errors.UserError(
        f'{" ".join(argv[2:])} is one address too many: name one run at a time.'
    )
  if len(argv) == 2:
    if values.game or values.run:
      raise errors.UserError(
          f'{argv[1]} names a run, and so do --game and --run: leave one out.'
      )
    return listing.run_address(addresses.parse(argv[1]))
  address = addresses.parse(values.bucket)
  if values.run and not values.game:
    raise errors.UserError(f'--run={values.run} of which game? Add --game.')
  for name in (values.game, values.run):
    if name:
      address = addresses.parse(str(address.child(name)))
  return address


def checkpoint(text: str | None) -> Union[int, str]:
  """Parses --checkpoint.

  Raises:
    UserError: if it is no number.
  """
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


def print_listing(
    address: Address, wanted: Union[int, str], replay: bool
) -> None:
  """Prints games, runs of a game, or checkpoints or files of a run.

  Args:
    address: address to list.
    wanted: a checkpoint whose files are printed one by one, or ALL.
    replay: True to print the files of the checkpoint's replay, too.
  """
  client = gsutil.find()
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
    selection = download.Selection(number, replay)
    sizes = {n: sizes[n] for n in listing.select(list(remote), selection)}
    for name in addresses.natural_order(list(sizes)):
      print(f'{files.size_text(sizes[name]):>12}  {name}')
  else:
    print(checkpoint_table(sizes))
  print(f'{len(sizes)} files, {files.size_text(sum(sizes.values()))}.')


def checkpoint_table(sizes: dict[str, int]) -> str:
  """Formats one line for each checkpoint of a run.

  Args:
    sizes: sizes of its files, by their paths within it.
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


def check_flags(argv: Sequence[str], values: flags.FlagValues) -> None:
  """Checks that the command line names a run and a folder.

  Raises:
    UserError: if it does not.
  """
  if len(argv) < 2 and not (values.game and values.run):
    lacking = '--run' if values.game else '--game and --run'
    raise errors.UserError(
        f'Say which run to copy: {lacking} (--list prints what is there).'
    )
  if values.to is None:
    raise errors.UserError('Say where to copy to: --to=DIR.')


def copy(
    address: Address, wanted: Union[int, str], values: flags.FlagValues
) -> download.Outcome:
  """Downloads a run, or one checkpoint of it, to DIR/<game>/<run>."""
  name = '/'.join(address.path.split('/')[-2:]) or address.bucket
  return download.download(
      address,
      values.to,
      name,
      wanted,
      replay=values.replay,
      verify=values.verify,
  )


def report(outcome: download.Outcome) -> str:
  """Says what was downloaded, and which flags use it."""
  copied = 'nothing had to be copied'
  if outcome.copied_files:
    size = files.size_text(outcome.copied_size)
    copied = f'{outcome.copied_files} copied now, {size}'
  size = files.size_text(outcome.size)
  use = f'--teacher_checkpoint_dir={outcome.directory}'
  if outcome.checkpoint is not None:
    use += f' --teacher_checkpoint_number={outcome.checkpoint}'
  return f'{outcome.files} files, {size}, are verified ({copied}).\nUse: {use}'


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  wanted = checkpoint(values.checkpoint)
  if values.list:
    print_listing(where(argv, values), wanted, values.replay)
    return
  check_flags(argv, values)
  print(report(copy(where(argv, values), wanted, values)))


def run(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  """Runs `main`; an error becomes one sentence on stderr and an exit code."""
  # Job schedulers end a program with SIGTERM, a user with SIGINT.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    main(argv, values)
  except (errors.UserError, BucketError) as e:
    _fail(f'Error: {e}', 1)
  except KeyboardInterrupt:
    _fail(
        'Stopped. What has arrived is kept: the same command goes on from '
        'there.',
        _INTERRUPTED,
    )
  except BrokenPipeError:
    # The reader of the listing, such as `head`, has closed it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> NoReturn:
  logging.flush()
  print(message, file=sys.stderr)
  sys.exit(code)


if __name__ == '__main__':
  define_flags()
  # Not `command_line.run`: that imports jax, which nothing here needs.
  app.run(run)
