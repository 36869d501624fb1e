"""Settings that define a method, and conditions that make runs comparable.

Two runs belong to one method exactly if their `method_settings` are equal.
Conditions are not part of a method. Where they differ, scores do not mean the
same: runs are neither averaged nor compared unless the user allows it.
"""

from __future__ import annotations

import json
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from reincarnating_rl.loop.config.plan import RunConfig
from reincarnating_rl.report.reading import lineage
from reincarnating_rl.report.reading.runs import Run

TEACHER, ROM, BUDGET, STICKY_ACTIONS, SCHEMA = CONDITIONS = (
    'teacher',
    'rom',
    'budget',
    'sticky_actions',
    'schema',
)
# Conditions that may tell methods apart; the others belong to a game.
SEPARABLE = (BUDGET, STICKY_ACTIONS)

_RUNNERS = ('Runner', 'RunnerWithTeacher', 'ReincarnationRunner')
_BUDGET_SETTINGS = (
    'num_iterations',
    'training_steps',
    'num_pretraining_iterations',
    'num_pretraining_steps',
    'teacher_steps',
)
# Settings of the runner that do not influence learning. The teacher's score
# belongs to the teacher, which is a condition.
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
# Runs that copy each other are no repetitions of one experiment, even with
# equal settings: this binding tells that they do.
_COPIES = 'PopulationBasedTraining.interval'

_DEFAULTS = RunConfig().to_json()


class Budget(NamedTuple):
  """Planned amounts of data and updates.

  Attributes:
    online_agent_steps: online agent steps of the student.
    iterations: number of online iterations, each with an evaluation.
    pretraining_updates: updates on the teacher's data before online training.
    teacher_agent_steps: agent steps that the teacher collects; 0 = none.
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
  """Budget in the plan of a run."""
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
  """Version of the summary, in words, judged by the fields it lacks."""
  if not run.lacking:
    return 'a summary of this version'
  return f'an older summary (without {", ".join(run.lacking)})'


# -- method --------------------------------------------------------------------


def method_settings(run: Run, split: Sequence[str] = ()) -> dict[str, str]:
  """Settings that define the method of a run, as text.

  Args:
    run: the run.
    split: conditions to treat as settings of the method.
  """
  found = {'agent': run.agent, 'teacher': 'yes' if run.teacher else 'none'}
  if run.network is not None:
    found['network'] = run.network
  bound = bindings(run.gin)
  if _COPIES in bound or lineage.is_member(run):
    # First, so that it names the methods where other settings tie with it.
    found['run'] = str(run.seed)
  found |= _flat('member', run.member)
  # An older run lacks newer settings: it had their default values.
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
  """Leaves of a nested document by dotted name, as text."""
  return dict(_leaves(prefix, document))


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
  if isinstance(value, Mapping):
    for name, item in value.items():
      yield from _leaves(f'{prefix}.{name}' if prefix else name, item)
  else:
    yield prefix, value if isinstance(value, str) else json.dumps(value)


def _without_actions(spec: Any) -> Any:
  """Spec of a network without the number of actions, which is the game's."""
  if isinstance(spec, Mapping):
    return {
        name: _without_actions(item)
        for name, item in spec.items()
        if name != 'num_actions'
    }
  return spec


def bindings(text: str) -> dict[str, str]:
  """Parses the text of `gin.config_str` into bindings by name."""
  found: dict[str, str] = {}
  name = None
  for line in text.splitlines():
    if line[:1].isspace() and name is not None:
      found[name] = f'{found[name]} {line.strip()}'.strip()
    elif ' = ' in line and not line.startswith('#'):
      name, _, value = line.partition(' = ')
      found[name] = value.rstrip('\\').strip()
    else:
      name = None
  return found
