"""ROM of a game: ale-py's own, or one from the user's folder.

Teachers from earlier years played ROM versions that ale-py no longer ships.
ale-py finds a game's ROM by one function that its environments share. `use`
changes its result, until the context `put_back` ends.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from typing import Iterator, NamedTuple

from absl import logging
from ale_py import roms

_SUFFIXES = ('.bin', '.a26', '.rom')
# The largest cartridges of the 2600 that the emulator knows have 64 KiB.
_MAX_ROM_BYTES = 2**16
_TRIAL_SECONDS = 60


class Rom(NamedTuple):
  """A ROM file.

  Attributes:
    path: path of the file.
    md5: checksum of its bytes.
    is_standard: True if ale-py ships this ROM for the game.
  """

  path: str
  md5: str
  is_standard: bool


@functools.lru_cache(maxsize=None)
def _shipped_path(name: str) -> str:
  """ale-py's own file; its folder, whatever the environment says."""
  return os.path.join(os.path.dirname(roms.__file__), f'{name}.bin')


def shipped(name: str) -> Rom:
  """The ROM that ale-py ships for a game, by ale-py's name ('ms_pacman')."""
  return _rom(_shipped_path(name), name)


def _rom(path: str, name: str) -> Rom:
  with open(path, 'rb') as f:
    md5 = hashlib.md5(f.read(_MAX_ROM_BYTES + 1)).hexdigest()
  with open(_shipped_path(name), 'rb') as f:
    standard = hashlib.md5(f.read()).hexdigest()
  return Rom(path, md5, md5 == standard)


def find(folder: str, name: str) -> Rom:
  """Finds a game's ROM in a folder.

  Args:
    folder: folder with files such as ms_pacman.bin; a file of another name
      counts if it is the ROM that ale-py ships.
    name: name of the game, as ale-py spells it.

  Raises:
    ValueError: if there is none, or the file is no ROM.
  """
  if not os.path.isdir(folder):
    raise ValueError(f'--atari_roms_path {folder} is not a folder.')
  by_name = [os.path.join(folder, name + suffix) for suffix in _SUFFIXES]
  for path in filter(os.path.isfile, by_name):
    rom = _rom(path, name)
    if not rom.is_standard:
      _check_plays(rom, name)
    return rom
  for entry in sorted(os.scandir(folder), key=lambda e: e.name):
    is_rom = entry.name.lower().endswith(_SUFFIXES) and entry.is_file()
    if is_rom and entry.stat().st_size <= _MAX_ROM_BYTES:
      rom = _rom(entry.path, name)
      if rom.is_standard:
        return rom
  raise ValueError(
      f'--atari_roms_path {folder} holds no ROM of the game ({name}.bin, or '
      f'any file with the md5 {shipped(name).md5}): put it there, or leave out '
      'the flag to play the one that ale-py ships.'
  )


def _check_plays(rom: Rom, name: str) -> None:
  """Loads an unknown ROM in another process: the emulator exits on rubbish."""
  program = (
      'import sys, ale_py\n'
      'ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)\n'
      'ale = ale_py.ALEInterface()\n'
      'ale.loadROM(sys.argv[1])\n'
      'screens = set()\n'
      'for _ in range(300):\n'
      '  ale.act(0)\n'
      '  screens.add(ale.getScreenGrayscale().tobytes())\n'
      'print("screens", len(screens))\n'
  )
  size = os.path.getsize(rom.path)
  problem = f'it has {size} bytes'
  if 0 < size <= _MAX_ROM_BYTES and size % 1024 == 0:
    try:
      trial = subprocess.run(
          [sys.executable, '-c', program, os.path.abspath(rom.path)],
          capture_output=True,
          text=True,
          timeout=_TRIAL_SECONDS,
          check=False,
      )
      if trial.returncode == 0 and 'screens' in trial.stdout:
        return
      problem = 'the emulator does not load it'
    except subprocess.TimeoutExpired:
      problem = f'the emulator hangs on it for {_TRIAL_SECONDS} s'
  raise ValueError(
      f'{rom.path} (md5 {rom.md5}) is not a ROM of {name}: {problem}. Replace '
      'it, or leave out --atari_roms_path to play the one that ale-py ships.'
  )


def use(rom: Rom, name: str) -> None:
  """Plays a game with that ROM from now on, in every environment made here."""
  if not rom.is_standard:
    logging.warning(
        'Playing %s (md5 %s), which is another version of %s than ale-py '
        'ships: scores compare only to those of the same ROM.',
        rom.path,
        rom.md5,
        name,
    )
  _in_use[name] = rom


@contextlib.contextmanager
def put_back() -> Iterator[None]:
  """A context that restores the choice of ROMs at its end."""
  before = dict(_in_use)
  try:
    yield
  finally:
    _in_use.clear()
    _in_use.update(before)


def in_use(name: str) -> Rom:
  """The ROM that a game is played with, by ale-py's name."""
  return _in_use.get(name) or shipped(name)


_in_use: dict[str, Rom] = {}
_ale_get_rom_path = roms.get_rom_path


def _get_rom_path(name: str):
  """Replaces ale-py's function: games of `use` have another path."""
  if name in _in_use:
    return _in_use[name].path
  return _ale_get_rom_path(name)


roms.get_rom_path = _get_rom_path
