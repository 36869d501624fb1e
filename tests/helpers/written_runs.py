"""Run directories as runs write them, without the runs.

The documents are made by the code that makes those of real runs; what a run
would have measured is given.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import types
from typing import Any, Optional, Sequence

import numpy as np

from reincarnating_rl.base import scores
from reincarnating_rl.loop.config import plan
from reincarnating_rl.loop.training.events import PhaseRecord
from reincarnating_rl.rundir import summary
from reincarnating_rl.rundir.metrics_file import MetricsFile

TEACHERS = {'Pong': 16.0, 'Boxing': 12.7}
_GIN = """import reincarnating_rl.agents.dqn

# Parameters for create_atari_environment:
# ==============================================================================
create_atari_environment.game_name = '{game}'
create_atari_environment.sticky_actions = True

# Parameters for JaxDQNAgent:
# ==============================================================================
JaxDQNAgent.network = @reincarnation_networks.NatureDQNNetwork

# Parameters for Runner:
# ==============================================================================
Runner.num_iterations = {num_iterations}
Runner.training_steps = {training_steps}
"""


def write_run(
    directory: pathlib.Path,
    online: Sequence[Optional[float]],
    start: Optional[float] = None,
    *,
    game: str = 'Pong',
    seed: int = 1,
    agent: str = 'qdagger_dqn',
    gin_files: Sequence[str] = ('qdagger_dqn.gin', 'comparison.gin'),
    network: str = 'Nature DQN',
    teacher: Optional[str] = 'own',
    teacher_score: Optional[float] = None,
    random_score: Optional[float] = None,
    settings: Optional[dict[str, Any]] = None,
    more_gin: str = '',
    member: Optional[dict[str, float]] = None,
    md5: str = 'of the rom',
    seconds_a_phase: float = 60.0,
) -> str:
  """Writes summary.json and metrics.jsonl of a run and returns its path.

  Args:
    directory: of the run.
    online: score of each online iteration.
    start: score after pretraining; None = there is none.
    game: that was played.
    seed: its run number.
    agent: its name.
    gin_files: its configurations.
    network: its name.
    teacher: checksum; None = there is none. 'own' becomes the game's.
    teacher_score: None = of TEACHERS.
    random_score: None = the published one.
    settings: that differ from the defaults.
    more_gin: further bindings.
    member: of a population.
    md5: of the ROM.
    seconds_a_phase: of the wall clock.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True)
  config = plan.RunConfig(
      **{
          'game': game,
          'seed': seed,
          'num_iterations': len(online),
          'training_steps': 4000,
          'num_pretraining_iterations': 0 if start is None else 1,
          'num_pretraining_steps': 4000,
          'teacher_steps': 16000,
          'min_replay_history': 1000,
          **(settings or {}),
      }
  )
  if random_score is None:
    random_score = scores.random_score(game)
  if teacher and teacher_score is None:
    teacher_score = TEACHERS.get(game)
  run = types.SimpleNamespace(
      config=config,
      records=list(_records(config, online, start, seconds_a_phase)),
      random_score=random_score,
      teacher_score=teacher_score if teacher else None,
      seconds={'online': 60.0},
  )
  spec = {'class': 'QNetwork', 'num_actions': len(game), 'features': [32, 64]}
  facts = {
      'path': f'bundled:{game}',
      'checkpoint_number': 25,
      'format': 'reincarnating_rl teacher',
      'params_crc32c': f'{game} 25' if teacher == 'own' else teacher,
  }
  values = dataclasses.asdict(config) | {'replay_ratio': '1/4'}
  gin = _GIN.format(**values) + more_gin
  document = summary.summarize(
      run,
      agent,
      seed,
      {
          'gin_files': list(gin_files),
          'gin': gin,
          'network': {'name': network, 'spec': spec},
          'settings': values,
          'member': dict(member or {}),
          'teacher': facts if teacher else None,
          'rom': {'file': f'{game}.bin', 'md5': f'{game} {md5}'},
      },
  )
  summary.write(str(directory), document)
  log = MetricsFile(str(directory), game)
  for record in run.records:
    if record.student_score is None or np.isfinite(record.student_score):
      log.on_record(record)
  return str(directory)


def _records(config, online, start, seconds_a_phase):
  seconds = seconds_a_phase
  yield PhaseRecord(plan.COLLECTION, 0, 0, 0, seconds=seconds)
  done = [] if start is None else [(plan.PRETRAINING, 0, start)]
  done += [
      (plan.ONLINE, (i + 1) * config.training_steps, score)
      for i, score in enumerate(online)
  ]
  for iteration, (kind, agent_steps, score) in enumerate(done, 1):
    seconds += seconds_a_phase
    yield PhaseRecord(
        kind,
        iteration,
        agent_steps,
        4000 + agent_steps // 4,
        student_score=score,
        lambda_=1.0,
        episodes={'eval': {'returns': [score] * 8, 'lengths': [9] * 8}},
        seconds=seconds,
    )


def edit(directory: str, change) -> None:
  """Changes a summary in place."""
  path = pathlib.Path(directory) / summary.FILE_NAME
  document = json.loads(path.read_text())
  change(document)
  path.write_text(json.dumps(document))


def write_study(
    root: pathlib.Path,
    games: Sequence[str] = ('Pong', 'Boxing'),
    seeds: int = 3,
    evaluations: int = 6,
    methods: int = 4,
) -> None:
  """Methods that differ in how fast they learn; some pretrain."""
  ways = {
      'qdagger_dqn': (0.8, 0.25, True),
      'kickstarting_dqn': (None, 0.35, True),
      'dqfd_dqn': (0.1, 0.15, True),
      'dqn': (None, 0.03, False),
  }
  rng = np.random.default_rng(0)
  for m, name in enumerate(list(ways)[:methods]):
    start, speed, taught = ways[name]
    for game in games:
      low, high = scores.random_score(game), TEACHERS[game]
      for seed in range(1, seeds + 1):
        level = 0.05 * rng.standard_normal() + (start or 0.0)
        curve = []
        for _ in range(evaluations):
          level += speed * (1.05 - level) + 0.05 * rng.standard_normal()
          curve.append(low + (high - low) * level)
        noise = 0.05 * rng.standard_normal()
        first = None if start is None else low + (high - low) * (start + noise)
        write_run(
            root / f'{m}' / game / f'run_{seed}',
            curve,
            first,
            game=game,
            seed=seed,
            agent='dqn' if not taught else name,
            gin_files=(f'{name}.gin', 'comparison.gin'),
            teacher='own' if taught else None,
            seconds_a_phase=60.0 + 10 * m + 5 * rng.random(),
        )
