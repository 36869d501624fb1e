"""What makes two runs the same method, and what makes them comparable.

Two runs are of one method exactly if their `method_settings` are equal. The
conditions of a run are no part of its method: where they differ, scores do not
mean the same, and are neither averaged nor compared unless the user says so.
"""

from __future__ import annotations

import json
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.report import lineage
from reincarnating_rl.report.runs import Run

TEACHER, ROM, BUDGET, STICKY_ACTIONS, SCHEMA = CONDITIONS = (
    'teacher',
    'rom',
    'budget',
    'sticky_actions',
    'schema',
)
# Those that can tell methods apart instead: the others belong to one game.
SEPARABLE = (BUDGET, STICKY_ACTIONS)

_RUNNERS = ('Runner', 'RunnerWithTeacher', 'ReincarnationRunner')
_BUDGET_SETTINGS = (
    'num_iterations',
    'training_steps',
    'num_pretraining_iterations',
    'num_pretraining_steps',
    'teacher_steps',
)
# Of the runner, without influence on what is learned: how a run is kept, and
# what its teacher is worth, which is a condition.
_BOOKKEEPING = (
    'checkpoint_every',
    'keep',
    'stall_minutes',
    'log_every_n',
    'checkpoint_file_prefix',
    'logging_file_prefix',
    'stop_after',
    'teacher_score',
    'wandb_project',
)
_NO_METHOD = {'game', 'seed', STICKY_ACTIONS, *_BUDGET_SETTINGS}
_NO_METHOD_BINDINGS = {
    'create_atari_environment.game_name',
    'create_atari_environment.sticky_actions',
    'CollectorDispatcher.collectors',
    *(f'{r}.{name}' for r in _RUNNERS for name in _BUDGET_SETTINGS),
    *(f'{r}.{name}' for r in _RUNNERS for name in _BOOKKEEPING),
}


# Runs that copy each other: with equal settings, too, one is what others made
# of it, so that no two of them are repetitions of an experiment.
_COPIES = 'PopulationBasedTraining.interval'

_DEFAULTS = RunConfig().to_json()


class Budget(NamedTuple):
  """What a run may learn from.

  Attributes:
    online_agent_steps: of the student.
    iterations: between which they are divided, each with an evaluation.
    pretraining_updates: on the teacher's data, before them.
    teacher_agent_steps: that the teacher collects for them; 0 = none.
  """

  online_agent_steps: int
  iterations: int
  pretraining_updates: int
  teacher_agent_steps: int

  def __str__(self) -> str:
    text = (
        f'{self.online_agent_steps:,} online agent steps in '
        f'{self.iterations} iterations'
    )
    if self.pretraining_updates:
      text += f', {self.pretraining_updates:,} pretraining updates'
    if self.teacher_agent_steps:
      text += f', {self.teacher_agent_steps:,} agent steps of the teacher'
    return text


def budget(run: Run) -> Budget:
  """What a run was planned to have."""
  settings, (pretraining, online) = run.settings, run.planned
  steps = settings.get('num_pretraining_steps', 0)
  each = settings.get('updates_per_pretraining_step', 1)
  return Budget(
      online * settings.get('training_steps', 0),
      online,
      pretraining * steps * each,
      settings.get('teacher_steps', 0) if run.teacher else 0,
  )


def schema(run: Run) -> str:
  """Which version of the run directory it has, as far as can be seen."""
  if not run.lacking:
    return 'a summary of this version'
  return f'an older summary (without {", ".join(run.lacking)})'


# -- method --------------------------------------------------------------------


def method_settings(run: Run, split: Sequence[str] = ()) -> dict[str, str]:
  """Every setting that defines a method, as text.

  Args:
    run: the run.
    split: conditions that shall count as such settings.
  """
  found = {'agent': run.agent, 'teacher': 'yes' if run.teacher else 'none'}
  if run.network is not None:
    found['network'] = run.network
  bound = bindings(run.gin)
  if _COPIES in bound or lineage.is_member(run):
    # It comes first: of settings that are as many it is the one that names.
    found['run'] = str(run.seed)
  found |= _flat('member', run.member)
  # Settings that are new were what they are by default.
  settings = (_DEFAULTS if run.settings else {}) | dict(run.settings)
  loop = {k: v for k, v in settings.items() if k not in _NO_METHOD}
  found |= _flat('', loop)
  if isinstance(run.network_spec, Mapping):
    found |= _flat('network', _without_actions(run.network_spec))
  for name, value in bound.items():
    if name not in _NO_METHOD_BINDINGS:
      found[name] = value
  if BUDGET in split:
    found |= _flat('', budget(run)._asdict())
  if STICKY_ACTIONS in split:
    found[STICKY_ACTIONS] = str(run.settings.get(STICKY_ACTIONS))
  return found


def _flat(prefix: str, document: Mapping[str, Any]) -> dict[str, str]:
  """Leaves by dotted names, as text."""
  return dict(_leaves(prefix, document))


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
  if isinstance(value, Mapping):
    for name, item in value.items():
      yield from _leaves(f'{prefix}.{name}' if prefix else name, item)
  else:
    yield prefix, value if isinstance(value, str) else json.dumps(value)


def _without_actions(spec: Any) -> Any:
  """A network's spec without what is the game's."""
  if isinstance(spec, Mapping):
    return {
        name: _without_actions(item)
        for name, item in spec.items()
        if name != 'num_actions'
    }
  return spec


def bindings(text: str) -> dict[str, str]:
  """gin's bindings by name, as `gin.config_str` writes them."""
  found, name = {}, None
  for line in text.splitlines():
    if line[:1].isspace() and name is not None:
      found[name] = f'{found[name]} {line.strip()}'.strip()
    elif ' = ' in line and not line.startswith('#'):
      name, _, value = line.partition(' = ')
      found[name] = value.rstrip('\\').strip()
    else:
      name = None
  return found
