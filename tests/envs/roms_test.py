"""ROMs from a folder: found, checked, played, named."""

import os
import shutil

import numpy as np
import pytest

from reincarnating_rl.envs import atari
from reincarnating_rl.envs import roms


@pytest.fixture(autouse=True)
def _forget():
  yield
  roms._in_use.clear()


def _shipped_bytes(name='pong'):
  with open(roms.shipped(name).path, 'rb') as f:
    return f.read()


def _frames(game='Pong', steps=60):
  env = atari.AtariVector(game, 1, seed=3)
  frames = [env.reset()]
  rng = np.random.default_rng(0)
  for _ in range(steps):
    frames.append(env.step(rng.integers(0, 3, 1)).observation)
  return np.concatenate(frames)


def test_the_shipped_rom_is_the_default():
  rom = atari.rom_in_use('Pong')
  assert rom.is_standard and rom.path.endswith('pong.bin')
  assert len(rom.md5) == 32


def test_the_same_rom_from_a_folder_plays_the_same(tmp_path):
  expected = _frames()
  shutil.copy(roms.shipped('pong').path, tmp_path / 'pong.bin')
  atari.use_roms(str(tmp_path), 'Pong')
  assert atari.rom_in_use('Pong') == roms.Rom(
      str(tmp_path / 'pong.bin'), roms.shipped('pong').md5, True
  )
  np.testing.assert_array_equal(_frames(), expected)


def test_what_was_played_before_is_played_afterwards(tmp_path):
  shutil.copy(roms.shipped('pong').path, tmp_path / 'pong.bin')
  before = atari.rom_in_use('Pong')
  with pytest.raises(KeyError), roms.put_back():
    atari.use_roms(str(tmp_path), 'Pong')
    assert atari.rom_in_use('Pong') != before
    raise KeyError
  assert atari.rom_in_use('Pong') == before


def test_a_file_of_any_name_is_found_by_its_md5(tmp_path):
  (tmp_path / 'breakout.bin').write_bytes(_shipped_bytes('breakout'))
  (tmp_path / 'Video Olympics (1977).a26').write_bytes(_shipped_bytes())
  atari.use_roms(str(tmp_path), 'Pong')
  assert atari.rom_in_use('Pong').path.endswith('(1977).a26')
  assert _frames().any()


def test_another_version_is_played_with_a_warning(tmp_path, caplog):
  expected = _frames()
  changed = bytearray(_shipped_bytes())
  changed[0x300] ^= 0xFF
  (tmp_path / 'pong.bin').write_bytes(changed)
  with caplog.at_level('WARNING'):
    atari.use_roms(str(tmp_path), 'Pong')
  rom = atari.rom_in_use('Pong')
  assert not rom.is_standard
  assert rom.md5 in caplog.text and 'another version of pong' in caplog.text
  assert _frames().shape == expected.shape


def test_other_games_keep_their_rom(tmp_path):
  shutil.copy(roms.shipped('pong').path, tmp_path / 'pong.bin')
  atari.use_roms(str(tmp_path), 'Pong')
  assert os.path.dirname(atari.rom_in_use('Breakout').path) != str(tmp_path)


@pytest.mark.parametrize(
    'content, words',
    [
        (b'', 'has 0 bytes'),
        (b'not a rom', 'has 9 bytes'),
        (b'\0' * 2**17, f'has {2**17} bytes'),
    ],
)
def test_rubbish_is_refused(content, words, tmp_path):
  (tmp_path / 'pong.bin').write_bytes(content)
  with pytest.raises(ValueError, match=words):
    atari.use_roms(str(tmp_path), 'Pong')
  assert atari.rom_in_use('Pong').is_standard


def test_a_rom_that_is_not_there(tmp_path):
  with pytest.raises(ValueError, match=r'holds no ROM of the game \(pong\.bin'):
    atari.use_roms(str(tmp_path), 'Pong')
  with pytest.raises(ValueError, match='is not a folder'):
    atari.use_roms(str(tmp_path / 'nowhere'), 'Pong')
