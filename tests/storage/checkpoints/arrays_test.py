"""Arrays come back as they were written, or not at all."""

from __future__ import annotations

import os
import shutil

from damages import each_damage
from damages import files_below
import ml_dtypes
import numpy as np
import pytest

from reincarnating_rl.storage.checkpoints import arrays
from reincarnating_rl.storage.checkpoints.errors import ArchiveError
from reincarnating_rl.storage.checkpoints.errors import DamagedError

TYPES = (
    *('bool', 'uint8', 'int32', 'uint32', 'int64', 'float32', 'float64'),
    ml_dtypes.bfloat16,
)
SHAPES = {
    'no axis': (),
    'empty': (0,),
    'empty rows': (0, 3),
    'one': (1,),
    'three axes': (2, 3, 4),
    'large': (700, 1000),
}


def _some(shape, dtype):
  numbers = np.random.default_rng(0).integers(0, 256, shape)
  return np.asarray(numbers).astype(dtype)


def _assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert found[name].dtype == np.asarray(array).dtype, name
    assert found[name].shape == np.shape(array), name
    np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize('dtype', TYPES, ids=lambda t: np.dtype(t).name)
def test_every_type_and_shape_comes_back(tmp_path, dtype):
  written = {name: _some(shape, dtype) for name, shape in SHAPES.items()}
  arrays.write(str(tmp_path / 'x'), written)
  _assert_same(arrays.read(str(tmp_path / 'x')), written)


def test_numbers_that_are_no_numbers_come_back(tmp_path):
  written = {'odd': np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)}
  arrays.write(str(tmp_path), written)
  found = arrays.read(str(tmp_path))['odd']
  assert found.tobytes() == written['odd'].tobytes()


def test_names_may_have_parts(tmp_path):
  names = ('a', 'a/b', 'a/b/0', 'a/10', 'a/9', 'with space', 'ü/_.-')
  written = {name: np.full(3, i) for i, name in enumerate(names)}
  arrays.write(str(tmp_path), written)
  _assert_same(arrays.read(str(tmp_path)), written)


def test_what_is_no_array_in_memory_order_comes_back(tmp_path):
  line = np.arange(24).reshape(2, 3, 4)
  written = {
      'transposed': line.T,
      'every other': line[:, ::2],
      'backwards': line[::-1],
      'a scalar': np.float32(2.5),
      'Fortran': np.asfortranarray(line),
  }
  arrays.write(str(tmp_path), written)
  _assert_same(arrays.read(str(tmp_path)), written)


def test_what_repeats_is_compressed(tmp_path):
  arrays.write(str(tmp_path), {'x': np.zeros((1000, 1000), np.uint8)})
  assert sum(map(os.path.getsize, files_below(tmp_path))) < 10_000


def test_many_arrays_take_no_more_room_and_files_than_they_must(tmp_path):
  """A learner's state has a hundred of them, and is saved every few minutes."""
  rng = np.random.default_rng(0)
  written = {f'p/{i}': rng.normal(size=500) for i in range(60)}
  arrays.write(str(tmp_path), written)
  found = files_below(tmp_path)
  raw = sum(x.nbytes for x in written.values())
  assert len(found) <= 2 * len(written)
  assert sum(map(os.path.getsize, found)) < 1.5 * raw


@each_damage
def test_a_damaged_file_is_an_error_or_without_effect(tmp_path, damage):
  """Never another array, nor one less."""
  written = {'a': _some((50, 70), 'uint8'), 'b/c': _some((30,), 'float32')}
  whole, damaged = str(tmp_path / 'whole'), str(tmp_path / 'damaged')
  arrays.write(whole, written)
  refused = 0
  for path in files_below(whole):
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(whole, damaged)
    damage(os.path.join(damaged, os.path.relpath(path, whole)))
    try:
      found = arrays.read(damaged)
    except DamagedError as e:
      refused += 1
      assert str(e).startswith(f'{damaged} cannot be read: ')
      assert '\n' not in str(e) and len(str(e)) < 300
    else:
      _assert_same(found, written)
  assert refused >= 2  # the index, and what it leads to


def test_nothing_there_is_damage(tmp_path):
  """Not: a checkpoint of no arrays."""
  with pytest.raises(DamagedError, match=str(tmp_path / 'nowhere')):
    arrays.read(str(tmp_path / 'nowhere'))


def test_where_nothing_can_be_written_it_says_so_in_a_line(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  folder = str(tmp_path / 'file' / 'below')
  with pytest.raises(ArchiveError) as error:
    arrays.write(folder, {'x': np.zeros(3)})
  sentence = str(error.value)
  assert sentence == f'{folder} cannot be written: Not a directory'
  assert not isinstance(error.value, DamagedError)
