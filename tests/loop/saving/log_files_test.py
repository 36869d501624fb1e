"""Logs are set back to where a checkpoint saw them, and nothing else is."""

from __future__ import annotations

import pytest

from reincarnating_rl.loop.saving import log_files

LOGS = (
    'events.out.tfevents.17.host.1.v2',
    'metrics.jsonl',
    'logs/log_3',
    'metrics/pickle/pickle_0.pkl',
    'metrics/tensorboard/events.out.tfevents.17.host.0.v2',
)
OTHERS = (
    'summary.json',
    'config.gin',
    '.lock',
    'checkpoints/00000001/manifest.json',
    'checkpoints/00000001/arrays/d/0123',
    'checkpoints/rows/student/0-1.a/manifest.ocdbt',
    'notes.txt',
)


def _fill(folder, names, content='0123456789'):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _content(folder, names):
  return {name: (folder / name).read_text() for name in names}


def test_sizes_are_of_logs_alone(tmp_path):
  _fill(tmp_path, LOGS + OTHERS)
  _fill(tmp_path, LOGS[:1], '')
  expected = dict.fromkeys(LOGS, 10) | {LOGS[0]: 0}
  assert log_files.sizes(str(tmp_path)) == expected


def test_a_directory_that_is_not_there_has_no_logs(tmp_path):
  assert not log_files.sizes(str(tmp_path / 'nowhere'))
  log_files.set_back(str(tmp_path / 'nowhere'), {'metrics.jsonl': 3})
  assert not (tmp_path / 'nowhere').exists()


@pytest.mark.parametrize('name', LOGS)
def test_what_was_written_later_is_cut_off(tmp_path, name):
  _fill(tmp_path, LOGS + OTHERS)
  sizes = log_files.sizes(str(tmp_path))
  with open(tmp_path / name, 'a', encoding='utf-8') as f:
    f.write('later')
  log_files.set_back(str(tmp_path), sizes)
  everything = LOGS + OTHERS
  assert _content(tmp_path, everything) == dict.fromkeys(
      everything, '0123456789'
  )


@pytest.mark.parametrize('name', LOGS)
def test_a_later_log_is_removed(tmp_path, name):
  _fill(tmp_path, [n for n in LOGS if n != name])
  sizes = log_files.sizes(str(tmp_path))
  _fill(tmp_path, [name])
  log_files.set_back(str(tmp_path), sizes)
  assert not (tmp_path / name).exists()
  assert log_files.sizes(str(tmp_path)) == sizes


def test_other_files_are_never_touched(tmp_path):
  _fill(tmp_path, LOGS + OTHERS)
  log_files.set_back(str(tmp_path), {})
  assert _content(tmp_path, OTHERS) == dict.fromkeys(OTHERS, '0123456789')
  assert not log_files.sizes(str(tmp_path))


def test_a_log_that_is_shorter_or_gone_stays_so(tmp_path):
  _fill(tmp_path, LOGS[:1])
  log_files.set_back(str(tmp_path), {LOGS[0]: 20, LOGS[1]: 20})
  assert _content(tmp_path, LOGS[:1]) == {LOGS[0]: '0123456789'}
  assert not (tmp_path / LOGS[1]).exists()
