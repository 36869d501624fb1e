"""A small Google Cloud Storage on loopback, with faults to order.

It speaks what gsutil asks of the JSON API when it lists and downloads: pages of
listings with prefix and delimiter, metadata, media with ranges and generations.
Objects live in memory; every request is recorded. gsutil insists on https: the
emulator makes a certificate, `boto_config` writes the settings that lead gsutil
to it.

Run as a program it serves a folder, bucket by bucket, until it is ended:

  python tests/helpers/gcs_emulator.py FOLDER [PORT]
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import http.server
import ipaddress
import json
import pathlib
import re
import ssl
import sys
import threading
import time
from typing import Any, NamedTuple, Optional
import urllib.parse

import google_crc32c

_OBJECTS = re.compile(r'^(?:/download)?/storage/v1/b/([^/]+)/o(?:/([^/]+))?$')
_RANGE = re.compile(r'^bytes=(\d+)-(\d*)$')
_CHUNK = 16 * 1024


@dataclasses.dataclass
class Faults:
  """What goes wrong with an object; lists are used up from the front.

  Attributes:
    break_after: bytes of the body after which the connection ends.
    statuses: answers instead of the object.
    corrupt: whether the bytes that are sent differ from the stored ones.
    missing: whether it is listed, but is not there.
    seconds_per_chunk: how slowly the body is sent, for each 16 KiB.
  """

  break_after: list[int] = dataclasses.field(default_factory=list)
  statuses: list[int] = dataclasses.field(default_factory=list)
  corrupt: bool = False
  missing: bool = False
  seconds_per_chunk: float = 0.0


@dataclasses.dataclass
class StoredObject:
  """One object.

  Attributes:
    data: its bytes.
    generation: grows with each upload.
    content_encoding: '' or 'gzip'.
    faults: what goes wrong when it is fetched.
  """

  data: bytes
  generation: int
  content_encoding: str = ''
  faults: Faults = dataclasses.field(default_factory=Faults)


class Request(NamedTuple):
  """One request as it came."""

  bucket: str
  name: str  # '' for a listing
  media: bool
  range: str
  sent: int  # bytes of the body


class Emulator:
  """Serves buckets on a port of 127.0.0.1 while it is entered."""

  def __init__(
      self, folder: pathlib.Path, page_size: int = 1000, port: int = 0
  ):
    """Makes an empty store.

    Args:
      folder: where cert.pem and key.pem are written.
      page_size: of listings at most; small ones exercise the pages.
      port: 0 for a free one.
    """
    self.page_size = page_size
    self.buckets: dict[str, dict[str, StoredObject]] = {}
    self.requests: list[Request] = []
    self.listing_statuses: list[int] = []
    self._generation = 1_700_000_000_000_000
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    self.certificate, key = write_certificate(folder)
    context.load_cert_chain(self.certificate, key)
    self._server = _serve(self, port, context)

  @property
  def port(self) -> int:
    return self._server.server_address[1]

  def __enter__(self) -> Emulator:
    return self

  def __exit__(self, *unused: Any) -> None:
    self._server.shutdown()
    self._server.server_close()

  def put(self, url: str, data: bytes, **attributes: Any) -> StoredObject:
    """Stores an object under 'gs://bucket/name'; replaces an older one."""
    bucket, _, name = url.removeprefix('gs://').partition('/')
    self._generation += 1
    stored = StoredObject(data, self._generation, **attributes)
    self.buckets.setdefault(bucket, {})[name] = stored
    return stored

  def put_folder(self, url: str, folder: pathlib.Path) -> None:
    """Stores every file of a folder below 'gs://bucket/prefix'."""
    for path in sorted(folder.rglob('*')):
      if path.is_file():
        name = path.relative_to(folder).as_posix()
        self.put(f'{url}/{name}', path.read_bytes())

  def get(self, url: str) -> StoredObject:
    bucket, _, name = url.removeprefix('gs://').partition('/')
    return self.buckets[bucket][name]

  def media_requests(self) -> list[Request]:
    return [request for request in self.requests if request.media]

  def bytes_sent(self) -> int:
    return sum(request.sent for request in self.media_requests())


def _serve(
    emulator: Emulator, port: int, context: ssl.SSLContext
) -> http.server.ThreadingHTTPServer:
  handler = type('Handler', (_Handler,), {'emulator': emulator})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', port), handler)
  server.daemon_threads = True
  server.handle_error = lambda *unused: None  # clients that were killed
  server.socket = context.wrap_socket(server.socket, server_side=True)
  thread = threading.Thread(
      target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True
  )
  thread.start()
  return server


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers for one connection."""

  protocol_version = 'HTTP/1.1'
  disable_nagle_algorithm = True  # else 40 ms between headers and body
  emulator: Emulator

  def log_message(self, *unused: Any) -> None:
    pass

  def do_GET(self) -> None:
    parsed = urllib.parse.urlsplit(self.path)
    match = _OBJECTS.match(parsed.path)
    query = dict(urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))
    bucket = urllib.parse.unquote(match.group(1)) if match else ''
    if bucket not in self.emulator.buckets:
      self._error(404, 'The specified bucket does not exist.')
    elif match.group(2) is None:
      self._list(bucket, query)
    else:
      self._object(bucket, urllib.parse.unquote(match.group(2)), query)

  def _list(self, bucket: str, query: dict[str, str]) -> None:
    self._record(bucket, '', False, 0)
    if self.emulator.listing_statuses:
      self._error(self.emulator.listing_statuses.pop(0), 'as ordered')
      return
    prefix, delimiter = query.get('prefix', ''), query.get('delimiter', '')
    entries = set()  # (name, whether it is a common prefix)
    for name in self.emulator.buckets[bucket]:
      if not name.startswith(prefix):
        continue
      head, found, _ = name[len(prefix) :].partition(delimiter or '\0\0')
      entries.add((prefix + head + delimiter, True) if found else (name, False))
    size = min(self.emulator.page_size, int(query.get('maxResults', 1000)))
    start = int(query.get('pageToken') or 0)
    ordered = sorted(entries)
    page = ordered[start : start + size]
    items = [
        self._metadata(bucket, name)
        for name, is_prefix in page
        if not is_prefix
    ]
    answer: dict[str, Any] = {'kind': 'storage#objects', 'items': items}
    answer['prefixes'] = [name for name, is_prefix in page if is_prefix]
    if start + size < len(ordered):
      answer['nextPageToken'] = str(start + size)
    self._answer(200, json.dumps(answer).encode())

  def _metadata(self, bucket: str, name: str) -> dict[str, Any]:
    stored = self.emulator.buckets[bucket][name]
    checksum = google_crc32c.Checksum(stored.data).digest()
    base = f'https://{self.headers.get("Host")}'
    path = f'b/{bucket}/o/{urllib.parse.quote(name, safe="")}'
    metadata = {
        'kind': 'storage#object',
        'id': f'{bucket}/{name}/{stored.generation}',
        'bucket': bucket,
        'name': name,
        'generation': str(stored.generation),
        'metageneration': '1',
        'contentType': 'application/octet-stream',
        'storageClass': 'STANDARD',
        'size': str(len(stored.data)),
        'crc32c': base64.b64encode(checksum).decode(),
        'etag': str(stored.generation),
        'timeCreated': '2022-06-01T00:00:00.000Z',
        'updated': '2022-06-01T00:00:00.000Z',
        'mediaLink': f'{base}/download/storage/v1/{path}?alt=media',
    }
    if stored.content_encoding:
      metadata['contentEncoding'] = stored.content_encoding
    return metadata

  def _object(self, bucket: str, name: str, query: dict[str, str]) -> None:
    stored = self.emulator.buckets[bucket].get(name)
    media = query.get('alt') == 'media'
    wanted = query.get('generation')
    gone = stored is None or wanted not in (None, str(stored.generation))
    if gone or (media and stored.faults.missing):
      self._record(bucket, name, media, 0)
      self._error(404, f'No such object: {bucket}/{name}')
    elif not media:
      self._record(bucket, name, media, 0)
      self._answer(200, json.dumps(self._metadata(bucket, name)).encode())
    elif stored.faults.statuses:
      self._record(bucket, name, media, 0)
      self._error(stored.faults.statuses.pop(0), 'as ordered')
    else:
      self._media(bucket, name, stored)

  def _media(self, bucket: str, name: str, stored: StoredObject) -> None:
    """Sends the bytes, or those of a range, and what goes wrong with them."""
    data = stored.data
    if stored.faults.corrupt:
      data = bytes([data[0] ^ 0xFF]) + data[1:]
    match = _RANGE.match(self.headers.get('Range', ''))
    start = int(match.group(1)) if match else 0
    stop = int(match.group(2) or len(data)) + 1 if match else len(data)
    if match and start >= len(data):
      self._record(bucket, name, True, 0)
      self._error(416, 'Requested range not satisfiable')
      return
    body = data[start:stop]
    self.send_response(206 if match else 200)
    if match:
      end = start + len(body) - 1
      self.send_header('Content-Range', f'bytes {start}-{end}/{len(data)}')
    self.send_header('Content-Type', 'application/octet-stream')
    self.send_header('Content-Length', str(len(body)))
    self.send_header('X-Goog-Generation', str(stored.generation))
    if stored.content_encoding:
      self.send_header('Content-Encoding', stored.content_encoding)
    self.end_headers()
    sent = 0
    limit = len(body)
    if stored.faults.break_after:
      limit = stored.faults.break_after.pop(0)
    try:
      while sent < min(limit, len(body)):
        chunk = body[sent : min(sent + _CHUNK, limit)]
        self.wfile.write(chunk)
        sent += len(chunk)
        time.sleep(stored.faults.seconds_per_chunk)
    finally:
      self._record(bucket, name, True, sent)
    if sent < len(body):
      self.close_connection = True

  def _record(self, bucket: str, name: str, media: bool, sent: int) -> None:
    asked = self.headers.get('Range', '')
    self.emulator.requests.append(Request(bucket, name, media, asked, sent))

  def _error(self, status: int, message: str) -> None:
    error = {'code': status, 'message': message}
    error['errors'] = [{'message': message, 'reason': 'ordered'}]
    self._answer(status, json.dumps({'error': error}).encode())

  def _answer(self, status: int, body: bytes) -> None:
    self.send_response(status)
    self.send_header('Content-Type', 'application/json; charset=UTF-8')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)


def write_certificate(folder: pathlib.Path) -> tuple[str, str]:
  """Writes cert.pem and key.pem of 127.0.0.1; returns their paths."""
  from cryptography import x509
  from cryptography.hazmat.primitives import hashes
  from cryptography.hazmat.primitives import serialization
  from cryptography.hazmat.primitives.asymmetric import ec

  key = ec.generate_private_key(ec.SECP256R1())
  name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, '127.0.0.1')])
  now = datetime.datetime.now(datetime.UTC)
  address = x509.IPAddress(ipaddress.ip_address('127.0.0.1'))
  certificate = (
      x509.CertificateBuilder()
      .subject_name(name)
      .issuer_name(name)
      .public_key(key.public_key())
      .serial_number(x509.random_serial_number())
      .not_valid_before(now - datetime.timedelta(days=1))
      .not_valid_after(now + datetime.timedelta(days=1))
      .add_extension(x509.SubjectAlternativeName([address]), critical=False)
      .add_extension(x509.BasicConstraints(True, None), critical=True)
      .sign(key, hashes.SHA256())
  )
  pem = serialization.Encoding.PEM
  (folder / 'cert.pem').write_bytes(certificate.public_bytes(pem))
  (folder / 'key.pem').write_bytes(
      key.private_bytes(
          pem,
          serialization.PrivateFormat.PKCS8,
          serialization.NoEncryption(),
      )
  )
  return str(folder / 'cert.pem'), str(folder / 'key.pem')


def boto_config(
    folder: pathlib.Path, emulator: Emulator, port: Optional[int] = None
) -> pathlib.Path:
  """Writes the file that BOTO_CONFIG names, so that gsutil asks the emulator.

  Args:
    folder: where the file and gsutil's state lie.
    emulator: whom to trust.
    port: to talk to, None for the emulator's.
  """
  path = folder / 'boto.cfg'
  path.write_text(
      '[Credentials]\n'
      'gs_json_host = 127.0.0.1\n'
      f'gs_json_port = {port or emulator.port}\n'
      '[Boto]\n'
      f'ca_certificates_file = {emulator.certificate}\n'
      'num_retries = 1\n'
      '[GSUtil]\n'
      f'state_dir = {folder / "state"}\n'
      'resumable_threshold = 100000\n'
      'software_update_check_period = 0\n'
  )
  return path


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
  with Emulator(folder, port=port) as emulator:
    for bucket in sorted(p for p in folder.iterdir() if p.is_dir()):
      emulator.put_folder(f'gs://{bucket.name}', bucket)
    print(f'BOTO_CONFIG={boto_config(folder, emulator)}', flush=True)
    threading.Event().wait()


if __name__ == '__main__':
  main()
