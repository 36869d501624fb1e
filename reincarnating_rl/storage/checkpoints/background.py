"""Jobs beside the work: one thread, one job after the other."""

from __future__ import annotations

from concurrent import futures
import threading
from typing import Callable

# Jobs that wait, each with some tens of megabytes, before work waits for them.
_MAX_WAITING = 4


class Background:
  """Does jobs in their order; what one of them raises comes out later."""

  def __init__(self):
    self._pool = futures.ThreadPoolExecutor(1, 'archive')
    self._places = threading.BoundedSemaphore(_MAX_WAITING)
    self._error: BaseException | None = None

  def submit(self, job: Callable[[], None]) -> None:
    """Does a job soon; waits if too many do already.

    Raises:
      Exception: what an earlier job raised: a job deals itself with what may
        happen to it, so this is a fault of the program.
    """
    self._raise_error()
    self._places.acquire()
    self._pool.submit(self._do, job)

  def _do(self, job: Callable[[], None]) -> None:
    try:
      job()
    except BaseException as e:  # pylint: disable=broad-exception-caught
      self._error = e
    finally:
      self._places.release()

  def wait(self) -> None:
    """Waits until all jobs are done.

    Raises:
      Exception: as `submit` does.
    """
    self._pool.submit(lambda: None).result()
    self._raise_error()

  def close(self) -> None:
    """Waits until all jobs are done, and takes no more.

    Raises:
      Exception: as `submit` does.
    """
    self._pool.shutdown(wait=True)
    self._raise_error()

  def _raise_error(self) -> None:
    error, self._error = self._error, None
    if error is not None:
      raise error
