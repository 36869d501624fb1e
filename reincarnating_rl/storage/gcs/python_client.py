"""Lists and copies with google-cloud-storage, anonymously."""

from __future__ import annotations

from typing import Any, Optional

from reincarnating_rl.storage.gcs import download_threads
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.client import Folder
from reincarnating_rl.storage.gcs.client import Job
from reincarnating_rl.storage.gcs.client import RemoteFile
from reincarnating_rl.storage.gcs.errors import BucketError
from reincarnating_rl.storage.gcs.errors import Unreachable

_TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two packets
_LIST_SECONDS = 10.0  # of trying to list
_LISTED = 'items(name,size,crc32c,generation,contentEncoding)'


def is_installed() -> bool:
  """Whether google-cloud-storage can be imported."""
  try:
    import google.cloud.storage  # noqa: F401
  except ImportError:
    return False
  return True


class PythonClient:
  """The google-cloud-storage client."""

  def __init__(self):
    from google.cloud import storage

    self._client = storage.Client.create_anonymous_client()

  def folder(self, address: Address) -> Folder:
    """As in `clients.Client`."""
    blobs, prefixes = self._list(address, '/', 'items(name)')
    skip = len(address.prefix)
    names = [blob.name[skip:] for blob in blobs]
    return Folder(
        [prefix[skip:-1] for prefix in prefixes],
        [name for name in names if name],
    )

  def files(self, address: Address) -> list[RemoteFile]:
    """As in `clients.Client`."""
    blobs, _ = self._list(address, None, _LISTED)
    return [
        RemoteFile(
            address=Address(address.bucket, blob.name),
            size=blob.size,
            crc32c=blob.crc32c,
            generation=str(blob.generation),
            encoding=blob.content_encoding or '',
        )
        for blob in blobs
    ]

  def bytes_there(self, file: RemoteFile, place: str) -> int:
    """As in `clients.Client`."""
    size = download_threads.size_of(download_threads.part_of(file, place))
    return size if size <= file.size else 0

  def copy(self, job: Job) -> None:
    """As in `clients.Client`; several files side by side."""
    download_threads.Crew(self.stream, job).work()

  def _list(
      self, address: Address, delimiter: Optional[str], fields: str
  ) -> tuple[list[Any], list[str]]:
    """Objects below an address, and the folders if there is a delimiter."""
    from google.api_core import exceptions
    from google.cloud.storage.retry import DEFAULT_RETRY
    import requests

    try:
      pages = self._client.list_blobs(
          address.bucket,
          prefix=address.prefix or None,
          delimiter=delimiter,
          fields=f'{fields},prefixes,nextPageToken',
          timeout=_TIMEOUTS,
          retry=DEFAULT_RETRY.with_timeout(_LIST_SECONDS),
      )
      return list(pages), sorted(pages.prefixes)
    except exceptions.NotFound as e:
      raise BucketError(f'There is no bucket gs://{address.bucket}.') from e
    except (exceptions.Forbidden, exceptions.Unauthorized) as e:
      raise BucketError(
          f'{address} is closed to anonymous readers: name another bucket, or '
          'take --client gsutil with an account that may read it.'
      ) from e
    except (exceptions.GoogleAPIError, requests.RequestException) as e:
      raise Unreachable(
          f'{address} cannot be listed ({download_threads.in_short(e)}): '
          'check the network, and repeat the command.'
      ) from e

  def stream(self, file: RemoteFile, sink: Any, start: int) -> None:
    """Sends the bytes of a file from one on to `sink.write`.

    Any exception of google-cloud-storage, requests, or of the sink.
    """
    bucket = self._client.bucket(file.address.bucket)
    blob = bucket.blob(file.address.path, generation=int(file.generation))
    blob.download_to_file(
        sink,
        start=start or None,
        raw_download=True,  # as stored: what the checksum is of
        checksum=None,  # that of the whole file is compared when it is whole
        timeout=_TIMEOUTS,
        retry=None,  # the crew's own goes on where it broke
    )
