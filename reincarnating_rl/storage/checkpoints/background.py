"""A thread that executes jobs one after the other."""

from __future__ import annotations

from concurrent import futures
import threading
from typing import Callable

# Jobs in the queue before `submit` blocks; each may hold tens of megabytes.
_MAX_WAITING = 4


class Background:
  """Executes jobs in order; the next call raises the exception of a job."""

  def __init__(self) -> None:
    self._pool = futures.ThreadPoolExecutor(1, 'archive')
    self._places = threading.BoundedSemaphore(_MAX_WAITING)
    self._error: BaseException | None = None

  def submit(self, job: Callable[[], None]) -> None:
    """Queues a job; blocks while the queue is full.

    Raises:
      Exception: an earlier job's. Jobs handle expected errors themselves, so
        this is a bug.
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
    """Waits until all jobs are done, and ends the thread.

    Raises:
      Exception: as `submit` does.
    """
    self._pool.shutdown(wait=True)
    self._raise_error()

  def _raise_error(self) -> None:
    error, self._error = self._error, None
    if error is not None:
      raise error
