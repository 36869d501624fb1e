"""Downloads teachers at gs:// addresses into a cache folder."""

from __future__ import annotations

import os
from typing import Optional

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs import download
from reincarnating_rl.storage.gcs import listing
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.teachers.errors import TeacherError

PREFIX = addresses.SCHEME


def fetch(
    url: str,
    checkpoint_number: Optional[int] = None,
    folder: Optional[str] = None,
    *,
    checkpoint_file_prefix: str = 'ckpt',
    with_replay: bool = True,
) -> str:
  """Copies one checkpoint of a teacher to this machine, once.

  A numbered checkpoint that is there already costs no request. Without a
  number, the bucket is asked for the newest one; if it cannot be reached, the
  newest local one is used, with a warning.

  Args:
    url: 'gs://...' address of a run directory or its checkpoints/ folder.
    checkpoint_number: number of the checkpoint; None = the newest complete one.
    folder: folder to copy to; None = `cache_folder()`.
    checkpoint_file_prefix: prefix of Dopamine's checkpoint files.
    with_replay: True to copy the teacher's data, too.

  Returns:
    The run directory on this machine, FOLDER/<bucket>/<path>.

  Raises:
    TeacherError: one sentence that says what went wrong and what to do.
  """
  try:
    source = listing.run_address(addresses.parse(url))
    outcome = download.download(
        source,
        cache_folder() if folder is None else folder,
        f'{source.bucket}/{source.path}'.rstrip('/'),
        listing.NEWEST if checkpoint_number is None else checkpoint_number,
        replay=with_replay,
        prefix=checkpoint_file_prefix,
    )
  except BucketError as e:
    raise TeacherError(str(e)) from e
  return outcome.directory


def cache_folder() -> str:
  """Returns the cache folder of downloaded teachers."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(cache, 'reincarnating_rl', 'teachers')
