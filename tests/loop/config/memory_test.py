"""Whether a run fits: refused in numbers, or let pass."""

from __future__ import annotations

import types

import jax
import pytest

from reincarnating_rl.loop.config import memory as memory_lib
from reincarnating_rl.loop.config.estimate import Memory
from reincarnating_rl.loop.config.memory import GIB

# What three such runs need: 3 * 1.5 + 2 = 6.5 GiB.
MEMORY = Memory(student=3 * GIB // 2, teacher=2 * GIB)


def pretend(monkeypatch, platform, num_devices, stats=None):
  """Makes it look as if there were such devices."""
  device = types.SimpleNamespace(
      platform=platform, device_kind='A100', memory_stats=lambda: stats
  )
  monkeypatch.setattr(jax, 'local_devices', lambda: [device] * num_devices)


def test_what_does_not_fit_is_refused_with_the_numbers():
  with pytest.raises(ValueError) as error:
    memory_lib.check(MEMORY, 3, 13 * GIB // 2 - 1)
  sentence = str(error.value)
  assert sentence.startswith(
      '3 replays of 1.50 GiB and 2.00 GiB of the data of the teacher need '
      '6.50 GiB on one device, of which 6.50 GiB are free'
  )
  assert 'ReplayBuffer.max_capacity' in sentence
  assert '\n' not in sentence and sentence.endswith('.')


@pytest.mark.parametrize(
    'memory, num_members, free',
    [
        (MEMORY, 3, 13 * GIB // 2),  # To the byte.
        (MEMORY, 1, 4 * GIB),
        (Memory(0, 0), 1, 0),
        (MEMORY, 1000, None),  # Nobody tells.
    ],
)
def test_what_fits_passes(memory, num_members, free):
  memory_lib.check(memory, num_members, free)


def test_what_fits_is_told_in_one_line(monkeypatch, caplog):
  pretend(monkeypatch, 'gpu', 1)
  with caplog.at_level('INFO', logger='absl'):
    memory_lib.check(MEMORY, 3, 7 * GIB)
    pretend(monkeypatch, 'gpu', 2)
    memory_lib.check(MEMORY, 1, None)
    pretend(monkeypatch, 'cpu', 2)
    memory_lib.check(Memory(3 * 2**20, 0), 1, None)
  assert [record.getMessage() for record in caplog.records] == [
      'Memory on A100: 3 replays of 1.50 GiB and 2.00 GiB of data of the '
      'teacher; 7.00 GiB are free.',
      'Memory on each of 2 devices (A100): a replay of 1.50 GiB and 2.00 GiB '
      'of data of the teacher.',
      'Memory on this machine: a replay of 3.0 MiB and 0.0 MiB of data of the '
      'teacher.',
  ]


def test_two_cpu_devices_are_one_memory(monkeypatch):
  pretend(monkeypatch, 'cpu', 2)
  with pytest.raises(ValueError, match='need 6.50 GiB'):
    memory_lib.check(MEMORY, 3, 5 * GIB)


def test_two_accelerators_share_the_members(monkeypatch):
  """Two of three are on one of them: 2 * 1.5 + 2 GiB."""
  pretend(monkeypatch, 'gpu', 2)
  memory_lib.check(MEMORY, 3, 5 * GIB)
  # One each: the teacher's data is still there for the other.
  for memory in (MEMORY, MEMORY._replace(at_once=False)):
    with pytest.raises(ValueError, match='need 3.50 GiB'):
      memory_lib.check(memory, 2, 3 * GIB)
  with pytest.raises(ValueError, match='need 5.00 GiB .* 4.00 GiB are free'):
    memory_lib.check(MEMORY, 3, 4 * GIB)


def test_one_run_that_frees_the_teachers_data_needs_the_larger_of_the_two():
  one_by_one = MEMORY._replace(at_once=False)
  memory_lib.check(one_by_one, 1, 2 * GIB)
  with pytest.raises(ValueError, match='need 2.00 GiB'):
    memory_lib.check(one_by_one, 1, 2 * GIB - 1)
  # Of several, the first begins while others hold it.
  assert one_by_one.peak(3) == MEMORY.peak(3) == 13 * GIB // 2


def write_group(folder, version, limit, usage, cached):
  """As the system describes a group."""
  folder.mkdir(parents=True, exist_ok=True)
  if version == 1:
    names = 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_'
  else:
    names = 'memory.max', 'memory.current', ''
  (folder / names[0]).write_text(f'{limit}\n')
  (folder / names[1]).write_text(f'{usage}\n')
  (folder / 'memory.stat').write_text(
      f'anon 9\n{names[2]}inactive_file {cached}\n{names[2]}active_file 50\n'
  )


@pytest.mark.parametrize('version', [1, 2])
def test_a_group_of_processes_has_less_than_the_machine(
    monkeypatch, tmp_path, version
):
  """The least that it or one above it may still take."""
  own = tmp_path / 'own'
  monkeypatch.setattr(memory_lib, '_OWN_GROUPS', str(own))
  monkeypatch.setattr(memory_lib, '_GROUPS_FOLDER', str(tmp_path))
  whole = memory_lib.available()
  lines = {
      1: '5:cpu,cpuacct:/job\n4:memory,hugetlb:/job/step\n',
      2: '0::/job/step\n',
  }
  own.write_text(lines[version])
  root = tmp_path / 'memory' if version == 1 else tmp_path
  write_group(root, version, 'max', 10, 0)
  write_group(root / 'job', version, 5000, 3000, 350)
  write_group(root / 'job' / 'step', version, 9000, 3000, 0)
  assert memory_lib.available() == 2400
  write_group(root / 'job' / 'step', version, 3500, 3000, 0)
  assert memory_lib.available() == 550
  for folder in (root / 'job', root / 'job' / 'step'):
    write_group(folder, version, 'max', 3000, 0)
  assert memory_lib.available() == pytest.approx(whole, rel=0.5)


def test_this_machine_has_some():
  free = memory_lib.available()
  assert isinstance(free, int)
  assert 0 < free < 10 * 10**12


@pytest.mark.parametrize(
    'stats, expected',
    [
        ({'bytes_limit': 100, 'bytes_in_use': 30}, 70),
        ({'bytes_limit': 100}, 100),
        ({}, None),
        (None, None),
    ],
)
def test_what_an_accelerator_has_left(monkeypatch, stats, expected):
  pretend(monkeypatch, 'gpu', 1, stats)
  assert memory_lib.available() == expected
