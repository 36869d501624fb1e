"""The pieces of TensorFlow that Dopamine's JAX side uses, in plain Python.

Files are local ones, errors are those of the operating system, summaries go
to an `EventFile`. `PIECES` says which name of TensorFlow each stands for.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import glob
import os
from typing import Any, Iterator, Optional, Union

from reincarnating_rl.dopamine_bridge.event_file import EventFile


class File:
  """A file that is opened when it is first used, as TensorFlow's are.

  So one that is only ever opened and closed is not emptied.
  """

  def __init__(self, name: str, mode: str = 'r'):
    self._name = name
    # Who writes may hand over str and bytes, whatever the mode.
    self._mode = mode if mode.startswith('r') else mode[0] + 'b'

  @functools.cached_property
  def _file(self) -> Any:
    return open(self._name, self._mode)

  def __getattr__(self, name: str) -> Any:
    if name.startswith('__'):
      raise AttributeError(name)
    return getattr(self._file, name)

  def __iter__(self) -> Iterator[Any]:
    return iter(self._file)

  def __enter__(self) -> File:
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def write(self, data: Union[str, bytes]) -> None:
    self._file.write(data.encode() if isinstance(data, str) else data)

  def close(self) -> None:
    if '_file' in self.__dict__:
      self._file.close()


_writer: contextvars.ContextVar[Optional[EventFile]] = contextvars.ContextVar(
    'writer', default=None
)


class SummaryWriter(EventFile):
  """Events that `scalar` writes while it is the default."""

  @contextlib.contextmanager
  def as_default(self, step: Optional[int] = None) -> Iterator[SummaryWriter]:
    del step
    token = _writer.set(self)
    try:
      yield self
    finally:
      _writer.reset(token)


def scalar(name: str, data: Any, step: Optional[int] = None) -> None:
  """Adds a value to the default's events; without one, to nothing."""
  writer = _writer.get()
  if writer is not None:
    writer.scalar(name, float(data), step or 0)


PIECES = {
    'tensorflow.compat.v1.enable_v2_behavior': lambda: None,
    'tensorflow.errors.AlreadyExistsError': FileExistsError,
    'tensorflow.errors.NotFoundError': FileNotFoundError,
    'tensorflow.errors.OpError': OSError,
    'tensorflow.errors.PermissionDeniedError': PermissionError,
    'tensorflow.io.gfile.GFile': File,
    'tensorflow.io.gfile.exists': os.path.exists,
    'tensorflow.io.gfile.glob': glob.glob,
    'tensorflow.io.gfile.isdir': os.path.isdir,
    'tensorflow.io.gfile.listdir': os.listdir,
    'tensorflow.io.gfile.makedirs': functools.partial(
        os.makedirs, exist_ok=True
    ),
    'tensorflow.io.gfile.remove': os.remove,
    'tensorflow.summary.create_file_writer': SummaryWriter,
    'tensorflow.summary.scalar': scalar,
}
