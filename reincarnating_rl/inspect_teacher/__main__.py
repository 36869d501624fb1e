"""Describes a teacher: its files, network, score, and data.

python -m reincarnating_rl.inspect_teacher DIR [--json] [--figure FILE.png]

DIR is what `train --teacher_checkpoint_dir` takes. Reading the frames of the
teacher's data takes a minute per million; --noread_replay skips it. Then only
the number of frames is printed, and the figure shows states of random play.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Sequence

from absl import flags

from reincarnating_rl.base import command_line
from reincarnating_rl.base import errors
from reincarnating_rl.base import tables
from reincarnating_rl.inspect_teacher import figure
from reincarnating_rl.inspect_teacher import text


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of the entry point in a set of flag values."""
  flags.DEFINE_integer(
      'checkpoint',
      None,
      'Number of the checkpoint; default: the newest complete one.',
      flag_values=values,
  )
  flags.DEFINE_string(
      'checkpoint_file_prefix',
      'ckpt',
      "Prefix of the teacher's checkpoint files (`ckpt` or `tf_ckpt`).",
      flag_values=values,
  )
  flags.DEFINE_bool(
      'json',
      False,
      'Print one JSON object instead of text.',
      flag_values=values,
  )
  flags.DEFINE_string(
      'figure',
      None,
      'File to draw states and Q-values to; it ends in '
      f'{", ".join(figure.FILE_TYPES)}.',
      flag_values=values,
  )
  flags.DEFINE_bool(
      'read_replay',
      True,
      "Read the teacher's data, frames included.",
      flag_values=values,
  )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> None:
  """Prints the facts of a teacher."""
  if len(argv) != 2:
    raise errors.UserError(
        'Name one teacher: reincarnating_rl.inspect_teacher DIR, where DIR is '
        "a run directory, a gs:// address or 'bundled:Pong'."
    )
  with errors.user_errors(), contextlib.redirect_stdout(sys.stderr):
    from reincarnating_rl.inspect_teacher import inspection

    document = inspection.inspect(
        argv[1],
        checkpoint=values.checkpoint,
        checkpoint_file_prefix=values.checkpoint_file_prefix,
        read_replay=values.read_replay,
        figure=values.figure,
    )
  print(tables.json_line(document) if values.json else text.to_text(document))


if __name__ == '__main__':
  define_flags()
  # The output repeats what the log says; --verbosity=0 shows the log.
  flags.FLAGS.set_default('verbosity', -1)
  command_line.run(main)
