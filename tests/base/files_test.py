"""Files and folders appear whole or not at all."""

import os

import pytest

from reincarnating_rl.base import files


def test_a_file_is_replaced_as_a_whole(tmp_path):
  path = str(tmp_path / 'x')
  files.write_whole(path, b'old')
  with files.whole_file(path) as part:
    with open(part, 'wb') as f:
      f.write(b'new')
    with open(path, 'rb') as f:
      assert f.read() == b'old'
  with open(path, 'rb') as f:
    assert f.read() == b'new'
  assert os.listdir(tmp_path) == ['x']


def test_a_file_that_fails_changes_nothing(tmp_path):
  path = str(tmp_path / 'x')
  files.write_whole(path, b'old')
  with pytest.raises(KeyboardInterrupt):
    with files.whole_file(path) as part:
      with open(part, 'wb') as f:
        f.write(b'half')
      raise KeyboardInterrupt
  with open(path, 'rb') as f:
    assert f.read() == b'old'
  assert os.listdir(tmp_path) == ['x']


@pytest.mark.parametrize('is_there', [False, True])
def test_a_folder_is_replaced_as_a_whole(tmp_path, is_there):
  path = str(tmp_path / 'x')
  if is_there:
    os.makedirs(os.path.join(path, 'old'))
  os.makedirs(path + files.UNFINISHED + '/of an earlier attempt')
  with files.whole_folder(path) as unfinished:
    os.makedirs(os.path.join(unfinished, 'new'))
    assert os.path.exists(path) == is_there
  assert os.listdir(path) == ['new']
  assert os.listdir(tmp_path) == ['x']


@pytest.mark.parametrize('is_there', [False, True])
def test_a_folder_that_fails_changes_nothing(tmp_path, is_there):
  path = str(tmp_path / 'x')
  if is_there:
    os.makedirs(os.path.join(path, 'old'))
  with pytest.raises(ValueError, match='no more'):
    with files.whole_folder(path) as unfinished:
      os.makedirs(unfinished)
      raise ValueError('no more')
  assert os.listdir(tmp_path) == (['x'] if is_there else [])
