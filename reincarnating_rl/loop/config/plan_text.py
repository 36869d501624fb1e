"""The plan of a run as text: phases, updates, resets, evaluations, memory."""

from __future__ import annotations

from typing import Sequence

from reincarnating_rl.loop.config import plan as plan_lib
from reincarnating_rl.loop.config.estimate import Memory
from reincarnating_rl.loop.config.estimate import PhaseForecast
from reincarnating_rl.loop.config.plan import RunConfig

# Number of resets that are listed for one phase.
_RESETS_NAMED = 6


def describe(
    config: RunConfig, forecasts: Sequence[PhaseForecast], memory: Memory
) -> list[str]:
  """Lines of a table, and totals below it.

  Args:
    config: settings.
    forecasts: work of every phase.
    memory: memory of the replays.
  """
  lines = [_phase(config, f) for f in forecasts]
  online = [f for f in forecasts if f.phase.kind == plan_lib.ONLINE]
  steps = sum(f.agent_steps for f in online)
  updates = sum(f.updates for f in forecasts)
  resets = sum(len(f.resets) for f in forecasts)
  lines.append(
      f'In all {steps} online agent steps ({4 * steps} frames), {updates} '
      f'updates and {resets} resets; replay ratio {config.replay_ratio} '
      f'updates per agent step, {config.grouped_updates} at a time.'
  )
  lines.append(
      f'Memory: {size(memory.student)} for the replay of the student, '
      f'{size(memory.teacher)} for the data of the teacher.'
  )
  return lines


def _phase(config: RunConfig, forecast: PhaseForecast) -> str:
  phase, work = forecast.phase, []
  if forecast.agent_steps:
    work.append(f'{forecast.agent_steps} agent steps')
  if forecast.updates:
    work.append(f'{forecast.updates} updates')
  if forecast.resets:
    named = ', '.join(str(step) for step in forecast.resets[:_RESETS_NAMED])
    if len(forecast.resets) > _RESETS_NAMED:
      named += f', ... {forecast.resets[-1]}'
    count = len(forecast.resets)
    noun = 'reset' if count == 1 else 'resets'
    work.append(f'{count} {noun} at agent step {named}')
  if phase.kind != plan_lib.COLLECTION:
    work.append(f'{config.evaluation_steps} agent steps of evaluation')
  return f'{phase.iteration:4d}  {phase.kind:20}{", ".join(work)}'


def size(num_bytes: int) -> str:
  """Bytes as text, in MiB or GiB."""
  if num_bytes < 2**30:
    return f'{num_bytes / 2**20:.1f} MiB'
  return f'{num_bytes / 2**30:.2f} GiB'
