"""What a worker does of a member of a population of processes.

It learns with `train` up to the next stop, keeps a snapshot of its checkpoints
as they are there, and reports. One that copies another begins its directory
anew with the other's snapshot, and goes on under settings of its own. What it
is to be is all in a `Member`, whatever of it was done before.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from typing import Any, NamedTuple, Optional

from reincarnating_rl.app import api
from reincarnating_rl.app import experiment_flags
from reincarnating_rl.app.experiment import Experiment
from reincarnating_rl.base import files
from reincarnating_rl.launch import process
from reincarnating_rl.launch import progress_on_disk
from reincarnating_rl.loop.config import plan
from reincarnating_rl.rundir import summary

CHECKPOINTS = 'checkpoints'
SNAPSHOTS = '.snapshots'
REPLACED = '.replaced'
ORIGIN = 'origin.json'
# What the scheduler reads of a report.
SCORE, TIME = 'score_at_stop', 'stop'
_NO_STOP = {SCORE: 0.0, TIME: 0}  # so early that it decides nothing
# Of each member: that of now, and the one before, which may be being copied.
_SNAPSHOTS_KEPT = 2


class Copied(NamedTuple):
  """What a member goes on with.

  Attributes:
    run_number: whose state it was.
    stop: online iterations that were done then.
  """

  run_number: int
  stop: int


class Member(NamedTuple):
  """A member, and what it is to be.

  Attributes:
    index: in the population.
    program: what it is an execution of.
    experiment: fields of an `Experiment`.
    directory: of its run.
    stops: online iterations after which it reports; the last is its end.
    settings: that it learns with, by the name that is bound.
    copied: whom it continues; None = itself.
  """

  index: int
  program: tuple[str, ...]
  experiment: dict[str, Any]
  directory: str
  stops: tuple[int, ...]
  settings: dict[str, Any]
  copied: Optional[Copied] = None

  @classmethod
  def of(cls, entries: dict[str, Any]) -> Member:
    """Back from `_asdict`, also if it was JSON."""
    found = cls(**entries)
    return found._replace(copied=found.copied and Copied(*found.copied))

  @property
  def run_number(self) -> int:
    return self.experiment['run_number']

  @property
  def folder(self) -> str:
    """Of the population."""
    return os.path.dirname(self.directory)


def carry_out(config: dict[str, Any]) -> None:
  """On a worker: a member, from where it stands to its end."""
  from ray import tune

  trial = config['trial']
  member = Member.of(trial['member'])
  begin(member)
  done = len(online_scores(member.directory))
  begun = 0 if member.copied is None else member.copied.stop
  reached = [stop for stop in member.stops if begun < stop <= done]
  # The last one that is reached is reported again, for who asks anew.
  for stop in [
      *reached[-1:],
      *(s for s in member.stops if s > max(begun, done)),
  ]:
    if stop > done:
      process.carry_out(
          [*member.program, *flags_of(member, stop)],
          [member.directory],
          trial['log'],
          num_cores=trial['cpus'],
          gpus=trial['gpus'],
          cwd=trial['cwd'],
          report=lambda reached: tune.report(
              dataclasses.asdict(reached) | _NO_STOP
          ),
      )
    if stop < member.stops[-1]:
      take_snapshot(member, stop)
      _report(member, stop)


def begin(member: Member) -> None:
  """Makes a member's directory the continuation of whom it copies.

  What was there goes to .replaced/. Done once, it changes nothing again.
  """
  if member.copied is None or _origin(member.directory) == member.copied:
    return
  begun = f'{member.directory}.part'
  shutil.rmtree(begun, ignore_errors=True)
  _link(
      snapshot_of(member.folder, *member.copied),
      os.path.join(begun, CHECKPOINTS),
  )
  files.write_json(os.path.join(begun, ORIGIN), member.copied._asdict())
  if os.path.exists(member.directory):
    name = f'{os.path.basename(member.directory)}_until_{member.copied.stop}'
    replaced = os.path.join(member.folder, REPLACED, name)
    shutil.rmtree(replaced, ignore_errors=True)
    os.makedirs(os.path.dirname(replaced), exist_ok=True)
    os.rename(member.directory, replaced)
  os.rename(begun, member.directory)


def _origin(directory: str) -> Optional[Copied]:
  try:
    with open(os.path.join(directory, ORIGIN), encoding='utf-8') as f:
      return Copied(**json.load(f))
  except FileNotFoundError:
    return None


def flags_of(member: Member, stop: int) -> list[str]:
  """Of `train`, for a member up to so many online iterations."""
  wanted = Experiment(**member.experiment)
  # Its plan is the whole one: resets and schedules look ahead.
  bound = member.settings | {'RunnerWithTeacher.stop_after': stop}
  wanted = dataclasses.replace(
      wanted,
      bindings=tuple(wanted.bindings) + api.binding_lines(bound),
      # Its checkpoints are there already; their settings were others.
      fork_from=member.directory if member.copied is not None else None,
  )
  return experiment_flags.flags_of(wanted, member.directory)


def online_scores(directory: str) -> list[api.Score]:
  """Of the online iterations that are done."""
  if not os.path.exists(os.path.join(directory, summary.FILE_NAME)):
    return []
  scores = api.Result(directory).scores
  return [score for score in scores if score.phase == plan.ONLINE]


def snapshot_of(folder: str, run_number: int, stop: int) -> str:
  """Where the checkpoints of a run stay as they were."""
  return os.path.join(folder, SNAPSHOTS, f'run_{run_number}_after_{stop}')


def take_snapshot(member: Member, stop: int) -> None:
  """Keeps a member's checkpoints, unless it was done before it was stopped."""
  snapshot = snapshot_of(member.folder, member.run_number, stop)
  if os.path.exists(snapshot):
    return
  unfinished = f'{snapshot}.part'
  shutil.rmtree(unfinished, ignore_errors=True)
  _link(os.path.join(member.directory, CHECKPOINTS), unfinished)
  os.rename(unfinished, snapshot)
  at = member.stops.index(stop)
  for old in member.stops[: max(at + 1 - _SNAPSHOTS_KEPT, 0)]:
    shutil.rmtree(
        snapshot_of(member.folder, member.run_number, old), ignore_errors=True
    )


def _link(source: str, target: str) -> None:
  """Copies a folder; its files, which never change, share their place."""

  def link(one: str, other: str) -> None:
    try:
      os.link(one, other)
    except OSError:  # the file system has no links
      shutil.copy2(one, other)

  shutil.copytree(source, target, copy_function=link)


def _report(member: Member, stop: int) -> None:
  """Tells Tune; its own checkpoint has to be there, but says nothing."""
  from ray import tune

  at_stop = online_scores(member.directory)[stop - 1]
  told = dataclasses.asdict(progress_on_disk.reached([member.directory]))
  told |= {SCORE: at_stop.score, TIME: stop, 'agent_steps': at_stop.agent_steps}
  with tempfile.TemporaryDirectory() as scratch:
    files.write_json(os.path.join(scratch, ORIGIN), {'stop': stop})
    tune.report(told, checkpoint=tune.Checkpoint.from_directory(scratch))
