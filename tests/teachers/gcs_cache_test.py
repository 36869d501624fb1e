"""Teachers by their gs:// addresses."""

import pathlib

from paths import TESTDATA
import pytest
from stand_in_gsutil import Buckets

from reincarnating_rl import teachers
from reincarnating_rl.teachers import gcs_cache

BUNDLED = pathlib.Path(teachers.__file__).parent / 'bundled/Pong'
LEGACY = TESTDATA / 'dopamine_406_small'
RUN = 'gs://rl_checkpoints/DQN_400/Pong/1'


@pytest.fixture(autouse=True)
def buckets(monkeypatch, tmp_path, tmp_path_factory):
  """A Dopamine run and one of `train_teacher`, and a cache of our own."""
  there = Buckets(tmp_path_factory.mktemp('buckets'), monkeypatch)
  there.put_folder(f'{RUN}/checkpoints', LEGACY / 'checkpoints')
  there.put_folder('gs://mine/Pong/7', BUNDLED)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return there


def _names(folder):
  return {
      path.name for path in pathlib.Path(folder).rglob('*') if path.is_file()
  }


def test_a_checkpoint_lands_in_the_cache_once(buckets, tmp_path):
  folder = gcs_cache.fetch(RUN, 0)
  expected = tmp_path / 'cache/reincarnating_rl/teachers'
  assert folder == str(expected / 'rl_checkpoints/DQN_400/Pong/1')
  assert 'ckpt.0' in _names(folder) and 'ckpt.1' not in _names(folder)
  path = LEGACY / 'checkpoints' / '$store$_action_ckpt.0.gz'
  copied = pathlib.Path(folder, 'checkpoints', path.name)
  assert copied.read_bytes() == path.read_bytes()
  buckets.forget()
  assert gcs_cache.fetch(f'{RUN}/checkpoints/', 0) == folder
  assert buckets.commands() == []


def test_the_newest_without_its_replay(tmp_path):
  folder = gcs_cache.fetch(RUN, folder=str(tmp_path / 'to'), with_replay=False)
  assert folder == str(tmp_path / 'to/rl_checkpoints/DQN_400/Pong/1')
  names = {'ckpt.1', 'sentinel_checkpoint_complete.1', 'download.json'}
  assert _names(folder) == names


def test_what_is_fetched_can_be_loaded():
  here = teachers.load('bundled:Pong')
  fetched = teachers.load('gs://mine/Pong/7')
  assert fetched.checkpoint_number == here.checkpoint_number
  assert (fetched.game, fetched.score) == (here.game, here.score)


@pytest.mark.parametrize(
    ('url', 'number', 'sentence'),
    [
        (
            'gs://rl_checkpoints/DQN_400/Pog/1',
            1,
            'has no Pog. Did you mean Pong',
        ),
        (RUN, 5, f'{RUN} has no checkpoint 5; it has 0, 1.'),
        ('gs://', None, "'gs://' names no bucket"),
    ],
)
def test_what_goes_wrong_is_a_teachers_error(url, number, sentence):
  with pytest.raises(teachers.TeacherError) as error:
    gcs_cache.fetch(url, number)
  assert sentence in str(error.value)
