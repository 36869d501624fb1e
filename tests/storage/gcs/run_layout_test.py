"""Which files belong to which checkpoint."""

from reincarnating_rl.storage.gcs import run_layout

COLUMNS = ('observation', 'action', 'reward', 'terminal')


def _replay(folder, number):
  names = [f'$store$_{column}_ckpt.{number}.gz' for column in COLUMNS]
  names += [f'add_count_ckpt.{number}.gz', f'invalid_range_ckpt.{number}.gz']
  return sorted(f'{folder}/{name}' for name in names)


def _weights(folder, number):
  return [
      f'{folder}ckpt.{number}',
      f'{folder}sentinel_checkpoint_complete.{number}',
  ]


def test_replay_logs_go_with_every_fourth_checkpoint():
  names = [n for i in range(400) for n in _weights('checkpoints/', i)]
  names += [n for i in range(101) for n in _replay('replay_logs', i)]
  found = run_layout.checkpoints(names)
  assert list(found) == list(range(400))
  for number, log in [(0, 0), (2, 0), (3, 1), (6, 1), (7, 2), (399, 100)]:
    assert found[number].replay == _replay('replay_logs', log)
  assert found[399].files == _weights('checkpoints/', 399)
  assert found[399].complete


def test_replay_beside_the_checkpoint_has_its_number():
  names = _weights('checkpoints/', 3) + _replay('checkpoints', 3)
  found = run_layout.checkpoints(names + _replay('checkpoints', 1))
  assert list(found) == [3]
  assert found[3].replay == _replay('checkpoints', 3)


def test_files_may_lie_in_the_run_itself():
  found = run_layout.checkpoints(_weights('', 7) + ['logs/log_7', 'x/ckpt.8'])
  assert list(found) == [7] and found[7].files == _weights('', 7)


def test_without_its_sentinel_a_checkpoint_is_not_complete():
  names = _weights('checkpoints/', 3) + ['checkpoints/ckpt.4']
  found = run_layout.checkpoints(
      names + ['checkpoints/ckpt.05', 'checkpoints/ckpt.x']
  )
  assert {n: entry.complete for n, entry in found.items()} == {
      3: True,
      4: False,
  }


def test_other_prefixes_and_tensorflow():
  names = ['checkpoints/net.3', 'checkpoints/tf_ckpt-4.index']
  names += ['checkpoints/tf_ckpt-4.data-00000-of-00001']
  assert list(run_layout.checkpoints(names, 'net')) == [3, 4]
  assert len(run_layout.checkpoints(names)[4].files) == 2


def test_teachers_of_this_package():
  names = ['teacher.json', 'checkpoints/params.5.msgpack']
  names += [
      'checkpoints/params.9.msgpack',
      'replay/9/columns/d/1',
      'replay/9/x',
  ]
  found = run_layout.checkpoints(names)
  assert found[9].complete
  assert found[9].files == ['teacher.json', 'checkpoints/params.9.msgpack']
  assert found[9].replay == ['replay/9/columns/d/1', 'replay/9/x']
  assert found[5].replay == []


def test_replay_of_dopamine_4_1():
  names = _weights('checkpoints/', 3) + [
      'checkpoints/3/replay/checkpoint.msgpack'
  ]
  found = run_layout.checkpoints(
      names + ['checkpoints/2/replay/checkpoint.msgpack']
  )
  assert list(found) == [3]
  assert found[3].replay == ['checkpoints/3/replay/checkpoint.msgpack']


def test_what_is_replay():
  assert run_layout.is_replay('replay_logs/add_count_ckpt.3.gz')
  assert run_layout.is_replay('checkpoints/$store$_action_ckpt.3.gz')
  assert run_layout.is_replay('replay_logs/$store$_action_net.3.gz')
  assert run_layout.is_replay('replay/3/x')
  assert run_layout.is_replay('checkpoints/3/replay/checkpoint.msgpack')
  assert not run_layout.is_replay('checkpoints/ckpt.3')
  assert not run_layout.is_replay('teacher.json')
