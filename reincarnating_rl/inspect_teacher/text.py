"""Facts of a teacher as text in columns."""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence

from reincarnating_rl.teachers.errors import enumerate_items

_KEY_WIDTH = 17
_BAR_WIDTH = 24


def to_text(document: dict[str, Any]) -> str:
  """Formats the result of `inspection.inspect`."""
  sections = [
      _section(document['path'], _record_lines(document)),
      _section('Network', _network_lines(document)),
      _section('Replay', _replay_lines(document)),
  ]
  if document['figure']:
    sections.append(f'Figure: {document["figure"]}')
  return '\n\n'.join(sections)


def names_of_actions(names: Optional[list[str]], num_actions: int) -> list[str]:
  """Names of all actions; actions without a name are numbered."""
  names = list(names or [])
  return names + [f'action {i}' for i in range(len(names), num_actions)]


def _section(title: str, entries: list[tuple[str, str]]) -> str:
  """Formats a title, and entries with keys in a column."""
  lines = [title]
  for key, value in entries:
    for i, line in enumerate(value.split('\n')):
      label = key if i == 0 else ''
      lines.append(f'  {label.ljust(_KEY_WIDTH)}{line}'.rstrip())
  return '\n'.join(lines)


def _table(rows: Sequence[tuple[str, ...]], left: int = 1) -> str:
  """Aligns columns, the first `left` of them to the left."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  return '\n'.join(
      '  '.join(
          cell.ljust(width) if i < left else cell.rjust(width)
          for i, (cell, width) in enumerate(zip(row, widths))
      )
      for row in rows
  )


def _record_lines(document: dict[str, Any]) -> list[tuple[str, str]]:
  d = document
  numbers = d['checkpoint_numbers']
  entries = [('directory', d['directory']), ('format', d['format'])]
  if d['versions']:
    versions = [f'{name} {v}' for name, v in d['versions'].items()]
    entries.append(('written with', '\n'.join(_wrap(versions))))
  entries.append(('checkpoints', enumerate_items(numbers)))
  if d['complete_checkpoint_numbers'] != numbers:
    complete = enumerate_items(d['complete_checkpoint_numbers'])
    entries.append(('marked whole', complete))
  entries.append(('read', str(d['checkpoint_number'])))
  source = {'manifest': 'by its manifest', 'path': 'by its path'}
  game = f'{d["game"]} ({source[d["game_source"]]})' if d['game'] else 'unknown'
  entries += [('game', game), ('agent', d['agent'])]
  steps = d['training_agent_steps']
  trained = 'unknown' if steps is None else f'{steps:,} agent steps'
  entries.append(('training', trained))
  score = d['recorded_score']
  text = 'none recorded' if score is None else f'{score:.2f}'
  if d['random_score'] is not None:
    text += f' (random play {d["random_score"]:.2f})'
  entries.append(('score', text))
  return entries


def _wrap(words: list[str], width: int = 60) -> list[str]:
  """Joins words with commas and breaks them into lines."""
  lines = ['']
  for word in words:
    if lines[-1] and len(lines[-1]) + len(word) + 2 > width:
      lines[-1] += ','
      lines.append('')
    lines[-1] += f', {word}' if lines[-1] else word
  return lines


def _network_lines(document: dict[str, Any]) -> list[tuple[str, str]]:
  network = document['network']
  heads = [name for name in ('noisy', 'dueling') if network[name]]
  entries = [
      ('encoder', network['encoder']),
      ('hidden', ', '.join([str(network['hidden_size'])] + heads)),
      ('actions', _actions_text(document)),
  ]
  if network['support']:
    low, high = network['support']
    entries.append(('atoms', f'{network["num_atoms"]} on [{low:g}, {high:g}]'))
  rows = [
      (name, ' x '.join(map(str, shape)), f'{math.prod(shape):,}')
      for name, shape in network['parameter_shapes'].items()
  ]
  rows.append(('total', '', f'{network["num_parameters"]:,}'))
  entries.append(('parameters', _table(rows, left=2)))
  target = 'present' if document['target_network'] else 'none'
  entries.append(('target network', target))
  moments = document['optimizer']
  text = 'none'
  if moments:
    text = moments['kind']
    text += f', {moments["updates"]:,} updates' if moments['updates'] else ''
  entries.append(('optimizer state', text))
  return entries


def _actions_text(document: dict[str, Any]) -> str:
  names = document['action_names']
  count = str(document['network']['num_actions'])
  if not names:
    return count
  return '\n'.join(_wrap([f'{count}: {names[0]}'] + names[1:]))


def _replay_lines(document: dict[str, Any]) -> list[tuple[str, str]]:
  replay = document['replay']
  if replay is None:
    return [('rows', 'none: this checkpoint has no replay')]
  rows = f'{replay["rows_written"]:,} of {replay["rows"]:,} written'
  entries = [
      ('rows', f'{rows}, the oldest at {replay["head_row"]:,}'),
      ('environments', str(replay['environments'])),
      ('memory', f'{replay["bytes_in_memory"] / 1e6:,.1f} MB'),
  ]
  contents = replay['contents']
  if contents is None:
    return entries + [('contents', 'not read (--noread_replay)')]
  usable = contents['usable_rows_by_n_step'].items()
  entries += [
      ('agent steps', f'{contents["agent_steps"]:,}'),
      ('usable rows', ', '.join(f'{c:,} for n = {n}' for n, c in usable)),
      (
          'episode ends',
          f'{contents["terminals"]:,} terminal, '
          f'{contents["time_limits"]:,} by time limit',
      ),
      ('whole episodes', _episodes_text(contents)),
  ]
  if contents['agent_steps']:
    entries.append(('rewards', _rewards_text(contents)))
    counts = contents['agent_steps_by_action']
    names = names_of_actions(document['action_names'], len(counts))
    entries.append(('actions', _histogram(names, counts)))
  return entries


def _episodes_text(contents: dict[str, Any]) -> str:
  count = contents['whole_episodes']
  if not count:
    return 'none in the ring from first step to end'
  text = (
      f'{count:,}, of {contents["episode_agent_steps_mean"]:,.1f} agent steps '
      f'on average ({contents["episode_agent_steps_min"]:,} to '
      f'{contents["episode_agent_steps_max"]:,})'
  )
  if contents['episode_reward_mean'] is not None:
    mean = contents['episode_reward_mean']
    text += f',\nclipped rewards sum to {mean:.2f} on average'
  return text


def _rewards_text(contents: dict[str, Any]) -> str:
  n = contents['reward_n_step']
  kind = 'clipped' if n == 1 else f'{n}-step returns'
  return (
      f'{contents["reward_mean"]:.4f} a step on average, '
      f'{contents["reward_nonzero_share"]:.2%} are not 0 ({kind})'
  )


def _histogram(names: list[str], counts: list[int]) -> str:
  total, largest = sum(counts), max(counts)
  rows = [
      (
          name,
          f'{count:,}',
          f'{count / total:.1%}',
          ('#' * round(_BAR_WIDTH * count / largest)).ljust(_BAR_WIDTH),
      )
      for name, count in zip(names, counts)
  ]
  return _table(rows)
