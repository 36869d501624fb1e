"""Writers of films: MP4 for talks, GIF for web pages."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Optional, Protocol

import numpy as np
from PIL import Image

from reincarnating_rl.base import files

# PyAV brings its own encoder; half the size of packages that bring a program.
# PyAV ships its encoder, in half the size of packages that ship ffmpeg.
_HOW_TO_INSTALL = "pip install 'reincarnating_rl[video]' (the package av)"
_QUALITY = '23'  # x264's constant rate factor: text stays sharp
_COLORS = 128
_PICTURES_LOOKED_AT = 8


class MissingEncoderError(RuntimeError):
  """No encoder for this kind of file is installed; one sentence."""


class Writer(Protocol):
  """Writes one file, picture by picture."""

  def add(self, image: Image.Image) -> None:
    """Appends a picture."""

  def close(self) -> None:
    """Finishes the file and gives it its final name."""

  def discard(self) -> None:
    """Removes the unfinished file."""


class Mp4Writer:
  """Writes H.264 in an MP4, which browsers and slides play."""

  def __init__(self, path: str, size: tuple[int, int], fps: int):
    """Opens a file.

    Args:
      path: path of the file.
      size: (width, height) of the pictures, both even.
      fps: pictures per second.

    Raises:
      MissingEncoderError: if PyAV is not installed.
      OSError: if the file cannot be written.
    """
    try:
      import av
    except ImportError as e:
      raise MissingEncoderError(
          f'An MP4 needs an encoder that is not installed: {_HOW_TO_INSTALL}.'
      ) from e
    self._av, self._path = av, path
    self._file = av.open(
        path + files.UNFINISHED,
        'w',
        format='mp4',
        options={'movflags': '+faststart'},
    )
    self._stream = self._file.add_stream(
        'libx264', rate=fps, options={'crf': _QUALITY, 'preset': 'fast'}
    )
    self._stream.width, self._stream.height = size
    self._stream.pix_fmt = 'yuv420p'

  def add(self, image: Image.Image) -> None:
    self._encode(self._av.VideoFrame.from_ndarray(np.asarray(image), 'rgb24'))

  def close(self) -> None:
    self._encode(None)
    self._file.close()
    files.move_file(self._path + files.UNFINISHED, self._path)

  def discard(self) -> None:
    with contextlib.suppress(OSError):
      self._file.close()
    _remove(self._path + files.UNFINISHED)

  def _encode(self, frame: Optional[Any]) -> None:
    """Encodes a picture; None flushes the encoder."""
    for packet in self._stream.encode(frame):
      self._file.mux(packet)


class GifWriter:
  """Writes a GIF of the first pictures, in half the size.

  All pictures share a palette, so that unchanged areas take no space.
  """

  def __init__(self, path: str, fps: int, every: int, most: int):
    """Prepares a file, which `close` writes.

    Args:
      path: path of the file.
      fps: pictures per second that are added.
      every: keep one of this many pictures.
      most: largest number of pictures to keep.
    """
    self._path = path
    self._milliseconds = round(1000 * every / fps)
    self._every, self._most = every, most
    self._added = 0
    self._pictures: list[Image.Image] = []

  def add(self, image: Image.Image) -> None:
    self._added += 1
    if (self._added - 1) % self._every or len(self._pictures) >= self._most:
      return
    self._pictures.append(image.reduce(2))

  def close(self) -> None:
    palette = _common_colors(self._pictures)
    first, *others = (
        picture.quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in self._pictures
    )
    first.save(
        self._path + files.UNFINISHED,
        'GIF',
        save_all=True,
        append_images=others,
        duration=self._milliseconds,
        loop=0,
    )
    files.move_file(self._path + files.UNFINISHED, self._path)

  def discard(self) -> None:
    _remove(self._path + files.UNFINISHED)


def _remove(path: str) -> None:
  """Removes a file if it exists."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)


def _common_colors(pictures: list[Image.Image]) -> Image.Image:
  """Palette of some evenly spread pictures, as an image."""
  places = np.linspace(0, len(pictures) - 1, _PICTURES_LOOKED_AT).astype(int)
  width, height = pictures[0].size
  sheet = Image.new('RGB', (width, height * len(places)))
  for i, place in enumerate(places):
    sheet.paste(pictures[place], (0, i * height))
  return sheet.quantize(_COLORS, Image.Quantize.MEDIANCUT)
