"""What Dopamine gets for TensorFlow, with the real one at hand and without."""

from __future__ import annotations

import pickle

from paths import TESTDATA
import pytest

from reincarnating_rl.dopamine_bridge import light_tensorflow
from reincarnating_rl.dopamine_bridge.compat import prepare_dopamine
from tests.dopamine_bridge.compat_test import run_python

TF_CHECKPOINT = TESTDATA / 'tf1_small'


def test_without_tensorflow_dopamine_says_what_it_needs(tmp_path):
  code = """
      for name in ('tensorflow', 'tensorflow_probability', 'gym', 'snappy'):
        sys.modules[name] = None
      from reincarnating_rl.runners import runner
      from reincarnating_rl.dopamine_bridge import settings
      from dopamine.discrete_domains import atari_lib, gym_lib
      from dopamine.jax import continuous_networks
      import gin
      assert sys.modules['tensorflow'] is None
      # gin knows the names that configurations bind.
      gin.bind_parameter('OutOfGraphReplayBuffer.replay_capacity', 7)
      gin.bind_parameter('dopamine.tf.agents.dqn.dqn_agent.DQNAgent.gamma', 0.5)
      assert settings.replay_capacity() == 7
      assert not isinstance(3, gym_lib.TimeLimit)
      for use in (
          lambda: atari_lib.tf.constant(3),
          lambda: continuous_networks.tfd.Normal(0.0, 1.0),
          lambda: gym_lib.legacy_gym.make('CartPole-v0'),
          lambda: atari_lib.NatureDQNNetwork(6),
      ):
        try:
          use()
        except ImportError as e:
          print(str(e).replace(' ', '_'))
  """
  said = run_python(code, tmp_path)
  assert [line.split('_(')[0] for line in said] == [
      'Dopamine_needs_tensorflow_for_this,_and_it_is_not_installed',
      'Dopamine_needs_tensorflow_probability_for_this,_and_it_is_not_installed',
      'Dopamine_needs_gym_for_this,_and_it_is_not_installed',
      'NatureDQNNetwork_is_a_piece_of_Dopamine_that_stands_on_tensorflow:_'
      'to_use_it,_import_tensorflow_before_reincarnating_rl.',
  ]


def test_the_real_tensorflow_afterwards(tmp_path):
  """Where it is asked for, it is there; our events are as its own."""
  code = f"""
      import glob
      from reincarnating_rl.runners import runner
      from reincarnating_rl.dopamine_bridge.event_file import EventFile
      assert 'tensorflow' not in sys.modules
      from reincarnating_rl import teachers
      found = teachers.load({str(TF_CHECKPOINT)!r}, None, 'tf_ckpt')
      print(found.format)

      import tensorflow as tf
      from dopamine.discrete_domains import atari_lib
      from dopamine.jax import continuous_networks
      print(atari_lib.tf.constant(3) is not atari_lib.tf, tf.constant(3).ndim)
      assert atari_lib.tf.float32 is tf.float32
      print(continuous_networks.tfd.Normal(0.0, 1.0).mean())

      folders = [{str(tmp_path)!r} + name for name in ('/ours', '/theirs')]
      ours = EventFile(folders[0])
      ours.scalar('a/b', 0.3, 7)
      ours.close()
      theirs = tf.summary.create_file_writer(folders[1])
      with theirs.as_default():
        tf.summary.scalar('a/b', 0.3, step=7)
      theirs.close()
      events = []
      for folder in folders:
        (path,) = glob.glob(folder + '/*')
        *_, event = tf.compat.v1.train.summary_iterator(path)
        event.wall_time = 0
        events.append(event.SerializeToString(deterministic=True))
      print(events[0] == events[1])
  """
  said = run_python(code, tmp_path)
  assert said == ['TensorFlow', 'True', '0', '0.0', 'True']


def test_a_real_tensorflow_that_was_there_first(tmp_path):
  code = f"""
      import tensorflow as tf
      from reincarnating_rl.runners import runner
      from dopamine.discrete_domains import atari_lib
      from dopamine.metrics import collector_dispatcher, statistics_instance
      assert atari_lib.tf is tf
      assert isinstance(atari_lib.NatureDQNNetwork(6), tf.keras.Model)
      dispatcher = collector_dispatcher.CollectorDispatcher({str(tmp_path)!r})
      entry = statistics_instance.StatisticsInstance('a', 0.5, 3)
      dispatcher.write([entry])
      dispatcher.flush()
      dispatcher.close()
      from reincarnating_rl.dopamine_bridge import logs
      assert tf.errors.OpError in logs._WRITE_ERRORS
      print('fine')
  """
  assert run_python(code, tmp_path) == ['fine']


# -- the pieces ----------------------------------------------------------------


def test_dopamine_uses_the_pieces():
  prepare_dopamine()
  from dopamine.discrete_domains import logger

  gfile = logger.tf.io.gfile
  if not isinstance(logger.tf, type(pytest)):  # The real one is a module.
    assert gfile.GFile is light_tensorflow.File
    assert logger.tf.errors.NotFoundError is FileNotFoundError


def test_files_take_text_and_bytes_in_any_mode(tmp_path):
  path = str(tmp_path / 'file')
  with light_tensorflow.File(path, 'w') as f:
    f.write('a')
    f.write(b'\xff')
  with light_tensorflow.File(path, 'rb') as f:
    assert f.read() == b'a\xff'
  with light_tensorflow.File(path, 'w') as f:
    pickle.dump({'a': 1}, f)
  with light_tensorflow.File(path, 'rb') as f:
    assert pickle.load(f) == {'a': 1}
  with light_tensorflow.File(path, 'w') as f:
    f.write('two\nlines')
  with light_tensorflow.File(path) as f:
    assert list(f) == ['two\n', 'lines']


def test_a_file_that_nothing_is_written_to_stays_as_it_is(tmp_path):
  (tmp_path / 'file').write_text('whole')
  light_tensorflow.File(str(tmp_path / 'file'), 'w').close()
  assert (tmp_path / 'file').read_text() == 'whole'


def test_summaries_go_to_the_innermost_default(tmp_path):
  from events import scalars

  a, b = (light_tensorflow.SummaryWriter(str(tmp_path / x)) for x in 'ab')
  light_tensorflow.scalar('lost', 1.0, 0)
  with a.as_default():
    with b.as_default():
      light_tensorflow.scalar('inner', 1.0, 1)
    light_tensorflow.scalar('outer', 2.0, 2)
  a.flush()
  b.flush()
  assert scalars(tmp_path / 'a') == [('outer', 2, 2.0)]
  assert scalars(tmp_path / 'b') == [('inner', 1, 1.0)]
